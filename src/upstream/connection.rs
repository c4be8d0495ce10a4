//! One TCP connection to a server, pipelined (RFC 7766 section 6.2.1.1).
//!
//! Queries are appended to a buffer, which is written at the end of the round (`outgoing`) in which they were sent,
//! so that the misses of one batch of clients go out in one write. What cannot be written then, and what was sent outside
//! of a round, the connection's own task writes. The same task reads: one read may carry many frames, or half of one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::connect::{connect, is_made, is_ours, judge_mark, settle_mark};
use super::message::{self, Query};
use super::nudge::Nudge;
use super::outgoing::Outgoing;
use super::queue::{FORGET, Queue, Ticket};
use super::standing::Standing;
use super::{IDLE, Settings, Transport};

/// Queries open on one connection.
pub const PIPELINE: usize = 4096;
/// Unanswered tries in a row, without a byte in between, after which a connection is taken for dead.
const STRIKES: u32 = 2;
/// How much is read at once.
const READ: usize = 16 * 1024;

/// Why a try ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The connection died; `sent` if the server may have seen the query.
    Died {
        /// Whether any byte of the query was written.
        sent: bool,
    },
    /// It was silent for too long, and we closed it.
    Silent,
    /// The server cannot be reached: the query was not sent, or not received.
    Unreachable,
    /// A limit of our own.
    Limit,
}

/// What a try waits for.
pub type Reply = Result<Vec<u8>, Lost>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Ready,
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    standing: Rc<Standing>,
    /// Whether its failures speak against the server (they do not for the TCP side of a UDP server).
    judged: bool,
    phase: Cell<Phase>,
    /// It takes no new queries, and closes when nobody waits for a reply.
    retired: Cell<bool>,
    /// When it retires.
    retire_at: Instant,
    /// How long it may be without queries.
    idle: Cell<Duration>,
    /// The server has named a shorter time.
    hurried: Cell<bool>,
    /// When the handshake began.
    began: Instant,
    /// When it was done.
    ready_at: Cell<Instant>,
    /// When the last bytes came; before there are any, when we began.
    heard: Cell<Instant>,
    /// When the last query was added.
    used: Cell<Instant>,
    /// Unanswered tries since the last byte.
    strikes: Cell<u32>,
    /// When the last of them was given up.
    struck: Cell<Option<Instant>>,
    /// A reply has overtaken another: the server does not work in order here.
    overtakes: Cell<bool>,
    queue: RefCell<Queue>,
    /// While it is open.
    stream: RefCell<Option<Rc<TcpStream>>>,
    /// Why it broke, if that was seen outside of its task.
    broken: RefCell<Option<io::Error>>,
    outgoing: Rc<Outgoing>,
    /// Tells the task that there is something to do.
    wake: Nudge,
}

/// What its task is woken up for.
enum News {
    /// There is room to write.
    Room,
    /// There is something to read.
    Bytes,
    /// Something was said to it.
    Word,
    /// Its alarm rang.
    Time,
}

impl Connection {
    /// A connection that is yet to be made; see [`Connection::run`]. `now` is that of the query it is made for.
    pub fn new(
        standing: Rc<Standing>,
        outgoing: Rc<Outgoing>,
        judged: bool,
        settings: &Settings,
        now: Instant,
    ) -> Self {
        // Up to a tenth is taken off, so that connections made at once do not end at once.
        let age = settings.max_age.mul_f64(1.0 - 0.1 * rand::random::<f64>());
        Self {
            standing,
            judged,
            phase: Cell::new(Phase::Connecting),
            retired: Cell::new(false),
            retire_at: now + age,
            idle: Cell::new(settings.idle),
            hurried: Cell::new(false),
            began: now,
            ready_at: Cell::new(now),
            heard: Cell::new(now),
            used: Cell::new(now),
            strikes: Cell::new(0),
            struck: Cell::new(None),
            overtakes: Cell::new(false),
            queue: RefCell::new(Queue::new()),
            stream: RefCell::default(),
            broken: RefCell::default(),
            outgoing,
            wake: Nudge::default(),
        }
    }

