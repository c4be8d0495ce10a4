//! Tells a task of the same thread that there is something to do. What tokio has for it is for any thread, and for any
//! number of tasks: it costs more than what it tells of.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// See the module. One task waits at most.
#[derive(Debug, Default)]
pub struct Nudge {
    given: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Nudge {
    /// There is something to do. Heard once, however often it is said before.
    pub fn give(&self) {
        if !self.given.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Ready if it was said since this was last ready.
    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.given.take() {
            return Poll::Ready(());
        }
        match &mut *self.task.borrow_mut() {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
