//! Whether a server is worth asking; pure, `now` is passed in.
//!
//! Only silence and transport errors speak against a server, never a response code: one client's bogus name
//! must not take the cluster's DNS out. What was under way together fails together, and counts as one
//! failure: eight slow names at once are one bad moment. After [`FAILURES`] of them in a row it is *out*: not asked but for
//! one probe at a time, first after [`BACKOFF`], then after twice as long up to [`BACKOFF_MAX`]. Any answer
//! brings it back. A probe is a client's query; the caller keeps its wait short.

use std::time::Duration;

use crate::clock::Now;
use crate::limit::Limit;

/// Failures in a row after which a server is out; 0: it never is.
pub const FAILURES: Limit<u32> = Limit::new(0, 3, 1000);
/// How long a server that has just gone out is left alone.
pub const BACKOFF: Duration = Duration::from_secs(1);
/// How long it is left alone at most.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a server that is out is left alone each time, where that is not to grow. A probe is a client's query and
/// costs it some patience: not too often.
pub const PROBE_EVERY: Limit<Duration> =
    Limit::new(Duration::from_millis(100), BACKOFF, Duration::from_secs(300));

/// What a server's last tries say about it.
#[derive(Debug)]
pub struct Health {
    /// See [`FAILURES`].
    max_fails: u32,
    /// How long it is left alone: at first, and at most.
    backoff: [Duration; 2],
    /// Failures since the last answer.
    failures: u32,
    /// When the last failure was counted.
    failed_at: Option<Now>,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    backoff: Duration,
    /// When the next probe may go.
    probe_at: Now,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(FAILURES.default, None)
    }
}

impl Health {
    /// A server of which nothing is known; see [`FAILURES`] and [`PROBE_EVERY`].
    pub fn new(max_fails: u32, probe_every: Option<Duration>) -> Self {
        let backoff = probe_every.map_or([BACKOFF, BACKOFF_MAX], |every| [every; 2]);
        Self { max_fails, backoff, failures: 0, failed_at: None, out: None }
    }

    /// Whether the server may be asked: it is not out, or a probe is due.
    pub fn usable(&self, now: Now) -> bool {
        self.out.as_ref().is_none_or(|out| out.probe_at <= now)
    }

    /// Whether the server is out.
    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Failures since the last answer.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The server is being asked. If it is out and a probe was due, this is the probe, and the next one is
    /// due after twice the time.
    pub fn asking(&mut self, now: Now) {
        if let Some(out) = &mut self.out
            && out.probe_at <= now
        {
            out.backoff = (out.backoff * 2).min(self.backoff[1]);
            out.probe_at = now + out.backoff;
        }
    }

    /// What began at `began` was not answered in time, or ended with a transport error. It counts if it
    /// began after the last failure that did. True if the server goes out by it.
    pub fn failed(&mut self, began: Now, now: Now) -> bool {
        if self.failed_at.is_some_and(|last| began < last) {
            return false;
        }
        self.failed_at = Some(now);
        self.failures = self.failures.saturating_add(1);
        if self.out.is_some() || self.max_fails == 0 || self.failures < self.max_fails {
            return false;
        }
        let [first, _] = self.backoff;
        self.out = Some(Out { backoff: first, probe_at: now + first });
        true
    }

    /// The server answered. True if it comes back by it.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.out.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now::from_millis(1_000_000);

    fn out_at(now: Now) -> Health {
        let mut health = Health::default();
        assert!(!health.failed(now, now) && !health.failed(now, now));
        assert!(health.failed(now, now), "the third one takes it out");
        health
    }

    #[test]
    fn an_answer_in_between_starts_the_count_anew() {
        let mut health = Health::default();
        for _ in 0..10 {
            assert!(!health.failed(START, START) && !health.failed(START, START));
            assert!(!health.answered());
        }
        assert!(health.usable(START));
    }

    #[test]
    fn probes_go_one_at_a_time_after_twice_the_time_up_to_a_bound() {
        let mut health = out_at(START);
        let mut now = START;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!health.usable(now + Duration::from_millis(seconds * 1000 - 1)));
            now = now + Duration::from_secs(seconds);
            assert!(health.usable(now));
            health.asking(now);
            assert!(!health.usable(now), "one probe at a time");
            assert!(!health.failed(now, now), "it is out already");
        }
    }

    #[test]
    fn any_answer_brings_it_back() {
        let mut health = out_at(START);
        assert!(health.is_out());
        assert!(health.answered());
        assert!(health.usable(START) && !health.is_out());
        assert!(!health.failed(START, START), "the count starts anew");
    }

    #[test]
    fn a_zone_says_how_many_failures_and_how_often_it_is_probed() {
        let every = Duration::from_millis(500);
        let mut health = Health::new(1, Some(every));
        assert!(health.failed(START, START), "the first one takes it out");
        let mut now = START;
        for _ in 0..5 {
            now = now + every;
            assert!(!health.usable(now - Duration::from_millis(1)) && health.usable(now));
            health.asking(now);
        }
        let mut never = Health::new(0, None);
        for second in 0..100 {
            let now = START + Duration::from_secs(second);
            assert!(!never.failed(now, now) && never.usable(now));
        }
    }

    #[test]
    fn what_was_under_way_together_counts_once() {
        let mut health = Health::default();
        let later = START + Duration::from_millis(200);
        for _ in 0..100 {
            assert!(!health.failed(START, later));
        }
        assert!(!health.failed(later, later + BACKOFF));
        assert!(health.failed(later + BACKOFF, later + BACKOFF));
    }

    #[test]
    fn asking_out_of_turn_does_not_move_the_probe() {
        let mut health = out_at(START);
        health.asking(START);
        assert!(health.usable(START + BACKOFF));
    }
}
