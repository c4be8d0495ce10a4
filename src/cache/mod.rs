//! The answers we keep: one budget of bytes for all zones, the least recently used go first, those of zones that have
//! no more than their [share] last.
//!
//! The store is split into [`SHARDS`] by the keys' hashes, each behind a lock of its own that is held for a
//! look-up or a store and never across a system call. What is found is handed out as a counted reference, so
//! that copying and patching happen outside of the lock.
//!
//! Besides the answer, a slot remembers the last failure to get one (RFC 9520), for its own short time. A
//! failure never hides an answer that may still be served.

pub mod entry;
pub mod key;
pub mod prefetch;
pub mod share;
pub mod ttl;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::Now;
use crate::limit::Limit;
pub use entry::Entry;
pub use key::Key;
use key::Prehashed;
pub use prefetch::Prefetch;
use prefetch::Uses;
pub use share::Share;
use share::{Class, Tally};
pub use ttl::{Kind, Rules};

/// Bytes for all answers together.
pub const SIZE: Limit<u64> = Limit::new(1 << 20, 32 << 20, 64 << 30);
/// Shards: enough that workers seldom meet, few enough that the smallest cache holds the largest message.
pub const SHARDS: usize = 8;
/// Bytes that a slot takes beside its key and message: the slot, the list node and the table's share, the
/// entry's head with its counts, and what the allocator adds to each of the four pieces.
const OVERHEAD: usize = size_of::<Slot>() + size_of::<Entry>() + 16 + 32 + 24 + 4 * 8;
/// Entries that are passed over for their zone's share before one goes all the same: looking for a victim is bounded.
const PASSED_OVER: usize = 64;
/// Where it is counted what was evicted of zones that are gone: no zone has this number.
const NO_ZONE: u32 = u32::MAX;
/// An answer's refresh is not asked for again within this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Section `[cache]`, the part that concerns the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`SIZE`]. Takes effect at start.
    pub size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { size: SIZE.default }
    }
}

/// What is known about a question.
#[derive(Debug)]
pub enum Look {
    /// An answer whose time is not over.
    Fresh {
        /// The answer.
        entry: Arc<Entry>,
        /// How often it was served: how far its addresses rotate.
        turn: u32,
        /// Whether it should be asked for again, ahead of its expiry.
        refresh: bool,
    },
    /// An answer whose time is over, and which may be served if nothing better can be had.
    Stale {
        /// The answer.
        entry: Arc<Entry>,
        /// Whether a refresh has failed a short while ago: serve it at once.
        at_once: bool,
    },
    /// Nothing to serve, and asking has failed a short while ago.
    Failed(Arc<Entry>),
    /// Nothing.
    Unknown,
}

/// How long failures are remembered.
#[derive(Clone, Copy, Debug)]
pub struct FailureTimes {
    /// The first; zero: none is remembered while there is no stale data.
    pub first: Duration,
    /// The longest: each failure in a row doubles the time up to here.
    pub longest: Duration,
    /// While there is stale data to serve.
    pub with_stale: Duration,
}

/// The store.
#[derive(Debug)]
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    seed: foldhash::quality::RandomState,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Slots.
    pub entries: u64,
    /// Bytes, as they count against the limit.
    pub bytes: u64,
    /// The limit.
    pub limit: u64,
    /// Slots that went to make room.
    pub evictions: u64,
}

/// What there is of one zone, by what it says: 0 data, 1 that there is none, or that asking failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfZone {
    /// Slots.
    pub entries: [u64; 2],
    /// Slots that went to make room.
    pub evictions: [u64; 2],
}

impl OfZone {
    fn add(&mut self, entries: [u32; 2], evictions: [u64; 2]) {
        for i in 0..2 {
            self.entries[i] += u64::from(entries[i]);
            self.evictions[i] += evictions[i];
        }
    }
}

#[derive(Debug)]
struct Shard {
    slots: LruCache<Box<[u8]>, Slot, Prehashed>,
    tally: Tally,
    bytes: usize,
    limit: usize,
    /// Slots that went to make room, by zone and class.
    evicted: HashMap<u32, [u64; 2]>,
}

#[derive(Debug, Default)]
struct Slot {
    answer: Option<Arc<Entry>>,
    failure: Option<Failure>,
    uses: Uses,
    refresh_after: Now,
}

#[derive(Debug)]
struct Failure {
    reply: Arc<Entry>,
    until: Now,
    lasted: Duration,
}

