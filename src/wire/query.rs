//! A client's query: checked, and the question and the EDNS part found.
//!
//! What is refused, and how (RFC 1035 section 4.1, RFC 6891 sections 6.1 and 6.1.3, RFC 8906 section 8):
//! - shorter than a header, or a response: never answered ([`Reject::Silence`]), so that nobody can set two
//!   servers to answer each other, or make us answer a forged sender's noise;
//! - an opcode other than QUERY: NOTIMP;
//! - not exactly one question, a bad name or a pointer in it, sections that do not hold what the header
//!   promises, two OPT records, an OPT that is not in the additional section or not owned by the root,
//!   options that overrun it: FORMERR;
//! - an EDNS version above 0: BADVERS.

use super::header::{self, Header};
use super::records::{self, Section};
use super::{Malformed, name, rcode, rtype, u16_at};

/// The lower byte of OPT's type.
const OPT_TYPE: u8 = rtype::OPT as u8;
/// The root's name and the type of OPT, with which such a record begins.
const OPT: [u8; 3] = [0, 0, OPT_TYPE];
/// Bytes of an OPT record without options.
const OPT_LEN: usize = 11;
/// The DO bit, in the upper byte of OPT's flags (RFC 6891 section 6.1.4).
const DO: u8 = 0x80;

/// A well-formed query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The header, as it came.
    pub header: Header,
    /// What is asked.
    pub question: Question<'a>,
    /// The EDNS part, if there is one.
    pub edns: Option<Edns>,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// All of it, as it came: name, type, class.
    pub bytes: &'a [u8],
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
}

impl<'a> Question<'a> {
    /// The question at the start of `bytes` (a whole message's bytes from [`header::LEN`] on).
    ///
    /// # Errors
    /// A bad name, a pointer, or the end of the bytes.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let end = name::end_uncompressed(bytes, 0)?;
        let rtype = u16_at(bytes, end).ok_or(Malformed)?;
        let class = u16_at(bytes, end + 2).ok_or(Malformed)?;
        Ok(Self { bytes: &bytes[..end + 4], rtype, class })
    }

    /// The name, in the letter case in which it came.
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - 4]
    }

    /// Whether this is the same question, letter case aside.
    pub fn same(&self, other: &Question<'_>) -> bool {
        self.rtype == other.rtype && self.class == other.class && name::same_bytes(self.name(), other.name())
    }
}

/// What a client's OPT record says to us (RFC 6891 section 6.1). Its options go no further: COOKIE, client
/// subnet, keepalive, NSID and padding are between two neighbours, and none of them is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP answer it can take; values below 512 mean 512 (RFC 6891 section 6.2.3).
    pub udp_size: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
}

impl Edns {
    /// From OPT's class, and the upper byte of its flags.
    fn of(udp_size: [u8; 2], flags: u8) -> Self {
        Self { udp_size: u16::from_be_bytes(udp_size), dnssec_ok: flags & DO != 0 }
    }
}

/// Why there is nothing to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject<'a> {
    /// Not to be answered.
    Silence(Silence),
    /// To be answered with a response code.
    Answer(Refusal<'a>),
}

/// Why a packet is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Shorter than a header.
    Short,
    /// A response (QR=1).
    Response,
}

/// A response code and what of the query is repeated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The query's header.
    pub header: Header,
    /// The response code, twelve bits.
    pub rcode: u16,
    /// The question, where it could be read.
    pub question: Option<Question<'a>>,
    /// The EDNS part, where it could be read.
    pub edns: Option<Edns>,
}

/// What nearly every packet holds, taken for granted: a question that fills it, or all of it but an OPT record without
/// options. The name is not looked into: a question that is equal to one that was [parsed](parse) is as good, and
/// whoever finds no such one has to parse this one.
#[inline]
pub fn presume(packet: &[u8]) -> Option<Query<'_>> {
    let header = Header::read(packet)?;
    if header.flags & (header::QR | header::OPCODE) != 0 {
        return None;
    }
    let (question, edns) = match header.counts {
        [1, 0, 0, 0] => (&packet[header::LEN..], None),
        [1, 0, 0, 1] => {
            let (question, opt) = packet[header::LEN..].split_last_chunk::<OPT_LEN>()?;
            let [0, 0, OPT_TYPE, size_a, size_b, _, 0, flags, _, 0, 0] = *opt else { return None };
            (question, Some(Edns::of([size_a, size_b], flags)))
        }
        _ => return None,
    };
    let [type_a, type_b, class_a, class_b] = *question.last_chunk()?;
    let (rtype, class) = (u16::from_be_bytes([type_a, type_b]), u16::from_be_bytes([class_a, class_b]));
    Some(Query { header, question: Question { bytes: question, rtype, class }, edns })
}

