//! A record from a line of text, as in a zone file: `www 60 IN A 192.0.2.1` (RFC 1035 section 5.1).
//!
//! Owner, TTL and class are read here, the data by hickory-proto. The TTL and the class may be left out (3600,
//! IN) and may change places, as CoreDNS takes it. Names are whole: a last dot that is missing is added.

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use hickory_proto::serialize::txt::parse_ttl;

use super::message::Rr;
use super::refused::{Refused, shown};
use super::{rdata, text};
use crate::limit::Limit;
use crate::wire::{class, rtype};

/// Bytes of a record in text, or of the template of one.
pub const RECORD_TEXT: Limit<usize> = Limit::new(1, 4096, 4096);
/// The TTL of a record that gives none, in seconds.
const TTL: u32 = 3600;
/// The type of DNAME, which hickory-proto does not read.
const DNAME: u16 = 39;

/// Reads a record.
///
/// # Errors
/// It is none.
pub fn read(line: &str) -> Result<Rr, Refused> {
    let wrong = |why: String| {
        Refused::new(format!("`{}` is no record: {why}", shown(line)), "write: name TTL IN type data")
    };
    if line.len() > RECORD_TEXT.max || line.contains(['\n', '\r']) {
        return Err(wrong(format!("it is more than one line of {} bytes", RECORD_TEXT.max)));
    }
    let (owner, mut rest) = word(line);
    let owner = text::read(owner).filter(|_| !owner.is_empty());
    let owner = owner.ok_or_else(|| wrong("it does not begin with a name".into()))?;
    let (mut ttl, mut class) = (TTL, class::IN);
    let rtype = loop {
        let (next, after) = word(rest);
        rest = after;
        if let Ok(seconds) = parse_ttl(next) {
            ttl = seconds;
        } else if let Ok(known) = text::record_class(next)
            && !next.eq_ignore_ascii_case("ANY")
        {
            class = known;
        } else {
            break text::record_type(next).map_err(|refused| wrong(refused.what))?;
        }
    };
    let data = data(rtype, rest).ok_or_else(|| {
        wrong(format!("`{}` is no data of type {}", shown(rest.trim()), text::type_name(rtype)))
    })?;
    Ok(Rr { owner, rtype, class, ttl, data })
}

/// The first word, and what follows it.
fn word(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    line.split_once([' ', '\t']).unwrap_or((line, ""))
}

fn data(rtype: u16, text: &str) -> Option<Box<[u8]>> {
    if let Some(generic) = text.trim_start().strip_prefix("\\#") {
        return generic_data(generic);
    }
    if rtype == DNAME {
        return text::read(text.trim());
    }
    // hickory-proto takes \DDD for another character than the byte it stands for (RFC 1035 section 5.1).
    if text.contains('\\') {
        match rtype {
            rtype::NS | rtype::CNAME | rtype::PTR => {
                return Some(text.trim()).filter(|name| is_word(name)).and_then(text::read);
            }
            rtype::TXT => return strings(text),
            _ => {}
        }
    }
    let data = RData::try_from_str(RecordType::from(rtype), text).ok()?;
    let mut bytes = Vec::new();
    data.emit(&mut BinEncoder::new(&mut bytes)).ok()?;
    // Its names may point to one another.
    Some(rdata::expand(&bytes, rtype, 0..bytes.len()).ok()?.into())
}

/// Whether a text is one word: what divides words or begins a comment is behind a backslash.
fn is_word(text: &str) -> bool {
    let mut escaped = false;
    text.bytes().all(|byte| {
        let divides = byte.is_ascii_whitespace() || b";()\"".contains(&byte);
        let goes_on = escaped || !divides;
        escaped = byte == b'\\' && !escaped;
        goes_on
    })
}

/// Character strings of at most 255 bytes, in quotes or without blanks (RFC 1035 section 5.1).
fn strings(text: &str) -> Option<Box<[u8]>> {
    let (mut data, mut bytes) = (Vec::new(), text.bytes().peekable());
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none_or(|&byte| byte == b';') {
            return (!data.is_empty()).then(|| data.into());
        }
        let quoted = bytes.next_if_eq(&b'"').is_some();
        let mut string = Vec::new();
        loop {
            match bytes.peek() {
                None if quoted => return None,
                Some(b'"') if quoted => {
                    bytes.next();
                    break;
                }
                None => break,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => break,
                _ => string.push(text::byte(&mut bytes)?),
            }
        }
        data.push(u8::try_from(string.len()).ok()?);
        data.extend(string);
    }
}

/// A length and as many bytes in hexadecimal digits (RFC 3597 section 5).
fn generic_data(text: &str) -> Option<Box<[u8]>> {
    let (length, digits) = word(text);
    let digits: Vec<u32> =
        digits.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Box<[u8]> =
        digits.chunks(2).map(|two| (two[0] << 4 | two.get(1).unwrap_or(&0)) as u8).collect();
    (digits.len().is_multiple_of(2) && length.parse() == Ok(bytes.len())).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_zone_files_have_them() {
        let a = |ttl, class| Rr {
            owner: Box::from(*b"\x03www\x04test\0"),
            rtype: 1,
            class,
            ttl,
            data: Box::from([192, 0, 2, 1]),
        };
        for (line, expected) in [
            ("www.test. 60 IN A 192.0.2.1", a(60, 1)),
            ("WWW.test IN 60 a 192.0.2.1 ; a comment", a(60, 1)),
            ("www.test. A 192.0.2.1", a(3600, 1)),
            ("www.test.\t1h\tCH\tA\t192.0.2.1", a(3600, 3)),
        ] {
            assert_eq!(read(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn data_is_written_out() {
        for (line, data) in [
            ("a.test. CNAME b.test.", &b"\x01b\x04test\0"[..]),
            ("a.test. DNAME b.test.", b"\x01b\x04test\0"),
            ("a.test. MX 10 mx.test.", b"\0\x0a\x02mx\x04test\0"),
            ("a.test. TXT one \"two words\"", b"\x03one\x09two words"),
            ("a.test. TXT \"\\195\\164\\032\\\"\" a\\000\\; \"\" ; a comment", b"\x04\xc3\xa4 \"\x03a\0;\0"),
            ("a.test. CNAME \\255\\.x\\ y.test.", b"\x05\xff.x y\x04test\0"),
            ("a.test. SRV 1 2 53 b.test.", b"\0\x01\0\x02\0\x35\x01b\x04test\0"),
            ("a.test. TYPE65280 \\# 3 0a 00ff", b"\x0a\0\xff"),
            (
                "a.test. SOA ns.test. host.test. (1 2 3 4 5)",
                b"\x02ns\x04test\0\x04host\x04test\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
            ),
        ] {
            assert_eq!(&*read(line).unwrap().data, data, "{line}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in [
            "",
            "www.test.",
            "www..test. A 192.0.2.1",
            "www.test. 60 IN A",
            "www.test. 60 IN A 192.0.2",
            "www.test. 60 IN BOGUS x",
            "www.test. 60 IN TYPE65280 x",
            "www.test. 60 IN TYPE65280 \\# 2 00",
            "www.test. 60 IN TXT \"\\300\"",
            "www.test. 60 IN TXT \"\\",
            "www.test. 60 IN CNAME a\\.b. c.",
            "www.test. 60 IN A 192.0.2.1\nb.test. A 192.0.2.2",
            "$INCLUDE /etc/passwd",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_record_or_not(text in "\\PC*", rtype in 0u16..300) {
            drop(read(&text));
            drop(read(&format!("a.test. 60 IN {} {text}", text::type_name(rtype))));
        }
    }
}
