//! The answers we keep: one budget of bytes for all zones, the least recently used go first, those of zones that have
//! no more than their [share] last.
//!
//! The store is split into shards ([`SHARDS`] or more) by the keys' hashes, each behind a lock of its own that is held for a
//! look-up or a store and never across a system call. What is found is handed out as a counted reference, so
//! that copying and patching happen outside of the lock.
//!
//! Besides the answer, the last failure to get one is remembered (RFC 9520), for its own short time. A failure never
//! hides an answer that may still be served.

pub mod entry;
mod fold;
pub mod key;
pub mod near;
pub mod prefetch;
mod shard;
pub mod share;
pub mod ttl;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Now;
use crate::limit::Limit;
pub use entry::Entry;
pub use key::Key;
pub use near::Near;
pub use prefetch::Prefetch;
use shard::{Shard, Slot};
pub use share::Share;
pub use ttl::{Kind, Rules};

/// What keys are hashed with.
pub type Seed = foldhash::quality::SeedableRandomState;

/// Bytes for all answers together.
pub const SIZE: Limit<u64> = Limit::new(1 << 20, 32 << 20, 64 << 30);
/// Shards, at least: enough that workers seldom meet, few enough that the smallest cache holds the largest message.
pub const SHARDS: usize = 8;
/// Shards, at most: eight bits of a hash tell them apart.
const SHARDS_MAX: usize = 256;
/// Bytes for each shard. What a store waits for at worst is that its shard's table has all its names hashed anew: when it
/// grows, and when those who went have left it full of gaps.
const SHARD: u64 = 1 << 20;
/// Counters of what was replaced; keys share them by their hash.
const VERSIONS: usize = 1024;

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
        entry: Entry,
        /// How often it was served: how far its addresses rotate.
        turn: u32,
        /// Whether it should be asked for again, ahead of its expiry.
        refresh: bool,
    },
    /// An answer whose time is over, and which may be served if nothing better can be had.
    Stale {
        /// The answer.
        entry: Entry,
        /// Whether a refresh has failed a short while ago: serve it at once.
        at_once: bool,
    },
    /// Nothing to serve, and asking has failed a short while ago.
    Failed(Entry),
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
    /// Rise when an entry is replaced; written under the lock of its shard, read without any.
    versions: Box<[AtomicU32; VERSIONS]>,
    seed: Seed,
    size: u64,
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

impl Cache {
    /// An empty store of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self::with_seed(size, Seed::random())
    }

    /// The same with a seed of the caller's choice, for whoever counts what a look-up costs: the same keys then meet in
    /// the same places in every run. Only a random one keeps clients from making keys that meet.
    pub fn with_seed(size: u64, seed: Seed) -> Self {
        let shards = shards_of(size);
        let limit = usize::try_from(size).unwrap_or(usize::MAX) / shards;
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(limit, shards, &seed))).collect(),
            versions: Box::new([const { AtomicU32::new(0) }; VERSIONS]),
            seed,
            size,
        }
    }

    /// Bytes that it may hold.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What keys are hashed with.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// What is known about a question of a zone with these rules. Counts as a use.
    pub fn look(&self, key: &Key, rules: &Rules, now: Now) -> Look {
        self.look_after(key, rules, now, 0).0
    }

    /// The same after so many uses that have not been counted; also the version of what was found.
    fn look_after(&self, key: &Key, rules: &Rules, now: Now, uses: u16) -> (Look, u32) {
        let mut shard = self.shard(key);
        let look = shard.look(key, &rules.prefetch, now, uses);
        (look, self.version(version_of(key)))
    }

    /// Keeps an answer in place of the one before, if its TTL and the zone's rules allow; forgets failures either
    /// way.
    pub fn store(&self, key: &Key, entry: Entry, rules: &Rules) {
        let mut shard = self.shard(key);
        let before = self.replace(&mut shard, key);
        // It is found by its own question.
        if entry.cacheable() && entry.question() == key.question() {
            let uses = before.map_or_else(Default::default, |slot| slot.uses().of_the_next(&rules.prefetch));
            let entry = entry.kept_for(key);
            entry.set_uses(uses);
            let now = entry.came();
            shard.put(Slot::answered(entry), &rules.share, now);
        }
    }

    /// Remembers that asking failed with `reply`; an answer that may still be served stays.
    pub fn fail(&self, key: &Key, reply: Entry, rules: &Rules, times: FailureTimes, now: Now) {
        let mut shard = self.shard(key);
        let before = self.replace(&mut shard, key).unwrap_or_default();
        if reply.question() != key.question() {
            return;
        }
        shard.put(before.failed(reply.failure_for(key), times, now), &rules.share, now);
    }

    /// Takes out what is there; who holds a copy sees that it is not the newest any more.
    fn replace(&self, shard: &mut Shard, key: &Key) -> Option<Slot> {
        let slot = shard.take(key)?;
        self.versions[version_of(key)].fetch_add(1, Relaxed);
        Some(slot)
    }

    /// Differs from what it was if an entry that is counted there was replaced since.
    fn version(&self, counter: usize) -> u32 {
        self.versions[counter % VERSIONS].load(Relaxed)
    }

    /// Sums over all shards, one after the other.
    pub fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for shard in &self.shards {
            let shard = lock(shard);
            shard.add_to(&mut sum);
        }
        sum
    }

    /// What there is of each of these zones. What was evicted of others is added up here.
    pub fn by_zone(&self, zones: &[u32]) -> Vec<OfZone> {
        let mut sums = vec![OfZone::default(); zones.len()];
        for shard in &self.shards {
            let mut shard = lock(shard);
            for (&zone, sum) in zones.iter().zip(&mut sums) {
                shard.add_zone(zone, sum);
            }
            shard.forget(zones);
        }
        sums
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // The table inside takes its place from the hash's low bits and its tag from the top seven.
        lock(&self.shards[(key.hash() >> 32) as usize % self.shards.len()])
    }
}

/// How many shards a store of `size` bytes has: a power of two.
fn shards_of(size: u64) -> usize {
    let wanted = usize::try_from(size / SHARD).unwrap_or(usize::MAX);
    1 << wanted.clamp(SHARDS, SHARDS_MAX).ilog2()
}

/// No code panics while it holds the lock, and if it did, a slot would be lost at worst.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counter of a key: not by the bits that say its shard or its place in the table.
fn version_of(key: &Key) -> usize {
    (key.hash() >> 40) as usize % VERSIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_stores_have_more_shards() {
        let sizes = [SIZE.min, 8 << 20, SIZE.default, 100 << 20, 1 << 30, SIZE.max];
        assert_eq!(sizes.map(shards_of), [8, 8, 32, 64, 256, 256]);
    }
}