/// Checks a packet from a client.
///
/// # Errors
/// What to do instead of looking it up.
#[inline]
pub fn parse(packet: &[u8]) -> Result<Query<'_>, Reject<'_>> {
    let header = Header::read(packet).ok_or(Reject::Silence(Silence::Short))?;
    if header.flags & header::QR != 0 {
        return Err(Reject::Silence(Silence::Response));
    }
    let refuse = |rcode, question, edns| Reject::Answer(Refusal { header, rcode, question, edns });
    if header.flags & header::OPCODE != 0 {
        return Err(refuse(rcode::NOTIMP, None, None));
    }
    if header.counts[0] != 1 {
        return Err(refuse(rcode::FORMERR, None, None));
    }
    let question =
        Question::read(&packet[header::LEN..]).map_err(|Malformed| refuse(rcode::FORMERR, None, None))?;
    let (edns, version) = find_edns(packet, &header, header::LEN + question.bytes.len())
        .map_err(|Malformed| refuse(rcode::FORMERR, Some(question), None))?;
    if version > 0 {
        return Err(refuse(rcode::BADVERS, Some(question), edns));
    }
    Ok(Query { header, question, edns })
}

/// The OPT record and its version.
fn find_edns(packet: &[u8], header: &Header, question_end: usize) -> Result<(Option<Edns>, u8), Malformed> {
    match header.counts[1..] {
        [0, 0, 0] => Ok((None, 0)),
        // Nearly always: OPT and nothing else.
        [0, 0, 1] if packet[question_end..].starts_with(&OPT) => {
            let fixed = packet[question_end + OPT.len()..].first_chunk::<8>().ok_or(Malformed)?;
            let [size_a, size_b, _, version, flags, _, len_a, len_b] = *fixed;
            let (start, len) = (question_end + OPT.len() + 8, u16::from_be_bytes([len_a, len_b]));
            let options = packet.get(start..start + usize::from(len)).ok_or(Malformed)?;
            records::options(options).try_for_each(|option| option.map(drop))?;
            Ok((Some(Edns::of([size_a, size_b], flags)), version))
        }
        _ => find_edns_among(packet),
    }
}

/// The same among other records.
fn find_edns_among(packet: &[u8]) -> Result<(Option<Edns>, u8), Malformed> {
    let mut found = (None, 0);
    for record in records::walk(packet)? {
        let record = record?;
        if record.rtype != rtype::OPT {
            continue;
        }
        if found.0.is_some() || record.section != Section::Additional || packet[record.owner] != 0 {
            return Err(Malformed);
        }
        records::options(&packet[record.rdata.clone()]).try_for_each(|o| o.map(drop))?;
        // RFC 6891 section 6.1.3: the TTL holds the extended response code, the version and the flags.
        let [_, version, flags, _] = record.ttl.to_be_bytes();
        found = (Some(Edns::of(record.class.to_be_bytes(), flags)), version);
    }
    Ok(found)
}

