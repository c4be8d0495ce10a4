//! How the servers of one zone are asked, by that zone's own word.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::message::{FORMERR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL};
use super::{Policy, Settings, health};
use crate::limit::Limit;

/// How often one query is sent, in all and to whomever.
pub const TRIES: Limit<usize> = Limit::new(1, 4, 4);
/// Questions of one zone that are open at once, all workers together; 0: no limit but those on memory.
pub const MAX_CONCURRENT: Limit<usize> = Limit::new(0, 0, 1_000_000);
/// Response codes for which the next server is asked.
pub const FAILOVER: Limit<usize> = Limit::new(0, 4, 10);

/// How the servers of one zone are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Who is asked first.
    pub policy: Policy,
    /// See [`TRIES`].
    pub tries: usize,
    /// The response codes that are not taken for an answer before every other server was asked.
    pub failover: Vec<u8>,
    /// Whether a question fails at once while every server is out. Otherwise all of them are asked then, as if none
    /// was: it may be we who were wrong.
    pub fail_fast: bool,
    /// See [`MAX_CONCURRENT`].
    pub max_concurrent: usize,
    /// How their connections are kept and when they are out.
    pub terms: Terms,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            tries: TRIES.default,
            failover: vec![SERVFAIL, REFUSED, NOTIMP, FORMERR],
            fail_fast: false,
            max_concurrent: MAX_CONCURRENT.default,
            terms: Terms::default(),
        }
    }
}

impl From<Policy> for Asking {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}

impl Asking {
    /// The terms with what follows from the rest: where a question fails at once, nobody but a probe finds out that
    /// a server is back, and so probes go as often as they may.
    pub(super) fn terms(&self) -> Terms {
        let probe_every = self.terms.probe_every.or(self.fail_fast.then_some(health::BACKOFF));
        Terms { probe_every, ..self.terms }
    }

    /// How little a reply with this response code says, where the next server is asked for it.
    pub(super) fn poorness(&self, code: u8) -> Option<u8> {
        self.failover.contains(&code).then_some(match code {
            NXDOMAIN => 2,
            SERVFAIL => 3,
            REFUSED => 4,
            NOTIMP => 5,
            FORMERR => 6,
            _ => 7,
        })
    }
}

/// What holds for a server and its connections; `None`: the same as everywhere ([`Settings`]). Zones that name the
/// same server share its connections and what is known of it, if their terms are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// See [`IDLE`](super::IDLE).
    pub idle: Option<Duration>,
    /// See [`MAX_AGE`](super::MAX_AGE).
    pub max_age: Option<Duration>,
    /// See [`TRY`](super::TRY).
    pub try_timeout: Option<Duration>,
    /// See [`health::FAILURES`].
    pub max_fails: u32,
    /// See [`health::PROBE_EVERY`].
    pub probe_every: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            idle: None,
            max_age: None,
            try_timeout: None,
            max_fails: health::FAILURES.default,
            probe_every: None,
        }
    }
}

impl Terms {
    /// What holds, where `all` is for everybody.
    pub(super) fn over(&self, all: Settings) -> Settings {
        Settings {
            idle: self.idle.unwrap_or(all.idle),
            max_age: self.max_age.unwrap_or(all.max_age),
            try_timeout: self.try_timeout.unwrap_or(all.try_timeout),
            ..all
        }
    }
}

/// The questions of one zone that are open, as all workers together count them. Only touched where there is a limit.
#[derive(Debug, Default)]
pub struct Places(AtomicUsize);

impl Places {
    /// A place for one more question, unless `limit` of them are taken.
    pub fn take(&self, limit: usize) -> Option<Place<'_>> {
        let place = Place(self); // given back, if there is none
        (self.0.fetch_add(1, Relaxed) < limit).then_some(place)
    }
}

/// A place that is taken; dropped, it is given back.
#[derive(Debug)]
pub struct Place<'p>(&'p Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_also_by_who_gets_none() {
        let places = Places::default();
        for _ in 0..3 {
            let taken = [places.take(2), places.take(2)];
            assert!(taken.iter().all(Option::is_some));
            assert!(places.take(2).is_none() && places.take(2).is_none());
        }
        assert_eq!(places.0.load(Relaxed), 0);
    }
}
