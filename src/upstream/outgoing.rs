//! Queries that go out together: those of one round of flights, in one write a connection.
//!
//! A query that is sent outside of a round is written when its connection's task has its turn. For a lone miss that is a
//! switch of tasks before the server hears of it; so a round writes by itself what it has sent, at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::connection::Connection;

/// What a round has sent.
#[derive(Debug, Default)]
pub struct Outgoing {
    in_round: Cell<bool>,
    connections: RefCell<Vec<Rc<Connection>>>,
}

impl Outgoing {
    /// A round begins; it lasts as long as what is returned.
    pub fn together(self: &Rc<Self>) -> Together {
        self.in_round.set(true);
        Together(Rc::clone(self))
    }

    /// Sees to it that what `connection` has is written at the end of the round; false if there is none.
    pub fn take(&self, connection: &Rc<Connection>) -> bool {
        let takes = self.in_round.get();
        if takes {
            self.connections.borrow_mut().push(Rc::clone(connection));
        }
        takes
    }
}

/// A round; dropped, it is over, and what was sent in it is written.
#[derive(Debug)]
pub struct Together(Rc<Outgoing>);

impl Drop for Together {
    fn drop(&mut self) {
        self.0.in_round.set(false);
        self.0.connections.borrow_mut().drain(..).for_each(|connection| connection.flush());
    }
}
