//! The queries in flight: each has a slot, and each answer is checked against it.

use std::time::{Duration, Instant};

use crate::measure::Histogram;
use crate::names::{Kind, Question};
use crate::zone::HEADER;

/// The most queries in flight: the low bits of an id are its slot.
pub const SLOTS_MAX: u16 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 12;
/// The empty OPT record that EDNS adds to a query (RFC 6891 section 6.1.2): 1232 bytes, nothing else.
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// "I could not find out."
const SERVFAIL: u8 = 2;

/// What came of one run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers that were as they must be.
    pub answered: u64,
    /// From the first query to the last answer.
    pub elapsed: Duration,
    /// From the moment when a query was to be sent to its answer: questions that a cache is to know.
    pub hits: Histogram,
    /// The same for questions that nobody asked before.
    pub misses: Histogram,
    /// Queries that were not answered in time, or that there was no slot for until the end.
    pub lost: u64,
    /// Answers to new questions that said SERVFAIL.
    pub failed: u64,
    /// Answers that were not as they must be, or that nobody waited for.
    pub wrong: u64,
    /// What was wrong with the first of those.
    pub first_wrong: Option<String>,
}

/// A place for one query in flight.
#[derive(Default)]
struct Slot {
    /// The query as it was sent. Its id is the slot and a count of the slot's uses, so that late answers to an
    /// earlier query are known for what they are.
    query: Vec<u8>,
    /// Where its question ends.
    end: usize,
    uses: u16,
    rcode: u8,
    answers: u16,
    kind: Kind,
    /// When it was to be sent; `None`: nothing is in flight here.
    sent: Option<Instant>,
    /// Whether the last query here was given up: its answer may still come.
    given_up: bool,
}

/// All slots, and what came of them.
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
    edns: bool,
    /// A query without an answer after this long is lost.
    patience: Duration,
    /// What came of the run until now.
    pub outcome: Outcome,
}

impl Slots {
    /// Room for `count` queries in flight, at most [`SLOTS_MAX`].
    pub fn new(count: u16, edns: bool, patience: Duration) -> Self {
        let count = usize::from(count.min(SLOTS_MAX));
        let slots = (0..count).map(|_| Slot::default()).collect();
        Self { slots, free: (0..count).rev().collect(), edns, patience, outcome: Outcome::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether all are taken.
    pub fn full(&self) -> bool {
        self.free.is_empty()
    }

    /// Whether none is taken.
    pub fn idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// The query in slot `index`, as it is to be sent.
    pub fn query(&self, index: usize) -> &[u8] {
        &self.slots[index].query
    }

    /// Whether slot `index` waits for an answer.
    pub fn waits(&self, index: usize) -> bool {
        self.slots[index].sent.is_some()
    }

    /// The slot that an answer with this beginning belongs to.
    pub fn index(answer: &[u8]) -> usize {
        match answer {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low]) % SLOTS_MAX),
            _ => usize::MAX,
        }
    }

    /// Puts `question`, to be sent at `when`, into a free slot, if there is one.
    pub fn fill(&mut self, question: &Question, when: Instant) -> Option<usize> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index];
        slot.uses = slot.uses.wrapping_add(1);
        let id = (slot.uses << SLOT_BITS) | index as u16;
        slot.query.clear();
        slot.query.extend_from_slice(&id.to_be_bytes());
        // RD is set, there is one question, and with EDNS one additional record.
        slot.query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns)]);
        slot.query.extend_from_slice(&question.wire);
        slot.end = slot.query.len();
        if self.edns {
            slot.query.extend_from_slice(&OPT);
        }
        (slot.rcode, slot.answers, slot.kind) = (question.rcode, question.answers, question.kind);
        (slot.sent, slot.given_up) = (Some(when), false);
        Some(index)
    }

    /// Checks an answer that came at `now`, and frees its slot.
    pub fn check(&mut self, answer: &[u8], now: Instant) {
        let index = Self::index(answer);
        let slot = self.slots.get_mut(index);
        let late =
            slot.as_ref().is_some_and(|s| s.sent.is_none() && s.given_up && answer[..2] == s.query[..2]);
        let Some((slot, sent)) = slot.and_then(|s| s.sent.map(|sent| (s, sent))) else {
            if !late {
                self.outcome.wrong += 1;
                self.outcome.first_wrong.get_or_insert_with(|| "nobody asked".to_owned());
            }
            return;
        };
        if answer[..2] != slot.query[..2] {
            // The answer to an earlier query that was given up. It was counted then.
            return;
        }
        slot.sent = None;
        self.free.push(index);
        match slot.fault(answer) {
            None => {
                self.outcome.answered += 1;
                let histogram = match slot.kind {
                    Kind::Known => &mut self.outcome.hits,
                    Kind::New => &mut self.outcome.misses,
                };
                histogram.record(now.saturating_duration_since(sent));
            }
            Some(_) if slot.kind == Kind::New && answer.len() >= slot.end && answer[3] & 0x0f == SERVFAIL => {
                self.outcome.failed += 1;
            }
            Some(fault) => {
                self.outcome.wrong += 1;
                let query = &slot.query;
                let text =
                    || format!("{fault}: asked {}, got {}", query.escape_ascii(), answer.escape_ascii());
                self.outcome.first_wrong.get_or_insert_with(text);
            }
        }
    }

    /// Gives up what was not answered in time.
    pub fn give_up(&mut self, now: Instant) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.sent.is_some_and(|sent| now.saturating_duration_since(sent) >= self.patience) {
                (slot.sent, slot.given_up) = (None, true);
                self.free.push(index);
                self.outcome.lost += 1;
            }
        }
    }
}

impl Slot {
    /// What is wrong with `answer`, whose id is right.
    fn fault(&self, answer: &[u8]) -> Option<&'static str> {
        if answer.len() < self.end || answer[HEADER..self.end] != self.query[HEADER..self.end] {
            Some("another question")
        } else if answer[2] & 0x82 != 0x80 {
            Some("no response, or truncated")
        } else if answer[3] & 0x0f != self.rcode {
            Some("response code")
        } else if answer[6..8] != self.answers.to_be_bytes() {
            Some("number of answers")
        } else if self.end < self.query.len() && answer[10..12] == [0, 0] {
            Some("no OPT record")
        } else {
            None
        }
    }
}
