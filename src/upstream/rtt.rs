//! How long a server takes to answer; pure.
//!
//! Two estimates, for two questions. *How long to wait?* A smoothed round trip and its variation, with the
//! gains of RFC 6298: slow names raise it quickly, and so our patience. *Is a query stuck?* The round trip
//! of an easy question, which must not rise because some names are slow or because queries queue up: it
//! follows the median (up or down by a sixteenth) of queries that had their connection to themselves; a
//! query in company may have waited for others, and so can only lower it.

use std::time::Duration;

/// The shortest wait for a try: below it a busy server would be asked twice for nothing.
pub const PATIENCE_MIN: Duration = Duration::from_millis(200);
/// The shortest wait before a hedge.
const HEDGE_MIN: Duration = Duration::from_millis(10);
/// The shortest time after which a query counts as slow; timers are not finer than a millisecond.
const SLOW_MIN: Duration = Duration::from_millis(2);

/// The estimates for one server.
#[derive(Debug, Default)]
pub struct Rtt {
    measured: Option<Measured>,
}

#[derive(Debug)]
struct Measured {
    smoothed: Duration,
    variation: Duration,
    /// The round trip of an easy question.
    easy: Duration,
}

impl Rtt {
    /// An answer took `sample`; `alone` if no other query was open on its connection when it was sent.
    pub fn sample(&mut self, sample: Duration, alone: bool) {
        let Some(m) = &mut self.measured else {
            self.measured = Some(Measured { smoothed: sample, variation: sample / 2, easy: sample });
            return;
        };
        // RFC 6298 section 2.3: beta is 1/4, alpha is 1/8.
        m.variation = (m.variation * 3 + m.smoothed.abs_diff(sample)) / 4;
        m.smoothed = (m.smoothed * 7 + sample) / 8;
        let step = (m.easy / 16).max(Duration::from_micros(1));
        if sample < m.easy {
            m.easy = m.easy.saturating_sub(step).max(sample);
        } else if alone {
            m.easy = (m.easy + step).min(sample);
        }
    }

    /// How long a try is waited for before the next begins: twice RFC 6298's timeout, within
    /// [`PATIENCE_MIN`] and `max`; `max` as long as nothing is measured.
    pub fn patience(&self, max: Duration) -> Duration {
        self.measured
            .as_ref()
            .map_or(max, |m| ((m.smoothed + m.variation * 4) * 2).max(PATIENCE_MIN).min(max))
    }

    /// How long an answer may take before the query may be hedged: half the allowance for variation that
    /// RFC 6298 makes, so that the slow tail is beyond it but the ordinary is not; at most half of what
    /// [`Rtt::patience`] gives; a quarter of `max` as long as nothing is measured.
    pub fn hedge_delay(&self, max: Duration) -> Duration {
        self.measured
            .as_ref()
            .map_or(max / 4, |m| (m.smoothed + m.variation * 2).max(HEDGE_MIN).min(self.patience(max) / 2))
    }

    /// After this long a query is slow: it may hold up what is behind it. Twice an easy round trip; a
    /// sixteenth of `max` as long as nothing is measured.
    pub fn slow_after(&self, max: Duration) -> Duration {
        self.measured.as_ref().map_or(max / 16, |m| (m.easy * 2).max(SLOW_MIN).min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(1500);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn steady(sample: Duration) -> Rtt {
        let mut rtt = Rtt::default();
        (0..200).for_each(|_| rtt.sample(sample, true));
        rtt
    }

    #[test]
    fn unmeasured_we_are_patient() {
        assert_eq!(Rtt::default().patience(MAX), MAX);
        assert_eq!(Rtt::default().hedge_delay(MAX), MAX / 4);
    }

    #[test]
    fn waits_follow_the_round_trip_within_their_bounds() {
        let near = steady(Duration::from_micros(300));
        assert_eq!(near.patience(MAX), PATIENCE_MIN);
        assert_eq!(near.hedge_delay(MAX), HEDGE_MIN);
        assert_eq!(near.slow_after(MAX), SLOW_MIN);
        let far = steady(ms(150));
        assert!((ms(300)..ms(320)).contains(&far.patience(MAX)), "{:?}", far.patience(MAX));
        assert!((ms(140)..ms(160)).contains(&far.hedge_delay(MAX)), "{:?}", far.hedge_delay(MAX));
        assert!((ms(290)..ms(310)).contains(&far.slow_after(MAX)), "{:?}", far.slow_after(MAX));
        let very_far = steady(ms(1400));
        assert_eq!(very_far.patience(MAX), MAX);
    }

    #[test]
    fn slow_names_raise_patience_but_not_what_counts_as_slow() {
        let mut rtt = steady(ms(2));
        for _ in 0..100 {
            rtt.sample(ms(2), true);
            rtt.sample(ms(2), true);
            rtt.sample(ms(500), true);
        }
        assert!(rtt.patience(MAX) > ms(500));
        assert!(rtt.slow_after(MAX) < ms(6), "{:?}", rtt.slow_after(MAX));
    }

    #[test]
    fn a_queue_does_not_raise_what_counts_as_slow() {
        let mut rtt = steady(ms(2));
        (0..1000).for_each(|_| rtt.sample(ms(80), false));
        assert!(rtt.slow_after(MAX) <= ms(4));
        let mut rtt = steady(ms(80));
        (0..1000).for_each(|_| rtt.sample(ms(2), false));
        assert!(rtt.slow_after(MAX) <= ms(5), "but it can lower it");
    }
}
