//! Names, types, classes and response codes as people write them, and as the rules see them.
//!
//! Rules work on text: a name in lower case with its last dot, a character that would mean something else
//! behind a backslash, and what cannot be printed as `\DDD` (RFC 1035 section 5.1; RFC 4343 section 2.1).

use std::fmt::Write;
use std::str::FromStr;

use hickory_proto::rr::RecordType;

use super::refused::{Refused, shown};
use crate::wire::name::MAX;
use crate::wire::{class, rcode, rtype};

/// Characters that stand in a label behind a backslash.
const SPECIAL: &[u8] = b". '@;()\"\\";

/// A name from the wire (uncompressed) as text, in lower case.
pub fn show(name: &[u8]) -> String {
    let (mut text, mut i) = (String::with_capacity(name.len()), 0);
    while let Some(&len @ 1..) = name.get(i) {
        let next = i + 1 + usize::from(len);
        for &byte in name.get(i + 1..next).unwrap_or_default() {
            match byte.to_ascii_lowercase() {
                byte if SPECIAL.contains(&byte) => text.extend(['\\', char::from(byte)]),
                byte @ b' '..=b'~' => text.push(char::from(byte)),
                // Writing into a string does not fail.
                byte => drop(write!(text, "\\{byte:03}")),
            }
        }
        text.push('.');
        i = next;
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// The wire form of a name in text, in lower case; a last dot that is missing is added. `None` if it is no name.
pub fn read(text: &str) -> Option<Box<[u8]>> {
    if text == "." {
        return Some(Box::from([0]));
    }
    let (mut wire, mut label) = (vec![0], 0);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => {
                close(&mut wire, &mut label)?;
                continue;
            }
            b'\\' => wire.push(escaped(&mut bytes)?),
            byte => wire.push(byte),
        }
        wire.last_mut()?.make_ascii_lowercase();
    }
    if !text.ends_with('.') || wire.len() > label + 1 {
        close(&mut wire, &mut label)?;
    }
    (wire.len() <= MAX).then(|| wire.into())
}

/// Ends the label that began at `label`, and begins the next one.
fn close(wire: &mut Vec<u8>, label: &mut usize) -> Option<()> {
    let len = wire.len() - *label - 1;
    if !(1..=63).contains(&len) {
        return None;
    }
    wire[*label] = len as u8;
    *label = wire.len();
    wire.push(0);
    Some(())
}

/// The next byte of a text, which a backslash may stand before.
pub fn byte(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    match bytes.next()? {
        b'\\' => escaped(bytes),
        byte => Some(byte),
    }
}

/// What stands behind a backslash: three digits, or a character that means itself.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(10);
    let first = bytes.next()?;
    let Some(hundreds) = digit(first) else { return Some(first) };
    let value = hundreds * 100 + digit(bytes.next()?)? * 10 + digit(bytes.next()?)?;
    u8::try_from(value).ok()
}

/// As CoreDNS makes names equal: in lower case, with a last dot.
pub fn normal(text: &str) -> String {
    let mut text = text.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// A name that a rule gives.
///
/// # Errors
/// It is no DNS name.
pub fn name(text: &str) -> Result<Box<[u8]>, Refused> {
    read(text).filter(|_| !text.is_empty()).ok_or_else(|| {
        Refused::new(
            format!("`{}` is no DNS name", shown(text)),
            "labels have 1 to 63 characters, a name has at most 253",
        )
    })
}

/// A record type: `A`, `ANY`, `TYPE65280`.
///
/// # Errors
/// It is not known.
pub fn record_type(text: &str) -> Result<u16, Refused> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|number| number.parse().ok());
    let known = || RecordType::from_str(&upper).ok().map(u16::from);
    number.or_else(known).ok_or_else(|| {
        Refused::new(
            format!("unknown record type `{}`", shown(text)),
            "write its name (A, AAAA, TXT, ANY) or TYPE and its number",
        )
    })
}

