//! A message as records that can be put together and changed, and back to bytes.
//!
//! Names are written out; data that holds none stays as it came. Only what goes through a rule is taken apart.

use std::collections::HashMap;

use super::rdata;
use crate::upstream::Ask;
use crate::wire::header::{self, Header};
use crate::wire::records::{self, Section};
use crate::wire::{MESSAGE_MAX, Malformed, name, rcode, rtype, u16_at};

/// Pointers reach no further.
const POINTER_MAX: usize = 0x3fff;

/// A message with one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Everything from QR to RCODE.
    pub flags: u16,
    /// Name, type and class of the question.
    pub question: (Box<[u8]>, u16, u16),
    /// The answer, authority and additional sections, OPT among the last.
    pub sections: [Vec<Rr>; 3],
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rr {
    /// Whose: wire format, uncompressed.
    pub owner: Box<[u8]>,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// In seconds.
    pub ttl: u32,
    /// The data, names in it written out.
    pub data: Box<[u8]>,
}

impl Message {
    /// An empty answer of our own to `ask`.
    pub fn answer(ask: &Ask, code: u16) -> Self {
        let flags = header::QR | header::AA | header::RD | header::RA | (code & header::RCODE);
        Self { flags, question: question(ask), sections: Default::default() }
    }

    /// The failure that `ask` ends in.
    pub fn failure(ask: &Ask) -> Self {
        let mut message = Self::answer(ask, rcode::SERVFAIL);
        message.flags &= !header::AA;
        message
    }

    /// Takes apart the reply to `ask`; that it is one, the caller knows.
    ///
    /// # Errors
    /// Its records are not what its header or their types promise.
    pub fn read(reply: &[u8], ask: &Ask) -> Result<Self, Malformed> {
        let header = Header::read(reply).ok_or(Malformed)?;
        Ok(Self { flags: header.flags, question: question(ask), sections: sections(reply)? })
    }

    /// The response code.
    pub fn code(&self) -> u16 {
        self.flags & header::RCODE
    }

    /// Makes it an answer to `ask`, and one that its sender would not know again.
    pub fn turn_to(&mut self, ask: &Ask) {
        self.question = question(ask);
        self.flags &= !header::AD;
    }

    /// Puts another response code in.
    pub fn set_code(&mut self, code: u16) {
        self.flags = self.flags & !header::RCODE | (code & header::RCODE);
    }

    /// Whether it was cut, and makes it so.
    pub fn set_truncated(&mut self, truncated: bool) {
        self.flags = self.flags & !header::TC | if truncated { header::TC } else { 0 };
    }

    /// Whether it was cut.
    pub fn is_truncated(&self) -> bool {
        self.flags & header::TC != 0
    }

    /// Every record but OPT.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut Rr> {
        self.sections.iter_mut().flatten().filter(|rr| rr.rtype != rtype::OPT)
    }

    /// As bytes; `None` if they are more than a message may have.
    pub fn write(&self) -> Option<Vec<u8>> {
        self.write_by(|writer, name| writer.name(name))
    }

    /// The same, where only records of the question's own name point at it: the client's letter case stands there, and
    /// other names are to keep theirs.
    fn write_in_its_case(&self) -> Option<Vec<u8>> {
        self.write_by(|writer, name| {
            writer.asked = Some(name);
            writer.out.extend_from_slice(name);
        })
    }

    fn write_by<'m>(&'m self, question: impl FnOnce(&mut Writer<'m>, &'m [u8])) -> Option<Vec<u8>> {
        let mut writer = Writer { out: Vec::with_capacity(512), places: HashMap::new(), asked: None };
        let mut counts = [1, 0, 0, 0];
        for (count, section) in counts[1..].iter_mut().zip(&self.sections) {
            *count = u16::try_from(section.len()).ok()?;
        }
        writer.out.extend(Header { id: 0, flags: self.flags, counts }.bytes());
        let (name, rtype, class) = &self.question;
        question(&mut writer, name);
        writer.words([*rtype, *class]);
        for rr in self.sections.iter().flatten() {
            writer.record(rr)?;
        }
        (writer.out.len() <= MESSAGE_MAX).then_some(writer.out)
    }
}

