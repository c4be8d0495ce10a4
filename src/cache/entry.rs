//! An entry: an answer made ready once, when it comes, so that a hit is a copy and a few patches.
//!
//! It is immutable, and one run of bytes: a few numbers, the message without its OPT, the places of its TTLs, and the
//! upstream's extended errors. A kernel map or a successor process could hold it as it is.

use std::sync::Arc;

use crate::clock::Now;
use crate::wire::answer::{self, Asker, Rotation, Stored, Ttl};
use crate::wire::header::{self, Header};
use crate::wire::query::{Edns, Question};
use crate::wire::records::{self, Record, Section};
use crate::wire::{Malformed, class, name, rcode, rtype};

use super::fold;
use super::ttl::{self, Kind, Rules};

/// The option code of an extended error (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;
/// Bytes of extended errors that are kept of one answer: they only explain.
const OPTIONS_MAX: usize = 256;
/// Records whose places a [`Maker`] keeps room for from one reply to the next.
const ROOM: usize = 256;

/// A stored answer; a clone is the same one, counted.
///
/// ```text
/// head (32): moments and numbers, see Head | message | places of TTLs (2 each) | options
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(Arc<[u8]>);

/// What stands in front of the message. In native order: entries do not leave the machine.
struct Head {
    stored: Now,
    stale_until: Now,
    /// Seconds from `stored` on.
    ttl: u32,
    /// Bytes of the message.
    message: u16,
    /// Places of TTLs.
    ttls: u16,
    rotation: Rotation,
    kind: Kind,
}

const HEAD: usize = 32;

impl Head {
    fn bytes(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[0..8].copy_from_slice(&self.stored.nanos().to_ne_bytes());
        out[8..16].copy_from_slice(&self.stale_until.nanos().to_ne_bytes());
        out[16..20].copy_from_slice(&self.ttl.to_ne_bytes());
        out[20..22].copy_from_slice(&self.message.to_ne_bytes());
        out[22..24].copy_from_slice(&self.ttls.to_ne_bytes());
        out[24..26].copy_from_slice(&self.rotation.first.to_ne_bytes());
        out[26..28].copy_from_slice(&self.rotation.count.to_ne_bytes());
        out[28] = self.kind as u8;
        out
    }
}

impl Entry {
    /// Makes an entry of an upstream's reply that came at `now`: TTLs capped and floored by `rules`, OPT taken
    /// off, id and what else is hop by hop cleared.
    ///
    /// # Errors
    /// The reply has no question, or its records are not what its header promises.
    pub fn from_reply(reply: &[u8], rules: &Rules, now: Now) -> Result<Self, Malformed> {
        Maker::default().make(reply, rules, now)
    }