/// A class: `IN`, `CH`, `HS`, `NONE`, `ANY`.
///
/// # Errors
/// It is not known.
pub fn record_class(text: &str) -> Result<u16, Refused> {
    CLASSES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|&(class, _)| class).ok_or_else(
        || Refused::new(format!("unknown class `{}`", shown(text)), "write IN, CH, HS, NONE or ANY"),
    )
}

const CLASSES: [(u16, &str); 5] =
    [(class::IN, "IN"), (class::CH, "CH"), (4, "HS"), (254, "NONE"), (rtype::ANY, "ANY")];

/// What a type is called; empty where it has no name.
pub fn type_name(rtype: u16) -> String {
    match RecordType::from(rtype) {
        RecordType::Unknown(_) => String::new(),
        known => known.to_string(),
    }
}

/// What a class is called; empty where it has no name.
pub fn class_name(class: u16) -> &'static str {
    CLASSES.iter().find(|&&(c, _)| c == class).map_or("", |&(_, name)| name)
}

/// The response codes that fit into a header and have a name, in order.
fn named_codes() -> &'static [&'static str] {
    &rcode::NAMES[..rcode::NAMED]
}

/// A response code by its name, or by its number (0 to 15).
///
/// # Errors
/// It is not known, or needs EDNS to be said.
pub fn response_code(text: &str) -> Result<u8, Refused> {
    let upper = match text.to_ascii_uppercase().as_str() {
        "NOTIMPL" => "NOTIMP".to_owned(),
        other => other.to_owned(),
    };
    let number = || text.parse().ok().filter(|n| *n < 16);
    let known = named_codes().iter().position(|name| *name == upper);
    known.map(|place| place as u8).or_else(number).ok_or_else(|| {
        Refused::new(
            format!("unknown response code `{}`", shown(text)),
            format!("write 0 to 15, or one of {}", named_codes().join(", ")),
        )
    })
}

/// What a response code is called: its name, or its number.
pub fn code_name(code: u8) -> String {
    named_codes().get(usize::from(code)).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_text_and_back() {
        for (wire, text) in [
            (&b"\0"[..], "."),
            (b"\x03www\x07example\0", "www.example."),
            (b"\x04a.b\\\x01*\0", "a\\.b\\\\.*."),
            (b"\x03\x01\xff(\0", "\\001\\255\\(."),
        ] {
            assert_eq!(show(wire), text);
            assert_eq!(read(text).as_deref(), Some(wire), "{text}");
        }
        assert_eq!(read("WWW.Example").as_deref(), Some(&b"\x03www\x07example\0"[..]));
        assert_eq!(read("a\\.").as_deref(), Some(&b"\x02a.\0"[..]));
    }

    #[test]
    fn what_is_no_name_is_none() {
        let long = format!("{}.", "a".repeat(64));
        for text in ["", "..", ".a", "a..b", "a\\25", "a\\256", "a\\", &long, &"abcdefg.".repeat(32)] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn types_classes_and_codes_have_names() {
        assert_eq!(record_type("aaaa"), Ok(28));
        assert_eq!(record_type("TYPE65280"), Ok(65_280));
        assert_eq!(record_type("ANY"), Ok(255));
        assert!(record_type("BOGUS").is_err());
        assert_eq!(record_class("in"), Ok(1));
        assert_eq!((type_name(1), type_name(65_280)), ("A".into(), String::new()));
        assert_eq!(response_code("nxdomain"), Ok(3));
        assert_eq!(response_code("NOTIMPL"), Ok(4));
        assert_eq!(response_code("5"), Ok(5));
        assert!(response_code("BADVERS").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_name_comes_back(labels in proptest::collection::vec(
            proptest::collection::vec(0u8..=255, 1..20), 0..8)) {
            let mut wire = Vec::new();
            for label in labels {
                wire.push(label.len() as u8);
                wire.extend(label.to_ascii_lowercase());
            }
            wire.push(0);
            let back = read(&show(&wire));
            proptest::prop_assert_eq!(back.as_deref(), Some(&wire[..]));
        }

        #[test]
        fn any_text_is_a_name_or_not(text in ".*") {
            read(&text);
        }
    }
}
