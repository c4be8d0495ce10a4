//! An entry: an answer made ready once, when it comes, so that a hit is a copy and a few patches.
//!
//! It is immutable but for its count of uses, which the store keeps in it, and one allocation: a count of its holders, a few numbers, and one run of
//! bytes, which is the message without its OPT, the places of its TTLs, and the upstream's extended errors. A node keeps
//! many thousands of them, and most messages have about a hundred bytes, so that what stands beside one is counted byte
//! by byte:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 8 | holders, length: [`triomphe`]'s, behind a pointer of one word; the standard library's counts twice and has two |
//! | 16 | when it came, its zone, its uses: `Head` |
//! | 4 | for how long it is of use past its time, and what it is like: `Tail` |
//! | 2 each | places of TTLs |
//! | 4 | the address set that rotates, where there is one |
//! | 2 | the length of the extended errors, where there are any |
//!
//! What the message says by itself is not written down beside it: how many TTLs there are is what its header counts, its
//! time is the smallest of them, and its length is what all else leaves.

mod make;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use triomphe::ThinArc;

use crate::clock::Now;
use crate::wire::answer::{self, Asker, Rotation, Stored, Ttl};
use crate::wire::header::{self, Header};
use crate::wire::query::{Edns, Question};
use crate::wire::{self, Malformed, rcode, records, rtype};

use super::prefetch::Uses;
use super::ttl::{Kind, Rules};
use super::{Key, fold, key::Asked};
pub use make::Maker;

/// A stored answer; a clone is the same one, counted.
///
/// ```text
/// message | places of TTLs (2 each) | rotation (4), if its addresses rotate | options, their length (2), if any | tail (4)
/// ```
#[derive(Clone, Debug)]
pub struct Entry(ThinArc<Head, u8>);

/// Numbers that stand in front of the message, without a hole between them.
#[derive(Debug)]
struct Head {
    came: Came,
    zone: u32,
    /// [`Uses`], which only the shard looks at where it is kept, under its lock.
    uses: AtomicU64,
}

const _: () = assert!(size_of::<Head>() == 16);

/// A moment in eighths of a second since the machine started: four bytes hold seventeen years. It is rounded down, so that
/// an entry is never younger than it was: its time is over an eighth of a second early at most, and the TTL in an answer
/// is what it would be or one second less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Came(u32);

impl Came {
    /// Nanoseconds.
    const EIGHTH: u64 = 125_000_000;

    fn of(now: Now) -> Self {
        Self(u32::try_from(now.nanos() / Self::EIGHTH).unwrap_or(u32::MAX))
    }

    fn moment(self) -> Now {
        Now::from_nanos(u64::from(self.0) * Self::EIGHTH)
    }
}

/// What closes the bytes: the seconds beyond its time in which it may be served all the same, of which three bytes hold
/// half a year, and its marks.
#[derive(Clone, Copy, Debug)]
struct Tail([u8; Self::LEN]);

impl Tail {
    const LEN: usize = 4;

    fn new(stale: Duration, marks: Marks) -> Self {
        let seconds = u32::try_from(stale.as_secs()).unwrap_or(u32::MAX).min(0x00ff_ffff);
        let [_, a, b, c] = seconds.to_be_bytes();
        Self([a, b, c, marks.0])
    }

    fn stale(self) -> Duration {
        let Self([a, b, c, _]) = self;
        Duration::from_secs(u32::from_be_bytes([0, a, b, c]).into())
    }

    fn marks(self) -> Marks {
        Marks(self.0[3])
    }
}

/// What it says, for whom, and what stands behind its TTLs: bits 0 and 1 are a [`Kind`], 2 and 3 DO and CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks(u8);

impl Marks {
    const KIND: u8 = 3;
    const ASKED_WITH: u8 = 3 << 2;
    /// It has a [`Rotation`].
    const ROTATES: u8 = 1 << 4;
    /// It has options.
    const OPTIONS: u8 = 1 << 5;
    /// It may be kept as an answer.
    const KEPT: u8 = 1 << 6;

