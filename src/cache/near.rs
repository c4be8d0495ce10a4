//! What one worker asks for again and again, at its hand: found without a lock, and without writing to memory that other
//! workers read.
//!
//! A place holds an entry of the [store](Cache) for a second at most. Then the next look-up goes to the store again, which
//! so learns that the entry is in use, and how often: recency, uses and prefetching work as if each use had gone there,
//! late by that second. An entry that was replaced in the store is not served from here any more, whoever replaced it
//! ([`Cache`] counts replacements); one that had to make room may be, until its second is over, also when another has come
//! since.
//!
//! Copies are counted references, so a place costs no memory of its own but for entries that the store has let go. These
//! are bounded by 512 bytes times the number of places: a seventh of the store's size for each worker, 4.5 MiB at most.

use std::time::Duration;

use super::{Cache, Entry, Key, Look, Rules};
use crate::clock::Now;

/// Bytes of the largest entry that has a place.
const ENTRY: usize = 512;
/// Places among which the one for a key is looked for.
const WAYS: usize = 4;
/// Bytes of the store for each place.
const STORE: u64 = 4096;
/// Places, at most.
const PLACES: u64 = 8192;
/// How long an entry is served from here.
const LEASE: Duration = Duration::from_secs(1);

/// See the module. Made on one worker's thread, for it alone.
#[derive(Debug)]
pub struct Near {
    /// None before there is the first entry, then a power of two of them.
    sets: Vec<[Place; WAYS]>,
    wanted: usize,
}

#[derive(Clone, Debug, Default)]
struct Place {
    hash: u64,
    /// When the store is to be asked again.
    until: Now,
    entry: Option<Entry>,
    /// The store's word on what was replaced.
    version: u32,
    zone: u32,
    /// Uses that the store knew of.
    turn: u32,
    /// Uses since.
    uses: u16,
    bits: u8,
}

impl Place {
    fn new(key: &Key, entry: &Entry, turn: u32, version: u32, until: Now) -> Self {
        Self {
            hash: key.hash(),
            until,
            entry: Some(entry.clone()),
            version,
            zone: key.zone(),
            turn,
            uses: 0,
            bits: key.bits(),
        }
    }

    fn is_of(&self, key: &Key) -> bool {
        self.hash == key.hash()
            && self.zone == key.zone()
            && self.bits == key.bits()
            && self.entry.as_ref().is_some_and(|entry| entry.answers(key.question()))
    }

    /// Whether it is as good as what the store has.
    fn serves(&self, store: &Cache, key: &Key, now: Now) -> bool {
        now < self.until && self.version == store.version(key) && self.uses < u16::MAX
    }

    /// The uses that the store does not know of. Those of an answer that was replaced count for the next one only
    /// where a gap is all that ends the count.
    fn take_uses(&mut self, store: &Cache, key: &Key, rules: &Rules) -> u16 {
        let uses = std::mem::take(&mut self.uses);
        let replaced = self.version != store.version(key);
        if replaced && rules.prefetch.gap.is_none() { 0 } else { uses }
    }

    fn serve(&mut self) -> Found<'_> {
        self.uses += 1;
        let turn = self.turn.wrapping_add(self.uses.into());
        self.entry.as_ref().map_or(Found::Far(Look::Unknown), |entry| Found::Near(entry, turn))
    }
}

/// What was found, where.
#[derive(Debug)]
pub enum Found<'n> {
    /// Here: a fresh answer, and how often it was served before.
    Near(&'n Entry, u32),
    /// In the store.
    Far(Look),
}

impl Near {
    /// Nothing yet, for a store of this size.
    pub fn new(store: &Cache) -> Self {
        let places = (store.size() / STORE).clamp(WAYS as u64, PLACES) as usize;
        Self { sets: Vec::new(), wanted: 1 << (places / WAYS).ilog2() }
    }

    /// What is known about a question of a zone with these rules. Counts as a use.
    pub fn look(&mut self, store: &Cache, key: &Key, rules: &Rules, now: Now) -> Found<'_> {
        let (set, way) = self.find(key);
        let mut uses = 0;
        if let Some(way) = way {
            if self.sets[set][way].serves(store, key, now) {
                return self.sets[set][way].serve();
            }
            uses = self.sets[set][way].take_uses(store, key, rules);
        }
        let (look, version) = store.look_after(key, rules, now, uses);
        if let Look::Fresh { entry, turn, .. } = &look
            && entry.size() <= ENTRY
        {
            let until = lease(entry, rules, now);
            // Who could not serve once takes nobody's place.
            if now < until {
                self.keep(Place::new(key, entry, *turn, version, until), way);
            }
        }
        Found::Far(look)
    }

    /// The set of a key, and its place there if it has one.
    fn find(&self, key: &Key) -> (usize, Option<usize>) {
        let set = key.hash() as usize & self.sets.len().wrapping_sub(1);
        (set, self.sets.get(set).and_then(|set| set.iter().position(|place| place.is_of(key))))
    }

    /// Gives an entry the place that it had, or else that of whoever has to ask the store first.
    fn keep(&mut self, place: Place, way: Option<usize>) {
        if self.sets.is_empty() {
            self.sets.resize_with(self.wanted, Default::default);
        }
        let set = place.hash as usize & (self.sets.len() - 1);
        let way = way.or_else(|| (0..WAYS).min_by_key(|&way| self.sets[set][way].until)).unwrap_or(0);
        self.sets[set][way] = place;
    }
}

/// Until when an entry is served from here: not beyond its time, and not within the last part of it, in which the store
/// decides at each use whether it is to be refreshed.
fn lease(entry: &Entry, rules: &Rules, now: Now) -> Now {
    let end = if rules.prefetch.hits > 0 { rules.prefetch.begins(entry) } else { entry.expires() };
    end.min(now + LEASE)
}