/// The same reply with pointers where names are written out; `None` where it points already, or gets no shorter.
///
/// CoreDNS writes all names out over TCP. Passed on like that, 10 addresses of a name of 35 bytes need more than the 512
/// bytes of a UDP answer, and clients have to ask again over TCP; with pointers, 28 fit.
pub fn shorten(reply: &[u8]) -> Option<Vec<u8>> {
    let header = Header::read(reply).filter(|header| header.counts[0] == 1)?;
    let first = records::walk(reply).ok()?.next()?.ok()?;
    // Who points, does so everywhere. What is not about the question's own name is short.
    let is_pointer = *reply.get(first.owner)? >= 0xc0;
    if is_pointer || !name::same(reply, header::LEN, first.owner) || !can_shrink(reply) {
        return None;
    }
    let end = name::end_uncompressed(reply, header::LEN).ok()?;
    let [rtype, class] = [u16_at(reply, end)?, u16_at(reply, end + 2)?];
    let name = reply[header::LEN..end].into();
    let question = (name, rtype, class);
    let message = Message { flags: header.flags, question, sections: sections(reply).ok()? };
    message.write_in_its_case().filter(|written| written.len() < reply.len())
}

/// Whether pointers would make a reply shorter that has none where its question's name stands again. That name is enough,
/// unless it is the root's: one byte, and a pointer has two. Then two other names must be written out. Nothing is
/// allocated for this: it is looked at with every miss.
fn can_shrink(reply: &[u8]) -> bool {
    let written_out = |at: usize| {
        let end = name::end_uncompressed(reply, at);
        end.is_ok_and(|end| end > at + 2)
    };
    let Ok(records) = records::walk(reply) else { return false };
    let names = records.map_while(Result::ok).flat_map(|record| {
        let data = record.rdata.start;
        let at = match record.rtype {
            rtype::NS | rtype::CNAME | rtype::SOA | rtype::PTR => Some(data),
            15 => Some(data + 2),
            _ => None,
        };
        [Some(record.owner), at].into_iter().flatten()
    });
    written_out(header::LEN) || names.filter(|&at| written_out(at)).nth(1).is_some()
}

/// The records of a message.
fn sections(message: &[u8]) -> Result<[Vec<Rr>; 3], Malformed> {
    let mut sections: [Vec<Rr>; 3] = Default::default();
    for record in records::walk(message)? {
        let record = record?;
        let mut owner = Vec::new();
        name::expand(message, record.owner, &mut owner)?;
        let data = rdata::expand(message, record.rtype, record.rdata)?.into();
        let place = match record.section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        };
        let (rtype, class, ttl) = (record.rtype, record.class, record.ttl);
        sections[place].push(Rr { owner: owner.into(), rtype, class, ttl, data });
    }
    Ok(sections)
}

fn question(ask: &Ask) -> (Box<[u8]>, u16, u16) {
    (ask.name.clone(), ask.rtype, ask.class)
}

struct Writer<'m> {
    out: Vec<u8>,
    /// Where names, and ends of names, were written.
    places: HashMap<&'m [u8], u16>,
    /// The question's name, for records of this name alone.
    asked: Option<&'m [u8]>,
}

impl<'m> Writer<'m> {
    fn words<const N: usize>(&mut self, words: [u16; N]) {
        self.out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    }

    /// Writes a name, the end of it as a pointer if it was written before (RFC 1035 section 4.1.4).
    fn name(&mut self, mut name: &'m [u8]) {
        while let [len @ 1..=255, rest @ ..] = name {
            if let Some(place) = self.places.get(name) {
                return self.words([0xc000 | place]);
            }
            if self.out.len() <= POINTER_MAX {
                self.places.insert(name, self.out.len() as u16);
            }
            let (label, rest) = rest.split_at(usize::from(*len).min(rest.len()));
            self.out.push(*len);
            self.out.extend_from_slice(label);
            name = rest;
        }
        self.out.push(0);
    }

