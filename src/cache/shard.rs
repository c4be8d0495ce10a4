//! One shard: its slots in the order of their use, what they weigh, and who goes when there is no room.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use lru::LruCache;

use super::key::Prehashed;
use super::prefetch::{Prefetch, Uses};
use super::share::{Class, Share, Tally};
use super::{Entry, FailureTimes, Figures, Key, Kind, Look, OfZone};
use crate::clock::Now;

/// Bytes that a slot takes beside its messages: the list node and the table's share of it, and what the allocator adds
/// to node and entry.
const OVERHEAD: usize = size_of::<Slot>() + 3 * 8 + 26 + COUNTS + 8;
/// The two counts that stand before a counted entry, and what the allocator adds.
const COUNTS: usize = 16 + 8;
/// Entries that are passed over for their zone's share before one goes all the same: looking for a victim is bounded.
const PASSED_OVER: usize = 64;
/// Where it is counted what was evicted of zones that are gone: no zone has this number.
const NO_ZONE: u32 = u32::MAX;
/// An answer's refresh is not asked for again within this many seconds.
const REFRESH_INTERVAL: u32 = 5;

/// What slots are found by. Two questions of one hash are told apart by the entries; they cannot both be kept, which
/// with 64 bits and a random seed nobody will ever see.
#[derive(Debug, PartialEq, Eq)]
struct Hashed(u64);

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl From<&Key> for Hashed {
    fn from(key: &Key) -> Self {
        Self(key.hash())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shard {
    slots: LruCache<Hashed, Slot, Prehashed>,
    tally: Tally,
    bytes: usize,
    limit: usize,
    /// Slots that went to make room, by zone and class.
    evicted: HashMap<u32, [u64; 2]>,
}

/// What is kept of one question.
#[derive(Debug, Default)]
pub(super) struct Slot {
    answer: Option<Entry>,
    failure: Option<Box<Failure>>,
    pub(super) uses: Uses,
    /// The second before which no refresh is asked for.
    refresh_after: u32,
    zone: u32,
    /// DO and CD.
    bits: u8,
}

#[derive(Debug)]
struct Failure {
    reply: Entry,
    until: Now,
    lasted: std::time::Duration,
}

impl Slot {
    /// An empty one.
    pub(super) fn of(key: &Key) -> Self {
        Self { zone: key.zone(), bits: key.bits(), ..Self::default() }
    }

    /// One with an answer.
    pub(super) fn answered(key: &Key, entry: Entry, uses: Uses) -> Self {
        Self { answer: Some(entry), uses, ..Self::of(key) }
    }

    /// Whether it is the one for this key.
    fn is_of(&self, key: &Key) -> bool {
        let entry = self.answer.as_ref().or(self.failure.as_ref().map(|failure| &failure.reply));
        self.zone == key.zone()
            && self.bits == key.bits()
            && entry.is_some_and(|entry| entry.answers(key.question()))
    }

    /// What it weighs.
    fn cost(&self) -> usize {
        let failure = self.failure.as_ref().map_or(0, |f| size_of::<Failure>() + 8 + COUNTS + f.reply.size());
        OVERHEAD + self.answer.as_ref().map_or(0, Entry::size) + failure
    }

    fn class(&self) -> Class {
        match &self.answer {
            Some(entry) if entry.kind() == Kind::Positive => Class::Positive,
            _ => Class::Negative,
        }
    }

    /// Whether there is something in it that may still be served.
    fn is_of_use(&self, now: Now) -> bool {
        let (answer, failure) = (self.answer.as_ref(), self.failure.as_ref());
        answer.is_some_and(|entry| entry.is_usable(now)) || failure.is_some_and(|failure| now < failure.until)
    }

    /// What is known, after so many more uses.
    pub(super) fn look(&mut self, prefetch: &Prefetch, now: Now, uses: u16) -> Look {
        match &self.answer {
            Some(entry) if entry.is_fresh(now) => {
                let turn = self.uses.count(prefetch, now, uses);
                let second = now.seconds_since(Now::default());
                let refresh = prefetch.wants(entry, &self.uses, now) && second >= self.refresh_after;
                if refresh {
                    self.refresh_after = second + REFRESH_INTERVAL;
                }
                Look::Fresh { entry: entry.clone(), turn, refresh }
            }
            Some(entry) if entry.is_usable(now) => {
                let at_once = self.failure.as_ref().is_some_and(|f| now < f.until);
                Look::Stale { entry: entry.clone(), at_once }
            }
            _ => match &self.failure {
                Some(failure) if now < failure.until => Look::Failed(failure.reply.clone()),
                _ => Look::Unknown,
            },
        }
    }

    /// The same after one more failure; `None` if nothing is to be remembered.
    pub(super) fn failed(self, reply: Entry, times: FailureTimes, now: Now) -> Option<Self> {
        let answer = self.answer.filter(|e| e.is_usable(now));
        let lasted = match (&answer, self.failure) {
            (Some(_), _) => times.with_stale,
            // In a row: again within the time that the last one lasted, after its end.
            (None, _) if times.first.is_zero() => return None,
            (None, Some(f)) if now < f.until + f.lasted => (f.lasted * 2).min(times.longest),
            (None, _) => times.first,
        };
        let failure = Some(Box::new(Failure { reply, until: now + lasted, lasted }));
        Some(Self { answer, failure, ..self })
    }
}

impl Shard {
    /// An empty one that may hold so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: LruCache::unbounded_with_hasher(Prehashed::default()),
            tally: Tally::default(),
            bytes: 0,
            limit,
            evicted: HashMap::new(),
        }
    }

    /// What is kept under a key; a use.
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut Slot> {
        self.slots.get_mut(&key.into()).filter(|slot| slot.is_of(key))
    }

    /// Takes out what is kept under a key.
    pub(super) fn take(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.slots.pop(&key.into())?;
        self.gone(&slot);
        Some(slot).filter(|slot| slot.is_of(key))
    }

    fn gone(&mut self, slot: &Slot) {
        self.bytes -= slot.cost();
        self.tally.goes(slot.zone, slot.class());
    }

    /// Keeps a slot under a key that has none. Others go to make room.
    pub(super) fn put(&mut self, key: &Key, slot: Slot, share: &Share, now: Now) {
        let cost = slot.cost();
        if cost > self.limit {
            return;
        }
        let mut passed_over = 0;
        while self.bytes + cost > self.limit {
            let Some((hashed, slot)) = self.slots.pop_lru() else { break };
            let passed = passed_over < PASSED_OVER && self.tally.passes_over(slot.zone, slot.class());
            if passed && slot.is_of_use(now) {
                passed_over += 1;
                self.slots.put(hashed, slot); // as if it had just been asked for
                continue;
            }
            self.gone(&slot);
            self.evicted.entry(slot.zone).or_default()[slot.class() as usize] += 1;
        }
        self.bytes += cost;
        self.tally.comes(slot.zone, slot.class(), share);
        self.slots.put(key.into(), slot);
    }

    /// Adds what there is here.
    pub(super) fn add_to(&self, sum: &mut Figures) {
        sum.entries += self.slots.len() as u64;
        sum.bytes += self.bytes as u64;
        sum.limit += self.limit as u64;
        sum.evictions += self.evicted.values().flatten().sum::<u64>();
    }

    /// Adds what there is of a zone here.
    pub(super) fn add_zone(&self, zone: u32, sum: &mut OfZone) {
        let (entries, evicted) =
            (self.tally.entries(zone), self.evicted.get(&zone).copied().unwrap_or_default());
        for i in 0..2 {
            sum.entries[i] += u64::from(entries[i]);
            sum.evictions[i] += evicted[i];
        }
    }

    /// Adds up under one number what was evicted of zones other than these.
    pub(super) fn forget(&mut self, zones: &[u32]) {
        let mut rest = self.evicted.remove(&NO_ZONE).unwrap_or_default();
        self.evicted.retain(|zone, evicted| {
            let stays = zones.contains(zone);
            if !stays {
                rest = [rest[0] + evicted[0], rest[1] + evicted[1]];
            }
            stays
        });
        if rest != [0; 2] {
            self.evicted.insert(NO_ZONE, rest);
        }
    }
}
