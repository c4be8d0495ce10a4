//! Whether a server is worth asking; pure, `now` is passed in.
//!
//! Only silence and transport errors speak against a server, never a response code: one client's bogus name
//! must not take the cluster's DNS out. What was under way together fails together, and counts as one
//! failure: eight slow names at once are one bad moment. After [`FAILURES`] of them in a row it is *out*: not asked but for
//! one probe at a time, first after [`BACKOFF`], then after twice as long up to [`BACKOFF_MAX`]. Any answer
//! brings it back. A probe is a client's query; the caller keeps its wait short.

use std::time::Duration;

use crate::clock::Now;

/// Failures in a row after which a server is out.
pub const FAILURES: u32 = 3;
/// How long a server that has just gone out is left alone.
pub const BACKOFF: Duration = Duration::from_secs(1);
/// How long it is left alone at most.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What a server's last tries say about it.
#[derive(Debug, Default)]
pub struct Health {
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

impl Health {
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
            out.backoff = (out.backoff * 2).min(BACKOFF_MAX);
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
        if self.out.is_some() || self.failures < FAILURES {
            return false;
        }
        self.out = Some(Out { backoff: BACKOFF, probe_at: now + BACKOFF });
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
