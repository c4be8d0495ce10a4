//! The query as it goes to a server, and what makes a message the reply to it.
//!
//! Queries are hop by hop: whatever EDNS the client spoke, ours is our own (RFC 6891 section 6.1.1). Replies
//! are looked at only as far as is needed to use or drop them; they travel on as the bytes that came.

use std::time::Duration;

use super::{Ask, Transport};
use crate::wire::query::Question;
use crate::wire::{name, records};

/// The length of the header (RFC 1035 section 4.1.1).
pub const HEADER: usize = 12;
/// The UDP payload size we announce: what fits an Ethernet frame without fragments, over IPv6 too.
const PAYLOAD_SIZE: u16 = 1232;
/// The type of the OPT record (RFC 6891 section 6.1.1).
const OPT: u16 = 41;
/// The option edns-tcp-keepalive (RFC 7828 section 3.1).
const KEEPALIVE: u16 = 11;

/// FORMERR: the server did not understand the query.
pub const FORMERR: u8 = 1;
/// SERVFAIL: the server could not find out.
pub const SERVFAIL: u8 = 2;
/// NXDOMAIN: there is no such name.
pub const NXDOMAIN: u8 = 3;
/// NOTIMP: the server does not do this kind of query.
pub const NOTIMP: u8 = 4;
/// REFUSED: the server will not say.
pub const REFUSED: u8 = 5;

/// A query, ready to be written with any id to any server.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// What is asked.
    pub ask: &'a Ask,
    edns: bool,
}

impl<'a> Query<'a> {
    /// The query that asks for `ask`.
    pub fn new(ask: &'a Ask) -> Self {
        Self { ask, edns: true }
    }

    /// The same query without EDNS, for a server that does not know it (RFC 6891 section 6.2.2).
    pub fn plain(self) -> Self {
        Self { edns: false, ..self }
    }

    /// The query that asks for `ask`, with EDNS or without.
    pub fn with(ask: &'a Ask, edns: bool) -> Self {
        Self { ask, edns }
    }

    /// The bytes of its question section.
    pub fn question_len(self) -> usize {
        self.ask.name.len().min(name::MAX) + 4
    }

    /// Whether it carries an OPT record.
    pub fn has_edns(&self) -> bool {
        self.edns
    }

    /// Appends the message to `out`. Over TCP the OPT record asks for the server's idle timeout with an
    /// empty edns-tcp-keepalive (RFC 7828 section 3.2.1).
    pub fn write(self, id: u16, transport: Transport, out: &mut Vec<u8>) {
        let Ask { name, rtype, class, dnssec_ok, checking_disabled } = self.ask;
        let flags: u16 = 0x0100 | 0x0020 | u16::from(*checking_disabled) << 4; // RD, AD, CD
        let words = |words: &[u16], out: &mut Vec<u8>| {
            words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        };
        words(&[id, flags, 1, 0, 0, u16::from(self.edns)], out);
        out.extend_from_slice(&name[..name.len().min(name::MAX)]); // a longer one is no name
        words(&[*rtype, *class], out);
        if !self.edns {
            return;
        }
        out.push(0); // the root
        let extended_flags = u16::from(*dnssec_ok) << 15;
        match transport {
            Transport::Udp => words(&[OPT, PAYLOAD_SIZE, 0, extended_flags, 0], out),
            Transport::Tcp => words(&[OPT, PAYLOAD_SIZE, 0, extended_flags, 4, KEEPALIVE, 0], out),
        }
    }

    /// Whether `message` is a response to this question; its id is looked at elsewhere. See [`answers`].
    pub fn is_answered_by(self, message: &[u8]) -> bool {
        let Ask { name, rtype, class, .. } = self.ask;
        let ([a, b], [c, d]) = (rtype.to_be_bytes(), class.to_be_bytes());
        answers(message, name, &[a, b, c, d])
    }
}

/// Whether `message` is a response to the question for `name` with this `type_and_class`.
///
/// The letter case of the name may differ. A response without a question is accepted only if it is an
/// error with which a server says that it did not get as far as the question.
pub fn answers(message: &[u8], name: &[u8], type_and_class: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<HEADER>() else { return false };
    let response_to_query = header[2] & 0xf8 == 0x80; // QR=1, opcode QUERY
    if !response_to_query {
        return false;
    }
    match u16::from_be_bytes([header[4], header[5]]) {
        0 => matches!(rcode(message), FORMERR | SERVFAIL | NOTIMP | REFUSED),
        1 => {
            let theirs = message[HEADER..].split_at_checked(name.len());
            // Label lengths are below 64 and so no letters: one comparison serves the whole name.
            theirs.is_some_and(|(theirs, rest)| {
                theirs.eq_ignore_ascii_case(name) && rest.starts_with(type_and_class)
            })
        }
        _ => false,
    }
}

/// The id of a message; `None` if it is shorter than a header.
pub fn id(message: &[u8]) -> Option<u16> {
    message.first_chunk::<HEADER>().map(|h| u16::from_be_bytes([h[0], h[1]]))
}

/// The response code in the header (0 to 15).
pub fn rcode(message: &[u8]) -> u8 {
    message.get(3).map_or(SERVFAIL, |b| b & 0x0f)
}

/// Whether the TC bit is set.
pub fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|b| b & 0x02 != 0)
}