impl Slot {
    fn cost(&self, key: &[u8]) -> usize {
        let failure = self.failure.as_ref().map_or(0, |f| f.reply.size() + size_of::<Entry>() + 16);
        OVERHEAD + key.len() + self.answer.as_ref().map_or(0, |e| e.size()) + failure
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

    fn look(&mut self, prefetch: &Prefetch, now: Now) -> Look {
        match &self.answer {
            Some(entry) if entry.is_fresh(now) => {
                let turn = self.uses.count(prefetch, now);
                let refresh = prefetch.wants(entry, &self.uses, now) && now >= self.refresh_after;
                if refresh {
                    self.refresh_after = now + REFRESH_INTERVAL;
                }
                Look::Fresh { entry: Arc::clone(entry), turn, refresh }
            }
            Some(entry) if entry.is_usable(now) => {
                let at_once = self.failure.as_ref().is_some_and(|f| now < f.until);
                Look::Stale { entry: Arc::clone(entry), at_once }
            }
            _ => match &self.failure {
                Some(failure) if now < failure.until => Look::Failed(Arc::clone(&failure.reply)),
                _ => Look::Unknown,
            },
        }
    }
}

impl Cache {
    /// An empty store of `size` bytes.
    pub fn new(size: u64) -> Self {
        let limit = usize::try_from(size).unwrap_or(usize::MAX) / SHARDS;
        let shard = || Shard {
            slots: LruCache::unbounded_with_hasher(Prehashed::default()),
            tally: Tally::default(),
            bytes: 0,
            limit,
            evicted: HashMap::new(),
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            seed: foldhash::quality::RandomState::default(),
        }
    }

    /// What keys are hashed with.
    pub fn seed(&self) -> &foldhash::quality::RandomState {
        &self.seed
    }

    /// What is known about a question of a zone with these rules. Counts as a use.
    pub fn look(&self, key: &Key, rules: &Rules, now: Now) -> Look {
        let mut shard = self.shard(key);
        shard.slots.get_mut(key.bytes()).map_or(Look::Unknown, |slot| slot.look(&rules.prefetch, now))
    }

    /// Keeps an answer in place of the one before, if its TTL and the zone's rules allow; forgets failures either
    /// way.
    pub fn store(&self, key: &Key, entry: Arc<Entry>, rules: &Rules) {
        let mut shard = self.shard(key);
        let before = shard.take(key);
        if entry.cacheable() {
            let uses = before.map_or_else(Uses::default, |slot| slot.uses.of_the_next(&rules.prefetch));
            let now = entry.came();
            shard.put(key, Slot { answer: Some(entry), uses, ..Slot::default() }, &rules.share, now);
        }
    }

    /// Remembers that asking failed with `reply`; an answer that may still be served stays.
    pub fn fail(&self, key: &Key, reply: Arc<Entry>, rules: &Rules, times: FailureTimes, now: Now) {
        let mut shard = self.shard(key);
        let before = shard.take(key).unwrap_or_default();
        let answer = before.answer.filter(|e| e.is_usable(now));
        let lasted = match (&answer, before.failure) {
            (Some(_), _) => times.with_stale,
            // In a row: again within the time that the last one lasted, after its end.
            (None, _) if times.first.is_zero() => return,
            (None, Some(f)) if now < f.until + f.lasted => (f.lasted * 2).min(times.longest),
            (None, _) => times.first,
        };
        let failure = Some(Failure { reply, until: now + lasted, lasted });
        let slot = Slot { answer, failure, uses: before.uses, refresh_after: before.refresh_after };
        shard.put(key, slot, &rules.share, now);
    }

    /// Sums over all shards, one after the other.
    pub fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for shard in &self.shards {
            let shard = lock(shard);
            sum.entries += shard.slots.len() as u64;
            sum.bytes += shard.bytes as u64;
            sum.limit += shard.limit as u64;
            sum.evictions += shard.evicted.values().flatten().sum::<u64>();
        }
        sum
    }

    /// What there is of each of these zones. What was evicted of others is added up here.
    pub fn by_zone(&self, zones: &[u32]) -> Vec<OfZone> {
        let mut sums = vec![OfZone::default(); zones.len()];
        for shard in &self.shards {
            let mut shard = lock(shard);
            for (&zone, sum) in zones.iter().zip(&mut sums) {
                sum.add(shard.tally.entries(zone), shard.evicted.get(&zone).copied().unwrap_or_default());
            }
            shard.forget(zones);
        }
        sums
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // The table inside takes its place from the hash's low bits and its tag from the top seven.
        lock(&self.shards[(key.hash() >> 32) as usize % SHARDS])
    }
}

/// No code panics while it holds the lock, and if it did, a slot would be lost at worst.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn take(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.slots.pop(key.bytes())?;
        self.gone(key.bytes(), &slot);
        Some(slot)
    }

    fn gone(&mut self, key: &[u8], slot: &Slot) {
        self.bytes -= slot.cost(key);
        self.tally.goes(key::zone(key), slot.class());
    }

    fn put(&mut self, key: &Key, slot: Slot, share: &Share, now: Now) {
        self.take(key);
        let cost = slot.cost(key.bytes());
        if cost > self.limit {
            return;
        }
        let mut passed_over = 0;
        while self.bytes + cost > self.limit {
            let Some((key, slot)) = self.slots.pop_lru() else { break };
            let may_stay = passed_over < PASSED_OVER && slot.is_of_use(now);
            if may_stay && self.tally.passes_over(key::zone(&key), slot.class()) {
                passed_over += 1;
                self.slots.put(key, slot); // as if it had just been asked for
                continue;
            }
            self.gone(&key, &slot);
            self.evicted.entry(key::zone(&key)).or_default()[slot.class() as usize] += 1;
        }
        self.bytes += cost;
        self.tally.comes(key::zone(key.bytes()), slot.class(), share);
        self.slots.put(key.bytes().into(), slot);
    }

    /// Adds up under one number what was evicted of zones other than these.
    fn forget(&mut self, zones: &[u32]) {
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
