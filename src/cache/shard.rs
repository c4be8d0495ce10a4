//! One shard: its answers in the order of their use, what they weigh, and who goes when there is no room.
//!
//! An answer is kept under itself, so that the list's node is a pointer and two links. Failures (RFC 9520) are few and stand
//! beside it: a fresh answer is found without a look at them. Where there is nothing but a failure, its reply stands in the
//! list in an answer's stead.

use std::collections::HashMap;
use std::time::Duration;

use lru::LruCache;

use super::key::{Asked, Hashing, Kept};
use super::prefetch::{Prefetch, Uses};
use super::share::{Class, Share, Tally};
use super::{Entry, FailureTimes, Figures, Key, Kind, Look, OfZone, Seed};
use crate::clock::Now;

/// Bytes that a slot takes beside its entry: the list's node, which is a pointer and two links, and its part of the
/// table, which has 17 bytes a place and is full by half to seven eighths.
const OVERHEAD: usize = size_of::<Kept>() + 2 * size_of::<usize>() + ALLOCATED + 26;
/// Bytes that a failure takes beside its reply: its part of a table, which has a byte more a place.
const FAILURE: usize = (size_of::<(Kept, Failure)>() + 1) * 3 / 2;
/// What an allocator takes for each piece of memory beside its bytes, or loses by rounding up.
const ALLOCATED: usize = 12;
/// Entries that are passed over for their zone's share before one goes all the same: looking for a victim is bounded.
const PASSED_OVER: usize = 64;
/// Places for failures that are not given back when there are fewer.
const FAILURES: usize = 64;
/// Where it is counted what was evicted of zones that are gone: no zone has this number.
const NO_ZONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Shard {
    /// Answers, and replies of failures for which there is none.
    slots: LruCache<Kept, (), Hashing>,
    /// By the reply that tells of the failure. Each has its slot.
    failures: HashMap<Kept, Failure, Hashing>,
    tally: Tally,
    bytes: usize,
    limit: usize,
    /// Slots that went to make room, by zone and class.
    evicted: HashMap<u32, [u64; 2]>,
}

/// How long a failure is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    until: Now,
    lasted: Duration,
}

/// What is kept of one question, when it comes or goes: at least one of both.
#[derive(Debug, Default)]
pub(super) struct Slot {
    answer: Option<Entry>,
    failed: Option<(Entry, Failure)>,
}

impl Slot {
    /// An answer alone.
    pub(super) fn answered(entry: Entry) -> Self {
        Self { answer: Some(entry), failed: None }
    }

    /// The uses of the answer.
    pub(super) fn uses(&self) -> Uses {
        self.answer.as_ref().map_or_else(Uses::default, Entry::uses)
    }

    /// The entry that stands in the list.
    fn listed(&self) -> Option<&Entry> {
        self.answer.as_ref().or(self.failed.as_ref().map(|(reply, _)| reply))
    }

    /// What it weighs.
    fn cost(&self) -> usize {
        let entry = |entry: &Entry| entry.size() + ALLOCATED;
        let failed = self.failed.as_ref().map_or(0, |(reply, _)| FAILURE + entry(reply));
        OVERHEAD + self.answer.as_ref().map_or(0, entry) + failed
    }

    /// What is there after one more failure; nothing if it is not to be remembered.
    pub(super) fn failed(self, reply: Entry, times: FailureTimes, now: Now) -> Self {
        // In a row: again within the time that the last one lasted, after its end.
        let again = self.failed.map(|(_, f)| f).filter(|f| now < f.until + f.lasted);
        let answer = self.answer.filter(|entry| entry.is_usable(now));
        let lasted = match (&answer, again) {
            (Some(_), _) => times.with_stale,
            (None, _) if times.first.is_zero() => return Self::default(),
            (None, Some(before)) => (before.lasted * 2).min(times.longest),
            (None, None) => times.first,
        };
        Self { answer, failed: Some((reply, Failure { until: now + lasted, lasted })) }
    }
}

/// What an entry of the list counts as.
fn class(listed: &Entry) -> Class {
    if listed.cacheable() && listed.kind() == Kind::Positive { Class::Positive } else { Class::Negative }
}

impl Shard {
    /// An empty one of so many, that may hold so many bytes.
    pub(super) fn new(limit: usize, shards: usize, seed: &Seed) -> Self {
        Self {
            slots: LruCache::unbounded_with_hasher(Hashing(seed.clone())),
            failures: HashMap::with_hasher(Hashing(seed.clone())),
            tally: Tally::new(shards),
            bytes: 0,
            limit,
            evicted: HashMap::new(),
        }
    }

