//! What we think of one server: its health, its round trip, its counters. Shared by all its connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::asking::Terms;
use super::health::Health;
use super::outage::Outage;
use super::rtt::Rtt;
use super::tracking::Tracking;
use super::{Counters, Member, Server, message};
use crate::clock::Now;

/// The state of one server at one worker.
#[derive(Debug)]
pub struct Standing {
    /// Which server.
    pub server: Server,
    /// What is counted about it.
    pub counters: Arc<Counters>,
    /// See [`Member::outage`].
    outage: Option<Arc<Outage>>,
    /// See [`Member::mark`].
    pub mark: Cell<Option<u32>>,
    /// Whether that mark does what it should.
    pub tracking: Tracking,
    health: RefCell<Health>,
    rtt: RefCell<Rtt>,
    /// When it last answered anything.
    heard: Cell<Option<Instant>>,
    /// Tries that are open.
    outstanding: Cell<usize>,
}

impl Standing {
    /// A server of which nothing is known.
    pub fn new(member: &Member, terms: &Terms) -> Self {
        Self {
            server: member.server,
            counters: Arc::clone(&member.counters),
            outage: member.outage.clone(),
            mark: Cell::new(member.mark),
            tracking: Tracking::default(),
            health: RefCell::new(Health::new(terms.max_fails, terms.probe_every)),
            rtt: RefCell::default(),
            heard: Cell::default(),
            outstanding: Cell::default(),
        }
    }

    /// Whether it may be asked: it is not out, or a probe is due.
    pub fn usable(&self) -> bool {
        !self.is_out() || self.health.borrow().usable(Now::read())
    }

    /// Whether it is out.
    pub fn is_out(&self) -> bool {
        self.health.borrow().is_out()
    }

    /// Tries that are open.
    pub fn outstanding(&self) -> usize {
        self.outstanding.get()
    }

    /// The estimates of its round trip.
    pub fn rtt(&self) -> std::cell::Ref<'_, Rtt> {
        self.rtt.borrow()
    }

    /// A try begins; it lasts as long as what is returned.
    pub fn asking(self: &Rc<Self>) -> Outstanding {
        if self.is_out() {
            self.health.borrow_mut().asking(Now::read());
        }
        self.counters.sent.bump();
        self.outstanding.set(self.outstanding.get() + 1);
        self.counters.outstanding.up();
        Outstanding(self.clone())
    }

    /// A reply came, whether or not somebody still waits for it: the server lives. `alone` as in
    /// [`Rtt::sample`].
    pub fn heard(&self, took: Duration, alone: bool, now: Instant) {
        self.rtt.borrow_mut().sample(took, alone);
        self.heard.set(Some(now));
        if self.health.borrow_mut().answered() {
            self.counters.out.down();
            if self.outage.as_ref().is_some_and(|outage| outage.ends()) {
                tracing::info!(server = %self.server, "upstream answers again");
            }
        }
    }

    /// A reply is used.
    pub fn used(&self, reply: &[u8], took: Duration) {
        self.counters.latency[usize::from(message::rcode(reply) & 15)].record(took, 1);
    }

    /// A try that began at `began` was not answered in time. It speaks against the server only if nothing
    /// else was answered since: a slow name is not a dead server.
    pub fn timed_out(&self, began: Instant) {
        self.counters.timeouts.bump();
        if self.heard.get().is_none_or(|heard| heard < began) {
            self.blame(began, "it does not answer");
        }
    }

    /// A connection or socket that was begun at `began` ended with an error.
    pub fn failed(&self, began: Instant, why: &str) {
        self.counters.errors.bump();
        self.blame(began, why);
    }

    fn blame(&self, began: Instant, why: &str) {
        let now = Now::read();
        let mut health = self.health.borrow_mut();
        let before = health.failures();
        let goes_out = health.failed(now - began.elapsed(), now);
        self.counters.failures.add((health.failures() - before).into());
        drop(health);
        if goes_out {
            self.counters.taken_out.bump();
            self.counters.out.up();
            if self.outage.as_ref().is_some_and(|outage| outage.begins()) {
                tracing::warn!(server = %self.server, why, "upstream taken out; others are asked first");
            }
        }
    }
}

impl Drop for Standing {
    /// Nobody asks it any more.
    fn drop(&mut self) {
        if self.is_out() {
            self.counters.out.down();
        }
    }
}

/// A try that is open; dropped, it is not.
#[derive(Debug)]
pub struct Outstanding(Rc<Standing>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.set(self.0.outstanding.get().saturating_sub(1));
        self.0.counters.outstanding.down();
    }
}
