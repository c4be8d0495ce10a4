//! Who has left our own questions unanswered: the watchdog's judgement of one address and protocol. Pure, so that
//! tests need no clock.
//!
//! A question without an answer proves little. In a flood a receive buffer or a backlog is full, and our question is
//! lost with others while the process answers as fast as it can. So what counts is how many questions were lost since
//! a worker last did something here: sent an answer, or accepted a connection ([`Served`]).
//!
//! The kernel chooses the worker that a question goes to (SO_REUSEPORT). So when none of them does anything, a few
//! questions are enough to tell; that one of several does nothing shows in its share of them, and it takes more until
//! that cannot be chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::listen::Served;
use crate::telemetry::health::Protocol;

/// Questions without an answer, for each worker there is, before the one that did nothing meanwhile is taken for dead.
/// Had it been alive, at least one of them would have gone to it but for one time in 10^12: (1 - 1/n)^(28 n).
const CHANCE: u32 = 28;

/// An address and a protocol, which every worker serves with a socket of its own.
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    workers: Vec<Worker>,
}

/// What is known of one worker at this door.
struct Worker {
    served: Arc<Served>,
    /// What it had done when it was last looked at.
    before: u64,
    /// Questions of ours that nobody answered since it last did something.
    unanswered: u32,
}

impl Door {
    /// One that nobody has been asked at yet. `served` is what each worker does at this address.
    pub fn new(address: SocketAddr, protocol: Protocol, served: &[Arc<Served>]) -> Self {
        let worker = |served: &Arc<Served>| Worker {
            served: Arc::clone(served),
            before: done(served, protocol),
            unanswered: 0,
        };
        Self { address, protocol, workers: served.iter().map(worker).collect() }
    }

    /// Takes down what became of a question.
    pub fn note(&mut self, is_answered: bool) {
        for worker in &mut self.workers {
            let done = done(&worker.served, self.protocol);
            if done != worker.before {
                worker.before = done;
                worker.unanswered = 0;
            } else if !is_answered {
                worker.unanswered = worker.unanswered.saturating_add(1);
            }
        }
    }

    /// Whether somebody is at work here.
    pub fn is_well(&self) -> bool {
        self.workers.iter().any(|worker| worker.unanswered == 0)
    }

    /// Whether it is yet to be seen that everybody is.
    pub fn is_in_doubt(&self) -> bool {
        self.workers.iter().any(|worker| worker.unanswered > 0)
    }

    /// What is wrong here, if as many questions as `bound` have found nobody in the time of `patience`.
    pub fn verdict(&self, bound: u32, patience: Duration) -> Option<String> {
        let (address, protocol) = (self.address, self.protocol);
        let unanswered = || self.workers.iter().map(|worker| worker.unanswered);
        if unanswered().min()? >= bound {
            return Some(format!(
                "{address} has not answered our own questions over {protocol} for {patience:?}"
            ));
        }
        let chance = CHANCE.saturating_mul(u32::try_from(self.workers.len()).unwrap_or(u32::MAX));
        let dead = unanswered().position(|unanswered| unanswered >= bound.max(chance))?;
        let lost = self.workers[dead].unanswered;
        Some(format!(
            "worker {dead} does nothing at {address} over {protocol}: {lost} of our own questions were lost since it did"
        ))
    }
}

/// A number that another sign of life changes.
fn done(served: &Served, protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Udp => served.answers.get(),
        Protocol::Tcp => served.connections.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u32 = 4;

    fn door(workers: usize, protocol: Protocol) -> (Door, Vec<Arc<Served>>) {
        let served: Vec<Arc<Served>> = (0..workers).map(|_| Arc::default()).collect();
        (Door::new("169.254.20.10:53".parse().unwrap(), protocol, &served), served)
    }

    fn verdict(door: &Door) -> Option<String> {
        door.verdict(BOUND, Duration::from_secs(2))
    }

    #[test]
    fn silence_of_all_is_death_after_the_bound() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (mut door, _served) = door(2, protocol);
            for _ in 1..BOUND {
                door.note(false);
                assert_eq!(verdict(&door), None);
                assert!(!door.is_well());
            }
            door.note(false);
            let said = verdict(&door).unwrap();
            let expected =
                format!("169.254.20.10:53 has not answered our own questions over {protocol} for 2s");
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn whoever_does_something_lives_whatever_becomes_of_our_questions() {
        let (mut door, served) = door(1, Protocol::Udp);
        for _ in 0..1000 {
            served[0].answers.add(64);
            door.note(false);
            assert_eq!(verdict(&door), None);
            assert!(door.is_well(), "the service manager is fed");
        }
        // Connections say nothing about datagrams.
        for _ in 0..BOUND {
            served[0].connections.bump();
            door.note(false);
        }
        assert!(verdict(&door).is_some());
    }

    #[test]
    fn one_of_several_that_does_nothing_is_found_by_its_share() {
        let (mut door, served) = door(2, Protocol::Tcp);
        let mut lost = 0;
        // Every second question goes to the first one, which accepts; the others are lost.
        let said = loop {
            served[0].connections.bump();
            door.note(true);
            door.note(false);
            lost += 1;
            if let Some(said) = verdict(&door) {
                break said;
            }
        };
        assert_eq!(lost, 2 * CHANCE);
        assert!(said.starts_with("worker 1 does nothing at 169.254.20.10:53 over TCP"), "{said}");
    }

    #[test]
    fn a_question_that_was_lost_by_chance_is_forgotten() {
        let (mut door, served) = door(2, Protocol::Udp);
        for worker in [0, 1].repeat(100) {
            door.note(false);
            assert!(door.is_in_doubt());
            served[worker].answers.bump();
            door.note(true);
            assert_eq!(verdict(&door), None);
        }
        served.iter().for_each(|served| served.answers.bump());
        door.note(true);
        assert!(!door.is_in_doubt());
    }
}
