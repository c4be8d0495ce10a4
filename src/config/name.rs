//! The name of a zone.
//!
//! Names are read by hickory-proto, which knows the limits of RFC 1035; on top of that only the letters that
//! real zones have are taken, so that a slip of the finger is an error and not a zone that nobody asks for.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name;

use super::problem::{Wrong, shown};

/// A zone's name, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneName {
    wire: Box<[u8]>,
    text: String,
}

impl ZoneName {
    /// The name of everything: `.`
    pub fn root() -> Self {
        Self { wire: Box::from([0]), text: ".".to_owned() }
    }

    /// Whether it is `.`
    pub fn is_root(&self) -> bool {
        self.text == "."
    }

    /// Wire format (RFC 1035 section 3.1), lower case, uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// As people write it, lower case, with the last dot.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `cluster.local`, `cluster.local.`, `.`
impl FromStr for ZoneName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "." {
            return Ok(Self::root());
        }
        let wrong =
            |why: &str, hint: &str| Err(Wrong::new(format!("zone name `{}` {why}", shown(text)), hint));
        if text.is_empty() {
            return wrong("is empty", "write \".\" for all names");
        }
        if text.starts_with("*.") {
            return wrong("begins with a star", "leave `*.` out: a zone holds every name below it");
        }
        // RFC 2317 reverse zones have a slash, service names an underscore.
        if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_/.".contains(*c)) {
            let why = format!("has the character `{}`", c.escape_debug());
            return wrong(&why, "write letters, digits, `-` and `_`; other scripts in their xn-- form");
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // Not from_ascii: it holds host names to their own rules, and zones may have a slash.
        let Ok(name) = Name::from_labels(lower.split('.').map(str::as_bytes)) else {
            return wrong("is no DNS name", "labels have 1 to 63 letters, a name has at most 253");
        };
        let mut wire = Vec::with_capacity(lower.len() + 2);
        for label in name.iter() {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        Ok(Self { wire: wire.into(), text: format!("{lower}.") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_wire_form_and_a_text_both_in_lower_case() {
        let name: ZoneName = "Cluster.LOCAL".parse().unwrap();
        assert_eq!(name.wire(), b"\x07cluster\x05local\0");
        assert_eq!(name.text(), "cluster.local.");
        assert_eq!(name, "cluster.local.".parse().unwrap());
        assert_eq!(".".parse::<ZoneName>().unwrap().wire(), [0]);
    }

    #[test]
    fn what_is_no_zone_name_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = "abcdefg.".repeat(32);
        for text in ["", "..", "a..b", ".a", "*.a", "a b", "é.fr", "a\\.b", "a=b", &long_label, &long_name] {
            assert!(text.parse::<ZoneName>().is_err(), "{text}");
        }
        assert!("0/25.2.0.192.in-addr.arpa".parse::<ZoneName>().is_ok());
        assert!(format!("{}abcd", "abcdefg.".repeat(31)).parse::<ZoneName>().is_ok());
    }
}
