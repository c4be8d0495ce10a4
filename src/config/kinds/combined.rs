//! Kinds made of other kinds: a value or "auto", a value that must be given, several values.

use super::{Kind, Node, mistyped, quoted, twice};
use crate::config::problem::Fault;
use crate::limit::Limit;

/// "auto", or a value.
pub(in crate::config) struct Auto<K>(pub K);

impl<K: Kind> Kind for Auto<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        if node.get_ref().as_str() == Some("auto") {
            return Ok(None);
        }
        self.0.read(node).map(Some)
    }

    fn write(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| quoted("auto"), |value| self.0.write(value))
    }

    fn limits(&self) -> Option<[String; 2]> {
        self.0.limits()
    }
}

/// A key that has no default: `None` until it is read.
pub(in crate::config) struct Needed<K>(pub K);

impl<K: Kind> Kind for Needed<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        self.0.read(node).map(Some)
    }

    fn write(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| quoted(""), |value| self.0.write(value))
    }
}

/// Several different values; the limit is on how many.
pub(in crate::config) struct List<K>(pub K, pub Limit<usize>);

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        let Some(nodes) = node.get_ref().as_array() else {
            return Err(mistyped(node, "a list", "put it in square brackets"));
        };
        if !self.1.contains(nodes.len()) {
            return Err(self.out_of_bounds(node, format!("a list of {}", nodes.len())));
        }
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let value = self.0.read(node)?;
            if values.contains(&value) {
                return Err(Fault::at(node.span(), twice(&self.0.write(&value))));
            }
            values.push(value);
        }
        Ok(values)
    }

    fn write(&self, values: &Self::Value) -> String {
        let values: Vec<String> = values.iter().map(|value| self.0.write(value)).collect();
        format!("[{}]", values.join(", "))
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.1.min.to_string(), self.1.max.to_string()])
    }
}

/// Several values in their order; the same may come again. The limit is on how many.
pub(in crate::config) struct Series<K>(pub K, pub Limit<usize>);

impl<K: Kind> Kind for Series<K> {
    type Value = Vec<K::Value>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        let Some(nodes) = node.get_ref().as_array() else {
            return Err(mistyped(node, "a list", "put it in square brackets"));
        };
        if !self.1.contains(nodes.len()) {
            return Err(self.out_of_bounds(node, format!("a list of {}", nodes.len())));
        }
        nodes.iter().map(|node| self.0.read(node)).collect()
    }

    fn write(&self, values: &Self::Value) -> String {
        let values: Vec<String> = values.iter().map(|value| self.0.write(value)).collect();
        format!("[{}]", values.join(", "))
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.1.min.to_string(), self.1.max.to_string()])
    }
}

/// "off", or a value.
pub(in crate::config) struct Off<K>(pub K);

impl<K: Kind> Kind for Off<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        if node.get_ref().as_str() == Some("off") {
            return Ok(None);
        }
        self.0.read(node).map(Some)
    }

    fn write(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| quoted("off"), |value| self.0.write(value))
    }
}