/// The body of a fuzz target: any packet is parsed or refused, and what is parsed agrees with itself.
pub fn fuzz(packet: &[u8]) {
    if let Ok(query) = parse(packet) {
        if let Some(presumed) = presume(packet)
            && presumed.question == query.question
        {
            assert_eq!(presumed, query, "what was taken for granted is so");
        }
        assert_eq!(
            find_edns_among(packet).map(|(edns, _)| edns),
            Ok(query.edns),
            "short ways lead to the same"
        );
        assert_eq!(Question::read(query.question.bytes), Ok(query.question));
        assert!(query.question.name().len() <= name::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        [&Header { id: 7, flags, counts }.bytes()[..], rest].concat()
    }

    const QUESTION: &[u8] = b"\x01a\0\0\x01\0\x01";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn refused(packet: &[u8]) -> u16 {
        match parse(packet) {
            Err(Reject::Answer(r)) => r.rcode,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_query_and_one_with_edns() {
        let plain = packet(header::RD, [1, 0, 0, 0], QUESTION);
        let query = parse(&plain).unwrap();
        assert_eq!((query.question.name(), query.question.rtype, query.edns), (&b"\x01a\0"[..], 1, None));
        let with = packet(header::RD, [1, 0, 0, 1], &[QUESTION, OPT].concat());
        assert_eq!(parse(&with).unwrap().edns, Some(Edns { udp_size: 1232, dnssec_ok: true }));
    }

    #[test]
    fn what_is_taken_for_granted_of_usual_queries_is_so() {
        for (counts, rest) in [([1, 0, 0, 0], QUESTION.to_vec()), ([1, 0, 0, 1], [QUESTION, OPT].concat())] {
            let packet = packet(header::RD, counts, &rest);
            assert_eq!(presume(&packet), parse(&packet).ok());
            assert!(presume(&packet).is_some());
        }
    }

    #[test]
    fn of_others_nothing_is_taken_for_granted_or_something_that_is_no_question() {
        let option = [QUESTION, b"\0\0\x29\x04\xd0\0\0\x80\0\0\x04\0\x0a\0\0"].concat();
        let later_version = [QUESTION, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0"].concat();
        for (flags, counts, rest) in [
            (header::QR, [1, 0, 0, 0], QUESTION),
            (2 << 11, [1, 0, 0, 0], QUESTION),
            (0, [0, 0, 0, 0], QUESTION),
            (0, [2, 0, 0, 0], QUESTION),
            (0, [1, 0, 1, 0], QUESTION),
            (0, [1, 0, 0, 1], QUESTION),
            (0, [1, 0, 0, 1], &option),
            (0, [1, 0, 0, 1], &later_version),
            (0, [1, 0, 0, 0], b"\0\0\x01"),
        ] {
            assert_eq!(presume(&packet(flags, counts, rest)), None, "{flags:x} {counts:?} {rest:?}");
        }
        // Something lies behind the question: all of it is no question, and found nowhere.
        let longer = packet(header::RD, [1, 0, 0, 0], &[QUESTION, b"\0"].concat());
        let (presumed, parsed) = (presume(&longer).unwrap(), parse(&longer).unwrap());
        assert_eq!((presumed.question.bytes.len(), parsed.question.bytes), (QUESTION.len() + 1, QUESTION));
    }

    #[test]
    fn noise_and_responses_are_not_answered() {
        assert_eq!(parse(&[0; 11]), Err(Reject::Silence(Silence::Short)));
        let response = packet(header::QR, [1, 0, 0, 0], QUESTION);
        assert_eq!(parse(&response), Err(Reject::Silence(Silence::Response)));
    }

    #[test]
    fn each_malformed_query_has_its_code() {
        let twice = [QUESTION, OPT, OPT].concat();
        for (flags, counts, rest, expected) in [
            (2 << 11, [1, 0, 0, 0], QUESTION, rcode::NOTIMP),
            (0, [0, 0, 0, 0], &b""[..], rcode::FORMERR),
            (0, [2, 0, 0, 0], &[QUESTION, QUESTION].concat(), rcode::FORMERR),
            (0, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01", rcode::FORMERR),
            (0, [1, 0, 0, 0], b"\x01a\0\0\x01\0", rcode::FORMERR),
            (0, [1, 0, 0, 2], &twice, rcode::FORMERR),
            (0, [1, 0, 0, 2], &twice[..twice.len() - 1], rcode::FORMERR),
            (0, [1, 1, 0, 0], &[QUESTION, OPT].concat(), rcode::FORMERR),
            (0, [1, 0, 0, 1], &[QUESTION, b"\x01b", OPT].concat(), rcode::FORMERR),
            (0, [1, 0, 0, 1], &[QUESTION, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0"].concat(), rcode::BADVERS),
            (
                0,
                [1, 0, 0, 1],
                &[QUESTION, b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0a\0\x05"].concat(),
                rcode::FORMERR,
            ),
        ] {
            assert_eq!(refused(&packet(flags, counts, rest)), expected, "{counts:?} {rest:?}");
        }
    }
}
