//! Words, texts, addresses, and strings with a grammar of their own.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use super::{Kind, Node, mistyped, quoted, string};
use crate::config::address;
use crate::config::problem::{Fault, Wrong};
use crate::limit::Limit;

/// One of a few words.
pub(in crate::config) struct Word<T: 'static>(pub &'static [(&'static str, T)]);

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
pub(in crate::config) struct Text(pub Limit<usize>);

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
pub(in crate::config) struct Address;

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
pub(in crate::config) struct Written<T> {
    example: &'static str,
    read: fn(&str) -> Result<T, Wrong>,
}

impl<T: FromStr<Err = Wrong>> Written<T> {
    /// Values that look like the example.
    pub(in crate::config) fn like(example: &'static str) -> Self {
        Self { example, read: str::parse }
    }
}

impl<T> Written<T> {
    /// Values that look like the example and are read by this.
    pub(in crate::config) fn by(example: &'static str, read: fn(&str) -> Result<T, Wrong>) -> Self {
        Self { example, read }
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
