//! One alarm clock for all queries of a worker.
//!
//! Every query wants to be woken up if nothing comes, and hardly one ever is. A timer of the event loop each would be
//! dear: one that is due before all others wakes the loop up by a system call of its own, and so does every query that
//! is alone. So their alarms stand in a table, and one task sleeps until the earliest. An alarm that is put off or
//! dropped leaves the sleeper alone: it may wake up for nothing, once per alarm that was the earliest.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Places that are kept when no alarm is set.
const KEPT: usize = 64;

/// The alarms of one worker.
#[derive(Debug, Default)]
pub struct Alarms {
    table: RefCell<Table>,
    /// Tells the sleeper that it sleeps too long.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// As many as there were at once since there was none last, or [`KEPT`].
    alarms: Vec<Option<Set>>,
    /// Numbers of those that are `None`.
    free: Vec<usize>,
    /// Until when the sleeper sleeps; `None` if there is no sleeper.
    sleeps_until: Option<Instant>,
}

/// An alarm that is set.
#[derive(Debug)]
struct Set {
    at: Instant,
    /// Taken when it rings.
    waker: Option<Waker>,
}

impl Alarms {
    /// An alarm at `at`. It rings for whoever has polled it.
    pub fn at(self: &Rc<Self>, at: Instant) -> Alarm {
        Alarm { alarms: Rc::clone(self), at, number: None }
    }

    /// Sets an alarm; returns its number.
    fn set(self: &Rc<Self>, at: Instant, waker: &Waker) -> usize {
        let table = &mut *self.table.borrow_mut();
        let number = table.free.pop().unwrap_or_else(|| {
            table.alarms.push(None);
            table.alarms.len() - 1
        });
        table.alarms[number] = Some(Set { at, waker: Some(waker.clone()) });
        match table.sleeps_until {
            Some(until) if until <= at => {}
            Some(_) => self.earlier.notify_one(),
            None => drop(tokio::task::spawn_local(Rc::clone(self).sleep())),
        }
        table.sleeps_until = Some(table.sleeps_until.map_or(at, |until| until.min(at)));
        number
    }

    /// Sleeps and rings, until no alarm is set.
    async fn sleep(self: Rc<Self>) {
        loop {
            let Some(until) = self.table.borrow().sleeps_until else { return };
            tokio::select! {
                biased;
                () = self.earlier.notified() => continue,
                () = sleep_until(until) => {}
            }
            self.table.borrow_mut().ring(Instant::now());
        }
    }
}

impl Table {
    /// Wakes up everybody whose time has come.
    fn ring(&mut self, now: Instant) {
        self.sleeps_until = None;
        for set in self.alarms.iter_mut().flatten() {
            if set.at <= now {
                set.waker.take().into_iter().for_each(Waker::wake);
            } else {
                self.sleeps_until = Some(self.sleeps_until.map_or(set.at, |until| until.min(set.at)));
            }
        }
    }
}

/// One alarm. Dropped, it does not ring.
#[derive(Debug)]
pub struct Alarm {
    alarms: Rc<Alarms>,
    at: Instant,
    /// Its number in the table, once it is there.
    number: Option<usize>,
}

impl Alarm {
    /// Sets it anew; rung or not, it rings at `at`.
    pub fn reset(&mut self, at: Instant) {
        if self.at != at {
            self.at = at;
            self.release();
        }
    }

    /// Ready once it has rung.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        match self.number {
            None => self.number = Some(self.alarms.set(self.at, context.waker())),
            Some(number) => {
                let mut table = self.alarms.table.borrow_mut();
                match table.alarms.get_mut(number).and_then(Option::as_mut).map(|set| &mut set.waker) {
                    Some(Some(waker)) if waker.will_wake(context.waker()) => {}
                    Some(Some(waker)) => waker.clone_from(context.waker()),
                    _ => return Poll::Ready(()),
                }
            }
        }
        Poll::Pending
    }
}

impl Alarm {
    fn release(&mut self) {
        if let Some(number) = self.number.take() {
            let mut table = self.alarms.table.borrow_mut();
            table.alarms[number] = None;
            table.free.push(number);
            if table.alarms.len() > KEPT && table.free.len() == table.alarms.len() {
                (table.alarms, table.free) = (Vec::new(), Vec::new());
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn with_time(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    async fn rings(alarm: &mut Alarm) -> Duration {
        let began = Instant::now();
        poll_fn(|context| alarm.poll(context)).await;
        began.elapsed()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_rings_in_its_time_whatever_the_order_in_which_they_were_set() {
        with_time(async {
            let (alarms, now) = (Rc::new(Alarms::default()), Instant::now());
            let mut all = [3, 1, 4, 2].map(|n| (n, alarms.at(now + SECOND * n)));
            let waits = all.iter_mut().map(|(n, alarm)| async move { (*n, rings(alarm).await) });
            for (n, rang) in futures_util::future::join_all(waits).await {
                assert!(rang >= SECOND * n && rang < SECOND * n + SECOND / 2, "{n}: {rang:?}");
            }
        });
    }

    #[test]
    fn one_that_is_put_off_rings_later_and_one_that_is_put_on_earlier() {
        with_time(async {
            let alarms = Rc::new(Alarms::default());
            let mut alarm = alarms.at(Instant::now() + SECOND);
            for (n, wanted) in [(5, 5), (2, 2)] {
                let quick = tokio::time::timeout(SECOND / 10, rings(&mut alarm)).await;
                assert!(quick.is_err());
                alarm.reset(Instant::now() + SECOND * n);
                let rang = rings(&mut alarm).await;
                assert!(rang >= SECOND * wanted && rang < SECOND * wanted + SECOND / 2, "{n}: {rang:?}");
                alarm.reset(Instant::now() + SECOND * 9);
            }
        });
    }

    #[test]
    fn places_are_used_again_and_nobody_sleeps_for_nothing() {
        with_time(async {
            let alarms = Rc::new(Alarms::default());
            for _ in 0..10 {
                let mut alarm = alarms.at(Instant::now() + SECOND);
                assert!(tokio::time::timeout(SECOND / 10, rings(&mut alarm)).await.is_err());
            }
            assert_eq!(alarms.table.borrow().alarms.len(), 1);
            let mut many: Vec<_> = (0..KEPT * 4).map(|_| alarms.at(Instant::now() + SECOND)).collect();
            let waits = futures_util::future::join_all(many.iter_mut().map(rings));
            assert!(tokio::time::timeout(SECOND / 10, waits).await.is_err());
            drop(many);
            assert!(alarms.table.borrow().alarms.is_empty(), "a rush leaves nothing behind");
            tokio::time::sleep(SECOND * 2).await;
            assert_eq!(alarms.table.borrow().sleeps_until, None);
            assert_eq!(Rc::strong_count(&alarms), 1, "the sleeper has gone");
        });
    }
}
