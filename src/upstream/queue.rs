//! The open queries of one connection, with an id space of its own, and the bytes to be written.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Transport;
use super::connection::{Lost, Reply};
use super::message::{self, HEADER, Query};

/// After this long, nobody waits for a reply any more and none is expected; its id is free again.
pub const FORGET: Duration = Duration::from_secs(10);

/// A query that is open on a connection.
#[derive(Debug)]
pub struct Open {
    id: u16,
    query: Query,
    /// Where it starts in all that was ever written.
    offset: u64,
    /// When it was added.
    pub began: Instant,
    /// Whether no other query was open when it was sent.
    pub alone: bool,
    /// Who waits for it; `None` if nobody does any more.
    pub reply: Option<oneshot::Sender<Reply>>,
}

/// The open queries and the bytes to be written.
#[derive(Debug)]
pub struct Queue {
    /// By the order in which they were sent.
    pub open: BTreeMap<u64, Open>,
    /// From id to place in `open`.
    ids: HashMap<u16, u64, foldhash::fast::RandomState>,
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
            open: BTreeMap::new(),
            ids: HashMap::default(),
            next_place: 0,
            next_id: rand::random(),
            id_step: rand::random::<u16>() | 1,
            out: Vec::new(),
            written: 0,
        }
    }

    /// Adds a query with an id that is free and was not used for as long as possible.
    pub fn push(&mut self, query: &Query, reply: oneshot::Sender<Reply>) -> u64 {
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
        let alone = self.open.is_empty();
        let began = Instant::now();
        let open = Open { id, query: query.clone(), offset, began, alone, reply: Some(reply) };
        self.ids.insert(id, place);
        self.open.insert(place, open);
        place
    }

    /// Takes out the query that `frame` answers; true with it if an older one is still open.
    pub fn take(&mut self, frame: &[u8]) -> Option<(bool, Open)> {
        if frame.len() < HEADER {
            return None;
        }
        let id = message::id(frame)?;
        let place = *self.ids.get(&id)?;
        if !self.open.get(&place)?.query.is_answered_by(frame) {
            return None;
        }
        let overtook = self.open.first_key_value().is_some_and(|(first, _)| *first < place);
        self.ids.remove(&id);
        Some((overtook, self.open.remove(&place)?))
    }

    /// Frees the ids of the oldest queries that nobody waits for and that no reply will come for.
    pub fn forget(&mut self) {
        while let Some(first) = self.open.first_entry()
            && first.get().reply.is_none()
            && first.get().began.elapsed() >= FORGET
        {
            let open = first.remove();
            self.ids.remove(&open.id);
        }
    }

    /// Tells all who wait that no reply will come: `end`, or that the connection died.
    pub fn lose(&mut self, end: Option<Lost>) {
        let written = self.written;
        self.ids = HashMap::default();
        self.out = Vec::new();
        for (_, open) in std::mem::take(&mut self.open) {
            if let Some(reply) = open.reply {
                let _ = reply.send(Err(end.unwrap_or(Lost::Died { sent: open.offset < written })));
            }
        }
    }
}
