//! Who flies: all flights of a worker, in one task.
//!
//! A task of its own for each flight is dear. The runtime aligns it to 128 bytes, which malloc does by cutting up a larger
//! piece, and copies its state twice; and each time that it is woken up its scheduler's code runs once more, which a lone
//! miss finds cold. So one task polls them all: those that have just been given, and those whose [`Bell`] was rung. A
//! pilot that has landed waits for the next flight, unless enough of them wait already.
//!
//! The task takes its turn behind whoever gave it work, so that the misses of one batch begin together.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Pilots that wait for a flight, at most: some 2 KB each.
const IDLE: usize = 128;

/// The crew of one worker. `T` is what one of it is given to do.
pub struct Crew<T> {
    /// What is yet to be begun.
    work: RefCell<VecDeque<T>>,
    bells: Arc<Bells>,
}

impl<T> Default for Crew<T> {
    fn default() -> Self {
        Self { work: RefCell::default(), bells: Arc::default() }
    }
}

/// Where a pilot waits for work: the same place each time.
pub struct Seat<T> {
    work: Cell<Option<T>>,
    waits: Cell<bool>,
}

impl<T> Default for Seat<T> {
    fn default() -> Self {
        Self { work: Cell::default(), waits: Cell::default() }
    }
}

impl<T> Seat<T> {
    /// The next piece of work.
    pub async fn work(&self) -> T {
        poll_fn(|_| {
            let work = self.work.take();
            self.waits.set(work.is_none());
            // Whoever puts work here polls as well.
            work.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// One who does one piece of work after the other.
struct Pilot<T, F> {
    seat: Rc<Seat<T>>,
    life: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The same, as others know it.
    waker: Waker,
}

/// Who there is, by number.
struct Staff<T, F> {
    pilots: Vec<Option<Pilot<T, F>>>,
    /// Those who wait for work.
    idle: Vec<usize>,
    /// Numbers that nobody has.
    free: Vec<usize>,
    /// Those whose bells were rung; here for its memory.
    rung: Vec<usize>,
}

impl<T> Crew<T> {
    /// Gives work; it is begun when the task of [`run`](Self::run) has its turn. Whether there is such a task.
    pub fn hand(&self, work: T) -> bool {
        self.work.borrow_mut().push_back(work);
        let mut bells = self.bells.lock();
        bells.call();
        std::mem::replace(&mut bells.present, true)
    }

    /// Has all work done, for ever. `pilot` makes one who does one piece after the other, as its seat gives them; `round`
    /// is called around each round of polls.
    pub async fn run<F, R>(&self, pilot: impl Fn(Rc<Seat<T>>) -> F, round: impl Fn() -> R)
    where
        F: Future<Output = ()>,
    {
        let _present = Present(&self.bells);
        let mut staff = Staff { pilots: Vec::new(), idle: Vec::new(), free: Vec::new(), rung: Vec::new() };
        poll_fn(|context| {
            let _round = round();
            self.bells.lock().listen(context.waker(), &mut staff.rung);
            // Those who are rung for from here on, also by what is done here, have their turn in the next round.
            for place in 0..staff.rung.len() {
                staff.poll(staff.rung[place]);
            }
            staff.rung.clear();
            loop {
                let Some(work) = self.work.borrow_mut().pop_front() else { return Poll::Pending };
                let number = staff.idle.pop().unwrap_or_else(|| staff.hire(&pilot, &self.bells));
                staff.give(number, work);
            }
        })
        .await
    }
}

impl<T, F: Future<Output = ()>> Staff<T, F> {
    fn hire(&mut self, pilot: impl Fn(Rc<Seat<T>>) -> F, bells: &Arc<Bells>) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.pilots.push(None);
            self.pilots.len() - 1
        });
        let seat = Rc::default();
        let bell = Arc::new(Bell { number, has_rung: AtomicBool::new(false), bells: Arc::clone(bells) });
        let (life, waker) = (Box::pin(pilot(Rc::clone(&seat))), Arc::clone(&bell).into());
        self.pilots[number] = Some(Pilot { seat, life, bell, waker });
        number
    }

    fn give(&mut self, number: usize, work: T) {
        if let Some(pilot) = &self.pilots[number] {
            pilot.seat.work.set(Some(work));
            pilot.seat.waits.set(false);
        }
        self.poll(number);
    }

    /// Lets one go on. A bell of whoever has gone is rung in vain.
    fn poll(&mut self, number: usize) {
        let Some(Some(pilot)) = self.pilots.get_mut(number) else { return };
        let waited = pilot.seat.waits.get();
        pilot.bell.has_rung.store(false, Release);
        let lives = pilot.life.as_mut().poll(&mut Context::from_waker(&pilot.waker)).is_pending();
        if lives && (waited || !pilot.seat.waits.get()) {
            return;
        }
        if lives && self.idle.len() < IDLE {
            self.idle.push(number);
        } else {
            self.pilots[number] = None;
            self.free.push(number);
        }
    }
}

/// The bells of one crew.
#[derive(Default)]
struct Bells(Mutex<Ringing>);

#[derive(Default)]
struct Ringing {
    /// Numbers of those who are to be polled.
    rung: Vec<usize>,
    /// The task that polls them, if there is one.
    task: Option<Waker>,
    /// Whether there is one, which may not have been polled yet.
    present: bool,
    /// Whether it was called since it listened last.
    called: bool,
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Ringing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ringing {
    /// Calls the task.
    fn call(&mut self) {
        if !std::mem::replace(&mut self.called, true)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }

    /// The task listens: it takes over whom to poll.
    fn listen(&mut self, task: &Waker, rung: &mut Vec<usize>) {
        self.called = false;
        std::mem::swap(&mut self.rung, rung);
        match &mut self.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }
}

/// The task is there; dropped, it is not.
struct Present<'b>(&'b Bells);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        drop(std::mem::take(&mut *self.0.lock()));
    }
}

