//! Connections: pipelined queries, answered as they complete (RFC 7766 section 6.2.1.1).
//!
//! What a client can cost is bounded: [`Settings::tcp_pipeline`](super::Settings::tcp_pipeline) queries that
//! wait, `OUTPUT` bytes that it does not read, a query of `QUERY_MAX` bytes, and the idle time, which only a
//! whole query or an answer that was read begins anew: dribbling bytes does not. A connection is one task; it
//! never makes another one wait.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::clock::Now;
use crate::resolve::{Miss, ReplyTo};
use crate::wire::MESSAGE_MAX;

use super::Served;
use super::front::{self, Client, Front, Held, Protocol, Round, Verdict};

/// Answers that a client has not read yet, in bytes; beyond it no more of its queries are looked at.
const OUTPUT: usize = 64 << 10;
/// Beyond these, with the answers that were under way then, the client is sent away.
const OUTPUT_MAX: usize = 512 << 10;
/// The longest query that is read. One is some 40 bytes; padded ones (RFC 8467) 128.
const QUERY_MAX: usize = 4096;
/// Bytes read at once.
const READ: usize = 4096;
/// How long a client that is sent away may take to read its last answers.
const LINGER: Duration = Duration::from_secs(1);
/// How long a client that has connected and not asked may take to ask when we are about to stop: its query may be on
/// its way.
const LATE: Duration = Duration::from_millis(200);
/// The pause after the kernel refused to hand over a connection (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One worker's clients, over all of its addresses.
pub struct Clients {
    front: Rc<Front>,
    workers: usize,
    open: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
    /// Connections that have been answered are to end.
    parting: Cell<bool>,
    parted: Notify,
    /// Where an answer is written before it goes to its connection's outbox.
    room: RefCell<Box<[u8]>>,
}

impl Clients {
    /// No clients yet. There are `workers` workers, and limits are shared out among them.
    pub fn new(front: Rc<Front>, workers: usize) -> Rc<Self> {
        let room = RefCell::new(vec![0; MESSAGE_MAX].into());
        Rc::new(Self {
            front,
            workers,
            open: Cell::new(0),
            by_address: RefCell::default(),
            parting: Cell::new(false),
            parted: Notify::new(),
            room,
        })
    }

    /// Accepts connections until it is dropped; those accepted go on. `number` is that of the listener's address.
    pub async fn serve(self: Rc<Self>, listener: TcpListener, number: usize, served: Arc<Served>) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    served.connections.bump();
                    self.admit(stream, peer, number);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Ends each connection as soon as everything it has asked is answered, those that wait for nothing at once; new
    /// ones are served, and end likewise.
    pub fn part(&self) {
        self.parting.set(true);
        self.parted.notify_waiters();
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, listener: usize) {
        let counters = &self.front.counters;
        let settings = self.front.settings();
        counters.tcp_accepted.bump();
        if self.open.get() >= settings.tcp_connections.div_ceil(self.workers) {
            return counters.tcp_connections_limit.bump();
        }
        let mut by_address = self.by_address.borrow_mut();
        let of_client = by_address.entry(peer.ip()).or_default();
        if *of_client >= settings.tcp_per_client.div_ceil(self.workers) {
            return counters.tcp_per_client_limit.bump();
        }
        *of_client += 1;
        self.open.set(self.open.get() + 1);
        counters.tcp_open.set(self.open.get() as u64);
        let seat = Seat { clients: Rc::clone(self), address: peer.ip() };
        // An answer must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let client = Client { protocol: Protocol::Tcp, v6: peer.is_ipv6(), listener };
        tokio::task::spawn_local(Connection::new(seat, stream, peer, client).run());
    }
}

