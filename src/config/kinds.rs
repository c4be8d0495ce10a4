//! Kinds of values: how each is read from TOML, checked against its limits, and written again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::{Fault, Wrong};
use super::{address, quantity};
use crate::limit::Limit;

/// A TOML value and where it stands.
pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// Where each key of a file has its value.
pub(super) type Places = BTreeMap<String, Range<usize>>;

/// How values of one key look.
pub(super) trait Kind {
    /// What the rest of the program gets.
    type Value;
    /// Reads a checked value.
    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault>;
    /// Writes a value as TOML that reads back as the same value.
    fn write(&self, value: &Self::Value) -> String;

    /// The least and the most, as people write them, for kinds that have bounds.
    fn limits(&self) -> Option<[String; 2]> {
        None
    }

    /// Refuses what lies outside of the limits.
    fn out_of_bounds(&self, node: &Node<'_>, found: impl Display) -> Fault {
        let [min, max] = self.limits().unwrap_or_default();
        Fault::at(node.span(), Wrong::bounds(found, min, max))
    }
}

/// A TOML string with its quotes and escapes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A value of the wrong type.
pub(super) fn mistyped(node: &Node<'_>, wanted: &str, example: &str) -> Fault {
    let found = node.get_ref().type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Fault::at(node.span(), Wrong::new(format!("{article} {found} where {wanted} is wanted"), example))
}

fn string<'n>(node: &'n Node<'_>, wanted: &str, example: &str) -> Result<&'n str, Fault> {
    node.get_ref().as_str().ok_or_else(|| mistyped(node, wanted, example))
}

/// `true` or `false`.
pub(super) struct Switch;

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
pub(super) struct Count<T: 'static>(pub Limit<T>);

impl<T: Copy + Display + PartialOrd + std::fmt::Debug + TryFrom<u64>> Kind for Count<T> {
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
pub(super) struct Size(pub Limit<u64>);

impl Size {
    /// Reads a size from text alone.
    pub(super) fn parse(&self, text: &str) -> Result<u64, Wrong> {
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
pub(super) struct Time(pub Limit<Duration>);

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
pub(super) struct Ttl(pub Limit<Duration>);

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

/// One of a few words.
pub(super) struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Clone + PartialEq> Kind for Word<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>) -> Result<T, Fault> {
        let words = || self.0.iter().map(|(word, _)| *word);
        let known = || format!("known: {}", words().collect::<Vec<_>>().join(", "));
        let text = node.get_ref().as_str().ok_or_else(|| mistyped(node, "a word", &known()))?;
        match self.0.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(Fault::at(node.span(), Wrong::unknown("word", text, words()))),
        }
    }

    fn write(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, v)| v == value).map(|(word, _)| *word);
        quoted(word.unwrap_or_default())
    }
}

/// Text for people, which goes into a TXT record; empty means none.
pub(super) struct Text(pub Limit<usize>);

impl Kind for Text {
    type Value = Option<String>;

    fn read(&self, node: &Node<'_>) -> Result<Option<String>, Fault> {
        let text = string(node, "a string", "\"\" for none")?;
        if !self.0.contains(text.len()) {
            return Err(self.out_of_bounds(node, format!("a text of {} bytes", text.len())));
        }
        if text.chars().any(char::is_control) {
            let wrong = Wrong::new("a text with control characters", "write one plain line");
            return Err(Fault::at(node.span(), wrong));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn write(&self, value: &Option<String>) -> String {
        quoted(value.as_deref().unwrap_or_default())
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([self.0.min.to_string(), self.0.max.to_string()])
    }
}

/// An address with a port where we listen.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn read(&self, node: &Node<'_>) -> Result<SocketAddr, Fault> {
        let text = string(node, "an address", "write it like \"127.0.0.1:53\"")?;
        address::parse_listen(text).map_err(|wrong| Fault::at(node.span(), wrong))
    }

    fn write(&self, value: &SocketAddr) -> String {
        quoted(&value.to_string())
    }
}

/// A string with a grammar of its own; the example shows it.
pub(super) struct Written<T> {
    example: &'static str,
    read: fn(&str) -> Result<T, Wrong>,
}

impl<T: FromStr<Err = Wrong>> Written<T> {
    /// Values that look like the example.
    pub(super) fn like(example: &'static str) -> Self {
        Self { example, read: str::parse }
    }
}

impl<T: Display> Kind for Written<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>) -> Result<T, Fault> {
        let text = string(node, "a string", self.example)?;
        (self.read)(text).map_err(|wrong| Fault::at(node.span(), wrong))
    }

    fn write(&self, value: &T) -> String {
        quoted(&value.to_string())
    }
}

/// "auto", or a value.
pub(super) struct Auto<K>(pub K);

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
pub(super) struct Needed<K>(pub K);

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
pub(super) struct List<K>(pub K, pub Limit<usize>);

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

/// The same value again.
pub(super) fn twice(value: &str) -> Wrong {
    Wrong::new(format!("{value} is given twice"), "leave one out")
}