    /// As [`wire::answer`](crate::wire::answer) wants it.
    pub fn stored(&self) -> Stored<'_> {
        let rest = &self.0[HEAD..];
        let (message, rest) = rest.split_at(self.u16_at(20).into());
        let (ttls, options) = rest.split_at(2 * usize::from(self.u16_at(22)));
        let rotation = Rotation { first: self.u16_at(24), count: self.u16_at(26) };
        Stored { message, ttls, rotation, options }
    }

    /// Whether it answers this question: name, in any letter case, type and class.
    pub fn answers(&self, question: &[u8]) -> bool {
        let at = HEAD + header::LEN;
        self.0.get(at..at + question.len()).is_some_and(|own| fold::same(question, own))
    }

    /// The response code, its lower four bits.
    pub fn rcode(&self) -> u16 {
        self.flags() & header::RCODE
    }

    /// Whether it is a part of an answer whose rest could not be had.
    pub fn is_truncated(&self) -> bool {
        self.flags() & header::TC != 0
    }

    /// What it says.
    pub fn kind(&self) -> Kind {
        Kind::ALL.get(usize::from(self.head()[28])).copied().unwrap_or(Kind::Nothing)
    }

    /// Whether it says that there is no such name or no such data, or nothing of use.
    pub fn is_denial(&self) -> bool {
        self.kind() != Kind::Positive
    }

    /// Whether it may be kept at all.
    pub fn cacheable(&self) -> bool {
        self.ttl() > 0
    }

    /// How long it may be served from its coming on, in seconds.
    pub fn ttl(&self) -> u32 {
        let head = self.head();
        u32::from_ne_bytes([head[16], head[17], head[18], head[19]])
    }

    /// Whole seconds that it has lain here.
    pub fn age(&self, now: Now) -> u32 {
        now.seconds_since(self.came())
    }

    /// When it came.
    pub fn came(&self) -> Now {
        self.moment_at(0)
    }

    /// When its time is over.
    pub fn expires(&self) -> Now {
        self.came() + std::time::Duration::from_secs(self.ttl().into())
    }

    /// Whether its time is not over.
    pub fn is_fresh(&self, now: Now) -> bool {
        now < self.expires()
    }

    /// Whether it may be served, if nothing fresh can be had.
    pub fn is_usable(&self, now: Now) -> bool {
        now < self.moment_at(8)
    }

    /// The bytes it takes on the heap.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    fn head(&self) -> &[u8; HEAD] {
        self.0.first_chunk().unwrap_or(&[0; HEAD])
    }

    fn u16_at(&self, at: usize) -> u16 {
        let head = self.head();
        u16::from_ne_bytes([head[at], head[at + 1]])
    }

    fn moment_at(&self, at: usize) -> Now {
        let mut eight = [0; 8];
        eight.copy_from_slice(&self.head()[at..at + 8]);
        Now::from_nanos(u64::from_ne_bytes(eight))
    }

    /// The flags of the message.
    fn flags(&self) -> u16 {
        crate::wire::u16_at(&self.0, HEAD + 2).unwrap_or(rcode::SERVFAIL)
    }
}

/// Makes entries. It keeps its buffers, so that an entry is one allocation.
#[derive(Debug, Default)]
pub struct Maker {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Maker {
    /// See [`Entry::from_reply`].
    ///
    /// # Errors
    /// Likewise.
    pub fn make(&mut self, reply: &[u8], rules: &Rules, now: Now) -> Result<Entry, Malformed> {
        let parts = Parts::split(reply, &mut self.records)?;
        let entry = parts.entry(reply, rules, now, &mut self.bytes);
        self.records.clear();
        self.records.shrink_to(ROOM);
        self.bytes.shrink_to(ROOM * 32);
        entry
    }
}

/// A reply, taken apart.
struct Parts<'m> {
    header: Header,
    asked: u16,
    /// Where its question ends.
    question_end: usize,
    records: &'m mut Vec<Record>,
    /// The place of OPT.
    opt: Option<std::ops::Range<usize>>,
    options: Vec<u8>,
    /// Whether OPT holds the upper bits of a response code (BADVERS and the like): an error between two
    /// neighbours, which the client hears of as SERVFAIL.
    extended: bool,
    /// Where the records end that are kept.
    end: usize,
}

impl<'m> Parts<'m> {
    fn split(reply: &[u8], records: &'m mut Vec<Record>) -> Result<Self, Malformed> {
        let header = Header::read(reply).ok_or(Malformed)?;
        if header.counts[0] != 1 {
            return Err(Malformed);
        }
        let question = Question::read(&reply[header::LEN..])?;
        records.clear();
        let mut parts = Self {
            header,
            asked: question.rtype,
            question_end: header::LEN + question.bytes.len(),
            records,
            opt: None,
            options: Vec::new(),
            extended: false,
            end: 0,
        };
        let mut walk = records::walk(reply)?;
        parts.end = walk.at();
        while let Some(record) = walk.next() {
            let record = record?;
            if record.rtype == rtype::OPT {
                if parts.opt.is_some() || record.section != Section::Additional {
                    return Err(Malformed);
                }
                parts.options = extended_errors(&reply[record.rdata.clone()]);
                parts.extended = record.ttl >> 24 != 0;
                parts.opt = Some(record.owner..walk.at());
            } else {
                if parts.opt.as_ref().is_some_and(|opt| !movable(reply, &record, opt.start)) {
                    break;
                }
                parts.records.push(record);
            }
            parts.end = walk.at();
        }
        Ok(parts)
    }