/// The header and the question, with TC set: what is whole of a message that was cut.
pub fn truncated(message: &[u8]) -> Vec<u8> {
    let question = message.get(HEADER..).and_then(|m| Question::read(m).ok()).map_or(&[][..], |q| q.bytes);
    let mut short = [&message[..message.len().min(4)], &[0, 0, 0, 0, 0, 0, 0, 0], question].concat();
    if let Some(counts) = short.get_mut(2..6) {
        counts[0] |= 0x02;
        counts[3] = u8::from(!question.is_empty());
    }
    short
}

/// Whether the message is what its header promises, record by record.
pub fn is_whole(message: &[u8]) -> bool {
    records::walk(message).is_ok_and(|mut walk| walk.all(|record| record.is_ok()))
}

/// Whether the message carries an OPT record.
pub fn has_opt(message: &[u8]) -> bool {
    opt(message).is_some()
}

/// The idle timeout that the server announces (RFC 7828 section 3.1), if it does.
pub fn keepalive(message: &[u8]) -> Option<Duration> {
    let mut options = opt(message)?;
    loop {
        let (code, value);
        (code, options) = word(options)?;
        let (length, rest) = word(options)?;
        (value, options) = rest.split_at_checked(usize::from(length))?;
        if code == KEEPALIVE {
            let tenths = u16::from_be_bytes(value.try_into().ok()?);
            return Some(Duration::from_millis(100) * u32::from(tenths));
        }
    }
}

/// The options of the OPT record; `None` if there is no such record or the message is cut off before it.
fn opt(message: &[u8]) -> Option<&[u8]> {
    let header = message.first_chunk::<HEADER>()?;
    let count = |at: usize| u32::from(u16::from_be_bytes([header[at], header[at + 1]]));
    if count(10) == 0 {
        return None;
    }
    let mut rest = &message[HEADER..];
    for _ in 0..count(4) {
        rest = skip_name(rest)?.get(4..)?;
    }
    for _ in 0..count(6) + count(8) + count(10) {
        let (rtype, fields) = word(skip_name(rest)?)?;
        let (length, data) = word(fields.get(6..)?)?;
        let (data, after) = data.split_at_checked(usize::from(length))?;
        if rtype == OPT {
            return Some(data);
        }
        rest = after;
    }
    None
}

/// What follows the name at the start of `bytes`. Pointers end a name; they need not be followed here.
fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(usize::from(length)..)?,
            0xc0.. => return rest.get(1..),
            _ => return None,
        }
    }
}

/// The first two bytes as a number, and the rest.
fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk::<2>().map(|(word, rest)| (u16::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask {
            name: Box::from(*b"\x03www\x07example\x00"),
            rtype: 1,
            class: 1,
            dnssec_ok: true,
            checking_disabled: false,
        }
    }

    fn reply(query: Query<'_>) -> Vec<u8> {
        let mut message = Vec::new();
        query.write(7, Transport::Udp, &mut message);
        message[2] |= 0x80;
        message
    }

    #[test]
    fn a_query_says_rd_ad_do_and_asks_for_the_idle_timeout_over_tcp() {
        let mut message = Vec::new();
        Query::new(&ask()).write(0x1234, Transport::Tcp, &mut message);
        let expected =
            b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07example\x00\x00\x01\x00\x01\
            \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x04\x00\x0b\x00\x00";
        assert_eq!(message, expected);
    }

    #[test]
    fn cd_is_per_ask_and_udp_carries_no_keepalive() {
        let mut message = Vec::new();
        let ask = Ask { checking_disabled: true, dnssec_ok: false, ..ask() };
        Query::new(&ask).write(0, Transport::Udp, &mut message);
        assert_eq!(message[3], 0x30);
        assert_eq!(message[29..], *b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
        message.clear();
        Query::new(&ask).plain().write(0, Transport::Udp, &mut message);
        assert_eq!(message.len(), 29);
        assert_eq!(message[11], 0);
    }

    #[test]
    fn a_reply_has_the_question_in_any_letter_case() {
        let ask = ask();
        let query = Query::new(&ask);
        let mut message = reply(query);
        message[13] = b'W';
        assert!(query.is_answered_by(&message));
        for (at, why) in [(13, "name"), (26, "type"), (28, "class"), (5, "count"), (2, "QR, opcode")] {
            let mut other = message.clone();
            other[at] ^= 0x98;
            assert!(!query.is_answered_by(&other), "{why}");
        }
        for length in 0..29 {
            assert!(!query.is_answered_by(&message[..length]), "{length} bytes");
        }
    }

    #[test]
    fn without_a_question_only_errors_are_replies() {
        let ask = ask();
        let query = Query::new(&ask);
        for (rcode, accepted) in [(0, false), (1, true), (2, true), (3, false), (4, true), (5, true)] {
            let message = [0, 7, 0x80, rcode, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(query.is_answered_by(&message), accepted, "{rcode}");
        }
    }

    #[test]
    fn the_announced_idle_timeout_is_found_behind_other_records_and_options() {
        let mut message =
            b"\x00\x07\x80\x00\x00\x01\x00\x01\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01".to_vec();
        message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x7f\x00\x00\x01");
        message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0b");
        message.extend_from_slice(b"\x00\x0f\x00\x01x\x00\x0b\x00\x02\x00\x64");
        assert_eq!(keepalive(&message), Some(Duration::from_secs(10)));
        assert!(has_opt(&message));
        for length in 0..message.len() {
            assert_eq!(keepalive(&message[..length]), None, "{length} bytes");
        }
    }
}