    /// The same for queries with these bits, DO and CD as a [`Key`] has them.
    fn asked_with(self, bits: u8) -> Self {
        Self(self.0 & !Self::ASKED_WITH | bits << 2 & Self::ASKED_WITH)
    }

    fn bits(self) -> u8 {
        (self.0 & Self::ASKED_WITH) >> 2
    }

    fn kind(self) -> Kind {
        Kind::ALL[usize::from(self.0 & Self::KIND)]
    }

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }
}

/// What the counted pointer puts in front of the message: the count, [`Head`], the length of the rest.
const IN_FRONT: usize = size_of::<usize>() + size_of::<Head>() + size_of::<usize>();

/// An entry is what it says, since when, and for whom; how often it was used does not matter.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let ([a, b], [own, others]) = ([self, other].map(Self::head), [self, other].map(|e| &e.0.slice));
        (a.came, a.zone) == (b.came, b.zone) && own == others
    }
}

impl Eq for Entry {}

impl Entry {
    /// Makes an entry of an upstream's reply that came at `now`: TTLs capped and floored by `rules`, OPT taken
    /// off, id and what else is hop by hop cleared.
    ///
    /// # Errors
    /// The reply has no question, or its records are not what its header promises.
    pub fn from_reply(reply: &[u8], rules: &Rules, now: Now) -> Result<Self, Malformed> {
        Maker::default().make(reply, rules, now, None)
    }

    /// The same one if it was made for this key, otherwise a copy that is.
    pub(super) fn kept_for(self, key: &Key) -> Self {
        let marks = self.marks().asked_with(key.bits());
        self.marked(key.zone(), marks)
    }

    /// The same as a failure to get an answer, whatever it says: it is never served as one.
    pub(super) fn failure_for(self, key: &Key) -> Self {
        let marks = self.marks().asked_with(key.bits());
        self.marked(key.zone(), Marks(marks.0 & !Marks::KEPT))
    }

    /// The same one if it is of this zone and has these marks, otherwise a copy.
    fn marked(self, zone: u32, marks: Marks) -> Self {
        if (self.zone(), self.marks()) == (zone, marks) {
            return self;
        }
        let head = Head { came: self.head().came, zone, uses: AtomicU64::new(0) };
        let last = self.0.slice.len().saturating_sub(1);
        let bytes =
            self.0.slice.iter().enumerate().map(|(at, &byte)| if at == last { marks.0 } else { byte });
        Self(ThinArc::from_header_and_iter(head, bytes))
    }

