//! One shard: its slots in the order of their use, what they weigh, and who goes when there is no room.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use lru::LruCache;

use super::key::Prehashed;
use super::prefetch::{Prefetch, Uses};
use super::share::{Class, Share, Tally};
use super::{Entry, FailureTimes, Figures, Key, Kind, Look, OfZone};
use crate::clock::Now;

/// Bytes that a slot takes beside its entries: the list's node, which is key, slot and two links, and its part of the
/// table, which has 17 bytes a place and is full by half to seven eighths.
const OVERHEAD: usize = size_of::<Hashed>() + size_of::<Slot>() + 2 * size_of::<usize>() + ALLOCATED + 26;
/// What an allocator takes for each piece of memory beside its bytes, or loses by rounding up.
const ALLOCATED: usize = 12;
/// Entries that are passed over for their zone's share before one goes all the same: looking for a victim is bounded.
const PASSED_OVER: usize = 64;
/// Where it is counted what was evicted of zones that are gone: no zone has this number.
const NO_ZONE: u32 = u32::MAX;

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

/// What is kept of one question: nearly always an answer. Two words, so that a node of the list is five.
#[derive(Debug)]
pub(super) enum Slot {
    Answered(Entry, Uses),
    Failed(Box<Failed>),
}

const _: () = assert!(size_of::<Slot>() == 2 * size_of::<usize>());

/// A question for which asking has failed, and what there was before.
#[derive(Debug)]
pub(super) struct Failed {
    answer: Option<(Entry, Uses)>,
    reply: Entry,
    until: Now,
    lasted: Duration,
}

impl Slot {
    /// The answer.
    fn answer(&self) -> Option<&Entry> {
        match self {
            Self::Answered(entry, _) => Some(entry),
            Self::Failed(failed) => failed.answer.as_ref().map(|(entry, _)| entry),
        }
    }

    /// An entry that tells whose slot it is.
    fn any(&self) -> &Entry {
        match self {
            Self::Answered(entry, _) => entry,
            Self::Failed(failed) => &failed.reply,
        }
    }

    /// The uses of the answer.
    pub(super) fn uses(&self) -> Uses {
        match self {
            Self::Answered(_, uses) => *uses,
            Self::Failed(failed) => failed.answer.as_ref().map_or_else(Uses::default, |(_, uses)| *uses),
        }
    }

    /// What it weighs.
    fn cost(&self) -> usize {
        let entry = |entry: &Entry| entry.size() + ALLOCATED;
        let failed = match self {
            Self::Answered(..) => 0,
            Self::Failed(failed) => size_of::<Failed>() + ALLOCATED + entry(&failed.reply),
        };
        OVERHEAD + self.answer().map_or(0, entry) + failed
    }

    fn class(&self) -> Class {
        match self.answer() {
            Some(entry) if entry.kind() == Kind::Positive => Class::Positive,
            _ => Class::Negative,
        }
    }

    /// Whether there is something in it that may still be served.
    fn is_of_use(&self, now: Now) -> bool {
        self.answer().is_some_and(|entry| entry.is_usable(now))
            || matches!(self, Self::Failed(failed) if now < failed.until)
    }

    /// What is known, after so many more uses.
    pub(super) fn look(&mut self, prefetch: &Prefetch, now: Now, uses: u16) -> Look {
        let (answer, failed) = match self {
            Self::Answered(entry, known) => (Some((entry, known)), None),
            Self::Failed(failed) => {
                let reply = Some(&failed.reply).filter(|_| now < failed.until);
                (failed.answer.as_mut().map(|(entry, known)| (entry, known)), reply)
            }
        };
        match (answer, failed) {
            (Some((entry, known)), _) if entry.is_fresh(now) => {
                let turn = known.count(prefetch, now, uses);
                let refresh = prefetch.wants(entry, known, now) && known.may_ask(now);
                Look::Fresh { entry: entry.clone(), turn, refresh }
            }
            (Some((entry, _)), failed) if entry.is_usable(now) => {
                Look::Stale { entry: entry.clone(), at_once: failed.is_some() }
            }
            (_, Some(reply)) => Look::Failed(reply.clone()),
            (_, None) => Look::Unknown,
        }
    }

    /// What is there after one more failure; `None` if nothing is to be remembered.
    pub(super) fn failed(before: Option<Self>, reply: Entry, times: FailureTimes, now: Now) -> Option<Self> {
        let (answer, again) = match before {
            None => (None, None),
            Some(Self::Answered(entry, uses)) => (Some((entry, uses)), None),
            // In a row: again within the time that the last one lasted, after its end.
            Some(Self::Failed(f)) => (f.answer, Some(f.lasted).filter(|&lasted| now < f.until + lasted)),
        };
        let answer = answer.filter(|(entry, _)| entry.is_usable(now));
        let lasted = match (&answer, again) {
            (Some(_), _) => times.with_stale,
            (None, _) if times.first.is_zero() => return None,
            (None, Some(lasted)) => (lasted * 2).min(times.longest),
            (None, None) => times.first,
        };
        Some(Self::Failed(Box::new(Failed { answer, reply, until: now + lasted, lasted })))
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
        self.slots.get_mut(&key.into()).filter(|slot| slot.any().is_for(key))
    }

    /// Takes out what is kept under a key.
    pub(super) fn take(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.slots.pop(&key.into())?;
        self.gone(&slot);
        Some(slot).filter(|slot| slot.any().is_for(key))
    }

    fn gone(&mut self, slot: &Slot) {
        self.bytes -= slot.cost();
        self.tally.goes(slot.any().zone(), slot.class());
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
            let passed = passed_over < PASSED_OVER && self.tally.passes_over(slot.any().zone(), slot.class());
            if passed && slot.is_of_use(now) {
                passed_over += 1;
                self.slots.put(hashed, slot); // as if it had just been asked for
                continue;
            }
            self.gone(&slot);
            self.evicted.entry(slot.any().zone()).or_default()[slot.class() as usize] += 1;
        }
        self.bytes += cost;
        self.tally.comes(slot.any().zone(), slot.class(), share);
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