    /// Whether it is over, or about to be.
    pub fn is_over(&self) -> bool {
        self.phase.get() == Phase::Closed || self.is_silent()
    }

    /// Whether it takes no new queries, and only waits for its last replies.
    pub fn is_retired(&self, now: Instant) -> bool {
        self.retired.get() || self.retire_at <= now
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.phase.get() == Phase::Ready
    }

    /// Queries that the server has not answered yet.
    pub fn load(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Whether it takes new queries.
    pub fn accepts(&self, now: Instant) -> bool {
        !self.is_over() && !self.is_retired(now) && self.load() < PIPELINE
    }

    /// Whether a new query would stand behind one that has been open for `slow_after`.
    pub fn is_held_up(&self, slow_after: Duration, now: Instant) -> bool {
        let queue = self.queue.borrow();
        self.works_in_order()
            && queue.oldest().is_some_and(|(_, open)| {
                now.saturating_duration_since(open.began.max(self.ready_at.get())) >= slow_after
            })
    }

    /// Whether the query at `place` stands behind another.
    pub fn is_behind(&self, place: u64) -> bool {
        self.queue.borrow().oldest().is_some_and(|(first, _)| first < place)
    }

    /// Whether the oldest query has held up the others for `slow_after`, and no bytes came meanwhile.
    pub fn is_stuck(&self, slow_after: Duration) -> bool {
        let now = Instant::now();
        self.is_held_up(slow_after, now) && now.saturating_duration_since(self.heard.get()) >= slow_after
    }

    /// Whether one slow query holds up the others, as far as we know. The handshake has its own timeout.
    fn works_in_order(&self) -> bool {
        self.is_ready() && !self.overtakes.get()
    }

    /// Takes no new queries from now on, and closes when nobody waits for a reply.
    pub fn retire(&self) {
        self.retired.set(true);
        self.wake.give();
    }

    /// A try that began at `began` was not answered in time. Two in a row close the connection: the second of them began
    /// when the first had been given up. Many that began together may just all be slow.
    pub fn strike(&self, began: Instant) {
        if self.heard.get() <= began && self.struck.get().is_none_or(|struck| struck <= began) {
            self.strikes.set(self.strikes.get() + 1);
            self.struck.set(Some(Instant::now()));
        }
        if self.is_silent() {
            self.wake.give();
        }
    }

    fn is_silent(&self) -> bool {
        self.strikes.get() >= STRIKES
    }

    /// Adds a query; it is written at the end of the round, or when the task's turn comes.
    pub fn send(self: &Rc<Self>, query: Query<'_>, now: Instant) -> Pending {
        let mut queue = self.queue.borrow_mut();
        queue.forget(now);
        let is_first = queue.out.is_empty();
        let ticket = queue.push(query, now);
        let counters = &self.standing.counters;
        if ticket.place == 0 {
            counters.first[Transport::Tcp as usize].bump()
        } else {
            counters.reused.bump()
        }
        self.used.set(now);
        // Where others are to be written somebody sees to it already; until it is connected, there is no hurry.
        if is_first && self.is_ready() && !self.outgoing.take(self) {
            self.wake.give();
        }
        Pending { connection: self.clone(), ticket }
    }

    /// Connects, and then serves the connection until it is over. Every query still open then is told.
    pub async fn run(self: Rc<Self>, settings: Settings) {
        let address = self.standing.server.address;
        let mark = self.standing.mark.get();
        let marked = mark.filter(|_| self.standing.tracking.is_avoided());
        let connected = timeout(settings.connect_timeout, connect(&self.standing, marked, &settings)).await;
        judge_mark(&self.standing, mark, marked, is_made(&connected));
        if mark.is_some() && self.standing.tracking.is_doubted() {
            tokio::task::spawn_local(settle_mark(Rc::clone(&self.standing), mark, settings));
        }
        let counters = &self.standing.counters;
        let end = match connected {
            Ok(Ok(stream)) => {
                counters.opened.bump();
                counters.connections.up();
                self.phase.set(Phase::Ready);
                self.ready_at.set(Instant::now());
                let stream = Rc::new(stream);
                self.stream.replace(Some(Rc::clone(&stream)));
                let end = self.serve(&stream).await;
                self.stream.take();
                counters.connections.down();
                if self.is_silent() {
                    Some(Lost::Silent) // the timeouts have been counted
                } else {
                    if let Err(error) = end
                        && self.waiting() > 0
                        && self.judged
                    {
                        self.standing.failed(self.began, &format!("its connections break: {error}"));
                    }
                    None
                }
            }
            failed => {
                counters.open_failed.bump();
                let why = match failed {
                    Ok(Err(error)) if is_ours(&error, address) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    _ => Some(format!("no handshake within {:?}", settings.connect_timeout)),
                };
                if let Some(why) = why.as_ref().filter(|_| self.judged) {
                    self.standing.failed(self.began, &format!("it cannot be connected to: {why}"));
                }
                Some(if why.is_some() { Lost::Unreachable } else { Lost::Limit })
            }
        };
        self.phase.set(Phase::Closed);
        self.queue.borrow_mut().lose(end);
    }

    /// Reads and writes until the connection is over; an error unless we ended it in peace.
    async fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut cut = Vec::new();
        let alarm = sleep_until(self.alarm());
        tokio::pin!(alarm);
        loop {
            if self.retired.get() && self.waiting() == 0 {
                return Ok(());
            }
            if self.is_silent() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.hurried.take() {
                let due = self.alarm().min(alarm.deadline());
                alarm.as_mut().reset(due);
            }
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            match poll_fn(|context| self.poll(stream, alarm.as_mut(), context)).await? {
                News::Room => self.write(stream)?,
                News::Bytes => {
                    if self.read(stream, &mut cut)? {
                        // A server that sends without pause must not keep the thread to itself.
                        tokio::task::yield_now().await;
                    }
                }
                News::Word => {}
                News::Time => {
                    let now = Instant::now();
                    let idle = self.waiting() == 0 && self.idle_at() <= now;
                    if idle || self.retire_at <= now {
                        self.retired.set(true);
                    }
                    alarm.as_mut().reset(self.alarm());
                }
            }
        }
    }

