//! Switches, counts, sizes and times.

use std::fmt::{Debug, Display};
use std::time::Duration;

use toml::de::DeValue;

use super::{Kind, Node, mistyped, quoted};
use crate::config::problem::{Fault, Wrong};
use crate::config::quantity;
use crate::limit::Limit;

/// `true` or `false`.
pub(in crate::config) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn read(&self, node: &Node<'_>) -> Result<bool, Fault> {
        node.get_ref().as_bool().ok_or_else(|| mistyped(node, "true or false", "without quotes"))
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number.
pub(in crate::config) struct Count<T: 'static>(pub Limit<T>);

impl<T: Copy + Display + PartialOrd + Debug + TryFrom<u64>> Kind for Count<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>) -> Result<T, Fault> {
        let Some(number) = node.get_ref().as_integer() else {
            return Err(mistyped(node, "a whole number", &format!("give {} to {}", self.0.min, self.0.max)));
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|n| T::try_from(n).ok())
            .filter(|n| self.0.contains(*n))
            .ok_or_else(|| self.out_of_bounds(node, number))
    }

    fn write(&self, value: &T) -> String {
        value.to_string()
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.0.min.to_string(), self.0.max.to_string()])
    }
}

/// A size: "32MiB", or bytes as a plain number.
pub(in crate::config) struct Size(pub Limit<u64>);

impl Size {
    /// Reads a size from text alone.
    pub(in crate::config) fn parse(&self, text: &str) -> Result<u64, Wrong> {
        let size = quantity::parse_size(text)?;
        if self.0.contains(size) {
            return Ok(size);
        }
        Err(Wrong::bounds(text, quantity::size(self.0.min), quantity::size(self.0.max)))
    }
}

impl Kind for Size {
    type Value = u64;

    fn read(&self, node: &Node<'_>) -> Result<u64, Fault> {
        let size = match node.get_ref() {
            DeValue::String(text) => self.parse(text),
            DeValue::Integer(bytes) if bytes.radix() == 10 => self.parse(bytes.as_str()),
            _ => return Err(mistyped(node, "a size", "write it like \"32MiB\"")),
        };
        size.map_err(|wrong| Fault::at(node.span(), wrong))
    }

    fn write(&self, value: &u64) -> String {
        quoted(&quantity::size(*value))
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.0.min, self.0.max].map(quantity::size))
    }
}

/// A time, to the millisecond: "500ms".
pub(in crate::config) struct Time(pub Limit<Duration>);

impl Kind for Time {
    type Value = Duration;

    fn read(&self, node: &Node<'_>) -> Result<Duration, Fault> {
        let time = match node.get_ref() {
            DeValue::String(text) => quantity::parse_time(text),
            // A plain number gets the same hint about units as the string would.
            DeValue::Integer(number) => quantity::parse_time(number.as_str()),
            _ => return Err(mistyped(node, "a time", "write it like \"30s\"")),
        };
        let time = time.map_err(|wrong| Fault::at(node.span(), wrong))?;
        if self.0.contains(time) {
            return Ok(time);
        }
        Err(self.out_of_bounds(node, quantity::time(time)))
    }

    fn write(&self, value: &Duration) -> String {
        quoted(&quantity::time(*value))
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.0.min, self.0.max].map(quantity::time))
    }
}

/// A time that goes into TTL fields, which count whole seconds (RFC 1035 section 3.2.1).
pub(in crate::config) struct Ttl(pub Limit<Duration>);

impl Kind for Ttl {
    type Value = Duration;

    fn read(&self, node: &Node<'_>) -> Result<Duration, Fault> {
        let time = Time(self.0).read(node)?;
        if time.subsec_millis() == 0 {
            return Ok(time);
        }
        let what = format!("{} is not in whole seconds", quantity::time(time));
        Err(Fault::at(node.span(), Wrong::new(what, "TTLs count seconds")))
    }

    fn write(&self, value: &Duration) -> String {
        Time(self.0).write(value)
    }

    fn limits(&self) -> Option<[String; 2]> {
        Time(self.0).limits()
    }
}