/// A connection's place among the limits, given back when it is dropped.
struct Seat {
    clients: Rc<Clients>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let clients = &self.clients;
        clients.open.set(clients.open.get() - 1);
        clients.front.counters.tcp_open.set(clients.open.get() as u64);
        let mut by_address = clients.by_address.borrow_mut();
        if let Some(n) = by_address.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// What is to be written to a client; flights put their answers here.
#[derive(Default)]
struct Outbox {
    bytes: RefCell<Vec<u8>>,
    /// Queries that are looked up.
    waiting: Cell<usize>,
    arrived: Notify,
}

impl Outbox {
    fn put(&self, message: &[u8]) {
        // An answer has at most MESSAGE_MAX bytes: its writer holds that.
        let len = message.len().min(MESSAGE_MAX) as u16;
        let mut bytes = self.bytes.borrow_mut();
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(message);
    }
}

/// The way back over a connection. Dropped with or without an answer, it frees its place in the pipeline.
struct Stream(Rc<Outbox>);

impl ReplyTo for Stream {
    fn send(&self, message: &[u8]) {
        self.0.put(message);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.arrived.notify_one();
    }
}

/// Why a connection ends.
enum End {
    /// The client is done.
    Closed,
    /// It has asked as much as one connection may.
    Full,
    /// It has been answered, and we are about to stop.
    Parted,
    /// Nothing came, or nothing was read, for too long or of too much.
    TimedOut,
    /// An error, a message cut short, or one that is too long.
    Broken,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

struct Connection {
    seat: Seat,
    stream: TcpStream,
    peer: SocketAddr,
    client: Client,
    input: Vec<u8>,
    outbox: Rc<Outbox>,
    queries: u64,
    /// The client has sent its last byte.
    ended: bool,
    /// When the idle time began.
    active: Instant,
}

impl Connection {
    fn new(seat: Seat, stream: TcpStream, peer: SocketAddr, client: Client) -> Self {
        Self {
            seat,
            stream,
            peer,
            client,
            input: Vec::new(),
            outbox: Rc::default(),
            queries: 0,
            ended: false,
            active: Instant::now(),
        }
    }

    async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        let counters = &self.seat.clients.front.counters;
        match end {
            End::Closed => {}
            End::Full => {
                counters.tcp_queries_limit.bump();
                self.close_gently().await;
            }
            End::Parted => self.close_gently().await,
            End::TimedOut => counters.tcp_timed_out.bump(),
            End::Broken => counters.tcp_broken.bump(),
        }
    }

    /// Says that no more answers come, and takes in what the client has sent already: closing over unread
    /// bytes would be a reset, which takes away answers that the client has yet to read (RFC 9112 section 9.6
    /// has the same advice for HTTP).
    async fn close_gently(&mut self) {
        let discard = async {
            self.stream.shutdown().await?;
            let mut bytes = [0; READ];
            while self.stream.read(&mut bytes).await? > 0 {}
            io::Result::Ok(())
        };
        // Late or broken, the connection closes now.
        let _ = timeout(LINGER, discard).await;
    }

