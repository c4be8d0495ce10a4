//! The open queries of one connection, with an id space of its own, and the bytes to be written.
//!
//! A query has a slot, from when it is added until it is answered and nobody waits for it any more; slots are used
//! again, so that a query costs no memory of its own. Its place says when it was added, and tells it from whoever had
//! its slot before.

use std::collections::{HashMap, VecDeque};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::Transport;
use super::connection::{Lost, Reply};
use super::message::{self, HEADER, Query};

/// After this long, nobody waits for a reply any more and none is expected; its id is free again.
pub const FORGET: Duration = Duration::from_secs(10);

/// The order is tidied up behind its front only when it is longer than this.
const TIDY: usize = 64;
/// Slots that are kept when nobody has any.
const KEPT: usize = 256;

/// A query that is open on a connection.
#[derive(Debug)]
pub struct Open {
    id: u16,
    /// Where it starts in all that was ever written.
    offset: u64,
    /// When it was added.
    pub began: Instant,
    /// Whether no other query was open when it was sent.
    pub alone: bool,
}

/// Who waits for a reply.
#[derive(Debug)]
enum Waits {
    /// Nobody, or nobody any more.
    Nobody,
    /// Somebody, who is to be woken up.
    Somebody(Option<Waker>),
    /// Somebody who has not fetched it yet.
    Came(Reply),
}

#[derive(Debug)]
struct Slot {
    place: u64,
    /// What is asked, as it was written.
    question: Vec<u8>,
    /// As long as no reply came.
    open: Option<Open>,
    waits: Waits,
}

/// Where the reply to a query is fetched.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Its place among all queries that the connection ever had.
    pub place: u64,
    slot: usize,
}

/// The open queries and the bytes to be written.
#[derive(Debug)]
pub struct Queue {
    slots: Vec<Slot>,
    /// Slots that nobody has.
    free: Vec<usize>,
    /// From id to the slot of an open query.
    ids: HashMap<u16, usize, foldhash::fast::RandomState>,
    /// Places and slots in the order in which they were added. The first is open; others may not be any more.
    order: VecDeque<(u64, usize)>,
    /// Open queries somebody waits for.
    pub waiting: usize,
    next_place: u64,
    next_id: u16,
    /// Odd: adding it visits all 65,536 ids before any comes again.
    id_step: u16,
    /// What is to be written.
    pub out: Vec<u8>,
    /// How much was ever written.
    pub written: u64,
}

impl Queue {
    /// No queries, and ids from a random one on in random steps.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ids: HashMap::default(),
            order: VecDeque::new(),
            waiting: 0,
            next_place: 0,
            next_id: rand::random(),
            id_step: rand::random::<u16>() | 1,
            out: Vec::new(),
            written: 0,
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The oldest that is open, and its place.
    pub fn oldest(&self) -> Option<(u64, &Open)> {
        let &(place, slot) = self.order.front()?;
        Some((place, self.slots.get(slot)?.open.as_ref()?))
    }

