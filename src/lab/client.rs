//! The pod's clients. A lookup is lost when no usable answer has come in time; nobody asks twice.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Doing, Trouble};
use crate::wire::header::{self, Header};
use crate::wire::{class, rcode, rtype};

/// What became of lookups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many there were.
    pub asked: u32,
    /// How many of them were lost.
    pub lost: u32,
}

/// How A and AAAA of one name are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Both at the same instant from one socket. Resolvers send them back to back and collide now and then; two
    /// threads collide nearly every time.
    AtOnce,
    /// AAAA when the answer to A is there: `options single-request`.
    OneByOne,
}

/// Between two pairs, so that no socket's buffer overflows and losses have one cause only.
const PAIR_SPACING: Duration = Duration::from_micros(200);

/// Asks for both addresses of `count` names, each from a socket of its own. A pair that lacks one answer after
/// `patience` is lost, as the lookup of which it is a part waits for its resolver's timeout.
pub(super) fn pairs(
    server: SocketAddr,
    count: usize,
    order: Order,
    patience: Duration,
) -> Result<Tally, Trouble> {
    let sockets = (0..count).map(|_| socket(server)).collect::<io::Result<Vec<_>>>();
    let sockets = sockets.doing("opening the client's sockets")?;
    let mut answered = vec![[false; 2]; count];
    match order {
        Order::AtOnce => {
            at_once(&sockets);
            collect(&sockets, &KINDS, &mut answered, patience);
        }
        Order::OneByOne => {
            for kind in KINDS {
                for (i, socket) in sockets.iter().enumerate() {
                    ask(socket, i, kind);
                    thread::sleep(PAIR_SPACING);
                }
                collect(&sockets, &[kind], &mut answered, patience);
            }
        }
    }
    let lost = answered.iter().filter(|both| **both != [true; 2]).count();
    Ok(Tally { asked: number(count), lost: number(lost) })
}

const KINDS: [Kind; 2] = [Kind::A, Kind::Aaaa];

/// What is asked for; the number is the lowest bit of the query's id.
#[derive(Clone, Copy)]
enum Kind {
    A = 0,
    Aaaa = 1,
}

/// One client at a time: pairs meet each other on the processors, not those of another test.
static SENDING: Mutex<()> = Mutex::new(());

/// Two threads meet before each pair.
fn at_once(sockets: &[UdpSocket]) {
    let _alone = SENDING.lock();
    let meetings = Meetings { begin: Instant::now(), arrivals: AtomicU64::new(0), next: AtomicU64::new(0) };
    thread::scope(|scope| {
        for kind in KINDS {
            let meetings = &meetings;
            scope.spawn(move || {
                keep_to(kind as usize);
                let mut last = 0;
                for (i, socket) in sockets.iter().enumerate() {
                    let query = query(i, kind);
                    thread::sleep(PAIR_SPACING);
                    last = meetings.meet(last);
                    let _ = socket.send(&query);
                }
            });
        }
    });
}

/// Two threads that go on at the same instant, again and again.
struct Meetings {
    begin: Instant,
    /// Of either thread, at all meetings.
    arrivals: AtomicU64,
    /// When they go on, in nanoseconds since the beginning: of the meeting that both have come to.
    next: AtomicU64,
}

impl Meetings {
    /// From the second one's arrival on: enough for the first to wake up.
    const AHEAD: u64 = 100_000;
    /// How long the first sleeps before it looks again. It would keep a busy machine's processor from others, and the
    /// scheduler would let it wait for that.
    const NAP: Duration = Duration::from_micros(20);