    /// The response code that the client is to see.
    fn code(&self) -> u16 {
        if self.extended { rcode::SERVFAIL } else { self.header.rcode() }
    }

    /// The smallest TTL, as stored.
    fn lifetime(&self, rules: &Rules, negative: Option<u32>) -> u32 {
        self.records.iter().map(|r| stored_ttl(r, rules, negative)).chain(negative).min().unwrap_or(0)
    }

    /// The entry, made in `bytes`.
    fn entry(&self, reply: &[u8], rules: &Rules, now: Now, bytes: &mut Vec<u8>) -> Result<Entry, Malformed> {
        let (kind, soa_ttl) = ttl::classify(reply, self.records, self.code(), self.asked);
        let negative = soa_ttl.map(|t| rules.negative(t));
        let cacheable = rules.keeps(kind) && self.header.flags & header::TC == 0;
        let ttl = if cacheable { self.lifetime(rules, negative) } else { 0 };
        bytes.clear();
        bytes.resize(HEAD, 0);
        let message = self.write(reply, rules, negative, bytes);
        bytes.extend_from_slice(&self.options);
        let head = Head {
            stored: now,
            stale_until: now + std::time::Duration::from_secs(ttl.into()) + rules.stale_for(kind),
            ttl,
            message: u16::try_from(message).map_err(|_| Malformed)?,
            ttls: self.records.len() as u16,
            rotation: rotation(reply, self.records),
            kind,
        };
        bytes[..HEAD].copy_from_slice(&head.bytes());
        Ok(Entry(bytes.as_slice().into()))
    }

    /// Appends the message without OPT, its question in lower case, and the places of its TTLs; gives the message's
    /// length.
    fn write(&self, reply: &[u8], rules: &Rules, negative: Option<u32>, bytes: &mut Vec<u8>) -> usize {
        let start = bytes.len();
        let opt = self.opt.clone().unwrap_or(self.end..self.end);
        bytes.extend_from_slice(&reply[..opt.start]);
        bytes.extend_from_slice(&reply[opt.end..self.end]);
        let len = bytes.len() - start;
        for record in &*self.records {
            let behind_opt = record.ttl_at >= opt.end;
            let place = record.ttl_at - if behind_opt { opt.len() } else { 0 };
            bytes[start + place..][..4].copy_from_slice(&stored_ttl(record, rules, negative).to_be_bytes());
            bytes.extend_from_slice(&(place as u16).to_ne_bytes());
        }
        let message = &mut bytes[start..];
        message[header::LEN..self.question_end - 4].make_ascii_lowercase();
        message[..header::LEN].copy_from_slice(&self.stored_header().bytes());
        len
    }

    fn stored_header(&self) -> Header {
        let count = |section| self.records.iter().filter(|r| r.section == section).count() as u16;
        let counts = [1, count(Section::Answer), count(Section::Authority), count(Section::Additional)];
        Header { id: 0, flags: self.header.flags & (header::AD | header::TC) | self.code(), counts }
    }
}

/// The TTL under which `record` is stored: a negative answer's SOA carries the time of that answer, and no
/// proof beside it (NSEC, RRSIG) has more than that or than its own.
fn stored_ttl(record: &Record, rules: &Rules, negative: Option<u32>) -> u32 {
    match negative {
        Some(ttl) if record.section == Section::Authority && record.rtype == rtype::SOA => ttl,
        Some(ttl) if record.section == Section::Authority => rules.negative(record.ttl).min(ttl),
        _ => rules.positive(record.ttl),
    }
}

/// The extended errors among the options of an OPT record, whole options.
fn extended_errors(rdata: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for (code, data) in records::options(rdata).map_while(Result::ok) {
        if code == EXTENDED_ERROR && data.len() >= 2 && kept.len() + 4 + data.len() <= OPTIONS_MAX {
            kept.extend(code.to_be_bytes());
            kept.extend((data.len() as u16).to_be_bytes());
            kept.extend_from_slice(data);
        }
    }
    kept
}

