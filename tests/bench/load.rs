//! The load: a number of queries in flight, a new one for each answer, every answer checked.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::batch::{BATCH, Receiver, Sender, Wait};
use crate::measure::Histogram;
use crate::names::{Question, Questions};
use crate::zone::HEADER;

/// The most queries in flight: the low ten bits of an id are its slot.
pub const IN_FLIGHT_MAX: u16 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;
/// A query without an answer after this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long a sleeping load waits before it looks for lost queries.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// What came of one run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers that were as they must be.
    pub answered: u64,
    /// From the first query to the last answer.
    pub elapsed: Duration,
    /// From query to answer.
    pub latency: Histogram,
    /// Queries that were not answered in [`LOST_AFTER`].
    pub lost: u64,
    /// Answers that were not as they must be, or that nobody waited for.
    pub wrong: u64,
    /// What was wrong with the first of those.
    pub first_wrong: Option<String>,
}

/// A place for one query in flight.
struct Slot {
    /// The query as it was sent. Its id is the slot and a count of the slot's uses, so that late answers to an
    /// earlier query are known for what they are.
    query: Vec<u8>,
    uses: u16,
    rcode: u8,
    answers: u16,
    /// When it was sent; `None`: nothing is in flight here.
    sent: Option<Instant>,
}

/// A closed loop over UDP.
pub struct Load {
    socket: UdpSocket,
    wait: Wait,
    slots: Vec<Slot>,
    /// Slots whose query waits for the next batch.
    queued: Vec<usize>,
    receiver: Receiver,
    sender: Sender,
    outcome: Outcome,
}

impl Load {
    /// A load of `in_flight` queries, at most [`IN_FLIGHT_MAX`], for `server`.
    pub fn new(server: SocketAddr, in_flight: u16, wait: Wait) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(LOOK_AROUND))?;
        let slots = (0..in_flight.min(IN_FLIGHT_MAX)).map(|_| Slot::new()).collect();
        Ok(Self {
            socket,
            wait,
            slots,
            queued: Vec::with_capacity(usize::from(in_flight)),
            receiver: Receiver::new(),
            sender: Sender::new(),
            outcome: Outcome::default(),
        })
    }

    /// Asks `questions` for `duration`, then waits for the last answers.
    pub fn run(&mut self, questions: &mut Questions, duration: Duration) -> io::Result<Outcome> {
        let start = Instant::now();
        let deadline = start + duration;
        self.outcome = Outcome::default();
        for slot in 0..self.slots.len() {
            self.fill(slot, questions.next(), start);
        }
        let (mut in_flight, mut last_look, mut end) = (self.slots.len(), start, start);
        while in_flight > 0 {
            self.flush()?;
            let received = self.receiver.receive(&self.socket, self.wait)?;
            let now = Instant::now();
            for i in 0..received {
                let Some(slot) = self.check(i, now) else { continue };
                in_flight -= 1;
                end = now;
                if now < deadline {
                    self.fill(slot, questions.next(), now);
                    in_flight += 1;
                }
            }
            if now - last_look >= LOOK_AROUND {
                last_look = now;
                for slot in 0..self.slots.len() {
                    if !self.give_up(slot, now) {
                        continue;
                    }
                    in_flight -= 1;
                    if now < deadline {
                        self.fill(slot, questions.next(), now);
                        in_flight += 1;
                    }
                }
            }
        }
        self.outcome.elapsed = end - start;
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Puts a new query into a free slot.
    fn fill(&mut self, index: usize, question: &Question, now: Instant) {
        let slot = &mut self.slots[index];
        slot.uses = slot.uses.wrapping_add(1);
        let id = (slot.uses << SLOT_BITS) | index as u16;
        slot.query.truncate(HEADER);
        slot.query[..2].copy_from_slice(&id.to_be_bytes());
        slot.query.extend_from_slice(&question.wire);
        (slot.rcode, slot.answers) = (question.rcode, question.answers);
        slot.sent = Some(now);
        self.queued.push(index);
    }

    /// Sends what is queued.
    fn flush(&mut self) -> io::Result<()> {
        for part in self.queued.chunks(BATCH) {
            let mut rest = part;
            while !rest.is_empty() {
                let slots = &self.slots;
                let queries = rest.iter().map(|&i| slots[i].query.as_slice());
                rest = &rest[self.sender.send(&self.socket, queries)?..];
            }
        }
        self.queued.clear();
        Ok(())
    }

    /// Checks datagram `i` of the last batch. Returns the slot that is free again.
    fn check(&mut self, i: usize, now: Instant) -> Option<usize> {
        let answer = self.receiver.datagram(i);
        let index = match answer {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low]) % IN_FLIGHT_MAX),
            _ => usize::MAX,
        };
        let slot = self.slots.get_mut(index);
        let Some((slot, sent)) = slot.and_then(|s| s.sent.map(|sent| (s, sent))) else {
            self.outcome.wrong += 1;
            self.outcome.first_wrong.get_or_insert_with(|| "nobody asked".to_owned());
            return None;
        };
        if answer[..2] != slot.query[..2] {
            // The answer to an earlier query that was given up. It was counted then.
            return None;
        }
        slot.sent = None;
        match slot.fault(answer) {
            None => {
                self.outcome.answered += 1;
                self.outcome.latency.record(now - sent);
            }
            Some(fault) => {
                self.outcome.wrong += 1;
                let query = &slot.query;
                let text =
                    || format!("{fault}: asked {}, got {}", query.escape_ascii(), answer.escape_ascii());
                self.outcome.first_wrong.get_or_insert_with(text);
            }
        }
        Some(index)
    }

    /// Gives a query up that was not answered in time. Returns whether the slot is free again.
    fn give_up(&mut self, index: usize, now: Instant) -> bool {
        let slot = &mut self.slots[index];
        let late = slot.sent.is_some_and(|sent| now - sent >= LOST_AFTER);
        if late {
            slot.sent = None;
            self.outcome.lost += 1;
        }
        late
    }
}

impl Slot {
    fn new() -> Self {
        // RD is set, there is one question and nothing else.
        let header = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        Self { query: header.to_vec(), uses: 0, rcode: 0, answers: 0, sent: None }
    }

    /// What is wrong with `answer`, whose id is right.
    fn fault(&self, answer: &[u8]) -> Option<&'static str> {
        if answer.len() < self.query.len() || answer[HEADER..self.query.len()] != self.query[HEADER..] {
            Some("another question")
        } else if answer[2] & 0x82 != 0x80 {
            Some("no response, or truncated")
        } else if answer[3] & 0x0f != self.rcode {
            Some("response code")
        } else if answer[6..8] != self.answers.to_be_bytes() {
            Some("number of answers")
        } else {
            None
        }
    }
}

/// Whether `server` answers a question in `patience`: any answer will do.
pub fn answers(server: SocketAddr, patience: Duration) -> bool {
    let query = b"\x5d\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x07example\x00\x00\x01\x00\x01";
    let ask = || -> io::Result<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(query)?;
        let mut answer = [0; 512];
        let n = socket.recv(&mut answer)?;
        Ok(n >= HEADER && answer[..2] == query[..2] && answer[3] & 0x0f == 0)
    };
    ask().unwrap_or(false)
}
