//! Which answers are refreshed ahead of their expiry: those in use, when little of their time is left.
//!
//! The uses of an answer are counted in its entry, under the lock that a look-up in the store holds anyway.

use std::time::Duration;

use super::{Entry, Kind};
use crate::clock::Now;
use crate::limit::Limit;

/// Uses that make an answer worth refreshing; 0: it never is. They are counted in sixteen bits.
pub const HITS: Limit<u16> = Limit::new(0, 2, u16::MAX);
/// Uses further apart do not count together. Not beyond the longest life of an answer.
pub const GAP: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(604_800));
/// The share of its time, from the end, in which an answer is refreshed. Beyond nine tenths the upstream would be
/// asked nearly each time.
pub const PERCENT: Limit<u8> = Limit::new(10, 10, 90);
/// Answers of fewer seconds are not refreshed ahead of expiry: there is little to win, and a caching upstream
/// would hand out its own last seconds again and again.
const TTL: u32 = 10;
/// Negative answers of fewer seconds are not refreshed ahead of expiry.
const NEGATIVE_TTL: u32 = 60;
/// An answer's refresh is not asked for again within this many seconds.
const REFRESH_INTERVAL: u32 = 5;

/// Which answers of a zone are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// See [`HITS`].
    pub hits: u16,
    /// See [`GAP`]; `None`: all uses of one answer count, and none of the answer before.
    pub gap: Option<Duration>,
    /// See [`PERCENT`].
    pub percent: u8,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self { hits: HITS.default, gap: None, percent: PERCENT.default }
    }
}

impl Prefetch {
    /// When the last part of an answer's time begins.
    pub(super) fn begins(&self, entry: &Entry) -> Now {
        self.begins_with(entry.came(), entry.ttl())
    }

    /// The same for an answer that came at `came`, with this TTL.
    fn begins_with(&self, came: Now, ttl: u32) -> Now {
        let last = u64::from(ttl) * 10_000_000 * u64::from(self.percent); // nanoseconds, a hundredth each
        came + Duration::from_secs(ttl.into()) - Duration::from_nanos(last)
    }

    /// Whether an answer is in use, long-lived enough, and in the last part of its time.
    pub(super) fn wants(&self, entry: &Entry, uses: &Uses, now: Now) -> bool {
        if self.hits == 0 || uses.together < self.hits {
            return false;
        }
        let least = if entry.kind() == Kind::Positive { TTL } else { NEGATIVE_TTL };
        let ttl = entry.ttl();
        ttl >= least && now >= self.begins_with(entry.came(), ttl)
    }
}

/// The uses of one answer, and what they led to: one word, of which every answer has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// The second of the last one.
    last: u32,
    /// Those that count together.
    together: u16,
    /// All of them, from zero again at the end: how far addresses rotate.
    all: u8,
    /// When a refresh was last asked for, see [`Uses::may_ask`]; 0: never.
    asked: u8,
}

impl Uses {
    /// What [`Uses::word`] made a word of.
    pub(super) fn from_word(word: u64) -> Self {
        let [all, asked, a, b, last @ ..] = word.to_ne_bytes();
        Self { last: u32::from_ne_bytes(last), together: u16::from_ne_bytes([a, b]), all, asked }
    }

    /// As one number, which an entry can hold without a lock.
    pub(super) fn word(self) -> u64 {
        let ([a, b], [c, d, e, f]) = (self.together.to_ne_bytes(), self.last.to_ne_bytes());
        u64::from_ne_bytes([self.all, self.asked, a, b, c, d, e, f])
    }

    /// One more after `others` that were not counted yet; says how many came before. Those others came within a second
    /// after the last one that was counted ([`near`](super::near)).
    pub(super) fn count(&mut self, prefetch: &Prefetch, now: Now, others: u16) -> u32 {
        self.together = self.together.saturating_add(others);
        self.last = self.last.saturating_add(u32::from(others > 0));
        if let Some(gap) = prefetch.gap {
            let second = now.seconds_since(Now::default());
            if u64::from(second.saturating_sub(self.last)) > gap.as_secs() {
                self.together = 0;
            }
            self.last = second;
        }
        let before = self.all.wrapping_add(others as u8);
        self.all = before.wrapping_add(1);
        self.together = self.together.saturating_add(1);
        before.into()
    }

    /// Whether a refresh may be asked for: none was just now. If so, one is from here on.
    ///
    /// Seconds are counted from 1 to 255 and then from 1 again. Who asks for the second time minutes after the first may
    /// so be taken for early, and then asks some seconds later.
    pub(super) fn may_ask(&mut self, now: Now) -> bool {
        let second = now.seconds_since(Now::default()) % 255;
        let since = (second + 255 + 1 - u32::from(self.asked)) % 255;
        let may = self.asked == 0 || since >= REFRESH_INTERVAL;
        if may {
            self.asked = second as u8 + 1;
        }
        may
    }

    /// What counts for the answer that comes in the place of this one.
    pub(super) fn of_the_next(self, prefetch: &Prefetch) -> Self {
        if prefetch.gap.is_some() { Self { asked: 0, ..self } } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_all_of_them() {
        let uses = Uses { last: 0x0123_4567, together: 0x89ab, all: 0xcd, asked: 0xef };
        assert_eq!(Uses::from_word(uses.word()), uses);
        assert_eq!(Uses::from_word(0), Uses::default(), "a new entry was not used");
    }

    #[test]
    fn a_refresh_is_asked_for_once_in_five_seconds() {
        let at = |seconds: u64| Now::from_millis(seconds * 1000);
        for first in 0..600 {
            let mut uses = Uses::default();
            assert!(uses.may_ask(at(first)), "the first time, {first}");
            let waits = (1..=5).map(|s| uses.may_ask(at(first + s))).collect::<Vec<_>>();
            assert_eq!(waits, [false, false, false, false, true], "{first}");
            assert!(!uses.may_ask(at(first + 6)), "the second time counts as well");
            assert!(uses.may_ask(at(first + 105)));
        }
    }
}
