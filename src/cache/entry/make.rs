//! From a reply to an [`Entry`]: taken apart, TTLs capped and floored, OPT taken off, and written once.

use std::sync::atomic::AtomicU64;

use triomphe::ThinArc;

use crate::clock::Now;
use crate::wire::answer::Rotation;
use crate::wire::header::{self, Header};
use crate::wire::query::Question;
use crate::wire::records::{self, Record, Section};
use crate::wire::{self, Malformed, class, name, rcode, rtype};

use super::{Came, Entry, Head, Marks, Tail};
use crate::cache::key::Asked;
use crate::cache::{Key, Rules, ttl};

/// The option code of an extended error (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;
/// Bytes of extended errors that are kept of one answer: they only explain.
const OPTIONS_MAX: usize = 256;
/// Records whose places a [`Maker`] keeps room for from one reply to the next.
const ROOM: usize = 256;

/// Makes entries. It keeps its buffers, so that an entry is one allocation.
#[derive(Debug, Default)]
pub struct Maker {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Maker {
    /// See [`Entry::from_reply`]. With the key that it is to be kept under, the store need not copy it.
    ///
    /// # Errors
    /// Likewise.
    pub fn make(
        &mut self,
        reply: &[u8],
        rules: &Rules,
        now: Now,
        key: Option<&Key>,
    ) -> Result<Entry, Malformed> {
        let parts = Parts::split(reply, &mut self.records)?;
        let entry = parts.entry(reply, rules, now, key, &mut self.bytes);
        self.records.clear();
        self.records.shrink_to(ROOM);
        self.bytes.clear();
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
    fn entry(
        &self,
        reply: &[u8],
        rules: &Rules,
        now: Now,
        key: Option<&Key>,
        bytes: &mut Vec<u8>,
    ) -> Result<Entry, Malformed> {
        let (kind, soa_ttl) = ttl::classify(reply, self.records, self.code(), self.asked);
        let negative = soa_ttl.map(|t| rules.negative(t));
        let cacheable = rules.keeps(kind) && self.header.flags & header::TC == 0;
        let kept = cacheable && self.lifetime(rules, negative) > 0;
        let rotation = rotation(reply, self.records);
        self.write(reply, rules, negative, bytes)?;
        if rotation.count > 1 {
            bytes.extend_from_slice(&rotation.first.to_ne_bytes());
            bytes.extend_from_slice(&rotation.count.to_ne_bytes());
        }
        if !self.options.is_empty() {
            bytes.extend_from_slice(&self.options);
            bytes.extend_from_slice(&(self.options.len() as u16).to_ne_bytes());
        }
        let marks = [
            (Marks::ROTATES, rotation.count > 1),
            (Marks::OPTIONS, !self.options.is_empty()),
            (Marks::KEPT, kept),
        ];
        let marks = marks.iter().filter(|(_, has)| *has).fold(kind as u8, |marks, (mark, _)| marks | mark);
        let marks = Marks(marks).asked_with(key.map_or(0, Asked::bits));
        bytes.extend_from_slice(&Tail::new(rules.stale_for(kind), marks).0);
        let head = Head { came: Came::of(now), zone: key.map_or(0, Key::zone), uses: AtomicU64::new(0) };
        Ok(Entry(ThinArc::from_header_and_slice(head, bytes)))
    }

    /// Writes the message without OPT, its question in lower case, and the places of its TTLs.
    fn write(
        &self,
        reply: &[u8],
        rules: &Rules,
        negative: Option<u32>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let opt = self.opt.clone().unwrap_or(self.end..self.end);
        bytes.clear();
        bytes.extend_from_slice(&reply[..opt.start]);
        bytes.extend_from_slice(&reply[opt.end..self.end]);
        if bytes.len() > wire::MESSAGE_MAX {
            return Err(Malformed);
        }
        for record in &*self.records {
            let behind_opt = record.ttl_at >= opt.end;
            let place = record.ttl_at - if behind_opt { opt.len() } else { 0 };
            bytes[place..][..4].copy_from_slice(&stored_ttl(record, rules, negative).to_be_bytes());
            bytes.extend_from_slice(&(place as u16).to_ne_bytes());
        }
        bytes[header::LEN..self.question_end - 4].make_ascii_lowercase();
        bytes[..header::LEN].copy_from_slice(&self.stored_header().bytes());
        Ok(())
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
