//! The load: questions at a pace, over a way, every answer checked.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use crate::datagrams::Datagrams;
use crate::pace::{Clock, Pace};
use crate::questions::Questions;
use crate::slots::{Outcome, SLOTS_MAX, Slots};
use crate::streams::Streams;
use crate::zone::HEADER;

/// How often the load looks for lost queries.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// Queries of a closed loop over TCP follow each other on so many connections.
const CONNECTIONS: usize = 8;
/// Sockets where several workers are to have their share of them.
const SOCKETS: usize = 32;

/// What the load does while there is nothing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It looks again at once: for a core that has nothing else to do.
    Spin,
    /// It sleeps.
    Sleep,
}

/// How queries reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From one UDP socket.
    Udp,
    /// From many UDP sockets.
    UdpSpread,
    /// Over a few TCP connections.
    Tcp,
    /// Over a TCP connection each.
    TcpSingle,
}

/// What does not change from run to run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How queries reach the server.
    pub way: Way,
    /// How the load waits.
    pub wait: Wait,
    /// Whether queries have an OPT record.
    pub edns: bool,
    /// Queries in flight in a closed loop.
    pub in_flight: u16,
    /// A query without an answer after this long is lost.
    pub patience: Duration,
}

impl Manner {
    /// The same over UDP, where the load sleeps: the upstream, who is asked too, may need its core.
    pub fn warming(self) -> Self {
        Self { way: Way::Udp, wait: Wait::Sleep, in_flight: self.in_flight.min(128), ..self }
    }
}

/// Until when a run goes.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// After this time.
    After(Duration),
    /// After so many questions.
    Asked(usize),
}

enum Road {
    Datagrams(Datagrams),
    Streams(Streams),
}

/// A load for one server.
pub struct Load {
    road: Road,
    wait: Wait,
    pace: Pace,
    patience: Duration,
    slots: Slots,
    /// Slots whose query is to be sent.
    queued: Vec<usize>,
}

impl Load {
    /// A load for `server`.
    pub fn new(server: SocketAddr, manner: Manner, pace: Pace) -> io::Result<Self> {
        // In an open loop slots are there for whatever backs up.
        let count = if pace == Pace::Closed { manner.in_flight } else { SLOTS_MAX };
        let slots = Slots::new(count, manner.edns, manner.patience);
        let road = match manner.way {
            Way::Udp => Road::Datagrams(Datagrams::new(server, 1)?),
            Way::UdpSpread => Road::Datagrams(Datagrams::new(server, SOCKETS)?),
            Way::Tcp => Road::Streams(Streams::new(server, CONNECTIONS, false)),
            Way::TcpSingle => Road::Streams(Streams::new(server, slots.len(), true)),
        };
        let queued = Vec::with_capacity(slots.len());
        Ok(Self { road, wait: manner.wait, pace, patience: manner.patience, queued, slots })
    }

    /// Asks `questions` until `stop`, then waits for the last answers.
    pub fn run(&mut self, questions: &mut Questions, stop: Stop) -> io::Result<Outcome> {
        let start = Instant::now();
        let (deadline, mut left) = match stop {
            Stop::After(duration) => (start + duration, usize::MAX),
            Stop::Asked(count) => (start + Duration::from_secs(3600), count),
        };
        let mut clock = Clock::new(self.pace, start);
        let (mut last_look, mut end, mut now) = (start, start, start);
        loop {
            // What was due before the deadline is sent after it too: a server that is behind is not let off.
            while left > 0
                && !self.slots.full()
                && let Some(due) = clock.due(now)
                && due < deadline
            {
                self.queued.extend(self.slots.fill(questions.next(), due));
                clock.sent();
                left -= 1;
            }
            self.send()?;
            let over = left == 0 || now >= deadline;
            if over && (self.slots.idle() || now >= deadline + self.patience * 2) {
                break;
            }
            let until = if over { now + LOOK_AROUND } else { clock.quiet_until(now + LOOK_AROUND) };
            if let Some(at) = self.receive(until)? {
                end = at;
            }
            now = Instant::now();
            if now - last_look >= LOOK_AROUND {
                last_look = now;
                self.slots.give_up(now);
            }
        }
        let mut outcome = std::mem::take(&mut self.slots.outcome);
        outcome.elapsed = end - start;
        if let Stop::After(_) = stop {
            outcome.lost += clock.rest(deadline);
        }
        Ok(outcome)
    }

    /// Sends what is queued.
    fn send(&mut self) -> io::Result<()> {
        // What was given up since it was queued is nobody's question.
        self.queued.retain(|&index| self.slots.waits(index));
        match &mut self.road {
            _ if self.queued.is_empty() => Ok(()),
            Road::Datagrams(datagrams) => datagrams.send(&self.slots, &mut self.queued),
            Road::Streams(streams) => streams.send(&self.slots, &mut self.queued),
        }
    }

    /// Receives what is there, and checks it. Returns when the last of it came.
    fn receive(&mut self, until: Instant) -> io::Result<Option<Instant>> {
        let (slots, mut last) = (&mut self.slots, None);
        let each = |answer: &[u8], now: Instant| {
            slots.check(answer, now);
            last = Some(now);
        };
        match &mut self.road {
            Road::Datagrams(datagrams) => datagrams.receive(self.wait, until, each)?,
            Road::Streams(streams) => streams.receive(self.wait, until, &mut self.queued, each)?,
        }
        Ok(last)
    }
}

/// How long it is until `until`, as the kernel wants it.
pub fn left(until: Instant) -> Timespec {
    let left = until.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
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