    /// Ready when there is something to do. Asks by `poll` functions, which are a fraction of what `select!` would cost.
    fn poll(
        &self,
        stream: &TcpStream,
        alarm: Pin<&mut Sleep>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<News>> {
        if self.has_output()
            && let Poll::Ready(room) = stream.poll_write_ready(context)
        {
            return Poll::Ready(room.map(|()| News::Room));
        }
        if let Poll::Ready(bytes) = stream.poll_read_ready(context) {
            return Poll::Ready(bytes.map(|()| News::Bytes));
        }
        if self.wake.poll(context).is_ready() {
            return Poll::Ready(Ok(News::Word));
        }
        alarm.poll(context).map(|()| Ok(News::Time))
    }

    /// When to look for idleness and age. With queries open it may be late by one idle time.
    fn alarm(&self) -> Instant {
        let now = Instant::now();
        if self.retired.get() {
            return now + FORGET; // whoever waits last wakes us
        }
        let idle_at = self.idle_at();
        let due = if idle_at <= now { now + self.idle.get() } else { idle_at };
        due.min(self.retire_at)
    }

    fn idle_at(&self) -> Instant {
        self.heard.get().max(self.used.get()) + self.idle.get()
    }

    fn has_output(&self) -> bool {
        !self.queue.borrow().out.is_empty()
    }

    /// Queries somebody waits for, and whose replies have not come.
    fn waiting(&self) -> usize {
        self.queue.borrow().waiting
    }

    /// Writes what it has, if it is open. What is left, or went wrong, is the task's.
    pub fn flush(&self) {
        let Some(stream) = &*self.stream.borrow() else { return };
        if let Err(error) = self.write(stream) {
            *self.broken.borrow_mut() = Some(error);
        } else if !self.has_output() {
            return;
        }
        self.wake.give();
    }

    fn write(&self, stream: &TcpStream) -> io::Result<()> {
        let queue = &mut *self.queue.borrow_mut();
        match stream.try_write(&queue.out) {
            Ok(n) => {
                queue.written += n as u64;
                queue.out.drain(..n);
                if queue.out.is_empty() && queue.out.capacity() > READ {
                    queue.out = Vec::new();
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Reads what is there, and hands out the whole replies in it; whether there may be more. `cut` is what came of a
    /// reply whose rest has not come.
    fn read(&self, stream: &TcpStream, cut: &mut Vec<u8>) -> io::Result<bool> {
        // On the stack: most connections are idle most of the time, and a buffer that comes and goes is dear.
        let mut room = [MaybeUninit::uninit(); READ];
        let (into, mut came) = (&mut room, None);
        let tried = stream.try_io(Interest::READABLE, || {
            let (bytes, _) = rustix::io::read(stream, into)?;
            let is_all = (1..READ).contains(&bytes.len());
            came = Some(&*bytes);
            // Less than there was room for: nothing is left. Say so, and save the call that would find out.
            if is_all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        let Some(came) = came else {
            return tried.map(|()| false).or_else(|e| match e.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                _ => Err(e),
            });
        };
        if came.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let now = Instant::now();
        self.heard.set(now);
        self.strikes.set(0);
        self.struck.set(None);
        if cut.is_empty() {
            cut.extend_from_slice(self.take_frames(came, now));
        } else {
            cut.extend_from_slice(came);
            let left = self.take_frames(cut, now).len();
            cut.drain(..cut.len() - left);
            if cut.is_empty() {
                *cut = Vec::new(); // it may have been a large one
            }
        }
        Ok(came.len() == READ)
    }

    /// Receives the whole messages at the beginning of `bytes`; returns what is behind them.
    fn take_frames<'b>(&self, mut bytes: &'b [u8], now: Instant) -> &'b [u8] {
        while let Some((length, after)) = bytes.split_first_chunk::<2>()
            && let Some((frame, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        {
            self.receive(frame, now);
            bytes = after;
        }
        bytes
    }

    /// A message came. What matches no open query is counted and dropped: the query stays open.
    fn receive(&self, frame: &[u8], now: Instant) {
        let Some((overtook, open)) = self.queue.borrow_mut().take(frame) else {
            self.standing.counters.mismatched.bump();
            return;
        };
        if overtook {
            self.overtakes.set(true);
        }
        self.standing.heard(now.saturating_duration_since(open.began), open.alone, now);
        match message::keepalive(frame) {
            // RFC 7828 section 3.2.2: zero asks us to close as soon as we can.
            Some(Duration::ZERO) => self.retire(),
            Some(limit) => {
                let before = self.idle.replace((limit * 4 / 5).min(IDLE.max));
                self.hurried.set(self.hurried.get() || self.idle.get() < before);
            }
            None => {}
        }
    }
}

/// A query that is open on a connection, as the one who waits for it holds it.
#[derive(Debug)]
pub struct Pending {
    connection: Rc<Connection>,
    ticket: Ticket,
}

impl Pending {
    /// Its place among the connection's queries.
    pub fn place(&self) -> u64 {
        self.ticket.place
    }
}

/// Comes with the reply.
impl Future for Pending {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        self.connection.queue.borrow_mut().poll(self.ticket, context.waker())
    }
}

impl Drop for Pending {
    /// Answered or not, nobody waits any more. An unanswered query keeps its place (see the decisions).
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.queue.borrow_mut().give_back(self.ticket);
        if connection.retired.get() && connection.waiting() == 0 {
            connection.wake.give();
        }
    }
}
