//! When the next query is to be sent: as soon as a slot is free (a closed loop), or at moments that do not ask how
//! the server is doing (an open loop), as clients that know nothing of each other do.

use std::time::{Duration, Instant};

use crate::random::Random;

/// How queries follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// A new one for each answer.
    Closed,
    /// So many a second on average, with exponentially distributed gaps (a Poisson process).
    PerSecond(f64),
}

/// The moments of one run.
pub struct Clock {
    pace: Pace,
    next: Instant,
    random: Random,
}

impl Clock {
    /// The first query is due at `start`. The moments are the same in every run of the same pace.
    pub fn new(pace: Pace, start: Instant) -> Self {
        Self { pace, next: start, random: Random::new() }
    }

    /// The moment of the next query, if that is not after `now`.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        match self.pace {
            Pace::Closed => Some(now),
            Pace::PerSecond(_) => (self.next <= now).then_some(self.next),
        }
    }

    /// The query that was due was sent.
    pub fn sent(&mut self) {
        if let Pace::PerSecond(rate) = self.pace {
            // 1 - share lies in (0, 1], so that the logarithm is a number.
            let gap = -(1.0 - self.random.share()).ln() / rate;
            self.next += Duration::from_secs_f64(gap);
        }
    }

    /// Until when there is nothing to send, if an answer does not change that.
    pub fn quiet_until(&self, otherwise: Instant) -> Instant {
        match self.pace {
            Pace::Closed => otherwise,
            Pace::PerSecond(_) => self.next.min(otherwise),
        }
    }

    /// How many more queries were due before `end`. Uses the clock up.
    pub fn rest(mut self, end: Instant) -> u64 {
        let mut count = 0;
        while self.pace != Pace::Closed && self.next < end {
            self.sent();
            count += 1;
        }
        count
    }
}
