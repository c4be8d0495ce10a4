//! Answers that come later than the batches of their queries: misses.
//!
//! They wait for the socket's next turn. By then all that one read from an upstream has brought have come, and they go out
//! together, in one system call. Where no other question is under way there is nothing to wait for: a lone answer goes out
//! at once.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::resolve::ReplyTo;

use super::Served;
use super::batch::{self, Peer};
use super::front::Front;

/// Bytes of answers for which room is kept.
const KEPT: usize = 64 << 10;
/// Bytes of an answer, in most cases at least.
const ROOM: usize = 64;

/// One socket's late answers.
pub struct Outbox {
    /// The socket.
    pub socket: UdpSocket,
    /// What it did.
    pub served: Arc<Served>,
    front: Rc<Front>,
    letters: RefCell<Letters>,
    filled: Rc<Notify>,
}

#[derive(Default)]
struct Letters {
    bytes: Vec<u8>,
    /// To whom, and which of the bytes.
    late: Vec<(Peer, Range<usize>)>,
}

impl Outbox {
    /// An empty one, which says to `filled` that it is not empty any more.
    pub fn new(front: Rc<Front>, socket: UdpSocket, served: Arc<Served>, filled: Rc<Notify>) -> Rc<Self> {
        Rc::new(Self { socket, served, front, letters: RefCell::default(), filled })
    }

    /// Sends what is in it.
    pub fn send(&self) {
        let Letters { bytes, late } = &mut *self.letters.borrow_mut();
        if late.is_empty() {
            return;
        }
        let sent = batch::send_late(self.socket.as_fd(), late, bytes);
        self.count(sent, late.len());
        late.clear();
        bytes.clear();
        late.shrink_to(KEPT / ROOM);
        bytes.shrink_to(KEPT);
    }

    /// Whether no answer is here, and none is to come.
    fn is_idle(&self) -> bool {
        self.letters.borrow().late.is_empty() && self.front.resolver.under_way() == 0
    }

    /// Sends one answer now.
    fn send_alone(&self, peer: Peer, message: &[u8]) {
        let sent = match peer.local {
            // A plain call: those for many clear and fill in some 4 KB first, which is most of what they cost.
            None => usize::from(self.socket.send_to(message, peer.address).is_ok()),
            Some(_) => batch::send_late(self.socket.as_fd(), &[(peer, 0..message.len())], message),
        };
        self.count(sent, 1);
    }

    fn count(&self, sent: usize, of: usize) {
        self.front.counters.send_failed.add((of - sent) as u64);
        self.served.answers.add(sent as u64);
    }
}

/// The way back to the sender of a datagram.
pub struct WayBack {
    /// That of the socket on which it came.
    pub outbox: Rc<Outbox>,
    /// Who sent it.
    pub peer: Peer,
}

impl ReplyTo for WayBack {
    fn send(&self, message: &[u8]) {
        if self.outbox.is_idle() {
            return self.outbox.send_alone(self.peer, message);
        }
        let Letters { bytes, late } = &mut *self.outbox.letters.borrow_mut();
        let start = bytes.len();
        bytes.extend_from_slice(message);
        late.push((self.peer, start..bytes.len()));
        if late.len() == 1 {
            self.outbox.filled.notify_one();
        }
    }
}