/// Whether a record behind OPT can move up when OPT is taken off: no name in it may point behind OPT. Its
/// owner is looked at, and types that may hold compressed names (RFC 1035, RFC 3597 section 4) are taken to do
/// so. OPT is nearly always last, and additional records may be left out (RFC 2181 section 9).
fn movable(message: &[u8], record: &Record, opt: usize) -> bool {
    let compressible =
        matches!(record.rtype, 2..=9 | 12 | 14 | 15 | 17 | 18 | 21 | 24 | 26 | 30 | 33 | 35 | 36 | 39);
    let mut at = record.owner;
    let points_before = loop {
        match message.get(at) {
            Some(0) => break true,
            Some(&len @ 1..=63) => at += 1 + usize::from(len),
            Some(&high) => {
                let low = message.get(at + 1).copied().unwrap_or(0);
                break (usize::from(high & 0x3f) << 8 | usize::from(low)) < opt;
            }
            None => break false,
        }
    };
    points_before && !compressible
}

/// The first run of two or more addresses of one owner in the answer section.
fn rotation(message: &[u8], records: &[Record]) -> Rotation {
    let is_address = |r: &Record| {
        r.section == Section::Answer
            && r.class == class::IN
            && matches!((r.rtype, r.rdata.len()), (rtype::A, 4) | (rtype::AAAA, 16))
    };
    let alike = |a: &Record, b: &Record| {
        is_address(a) && is_address(b) && a.rtype == b.rtype && name::same(message, a.owner, b.owner)
    };
    let mut first = 0;
    for run in records.chunk_by(alike) {
        if run.len() > 1 {
            return Rotation { first, count: run.len() as u16 };
        }
        first += run.len() as u16;
    }
    Rotation::default()
}

/// The body of a fuzz target: any bytes make an entry or an error.
pub fn fuzz(reply: &[u8]) {
    let now = Now::from_millis(1_000_000);
    let Ok(entry) = Entry::from_reply(reply, &Rules::default(), now) else { return };
    let stored = entry.stored();
    assert!(records::walk(stored.message).is_ok_and(|mut w| w.all(|r| r.is_ok())), "an entry is well formed");
    assert!(entry.ttl() <= 3600);
}

/// The body of a fuzz target: the first eight bytes say what the client is like, the rest is a reply. Its entry
/// makes an answer that fits, is well formed, and has OPT iff the client had.
pub fn fuzz_answer(bytes: &[u8]) {
    let Some((&[id, flags, size_a, size_b, bits, age, turn, error], reply)) = bytes.split_first_chunk()
    else {
        return;
    };
    let Ok(entry) = Entry::from_reply(reply, &Rules::default(), Now::from_millis(1)) else { return };
    let Ok(question) = Question::read(&reply[header::LEN..]) else { return };
    let size = u16::from_be_bytes([size_a, size_b]);
    let edns = (bits & 1 != 0).then_some(Edns { udp_size: size, dnssec_ok: bits & 2 != 0 });
    let header = Header { id: id.into(), flags: flags.into(), counts: [1, 0, 0, 0] };
    let limit = if bits & 4 != 0 { crate::wire::MESSAGE_MAX } else { answer::udp_limit(edns, 1232) };
    let asker = Asker { header, question, edns, limit, our_size: 1232 };
    let ttl = if bits & 8 != 0 { Ttl::All(30) } else { Ttl::Aged(age.into()) };
    let mut out = vec![0; crate::wire::MESSAGE_MAX];
    let error = (bits & 16 != 0).then_some(error.into());
    let len = answer::write(&mut out, &entry.stored(), &asker, ttl, turn.into(), error);
    let answer = len.and_then(|len| out.get(..len)).unwrap_or_default();
    assert!((header::LEN..=limit).contains(&answer.len()), "it is there and it fits");
    let records: Result<Vec<_>, _> = records::walk(answer).and_then(Iterator::collect);
    let records = records.unwrap_or_default();
    let counts = Header::read(answer).map_or([0; 4], |h| h.counts);
    assert_eq!(counts[1..].iter().map(|&n| usize::from(n)).sum::<usize>(), records.len(), "well formed");
    assert_eq!(Question::read(&answer[header::LEN..]), Ok(question));
    assert_eq!(records.iter().any(|r| r.rtype == rtype::OPT), edns.is_some(), "OPT iff the client had one");
}
