//! An entry: an answer made ready once, when it comes, so that a hit is a copy and a few patches.
//!
//! It is immutable, and one allocation: a count of its holders, a few numbers, and one run of bytes, which is the message
//! without its OPT, the places of its TTLs, and the upstream's extended errors. A node keeps many thousands of them, and
//! most messages have about a hundred bytes, so that what stands in front of one is counted byte by byte:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 8 | holders, length: [`triomphe`]'s, behind a pointer of one word; the standard library's counts twice and has two |
//! | 24 | moments, numbers, marks: `Head` |
//! | 2 each | places of TTLs |
//! | 4 | the address set that rotates, where there is one |

mod make;

use std::time::Duration;

use triomphe::ThinArc;

use crate::clock::Now;
use crate::wire::answer::{self, Asker, Rotation, Stored, Ttl};
use crate::wire::header::{self, Header};
use crate::wire::query::{Edns, Question};
use crate::wire::{Malformed, rcode, records, rtype};

use super::ttl::{Kind, Rules};
use super::{Key, fold};
pub use make::Maker;

/// A stored answer; a clone is the same one, counted.
///
/// ```text
/// message | places of TTLs (2 each) | rotation (4), if its addresses rotate | options
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(ThinArc<Head, u8>);

/// Numbers that stand in front of the message, without a hole between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    came: Now,
    /// Seconds from `came` on.
    ttl: u32,
    zone: u32,
    /// Bytes of the message.
    message: u16,
    /// Places of TTLs.
    ttls: u16,
    /// Seconds beyond `ttl` in which it may be served all the same: three bytes hold half a year.
    stale: [u8; 3],
    marks: Marks,
}

/// What it says, for whom, and whether its addresses rotate: bits 0 and 1 are a [`Kind`], 2 and 3 DO and CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks(u8);

impl Marks {
    const KIND: u8 = 3;
    const ASKED_WITH: u8 = 3 << 2;
    const ROTATES: u8 = 1 << 4;

    fn new(kind: Kind, rotates: bool) -> Self {
        Self(kind as u8 | if rotates { Self::ROTATES } else { 0 })
    }

    /// The same for queries with these bits, DO and CD as a [`Key`] has them.
    fn asked_with(self, bits: u8) -> Self {
        Self(self.0 & !Self::ASKED_WITH | bits << 2 & Self::ASKED_WITH)
    }

    fn kind(self) -> Kind {
        Kind::ALL[usize::from(self.0 & Self::KIND)]
    }

    fn rotates(self) -> bool {
        self.0 & Self::ROTATES != 0
    }
}

/// What the counted pointer puts in front of the message: the count, [`Head`], the length of the rest.
const IN_FRONT: usize = size_of::<usize>() + size_of::<Head>() + size_of::<usize>();

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
        let head = Head { zone: key.zone(), marks: self.head().marks.asked_with(key.bits()), ..*self.head() };
        if head == *self.head() { self } else { Self(ThinArc::from_header_and_slice(head, &self.0.slice)) }
    }

    /// As [`wire::answer`](crate::wire::answer) wants it.
    pub fn stored(&self) -> Stored<'_> {
        let (message, rest) = self.0.slice.split_at(self.head().message.into());
        let (ttls, mut options) = rest.split_at(2 * usize::from(self.head().ttls));
        let mut rotation = Rotation::default();
        if self.head().marks.rotates()
            && let Some((&[f0, f1, c0, c1], rest)) = options.split_first_chunk()
        {
            rotation = Rotation { first: u16::from_ne_bytes([f0, f1]), count: u16::from_ne_bytes([c0, c1]) };
            options = rest;
        }
        Stored { message, ttls, rotation, options }
    }

    /// Whether it answers this question: name, in any letter case, type and class.
    pub fn answers(&self, question: &[u8]) -> bool {
        let own = self.0.slice.get(header::LEN..header::LEN + question.len());
        own.is_some_and(|own| fold::same(question, own))
    }

    /// Whether it was made for this key.
    pub(super) fn is_for(&self, key: &Key) -> bool {
        let Head { zone, marks, .. } = *self.head();
        zone == key.zone() && marks == marks.asked_with(key.bits()) && self.answers(key.question())
    }

    /// The zone of the key that it was made for.
    pub(super) fn zone(&self) -> u32 {
        self.head().zone
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
        self.head().marks.kind()
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
        self.head().ttl
    }

    /// Whole seconds that it has lain here.
    pub fn age(&self, now: Now) -> u32 {
        now.seconds_since(self.came())
    }

    /// When it came.
    pub fn came(&self) -> Now {
        self.head().came
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
        let [a, b, c] = self.head().stale;
        now < self.expires() + Duration::from_secs(u32::from_be_bytes([0, a, b, c]).into())
    }

    /// The bytes it takes on the heap.
    pub fn size(&self) -> usize {
        // What is counted as one is laid out as words are.
        (IN_FRONT + self.0.slice.len()).next_multiple_of(align_of::<usize>())
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// The flags of the message.
    fn flags(&self) -> u16 {
        crate::wire::u16_at(&self.0.slice, 2).unwrap_or(rcode::SERVFAIL)
    }
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
