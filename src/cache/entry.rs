//! An entry: an answer made ready once, when it comes, so that a hit is a copy and a few patches.
//!
//! It is immutable, and one run of bytes with a few numbers beside it: the message without its OPT, the places
//! of its TTLs, and the upstream's extended errors. A kernel map or a successor process could hold it as it is.

use crate::clock::Now;
use crate::wire::answer::{self, Asker, Rotation, Stored, Ttl};
use crate::wire::header::{self, Header};
use crate::wire::query::{Edns, Question};
use crate::wire::records::{self, Record, Section};
use crate::wire::{Malformed, class, name, rcode, rtype};

use super::ttl::{self, Kind, Rules};

/// The option code of an extended error (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;
/// Bytes of extended errors that are kept of one answer: they only explain.
const OPTIONS_MAX: usize = 256;

/// A stored answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message, the places of its TTLs (two bytes each), the options.
    bytes: Box<[u8]>,
    message: u16,
    ttls: u16,
    rotation: Rotation,
    kind: Kind,
    stored: Now,
    /// Seconds from `stored` on.
    ttl: u32,
    stale_until: Now,
}

impl Entry {
    /// Makes an entry of an upstream's reply that came at `now`: TTLs capped and floored by `rules`, OPT taken
    /// off, id and what else is hop by hop cleared.
    ///
    /// # Errors
    /// The reply has no question, or its records are not what its header promises.
    pub fn from_reply(reply: &[u8], rules: &Rules, now: Now) -> Result<Self, Malformed> {
        let mut parts = Parts::split(reply)?;
        let code = parts.code();
        let (kind, soa_ttl) = ttl::classify(reply, &parts.records, code, parts.asked);
        let negative = soa_ttl.map(|t| rules.negative(t));
        let lifetime = parts.lifetime(rules, negative);
        let (message, places) = parts.build(reply, rules, negative);
        let cacheable = rules.keeps(kind) && parts.header.flags & header::TC == 0;
        let ttl = if cacheable { lifetime } else { 0 };
        let stored_until = now + std::time::Duration::from_secs(ttl.into());
        let rotation = rotation(reply, &parts.records);
        let mut bytes = message;
        let message = u16::try_from(bytes.len()).map_err(|_| Malformed)?;
        bytes.extend(places.iter().flat_map(|p| p.to_ne_bytes()));
        bytes.extend_from_slice(&parts.options);
        Ok(Self {
            bytes: bytes.into(),
            message,
            ttls: places.len() as u16,
            rotation,
            kind,
            stored: now,
            ttl,
            stale_until: stored_until + rules.stale_for(kind),
        })
    }

    /// As [`wire::answer`](crate::wire::answer) wants it.
    pub fn stored(&self) -> Stored<'_> {
        let (message, rest) = self.bytes.split_at(self.message.into());
        let (ttls, options) = rest.split_at(2 * usize::from(self.ttls));
        Stored { message, ttls, rotation: self.rotation, options }
    }

    /// The response code, its lower four bits.
    pub fn rcode(&self) -> u16 {
        Header::read(&self.bytes).map_or(crate::wire::rcode::SERVFAIL, |h| h.rcode())
    }

    /// Whether it is a part of an answer whose rest could not be had.
    pub fn is_truncated(&self) -> bool {
        Header::read(&self.bytes).is_some_and(|h| h.flags & header::TC != 0)
    }

    /// What it says.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it says that there is no such name or no such data, or nothing of use.
    pub fn is_denial(&self) -> bool {
        self.kind != Kind::Positive
    }

    /// Whether it may be kept at all.
    pub fn cacheable(&self) -> bool {
        self.ttl > 0
    }

    /// How long it may be served from its coming on, in seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whole seconds that it has lain here.
    pub fn age(&self, now: Now) -> u32 {
        now.seconds_since(self.stored)
    }

    /// When it came.
    pub fn came(&self) -> Now {
        self.stored
    }

    /// When its time is over.
    pub fn expires(&self) -> Now {
        self.stored + std::time::Duration::from_secs(self.ttl.into())
    }

    /// Whether its time is not over.
    pub fn is_fresh(&self, now: Now) -> bool {
        now < self.expires()
    }

    /// Whether it may be served, if nothing fresh can be had.
    pub fn is_usable(&self, now: Now) -> bool {
        now < self.stale_until
    }

    /// The bytes it takes on the heap.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// A reply, taken apart.
struct Parts {
    header: Header,
    asked: u16,
    records: Vec<Record>,
    /// The place of OPT.
    opt: Option<std::ops::Range<usize>>,
    options: Vec<u8>,
    /// Whether OPT holds the upper bits of a response code (BADVERS and the like): an error between two
    /// neighbours, which the client hears of as SERVFAIL.
    extended: bool,
    /// Where the records end that are kept.
    end: usize,
}

impl Parts {
    fn split(reply: &[u8]) -> Result<Self, Malformed> {
        let header = Header::read(reply).ok_or(Malformed)?;
        if header.counts[0] != 1 {
            return Err(Malformed);
        }
        let asked = Question::read(&reply[header::LEN..])?.rtype;
        let mut parts = Self {
            header,
            asked,
            records: Vec::new(),
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

    /// The message without OPT and the places of its TTLs.
    fn build(&mut self, reply: &[u8], rules: &Rules, negative: Option<u32>) -> (Vec<u8>, Vec<u16>) {
        let opt = self.opt.clone().unwrap_or(self.end..self.end);
        let mut message = Vec::with_capacity(self.end + 2 * self.records.len() + self.options.len());
        message.extend_from_slice(&reply[..opt.start]);
        message.extend_from_slice(&reply[opt.end..self.end]);
        let mut places = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let behind_opt = record.ttl_at >= opt.end;
            let place = record.ttl_at - if behind_opt { opt.len() } else { 0 };
            message[place..place + 4].copy_from_slice(&stored_ttl(record, rules, negative).to_be_bytes());
            places.push(place as u16);
        }
        let count = |section| self.records.iter().filter(|r| r.section == section).count() as u16;
        let counts = [1, count(Section::Answer), count(Section::Authority), count(Section::Additional)];
        let flags = self.header.flags & (header::AD | header::TC) | self.code();
        message[..header::LEN].copy_from_slice(&Header { id: 0, flags, counts }.bytes());
        (message, places)
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