    /// Adds a query with an id that is free and was not used for as long as possible.
    pub fn push(&mut self, query: Query<'_>, began: Instant) -> Ticket {
        // PIPELINE is far below the number of ids, so a free one is near.
        while self.ids.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(self.id_step);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(self.id_step);
        let offset = self.written + self.out.len() as u64;
        let at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        query.write(id, Transport::Tcp, &mut self.out);
        let length = (self.out.len() - at - 2) as u16; // a question and an OPT record: at most 290 bytes
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        let place = self.next_place;
        self.next_place += 1;
        let alone = self.ids.is_empty();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { place, question: Vec::new(), open: None, waits: Waits::Nobody });
            self.slots.len() - 1
        });
        let taken = &mut self.slots[slot];
        taken.place = place;
        taken.question.clear();
        taken.question.extend_from_slice(&self.out[at + 2 + HEADER..][..query.question_len()]);
        taken.open = Some(Open { id, offset, began, alone });
        taken.waits = Waits::Somebody(None);
        self.waiting += 1;
        self.ids.insert(id, slot);
        self.order.push_back((place, slot));
        Ticket { place, slot }
    }

    /// Closes the query that `frame` answers, and hands the reply to whoever waits. Returns the query; true with it
    /// if an older one is still open.
    pub fn take(&mut self, frame: &[u8]) -> Option<(bool, Open)> {
        if frame.len() < HEADER {
            return None;
        }
        let id = message::id(frame)?;
        let slot = *self.ids.get(&id)?;
        let question = &self.slots[slot].question;
        let (name, type_and_class) = question.split_at_checked(question.len().wrapping_sub(4))?;
        if !message::answers(frame, name, type_and_class) {
            return None;
        }
        self.ids.remove(&id);
        let place = self.slots[slot].place;
        let open = self.slots[slot].open.take()?;
        let overtook = self.order.front().is_some_and(|(first, _)| *first < place);
        self.hand_over(slot, || Ok(frame.to_vec()));
        self.tidy();
        Some((overtook, open))
    }

    /// Tells whoever waits at a slot whose query is closed.
    fn hand_over(&mut self, slot: usize, reply: impl FnOnce() -> Reply) {
        match &mut self.slots[slot].waits {
            waits @ Waits::Somebody(_) => {
                self.waiting -= 1;
                if let Waits::Somebody(Some(waker)) = std::mem::replace(waits, Waits::Came(reply())) {
                    waker.wake();
                }
            }
            Waits::Nobody | Waits::Came(_) => self.free.push(slot),
        }
    }

    /// Drops from the order what is not open: all of it at the front, and the rest when it is most of what is there.
    fn tidy(&mut self) {
        let slots = &self.slots;
        let is_open =
            |&(place, slot): &(u64, usize)| slots[slot].place == place && slots[slot].open.is_some();
        while self.order.front().is_some_and(|first| !is_open(first)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.ids.len() + TIDY {
            self.order.retain(is_open);
        }
    }

    /// Comes with the reply.
    pub fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Reply> {
        match &mut self.slots[ticket.slot].waits {
            Waits::Somebody(Some(known)) => known.clone_from(waker),
            Waits::Somebody(none) => *none = Some(waker.clone()),
            waits => {
                if let Waits::Came(reply) = std::mem::replace(waits, Waits::Nobody) {
                    return Poll::Ready(reply);
                }
            }
        }
        Poll::Pending
    }

    /// Nobody waits any more. A query without a reply keeps its slot, and its id.
    pub fn give_back(&mut self, ticket: Ticket) {
        let slot = &mut self.slots[ticket.slot];
        if let Waits::Somebody(_) = std::mem::replace(&mut slot.waits, Waits::Nobody) {
            self.waiting -= 1;
        }
        if slot.open.is_none() {
            self.free.push(ticket.slot);
        }
        if self.slots.len() > KEPT && self.free.len() == self.slots.len() {
            (self.slots, self.free, self.order) = (Vec::new(), Vec::new(), VecDeque::new());
        }
    }

    /// Frees the ids of the oldest queries that nobody waits for and that no reply will come for.
    pub fn forget(&mut self, now: Instant) {
        while let Some(&(_, slot)) = self.order.front()
            && let Slot { open: Some(open), waits: Waits::Nobody, .. } = &self.slots[slot]
            && now.saturating_duration_since(open.began) >= FORGET
        {
            self.ids.remove(&open.id);
            self.slots[slot].open = None;
            self.free.push(slot);
            self.tidy();
        }
    }

    /// Tells all who wait that no reply will come: `end`, or that the connection died.
    pub fn lose(&mut self, end: Option<Lost>) {
        self.ids = HashMap::default();
        self.out = Vec::new();
        for (place, slot) in std::mem::take(&mut self.order) {
            if self.slots[slot].place == place
                && let Some(open) = self.slots[slot].open.take()
            {
                let sent = open.offset < self.written;
                self.hand_over(slot, || Err(end.unwrap_or(Lost::Died { sent })));
            }
        }
    }
}
