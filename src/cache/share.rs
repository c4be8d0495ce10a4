//! Each zone's share of the one budget: a soft one, that only matters when there is no room.
//!
//! Room is made by letting go what was not asked for longest; but entries of a zone that has no more than its share are
//! passed over, so that a flood of names in one zone does not drive out another's. A zone without a share has none of
//! its entries passed over. Entries are counted per zone under the shard's lock, where one comes or goes: a hit counts
//! nothing.

use std::collections::HashMap;

use crate::limit::Limit;

/// Entries of one kind that a zone has before others. A few hundred bytes each; more than the cache holds do no harm.
pub const SHARE: Limit<u32> = Limit::new(1, 9984, 100_000_000);

/// A zone's share, in entries; `None`: no share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of answers.
    pub positive: Option<u32>,
    /// Of NXDOMAIN, NODATA and remembered failures.
    pub negative: Option<u32>,
}

/// What entries are counted as: answers, or all else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    Positive = 0,
    Negative = 1,
}

/// The entries of one shard by zone.
#[derive(Debug)]
pub(super) struct Tally {
    /// How many shards there are.
    shards: u32,
    zones: HashMap<u32, Part, foldhash::fast::RandomState>,
    /// Entries beyond their zone's share, of all zones. With none of them, every entry is as good as any other.
    beyond: u64,
}

/// A zone's part of a shard, by class.
#[derive(Debug, Default)]
struct Part {
    entries: [u32; 2],
    /// Its share of the shard, as the zone has it since its last entry came.
    share: [u32; 2],
}

impl Part {
    fn beyond(&self) -> u64 {
        let [positive, negative] = [0, 1].map(|class| self.entries[class].saturating_sub(self.share[class]));
        u64::from(positive) + u64::from(negative)
    }
}

impl Tally {
    /// That of one of so many shards.
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: u32::try_from(shards).unwrap_or(u32::MAX), zones: HashMap::default(), beyond: 0 }
    }

    /// An entry of a zone with this share comes.
    pub(super) fn comes(&mut self, zone: u32, class: Class, share: &Share) {
        let part = self.zones.entry(zone).or_default();
        self.beyond -= part.beyond();
        part.entries[class as usize] += 1;
        let per_shard = |share: Option<u32>| share.unwrap_or(0).div_ceil(self.shards);
        part.share = [share.positive, share.negative].map(per_shard);
        self.beyond += part.beyond();
    }

    /// An entry goes.
    pub(super) fn goes(&mut self, zone: u32, class: Class) {
        if let Some(part) = self.zones.get_mut(&zone) {
            self.beyond -= part.beyond();
            part.entries[class as usize] -= 1;
            self.beyond += part.beyond();
            if part.entries == [0, 0] {
                self.zones.remove(&zone);
            }
        }
    }

    /// Whether an entry is to be passed over: its zone has no more of the class than its share, and others have.
    pub(super) fn passes_over(&self, zone: u32, class: Class) -> bool {
        let part = self.zones.get(&zone).filter(|_| self.beyond > 0);
        part.is_some_and(|part| part.entries[class as usize] <= part.share[class as usize])
    }

    /// The entries of a zone, by class.
    pub(super) fn entries(&self, zone: u32) -> [u32; 2] {
        self.zones.get(&zone).map_or([0; 2], |part| part.entries)
    }
}