    /// Waits for one thing and does it.
    async fn step(&mut self) -> Result<(), End> {
        let front = Rc::clone(&self.seat.clients.front);
        let settings = front.settings();
        let (idle, pipeline, most) = (settings.tcp_idle, settings.tcp_pipeline, settings.tcp_queries);
        drop(settings);

        let full = self.queries >= most;
        if self.take_queries(pipeline, most)? && !self.is_behind(pipeline) {
            // The client took all answers at once. No event will tell of the queries that have come already.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let output = !self.outbox.bytes.borrow().is_empty();
        let waiting = self.outbox.waiting.get();
        let clients = Rc::clone(&self.seat.clients);
        let rests = self.input.is_empty() && !output && waiting == 0;
        let may_ask = self.queries == 0 && self.active.elapsed() < LATE;
        let parting = clients.parting.get() && rests;
        if parting && !may_ask {
            return Err(End::Parted);
        }
        if (self.ended || full) && !output && waiting == 0 {
            return Err(match (full, self.input.is_empty()) {
                (true, _) => End::Full,
                (false, true) => End::Closed,
                (false, false) => End::Broken,
            });
        }
        let reading = !self.ended && !full && !self.is_behind(pipeline);
        let interest = match (reading, output) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let outbox = Rc::clone(&self.outbox);
        // While a flight is on its way the client is not idle, unless it does not read.
        let idle = if parting { LATE } else { idle };
        let patience = if waiting > 0 && !output { None } else { Some(self.active + idle) };
        let mut more = false;
        tokio::select! {
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                let ready = ready?;
                if ready.is_writable() && output {
                    self.write()?;
                }
                if ready.is_readable() && reading {
                    more = self.read()?;
                }
            }
            () = outbox.arrived.notified() => {
                self.write()?;
                if outbox.bytes.borrow().len() > OUTPUT_MAX {
                    return Err(End::TimedOut);
                }
            }
            () = clients.parted.notified() => {}
            () = tokio::time::sleep_until(patience.unwrap_or(self.active)), if patience.is_some() => {
                if !parting {
                    return Err(if rests { End::Closed } else { End::TimedOut });
                }
            }
        }
        if more {
            // Who asks faster than we answer would never let go of the thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether the client must read or wait before more of its queries are looked at.
    fn is_behind(&self, pipeline: usize) -> bool {
        self.outbox.waiting.get() >= pipeline || self.outbox.bytes.borrow().len() >= OUTPUT
    }

    /// Reads what is there, up to [`READ`] bytes; whether there may be more.
    fn read(&mut self) -> Result<bool, End> {
        let start = self.input.len();
        self.input.resize(start + READ, 0);
        let read = self.stream.try_read(&mut self.input[start..]);
        self.input.truncate(start + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => self.ended = true,
            Ok(n) => return Ok(n == READ),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        Ok(false)
    }

    fn write(&mut self) -> Result<(), End> {
        let mut bytes = self.outbox.bytes.borrow_mut();
        if bytes.is_empty() {
            return Ok(());
        }
        match self.stream.try_write(&bytes) {
            Ok(n) => {
                bytes.drain(..n);
                if bytes.is_empty() && bytes.capacity() > READ {
                    *bytes = Vec::new(); // most connections are idle most of the time
                }
                self.active = Instant::now();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Looks at the whole queries that have come, as long as the client keeps up; whether it did not, so that
    /// there may be more of them.
    fn take_queries(&mut self, pipeline: usize, most: u64) -> Result<bool, End> {
        if self.input.is_empty() {
            return Ok(false);
        }
        let clients = Rc::clone(&self.seat.clients);
        let round = clients.front.round();
        let mut at = 0;
        let view = round.routes.view(self.client.listener);
        let mut hits = vec![0; view.len()];
        while !self.is_behind(pipeline) && self.queries < most {
            let Some(len) = self.input[at..].first_chunk() else { break };
            let len = usize::from(u16::from_be_bytes(*len));
            if len > QUERY_MAX {
                return Err(End::Broken);
            }
            let Some(query) = self.input.get(at + 2..at + 2 + len) else { break };
            at += 2 + len;
            self.queries += 1;
            let mut room = clients.room.borrow_mut();
            match clients.front.answer(query, self.client, &round, &mut room) {
                Verdict::Silence => {}
                Verdict::Own(len, zone) => self.put((query, &room[..len]), zone, &round),
                Verdict::Hit(len, zone) => {
                    self.put((query, &room[..len]), Some(zone), &round);
                    hits[zone] += 1;
                }
                Verdict::Refresh(len, zone, miss) => {
                    self.put((query, &room[..len]), Some(zone), &round);
                    hits[zone] += 1;
                    clients.front.resolver.refresh(*miss);
                }
                Verdict::Miss(miss) => self.hand_off(*miss, round.now),
            }
        }
        let behind = self.is_behind(pipeline);
        if at > 0 {
            self.input.drain(..at);
            self.active = Instant::now();
            self.write()?;
            view.record_hits(&hits, Now::read().since(round.now));
        }
        Ok(behind)
    }

    /// Puts an answer into the outbox, and logs it where its zone logs.
    fn put(&self, (query, answer): (&[u8], &[u8]), zone: Option<usize>, round: &Round) {
        self.outbox.put(answer);
        if let Some(log) = round.logging(self.client.listener, zone) {
            let whom = (self.client.protocol, self.peer, self.asked_at());
            front::log_at_once(log, round, (query, answer), whom);
        }
    }

    /// The address that the client has connected to.
    fn asked_at(&self) -> IpAddr {
        self.stream.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
    }

    fn hand_off(&self, (miss, mut held): (Miss, Held), now: Now) {
        held.note(miss.route.log.as_ref(), self.peer, || self.asked_at());
        self.outbox.waiting.set(self.outbox.waiting.get() + 1);
        let reply_to = Box::new(Stream(Rc::clone(&self.outbox)));
        self.seat.clients.front.resolver.resolve(miss, held.waiter(now, reply_to), now);
    }
}
