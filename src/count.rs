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
pub const BUCKETS: usize = 18;

/// A latency histogram: bucket `i` holds durations up to `2^i` times 32 microseconds (32 us to 4.2 s), the
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
        let steps = nanos.saturating_sub(1) / 32_000;
        let bucket = (u64::BITS - steps.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS)].add(n);
        self.nanos.add(nanos.saturating_mul(n));
    }

    /// The upper bound of bucket `i` in seconds; the last has none.
    pub fn bound(i: usize) -> f64 {
        if i < BUCKETS { 32e-6 * (1u64 << i) as f64 } else { f64::MAX }
    }

    /// The counts per bucket (not cumulative).
    pub fn counts(&self) -> [u64; BUCKETS + 1] {
        std::array::from_fn(|i| self.buckets[i].get())
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
        for (micros, bucket) in [(0, 0), (32, 0), (33, 1), (64, 1), (65, 2), (4_194_304, 17), (4_194_305, 18)]
        {
            let h = Histogram::default();
            h.record(Duration::from_micros(micros), 1);
            assert_eq!(h.counts()[bucket], 1, "{micros} us");
        }
    }
}
