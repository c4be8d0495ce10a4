//! Tasks that take one flight after the other.
//!
//! A task of its own for each flight is dear: the runtime aligns it to 128 bytes, which malloc does by cutting up a
//! larger piece, and copies its state twice. So a task that has landed waits for the next flight, unless enough of them
//! wait already.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Tasks that wait for a flight, at most: some 2 KB each.
const IDLE: usize = 128;

/// Those of one worker's tasks that wait. `T` is what a task is given to do.
pub struct Crew<T>(RefCell<Vec<Rc<Seat<T>>>>);

impl<T> Default for Crew<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// Where a task waits: the same one each time.
pub struct Seat<T> {
    work: Cell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Default for Seat<T> {
    fn default() -> Self {
        Self { work: Cell::default(), waker: RefCell::default() }
    }
}

impl<T> Crew<T> {
    /// Gives work to a task that waits; gives it back if there is none.
    pub fn hand(&self, work: T) -> Option<T> {
        let Some(seat) = self.0.borrow_mut().pop() else { return Some(work) };
        seat.work.set(Some(work));
        if let Some(waker) = &*seat.waker.borrow() {
            waker.wake_by_ref();
        }
        None
    }

    /// Waits for work; `None` if there are enough who do.
    pub async fn work(&self, seat: &Rc<Seat<T>>) -> Option<T> {
        {
            let mut idle = self.0.borrow_mut();
            if idle.len() >= IDLE {
                return None;
            }
            idle.push(Rc::clone(seat));
        }
        poll_fn(|context| match seat.work.take() {
            None => {
                seat.waker.borrow_mut().get_or_insert_with(|| context.waker().clone());
                Poll::Pending
            }
            work => Poll::Ready(work),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// Lets all tasks have a turn; the runtime looks around after each 61 of them.
    async fn everybody() {
        for _ in 0..=IDLE / 32 {
            yield_now().await;
        }
    }

    #[test]
    fn work_is_done_by_who_waits_and_not_more_wait_than_may() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (crew, done) = (Rc::new(Crew::default()), Rc::new(RefCell::new(Vec::new())));
            assert_eq!(crew.hand(7), Some(7), "nobody is there");
            let tasks = (0..IDLE + 5).map(|_| {
                let (crew, done) = (Rc::clone(&crew), Rc::clone(&done));
                spawn_local(async move {
                    let seat = Rc::default();
                    while let Some(work) = crew.work(&seat).await {
                        done.borrow_mut().push(work);
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            everybody().await;
            assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 5);
            for round in 0..3 {
                let left: Vec<_> = (0..IDLE + 1).filter_map(|n| crew.hand(n)).collect();
                assert_eq!(left, [IDLE], "round {round}: all but one have somebody");
                everybody().await;
                let mut done = done.take();
                done.sort_unstable();
                assert!(done.into_iter().eq(0..IDLE), "round {round}");
            }
        });
    }
}
