//! Flights: questions on their way upstream, and who waits for them.
//!
//! At most one flight per worker and question, however many clients ask: the first starts it, the others
//! join. Both numbers are bounded, so that a flood of misses costs bounded memory.

use std::collections::HashMap;
use std::rc::Rc;

use crate::cache::key::Prehashed;
use crate::cache::{Entry, Key};
use crate::clock::Now;

use super::Waiter;

/// The flights of one worker.
#[derive(Default)]
pub struct Flights {
    by_key: HashMap<Rc<Key>, Flight, Prehashed>,
    prefetches: usize,
}

struct Flight {
    waiters: Vec<Waiter>,
    /// The stale answer that those who still come get at once, since the fresh one is overdue.
    overdue: Option<Entry>,
    prefetch: bool,
}

/// What became of a waiter.
pub enum Joined {
    /// It waits, and somebody must start the flight.
    First,
    /// It waits for a flight that is under way.
    Waits,
    /// The flight is overdue: it is to get this answer now.
    Overdue(Waiter, Entry),
    /// There are as many flights as may be.
    NoFlight(Waiter),
    /// There are as many waiters as may be.
    NoSeat(Waiter),
}

/// What became of a prefetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Somebody must start the flight.
    New,
    /// Its question is under way.
    UnderWay,
    /// There are as many as may be.
    Full,
}

impl Flights {
    /// Seats a waiter.
    pub fn join(
        &mut self,
        key: &Rc<Key>,
        waiter: Waiter,
        flights: usize,
        waiters: usize,
        now: Now,
    ) -> Joined {
        let under_way = self.by_key.len();
        match self.by_key.get_mut(key) {
            Some(Flight { overdue: Some(entry), .. }) if entry.is_usable(now) => {
                Joined::Overdue(waiter, entry.clone())
            }
            Some(flight) if flight.waiters.len() >= waiters => Joined::NoSeat(waiter),
            Some(flight) => {
                flight.waiters.push(waiter);
                Joined::Waits
            }
            None if under_way >= flights => Joined::NoFlight(waiter),
            None => {
                let flight = Flight { waiters: vec![waiter], overdue: None, prefetch: false };
                self.by_key.insert(Rc::clone(key), flight);
                Joined::First
            }
        }
    }

    /// Opens a flight that nobody waits for.
    pub fn open_prefetch(&mut self, key: &Rc<Key>, prefetches: usize, flights: usize) -> Opened {
        if self.by_key.contains_key(key) {
            return Opened::UnderWay;
        }
        if self.prefetches >= prefetches || self.by_key.len() >= flights {
            return Opened::Full;
        }
        self.prefetches += 1;
        let flight = Flight { waiters: Vec::new(), overdue: None, prefetch: true };
        self.by_key.insert(Rc::clone(key), flight);
        Opened::New
    }

    /// The fresh answer is overdue: who waits is to get `stale` now, and so is who comes later.
    pub fn overdue(&mut self, key: &Rc<Key>, stale: &Entry) -> Vec<Waiter> {
        self.by_key.get_mut(key).map_or_else(Vec::new, |flight| {
            flight.overdue = Some(stale.clone());
            std::mem::take(&mut flight.waiters)
        })
    }

    /// The flight is over: who still waits is to be answered.
    pub fn land(&mut self, key: &Rc<Key>) -> Vec<Waiter> {
        self.by_key.remove(key).map_or_else(Vec::new, |flight| {
            self.prefetches -= usize::from(flight.prefetch);
            flight.waiters
        })
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
