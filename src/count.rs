//! Counters that cost their one writer a plain load, add and store.
//!
//! Each counter belongs to one worker, which alone writes it; a scrape reads it from another thread and adds
//! the workers up. So there is no locked instruction and no shared cache line on the road. (A third of
//! node-cache's time per query goes into its metrics recorder.)

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only rises. One writer, any readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread may call this: two writers would lose counts.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the owning thread may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls. One writer, any readers.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value. Only the owning thread may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Adds one. Only the owning thread may call this.
    pub fn up(&self) {
        self.set(self.get() + 1);
    }

    /// Takes one away, at zero nothing. Only the owning thread may call this.
    pub fn down(&self) {
        self.set(self.get().saturating_sub(1));
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many buckets a [`Histogram`] has, without the last one, which has no upper bound.
pub const BUCKETS: usize = 19;
/// The upper bound of a [`Histogram`]'s first bucket, in nanoseconds: an eighth of 0.25 ms, so that CoreDNS's bounds
/// (0.25 ms to 8.192 s, each twice the one before) are among ours.
const FIRST_BOUND: u64 = 31_250;

/// A latency histogram: bucket `i` holds durations up to `2^i` times 31.25 microseconds (31.25 us to 8.192 s), the
/// last holds what is longer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS + 1],
    nanos: Counter,
}

impl Histogram {
    /// Records `n` durations of `d` each. Only the owning thread may call this.
    pub fn record(&self, d: Duration, n: u64) {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let steps = nanos.saturating_sub(1) / FIRST_BOUND;
        let bucket = (u64::BITS - steps.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS)].add(n);
        self.nanos.add(nanos.saturating_mul(n));
    }

    /// The upper bound of bucket `i` in seconds; the last has none.
    pub fn bound(i: usize) -> f64 {
        // Both numbers are exact, so the quotient is the number that its decimal digits mean.
        if i < BUCKETS { (FIRST_BOUND << i) as f64 / 1e9 } else { f64::INFINITY }
    }

    /// The counts per bucket (not cumulative).
    pub fn counts(&self) -> [u64; BUCKETS + 1] {
        std::array::from_fn(|i| self.buckets[i].get())
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.nanos.get() as f64 / 1e9
    }
}

/// The upper bounds of [`Sizes`], in bytes: CoreDNS's.
pub const SIZE_BOUNDS: [u16; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
/// The place of 511 in [`SIZE_BOUNDS`]: up to the one before, bounds are hundreds.
const ODD_SIZES: usize = 5;

/// A histogram of messages' sizes.
#[derive(Debug, Default)]
pub struct Sizes {
    buckets: [Counter; SIZE_BOUNDS.len() + 1],
    bytes: Counter,
}

impl Sizes {
    /// Records a message of `size` bytes. Only the owning thread may call this.
    #[inline]
    pub fn record(&self, size: usize) {
        // Nearly all messages are small: a division by a constant, and no search.
        let bucket = if size <= 400 {
            size.div_ceil(100)
        } else {
            ODD_SIZES + SIZE_BOUNDS[ODD_SIZES..].partition_point(|&bound| usize::from(bound) < size)
        };
        self.buckets[bucket].bump();
        self.bytes.add(size as u64);
    }

    /// The counts per bucket (not cumulative).
    pub fn counts(&self) -> [u64; SIZE_BOUNDS.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].get())
    }

    /// The sum of all sizes, in bytes.
    pub fn sum(&self) -> u64 {
        self.bytes.get()
    }
}

/// The upper bounds of [`Decades`], in nanoseconds: CoreDNS's for what happens seldom.
const DECADES: [u64; 5] = [250_000, 2_500_000, 25_000_000, 250_000_000, 2_500_000_000];

/// A coarse latency histogram: 0.25 ms, each bound ten times the one before, to 2.5 s, and what is longer.
#[derive(Debug, Default)]
pub struct Decades {
    buckets: [Counter; DECADES.len() + 1],
    nanos: Counter,
}

impl Decades {
    /// Records a duration. Only the owning thread may call this.
    pub fn record(&self, d: Duration) {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[DECADES.partition_point(|&bound| bound < nanos)].bump();
        self.nanos.add(nanos);
    }

    /// The counts per bucket (not cumulative), with the bucket's upper bound in seconds; the last has none.
    pub fn counts(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = DECADES.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(Counter::get))
    }

    /// The sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.nanos.get() as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_that_holds_it() {
        for (nanos, bucket) in [
            (0, 0),
            (31_250, 0),
            (31_251, 1),
            (62_500, 1),
            (62_501, 2),
            (250_000, 3),
            (8_192_000_000, 18),
            (8_192_000_001, 19),
        ] {
            let h = Histogram::default();
            h.record(Duration::from_nanos(nanos), 1);
            assert_eq!(h.counts()[bucket], 1, "{nanos} ns");
        }
    }

    #[test]
    fn the_bounds_of_coredns_are_among_ours() {
        for i in 0..16 {
            let theirs = 0.00025 * f64::from(1 << i);
            assert_eq!(Histogram::bound(i + 3), theirs);
        }
    }

    #[test]
    fn a_size_lands_in_the_first_bucket_that_holds_it() {
        for size in 0..=65_535 {
            let sizes = Sizes::default();
            sizes.record(size);
            let expected = SIZE_BOUNDS.iter().position(|&b| size <= b.into()).unwrap_or(SIZE_BOUNDS.len());
            assert_eq!((sizes.counts()[expected], sizes.sum()), (1, size as u64), "{size} bytes");
        }
    }
}