    /// Waits for the other, and for the instant on which both go on; tells when that was. `last` is what it told before.
    fn meet(&self, last: u64) -> u64 {
        if self.arrivals.fetch_add(1, Ordering::AcqRel) % 2 == 1 {
            self.next.store(self.now() + Self::AHEAD, Ordering::Release);
        }
        let mut next = self.next.load(Ordering::Acquire);
        while next <= last {
            thread::sleep(Self::NAP);
            next = self.next.load(Ordering::Acquire);
        }
        while self.now() < next {
            std::hint::spin_loop();
        }
        next
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Keeps the calling thread to the processor with this number among those that we may use: on the same one, two
/// threads never meet. Where that is refused, they meet less often.
fn keep_to(number: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let ours: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let mut one = CpuSet::new();
    if let Some(&cpu) = ours.get(number) {
        one.set(cpu);
        let _ = sched_setaffinity(None, &one);
    }
}

/// Notes what has come until there is an answer to all of `kinds` everywhere, or `patience` has passed.
fn collect(sockets: &[UdpSocket], kinds: &[Kind], answered: &mut [[bool; 2]], patience: Duration) {
    let end = Instant::now() + patience;
    loop {
        for (socket, both) in sockets.iter().zip(answered.iter_mut()) {
            while let Some(id) = receive(socket) {
                both[usize::from(id & 1)] = true;
            }
        }
        let complete = |both: &[bool; 2]| kinds.iter().all(|&kind| both[usize::from(kind as u16)]);
        if answered.iter().all(complete) || Instant::now() >= end {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Single lookups, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// How many.
    pub count: usize,
    /// The time between two of them.
    pub spacing: Duration,
    /// How many different names are asked for.
    pub names: usize,
}

/// Sockets of a stream that wait for an answer, at most.
const WAITING: usize = 1000;
/// How long the last lookups of a stream are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks, each time from a new socket, as resolvers do. A lookup that has no answer when [`WAITING`] others have
/// followed, or [`PATIENCE`] after the last, is lost.
pub(super) fn stream(server: SocketAddr, stream: Stream) -> Result<Tally, Trouble> {
    let mut waiting = VecDeque::with_capacity(WAITING);
    let mut lost = 0;
    let start = Instant::now();
    for i in 0..stream.count {
        let due = start + stream.spacing * number(i);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if waiting.len() == WAITING {
            lost += usize::from(waiting.pop_front().is_some_and(|socket| !has_answer(&socket)));
        }
        let socket = socket(server).doing("opening a client's socket")?;
        ask(&socket, i % stream.names, Kind::A);
        waiting.push_back(socket);
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !waiting.is_empty() {
        waiting.retain(|socket| !has_answer(socket));
        thread::sleep(Duration::from_millis(10));
    }
    lost += waiting.len();
    Ok(Tally { asked: number(stream.count), lost: number(lost) })
}

/// The port of clients that make sure of something: outside of the range from which streams get theirs
/// (`net.ipv4.ip_local_port_range`), so that no lookup of a stream meets a connection that is tracked already.
const PROBE_PORT: u16 = 5300;

/// Whether each of `names` has an answer within `patience`; they are in a cache on the way then.
pub(super) fn reaches(server: SocketAddr, names: usize, patience: Duration) -> Result<bool, Trouble> {
    let socket = socket_at(PROBE_PORT, server).doing("opening a client's socket")?;
    let end = Instant::now() + patience;
    for i in 0..names {
        ask(&socket, i, Kind::A);
        while !has_answer(&socket) {
            if Instant::now() > end {
                return Ok(false);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(true)
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    socket_at(0, server)
}

fn socket_at(port: u16, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    // Connected, so that only answers from where we asked are taken, as resolvers do it.
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A query that cannot be sent is lost, and nothing else.
fn ask(socket: &UdpSocket, name: usize, kind: Kind) {
    let _ = socket.send(&query(name, kind));
}

fn query(name: usize, kind: Kind) -> Vec<u8> {
    let rtype = match kind {
        Kind::A => rtype::A,
        Kind::Aaaa => rtype::AAAA,
    };
    let id = (name as u16) << 1 | kind as u16;
    let header = Header { id, flags: header::RD, counts: [1, 0, 0, 0] };
    let mut query = header.bytes().to_vec();
    for label in [&format!("n{name}"), "default", "svc", "cluster", "local"] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&class::IN.to_be_bytes());
    query
}

fn has_answer(socket: &UdpSocket) -> bool {
    receive(socket).is_some()
}

/// The id of a usable answer, if one is there.
fn receive(socket: &UdpSocket) -> Option<u16> {
    let mut buffer = [0; 512];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let header = Header::read(&buffer[..len])?;
                if header.rcode() == rcode::NOERROR && header.counts[1] > 0 {
                    return Some(header.id);
                }
            }
            // An ICMP error of before; the answer may lie behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