    /// As [`wire::answer`] wants it.
    #[inline]
    pub fn stored(&self) -> Stored<'_> {
        let (mut rest, tail) = self.split();
        let (mut rotation, mut options) = (Rotation::default(), &[][..]);
        if tail.marks().has(Marks::OPTIONS) {
            (rest, options) = split_options(rest);
        }
        if tail.marks().has(Marks::ROTATES)
            && let Some((before, &[f0, f1, c0, c1])) = rest.split_last_chunk()
        {
            rotation = Rotation { first: u16::from_ne_bytes([f0, f1]), count: u16::from_ne_bytes([c0, c1]) };
            rest = before;
        }
        let (message, ttls) = rest.split_at(rest.len().saturating_sub(2 * records_in(rest)));
        Stored { message, ttls, rotation, options }
    }

    /// Whether it answers this question: name, in any letter case, type and class.
    #[inline]
    pub fn answers(&self, question: &[u8]) -> bool {
        let own = self.0.slice.get(header::LEN..header::LEN + question.len());
        own.is_some_and(|own| fold::same(question, own))
    }

    /// Its own question: name in lower case, type and class.
    pub(super) fn question(&self) -> &[u8] {
        let bytes = self.0.slice.get(header::LEN..).unwrap_or_default();
        let mut end = 0;
        while let Some(&label @ 1..) = bytes.get(end) {
            end += 1 + usize::from(label);
        }
        // The root label, type and class.
        bytes.get(..end + 5).unwrap_or_default()
    }

    /// The zone of the key that it was made for.
    pub(super) fn zone(&self) -> u32 {
        self.head().zone
    }

    /// DO and CD of that key.
    pub(super) fn bits(&self) -> u8 {
        self.marks().bits()
    }

    /// How it was used. Only under the lock of the shard that keeps it, as is what follows.
    pub(super) fn uses(&self) -> Uses {
        Uses::from_word(self.head().uses.load(Relaxed))
    }

    /// Writes down how it was used.
    pub(super) fn set_uses(&self, uses: Uses) {
        self.head().uses.store(uses.word(), Relaxed);
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
        self.marks().kind()
    }

    /// Whether it says that there is no such name or no such data, or nothing of use.
    pub fn is_denial(&self) -> bool {
        self.kind() != Kind::Positive
    }

    /// Whether it may be kept at all.
    pub fn cacheable(&self) -> bool {
        self.marks().has(Marks::KEPT)
    }

    /// How long it may be served from its coming on, in seconds: no longer than any of its records.
    pub fn ttl(&self) -> u32 {
        if !self.cacheable() {
            return 0;
        }
        let Stored { message, ttls, .. } = self.stored();
        let places = ttls.as_chunks().0.iter().map(|&place| usize::from(u16::from_ne_bytes(place)));
        places.filter_map(|place| wire::u32_at(message, place)).min().unwrap_or(0)
    }

    /// Whole seconds that it has lain here.
    pub fn age(&self, now: Now) -> u32 {
        now.seconds_since(self.came())
    }

    /// When it came.
    pub fn came(&self) -> Now {
        self.head().came.moment()
    }

    /// When its time is over.
    pub fn expires(&self) -> Now {
        self.came() + Duration::from_secs(self.ttl().into())
    }

    /// Whether its time is not over.
    pub fn is_fresh(&self, now: Now) -> bool {
        now < self.expires()
    }

    /// Whether it may be served, if nothing fresh can be had.
    pub fn is_usable(&self, now: Now) -> bool {
        now < self.expires() + self.split().1.stale()
    }

    /// The bytes it takes on the heap.
    pub fn size(&self) -> usize {
        // What is counted as one is laid out as words are.
        (IN_FRONT + self.0.slice.len()).next_multiple_of(align_of::<usize>())
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// All but the tail, and the tail.
    #[inline]
    fn split(&self) -> (&[u8], Tail) {
        let (rest, tail) = self.0.slice.split_last_chunk().unwrap_or((&[], &[0; Tail::LEN]));
        (rest, Tail(*tail))
    }

    fn marks(&self) -> Marks {
        self.split().1.marks()
    }

    /// The flags of the message.
    fn flags(&self) -> u16 {
        wire::u16_at(&self.0.slice, 2).unwrap_or(rcode::SERVFAIL)
    }
}

/// The options at the end, which are followed by their length, and what stands before them.
fn split_options(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (bytes, length) = bytes.split_last_chunk().unwrap_or((bytes, &[0; 2]));
    bytes.split_at(bytes.len().saturating_sub(u16::from_ne_bytes(*length).into()))
}

/// How many records a message has, as its header counts them: each has a TTL.
#[inline]
fn records_in(message: &[u8]) -> usize {
    let counts = message.get(4..header::LEN).and_then(<[u8]>::first_chunk);
    let counts = counts.map_or(0, |&eight| u64::from_be_bytes(eight));
    // All four counts are added up in the top sixteen bits, and no message has room for so many that a sum below overflows.
    // The first counts the question.
    (counts.wrapping_mul(0x0001_0001_0001_0001) >> 48).saturating_sub(1) as usize
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
    let limit = if bits & 4 != 0 { wire::MESSAGE_MAX } else { answer::udp_limit(edns, 1232) };
    let asker = Asker { header, question, edns, limit, our_size: 1232 };
    let ttl = if bits & 8 != 0 { Ttl::All(30) } else { Ttl::Aged(age.into()) };
    let mut out = vec![0; wire::MESSAGE_MAX];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_rounded_down_by_less_than_an_eighth_of_a_second() {
        for ms in (0..5000).chain(500_000_000_000..500_000_000_500) {
            let now = Now::from_nanos(ms * 999_999);
            let came = Came::of(now).moment();
            assert!(came <= now && now.since(came) < Duration::from_millis(125), "{ms}");
        }
    }
}