    fn record(&mut self, rr: &'m Rr) -> Option<()> {
        // The root's name is shorter than a pointer.
        if rr.owner.len() > 1 && self.asked.is_some_and(|asked| name::same_bytes(asked, &rr.owner)) {
            self.words([0xc000 | header::LEN as u16]);
        } else {
            self.name(&rr.owner);
        }
        self.words([rr.rtype, rr.class]);
        self.out.extend(rr.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.words([0]);
        let mut at = 0;
        // Newer types are not to be compressed (RFC 3597 section 4): NS, CNAME, SOA, PTR, MX.
        if matches!(rr.rtype, 2 | 5 | 6 | 12 | 15) {
            for range in rdata::names(rr.rtype, &rr.data) {
                self.out.extend_from_slice(&rr.data[at..range.start]);
                self.name(&rr.data[range.clone()]);
                at = range.end;
            }
        }
        self.out.extend_from_slice(&rr.data[at..]);
        let length = u16::try_from(self.out.len() - length_at - 2).ok()?;
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask() -> Ask {
        let name = Box::from(*b"\x01a\x04test\0");
        Ask { name, rtype: 1, class: 1, dnssec_ok: false, checking_disabled: false }
    }

    /// A reply with pointers in an owner, in the data of CNAME and SOA, and an OPT.
    fn reply() -> Vec<u8> {
        let mut reply = b"\0\x07\x85\x80\0\x01\0\x02\0\x01\0\x01\x01a\x04test\0\0\x01\0\x01".to_vec();
        reply.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x1e\0\x04\x01b\xc0\x0e");
        reply.extend(b"\x01b\xc0\x0e\0\x01\0\x01\0\0\0\x1e\0\x04\x7f\0\0\x01");
        reply.extend(b"\xc0\x0e\0\x06\0\x01\0\0\0\x1e\0\x18\xc0\x0c\xc0\x0e");
        reply.extend([0; 20]);
        reply.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        reply
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = Message::read(&reply(), &ask()).unwrap();
        let [answers, authority, additional] = &message.sections;
        assert_eq!(&*answers[0].data, b"\x01b\x04test\0");
        assert_eq!(&*answers[1].owner, b"\x01b\x04test\0");
        assert_eq!(authority[0].data[..14], *b"\x01a\x04test\0\x04test\0");
        assert_eq!(additional[0].rtype, rtype::OPT);
        let written = message.write().unwrap();
        assert!(written.len() < reply().len(), "compressed as well as it was, or better");
        assert_eq!(Message::read(&written, &ask()).unwrap(), message);
    }

    #[test]
    fn names_that_are_written_out_become_pointers() {
        let mut long = b"\0\x07\x85\x80\0\x01\0\x02\0\0\0\0\x01A\x04test\0\0\x01\0\x01".to_vec();
        for last in [1, 2] {
            long.extend(b"\x01A\x04test\0\0\x01\0\x01\0\0\0\x1e\0\x04\x7f\0\0");
            long.push(last);
        }
        let short = shorten(&long).unwrap();
        assert_eq!(short.len(), long.len() - 12);
        // Flags, the question in its letter case, and the records in their order.
        assert_eq!((&short[2..24], &short[24..26]), (&long[2..24], &[0xc0, 12][..]));
        assert_eq!(sections(&short), sections(&long));
        assert_eq!(shorten(&short), None);
        assert_eq!(shorten(&reply()), None);
        for len in 0..long.len() {
            assert_eq!(shorten(&long[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn names_below_the_root_become_pointers_where_there_are_two() {
        let roots = |count: u8| {
            let mut reply = vec![0, 7, 0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0, 0, 0, 2, 0, 1];
            for n in 0..count {
                reply.extend(b"\0\0\x02\0\x01\0\0\0\x1e\0\x08\x01");
                reply.extend([b'a' + n, 4]);
                reply.extend(b"root\0");
            }
            reply
        };
        assert!(!can_shrink(&roots(1)));
        assert_eq!(shorten(&roots(1)), None);
        assert_eq!(shorten(&roots(3)).unwrap().len(), roots(3).len() - 2 * 4);
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        let mut message = Message::answer(&ask(), 0);
        let rr = Rr { owner: ask().name, rtype: 16, class: 1, ttl: 0, data: vec![0; 60_000].into() };
        message.sections[0].push(rr.clone());
        assert!(message.write().is_some());
        message.sections[0].push(rr);
        assert_eq!(message.write(), None);
    }

    #[test]
    fn a_cut_message_is_malformed() {
        for len in 0..reply().len() {
            assert!(Message::read(&reply()[..len], &ask()).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::read(&bytes, &ask()) {
                message.write();
            }
        }

        #[test]
        fn a_bent_reply_is_read_or_not_and_comes_back(at in 0usize..160, byte: u8) {
            let mut bytes = reply();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(message) = Message::read(&bytes, &ask()) {
                let written = message.write().unwrap();
                prop_assert_eq!(Message::read(&written, &ask()), Ok(message));
            }
        }
    }
}