    /// What is known about a question, after so many more uses; a use.
    pub(super) fn look(&mut self, key: &Key, prefetch: &Prefetch, now: Now, others: u16) -> Look {
        let asked: &dyn Asked = key;
        let Some((Kept(entry), ())) = self.slots.get_key_value(asked) else { return Look::Unknown };
        // A failure may have come after this batch did.
        if entry.cacheable() && entry.is_fresh(now) {
            let mut uses = entry.uses();
            let turn = uses.count(prefetch, now, others);
            let refresh = prefetch.wants(entry, &uses, now) && uses.may_ask(now);
            entry.set_uses(uses);
            return Look::Fresh { entry: entry.clone(), turn, refresh };
        }
        let failed = self.failures.get_key_value(asked).filter(|(_, failure)| now < failure.until);
        match failed {
            _ if entry.cacheable() && entry.is_usable(now) => {
                Look::Stale { entry: entry.clone(), at_once: failed.is_some() }
            }
            Some((Kept(reply), _)) => Look::Failed(reply.clone()),
            None => Look::Unknown,
        }
    }

    /// Takes out what is kept under a key.
    pub(super) fn take(&mut self, key: &Key) -> Option<Slot> {
        let asked: &dyn Asked = key;
        let (kept, ()) = self.slots.pop_entry(asked)?;
        Some(self.gone(kept))
    }

    /// All of the slot of an entry that was taken out of the list.
    fn gone(&mut self, kept: Kept) -> Slot {
        self.tally.goes(kept.zone(), class(&kept.0));
        let mut failed = None;
        if !self.failures.is_empty() {
            failed = self.failures.remove_entry(&kept).map(|(Kept(reply), failure)| (reply, failure));
            self.give_back();
        }
        let slot = Slot { answer: Some(kept.0).filter(Entry::cacheable), failed };
        self.bytes -= slot.cost();
        slot
    }

    /// Gives back what the table of failures took while there were many more.
    fn give_back(&mut self) {
        if self.failures.capacity() > FAILURES.max(8 * self.failures.len()) {
            self.failures.shrink_to(2 * self.failures.len());
        }
    }

    /// Keeps a slot under a key that has none. Others go to make room.
    pub(super) fn put(&mut self, slot: Slot, share: &Share, now: Now) {
        let cost = slot.cost();
        let Some(listed) = slot.listed().cloned().filter(|_| cost <= self.limit) else { return };
        self.make_room(cost, now);
        self.bytes += cost;
        self.tally.comes(listed.zone(), class(&listed), share);
        self.slots.put(Kept(listed), ());
        if let Some((reply, failure)) = slot.failed {
            self.failures.insert(Kept(reply), failure);
        }
    }

    /// Lets go of slots until there is room for so many bytes.
    fn make_room(&mut self, cost: usize, now: Now) {
        let mut passed_over = 0;
        while self.bytes + cost > self.limit {
            let Some((kept, ())) = self.slots.pop_lru() else { break };
            let (zone, class) = (kept.zone(), class(&kept.0));
            let passed = passed_over < PASSED_OVER && self.tally.passes_over(zone, class);
            if passed && self.is_of_use(&kept, now) {
                passed_over += 1;
                self.slots.put(kept, ()); // as if it had just been asked for
                continue;
            }
            self.gone(kept);
            self.evicted.entry(zone).or_default()[class as usize] += 1;
        }
    }

    /// Whether the slot of an entry of the list has something in it that may still be served.
    fn is_of_use(&self, kept: &Kept, now: Now) -> bool {
        kept.0.cacheable() && kept.0.is_usable(now)
            || self.failures.get(kept).is_some_and(|failure| now < failure.until)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Rules;

    const TIMES: FailureTimes = FailureTimes {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(30),
        with_stale: Duration::from_secs(30),
    };

    /// A key, and the reply that says so little.
    fn failure(seed: &Seed, number: usize) -> (Key, Entry) {
        let mut key = Key::of_name(format!("\x08{number:08}\0").as_bytes());
        key.complete(seed, 0, 1, 1, false, false);
        let reply = [&[0, 0, 0x80, 2, 0, 1, 0, 0, 0, 0, 0, 0], key.question()].concat();
        let reply = Entry::from_reply(&reply, &Rules::default(), Now::default()).unwrap().failure_for(&key);
        (key, reply)
    }

    #[test]
    fn what_is_beside_the_list_goes_with_its_slot() {
        let (seed, now) = (Seed::fixed(), Now::default());
        let mut shard = Shard::new(1 << 20, 8, &seed);
        for number in 0..100_000 {
            let (key, reply) = failure(&seed, number);
            let before = shard.take(&key).unwrap_or_default();
            shard.put(before.failed(reply, TIMES, now), &Share::default(), now);
        }
        let kept = shard.slots.len();
        assert!(kept > 1000 && kept < 90_000, "{kept} have room");
        assert_eq!(shard.failures.len(), kept, "what had to make room is forgotten");
        assert!(shard.bytes <= 1 << 20 && shard.bytes > 1_000_000);
        for number in 0..100_000 {
            shard.take(&failure(&seed, number).0);
        }
        assert_eq!((shard.slots.len(), shard.failures.len(), shard.bytes), (0, 0, 0));
        assert!(shard.failures.capacity() <= FAILURES, "{} places", shard.failures.capacity());
    }
}