/// What wakes up one pilot.
struct Bell {
    number: usize,
    has_rung: AtomicBool,
    bells: Arc<Bells>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.has_rung.swap(true, AcqRel) {
            let mut bells = self.bells.lock();
            bells.rung.push(self.number);
            bells.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// What the crews of these tests do: note a number, once they are told that they may.
    #[derive(Default)]
    struct Desk {
        crew: Crew<usize>,
        may: Notify,
        done: RefCell<Vec<usize>>,
        hired: Cell<usize>,
        rounds: Cell<usize>,
    }

    impl Desk {
        fn hand(self: &Rc<Self>, number: usize) {
            if !self.crew.hand(number) {
                let desk = Rc::clone(self);
                spawn_local(async move {
                    let pilot = |seat: Rc<Seat<usize>>| {
                        desk.hired.set(desk.hired.get() + 1);
                        desk.live(seat)
                    };
                    desk.crew.run(pilot, || desk.rounds.set(desk.rounds.get() + 1)).await;
                });
            }
        }

        async fn live(&self, seat: Rc<Seat<usize>>) {
            loop {
                let number = seat.work().await;
                if number >= 1000 {
                    self.may.notified().await;
                }
                self.done.borrow_mut().push(number);
                if number == 777 {
                    return;
                }
            }
        }

        async fn has_done(&self, mut wanted: Vec<usize>) {
            for _ in 0..10 {
                yield_now().await;
            }
            let mut done = self.done.take();
            done.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(done, wanted);
        }
    }

    fn with_desk<F: Future<Output = ()>>(test: impl FnOnce(Rc<Desk>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, test(Rc::default()));
    }

    #[test]
    fn work_that_is_given_together_is_begun_together_by_whoever_is_there() {
        with_desk(|desk| async move {
            for round in 1..4 {
                (0..IDLE + 5).for_each(|number| desk.hand(number));
                desk.has_done((0..IDLE + 5).collect()).await;
                assert_eq!((desk.hired.get(), desk.rounds.get()), (1, round), "one does it all");
            }
        });
    }

    #[test]
    fn those_who_wait_go_on_when_they_are_told_and_not_too_many_stay() {
        with_desk(|desk| async move {
            let numbers = 1000..1000 + IDLE + 5;
            for round in 0..2 {
                numbers.clone().for_each(|number| desk.hand(number));
                desk.has_done(Vec::new()).await;
                assert_eq!(desk.hired.get(), IDLE + 5 + round * 5);
                desk.may.notify_one();
                desk.has_done(vec![1000]).await;
                desk.may.notify_waiters();
                desk.has_done(numbers.clone().skip(1).collect()).await;
            }
        });
    }

    #[test]
    fn one_who_has_gone_is_replaced_and_a_crew_that_was_dropped_too() {
        with_desk(|desk| async move {
            for _ in 0..3 {
                [777, 778].into_iter().for_each(|number| desk.hand(number));
                desk.has_done(vec![777, 778]).await;
            }
            assert_eq!(desk.hired.get(), 4);
        });
        let desk = Rc::<Desk>::default();
        for _ in 0..2 {
            let desk = Rc::clone(&desk);
            with_desk(|_| async move {
                desk.hand(1000);
                desk.has_done(Vec::new()).await;
                desk.hand(7);
                desk.has_done(vec![7]).await;
            });
        }
        assert_eq!(desk.hired.get(), 4, "two each time: the first ones went with their task");
    }
}
