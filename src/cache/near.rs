//! What one worker asks for again and again, at its hand: found without a lock, and without writing to memory that other
//! workers read.
//!
//! A place is found by the question as the client put it, in whatever letter case, and by the listener that was asked:
//! these two say which zone it is, so a place knows its zone, and neither is a name copied nor a zone looked for.
//!
//! A place holds an entry of the [store](Cache) for a second at most. Then the next look-up goes to the store again, which
//! so learns that the entry is in use, and how often: recency, uses and prefetching work as if each use had gone there,
//! late by that second. An entry that was replaced in the store is not served from here any more, whoever replaced it
//! ([`Cache`] counts replacements); one that had to make room may be, until its second is over, also when another has come
//! since.
//!
//! Copies are counted references, so a place costs no memory of its own but for entries that the store has let go. These
//! are bounded by 512 bytes times the number of places: a seventh of the store's size for each worker, 4.5 MiB at most.

use std::hash::BuildHasher;
use std::time::Duration;

use super::fold::Secrets;
use super::{Cache, Entry, Key, Look, Rules};
use crate::clock::Now;

/// Bytes of the largest entry that has a place.
const ENTRY: usize = 512;
/// Places among which the one for a question is looked for.
const WAYS: usize = 4;
/// Bytes of the store for each place.
const STORE: u64 = 4096;
/// Places, at most.
const PLACES: u64 = 8192;
/// What is looked at of a question's length: no packet is longer.
const LENGTH: u32 = (1 << 14) - 1;
/// How long an entry is served from here.
const LEASE: Duration = Duration::from_secs(1);

/// See the module. Made on one worker's thread, for it alone.
#[derive(Debug)]
pub struct Near {
    /// None before there is the first entry, then a power of two of them.
    sets: Vec<[Place; WAYS]>,
    wanted: usize,
    secrets: Secrets,
}

/// A question as a client put it, and what else its place depends on.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'q> {
    hash: u64,
    /// Name, type, class, as they came.
    question: &'q [u8],
    /// The listener, the question's length, DO and CD.
    beside: u32,
}

/// The zone of a question: where it stands in the listener's view, and its number among all that ever were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Where it stands.
    pub place: u32,
    /// Its number.
    pub id: u32,
}

#[derive(Clone, Debug, Default)]
struct Place {
    hash: u64,
    /// When the store is to be asked again.
    until: Now,
    entry: Option<Entry>,
    zone: Zone,
    /// The listener, the question's length, DO and CD.
    beside: u32,
    /// Uses that the store knew of.
    turn: u32,
    /// The store's word on what was replaced.
    version: u32,
    /// Where it counts that.
    versions: u16,
    /// Uses since.
    uses: u16,
}

/// What was found here: a fresh answer.
#[derive(Clone, Copy, Debug)]
pub struct Found<'n> {
    /// The answer.
    pub entry: &'n Entry,
    /// How often it was served before.
    pub turn: u32,
    /// Its zone.
    pub zone: Zone,
}

impl Place {
    #[inline]
    fn is_of(&self, spot: &Spot<'_>) -> bool {
        self.hash == spot.hash
            && self.beside == spot.beside
            && self.entry.as_ref().is_some_and(|entry| entry.answers(spot.question))
    }

    /// Whether it is as good as what the store has.
    #[inline]
    fn serves(&self, store: &Cache, now: Now) -> bool {
        now < self.until && !self.is_replaced(store) && self.uses < u16::MAX
    }

    fn is_replaced(&self, store: &Cache) -> bool {
        self.version != store.version(self.versions.into())
    }

    /// The uses that the store does not know of. Those of an answer that was replaced count for the next one only
    /// where a gap is all that ends the count.
    fn take_uses(&mut self, store: &Cache, rules: &Rules) -> u16 {
        let uses = std::mem::take(&mut self.uses);
        if self.is_replaced(store) && rules.prefetch.gap.is_none() { 0 } else { uses }
    }
}

impl Near {
    /// Nothing yet, for a store of this size.
    pub fn new(store: &Cache) -> Self {
        let places = (store.size() / STORE).clamp(WAYS as u64, PLACES) as usize;
        let secrets = Secrets::of([0_u8, 1].map(|n| store.seed().hash_one(n)));
        Self { sets: Vec::new(), wanted: 1 << (places / WAYS).ilog2(), secrets }
    }

    /// Where the answer to a question (name, type, class, as they came) of a listener's client may be. Bytes that are no
    /// question have nothing there: what is there begins with the same bytes, and its question has the same length.
    #[inline]
    pub fn spot<'q>(
        &self,
        question: &'q [u8],
        listener: usize,
        dnssec_ok: bool,
        checking_disabled: bool,
    ) -> Spot<'q> {
        let bits = u32::from(dnssec_ok) | u32::from(checking_disabled) << 1;
        let beside = (listener as u32) << 16 | (question.len() as u32 & LENGTH) << 2 | bits;
        Spot { hash: self.secrets.hash(question, beside), question, beside }
    }

    /// What is here, if it is fresh. Counts as a use.
    #[inline]
    pub fn find(&mut self, store: &Cache, spot: &Spot<'_>, now: Now) -> Option<Found<'_>> {
        let set = self.set_of(spot.hash);
        let place = self.sets.get_mut(set)?.iter_mut().find(|place| place.is_of(spot))?;
        if !place.serves(store, now) {
            return None;
        }
        place.uses += 1;
        let turn = place.turn.wrapping_add(place.uses.into());
        Some(Found { entry: place.entry.as_ref()?, turn, zone: place.zone })
    }

    /// What the store knows about what was not [found](Self::find) here; from now on that may be here. `zone` is the
    /// question's, these are its rules.
    pub fn look(
        &mut self,
        store: &Cache,
        (spot, key): (&Spot<'_>, &Key),
        (place, rules): (u32, &Rules),
        now: Now,
    ) -> Look {
        let set = self.set_of(spot.hash);
        let way = self.sets.get(set).and_then(|set| set.iter().position(|place| place.is_of(spot)));
        let uses = way.map_or(0, |way| self.sets[set][way].take_uses(store, rules));
        let (look, version) = store.look_after(key, rules, now, uses);
        if let Look::Fresh { entry, turn, .. } = &look
            && entry.size() <= ENTRY
        {
            let until = lease(entry, rules, now);
            // Who could not serve once takes nobody's place.
            if now < until {
                let place = Place {
                    hash: spot.hash,
                    until,
                    entry: Some(entry.clone()),
                    zone: Zone { place, id: key.zone() },
                    beside: spot.beside,
                    turn: *turn,
                    version,
                    versions: super::version_of(key) as u16,
                    uses: 0,
                };
                self.keep(place, way);
            }
        }
        look
    }

    /// Forgets everything: what was asked leads to other zones now.
    pub fn forget(&mut self) {
        self.sets.clear();
    }

    fn set_of(&self, hash: u64) -> usize {
        hash as usize & self.sets.len().wrapping_sub(1)
    }

    /// Gives an entry the place that it had, or else that of whoever has to ask the store first.
    fn keep(&mut self, place: Place, way: Option<usize>) {
        if self.sets.is_empty() {
            self.sets.resize_with(self.wanted, Default::default);
        }
        let set = self.set_of(place.hash);
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
