//! Whether connections to a server can go past connection tracking. Pure: it is told what became of them.
//!
//! Behind `svc://` stand pods. If the name turns out to be that of a Service with an address of its own, nobody is at
//! that address: kube-proxy translates what goes there, and what is not tracked is not translated. Such connections
//! fail where tracked ones are made. A server that is down fails both, and one that comes back may do so between two
//! tries: so a tracked connection that is made raises a doubt, and only another failure after it settles the matter.

use std::cell::Cell;

/// Untracked connections that fail, one after the other, before a tracked one is tried.
const FAILURES: u32 = 2;

/// What is known of it, for one server at one worker.
#[derive(Debug)]
pub struct Tracking(Cell<State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Untracked, and so many have failed since one was made.
    Untracked(u32),
    /// A tracked one was made after these had failed; the next one is untracked.
    Doubted,
    /// They cannot be untracked.
    Tracked,
}

impl Default for Tracking {
    fn default() -> Self {
        Self(Cell::new(State::Untracked(0)))
    }
}

impl Tracking {
    /// Whether the next connection is to go untracked.
    pub fn is_avoided(&self) -> bool {
        match self.0.get() {
            State::Untracked(failed) => failed < FAILURES,
            State::Doubted => true,
            State::Tracked => false,
        }
    }

    /// Whether one more untracked connection would settle the matter.
    pub fn is_doubted(&self) -> bool {
        self.0.get() == State::Doubted
    }

    /// Takes down what became of a connection. True if this has settled that they are to be tracked.
    pub fn tried(&self, untracked: bool, is_made: bool) -> bool {
        let next = match (self.0.get(), untracked, is_made) {
            (State::Tracked, ..) => return false,
            (_, true, true) => State::Untracked(0),
            (State::Untracked(failed), true, false) => State::Untracked((failed + 1).min(FAILURES)),
            (State::Untracked(_), false, true) => State::Doubted,
            // It is down.
            (State::Untracked(_), false, false) => State::Untracked(0),
            (State::Doubted, true, false) => State::Tracked,
            (State::Doubted, false, _) => State::Doubted,
        };
        self.0.set(next);
        next == State::Tracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections one after the other, each made if `made` says so of its kind (untracked or not) and number.
    fn settles(connections: usize, made: impl Fn(bool, usize) -> bool) -> (bool, Tracking) {
        let tracking = Tracking::default();
        let settled = (0..connections).any(|n| {
            let untracked = tracking.is_avoided();
            tracking.tried(untracked, made(untracked, n))
        });
        (settled, tracking)
    }

    #[test]
    fn a_service_that_is_no_pod_is_found_out() {
        let (settled, tracking) = settles(4, |untracked, _| !untracked);
        assert!(settled && !tracking.is_avoided());
        assert!(!tracking.tried(false, true) && !tracking.is_avoided(), "that is told once");
    }

    #[test]
    fn a_pod_that_goes_and_comes_back_is_none() {
        for back in 0..10 {
            let (settled, tracking) = settles(100, |_, n| n >= back);
            assert!(!settled && tracking.is_avoided(), "back at connection {back}");
        }
    }
}
