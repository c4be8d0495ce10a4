//! The scripted upstream: answers by the rule in `zone`, over UDP and pipelined TCP, out of order, at once or when it
//! was told to.
//!
//! It runs in the load's process, on the load's core. Whatever it costs, it costs the same for every server:
//! one write answers all queries that one read brought, the last one first.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::zone;

/// Bytes read at once from a connection.
const CHUNK: usize = 64 << 10;

/// A running upstream. It lives as long as the process.
#[derive(Clone)]
pub struct Upstream {
    /// Where it answers.
    pub address: SocketAddr,
    mood: Arc<Mood>,
}

/// How it answers now.
#[derive(Default)]
struct Mood {
    /// Microseconds from a query to its answer.
    delay: AtomicU64,
    /// Of a hundred queries, how many are not answered.
    dropped: AtomicU64,
    /// The queries until now.
    queries: AtomicU64,
}

impl Upstream {
    /// Starts one on a port of its own.
    pub fn start() -> io::Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let upstream = Self { address: tcp.local_addr()?, mood: Arc::default() };
        let udp = UdpSocket::bind(upstream.address)?;
        let mood = Arc::clone(&upstream.mood);
        thread::Builder::new().name("upstream udp".to_owned()).spawn(move || datagrams(udp, &mood))?;
        let mood = Arc::clone(&upstream.mood);
        thread::Builder::new().name("upstream tcp".to_owned()).spawn(move || {
            for stream in tcp.incoming().flatten() {
                let mood = Arc::clone(&mood);
                // A thread that cannot be started is a connection that is closed: the servers try again.
                let _ = thread::Builder::new().spawn(move || connection(stream, &mood));
            }
        })?;
        Ok(upstream)
    }

    /// From now on it answers after `delay`, and `dropped` of a hundred queries not at all.
    pub fn set(&self, delay: Duration, dropped: u64) {
        self.mood.delay.store(delay.as_micros() as u64, Relaxed);
        self.mood.dropped.store(dropped, Relaxed);
    }
}

impl Mood {
    /// Whether the next query is to be answered. Those that are not are spread evenly, but not regularly.
    fn answers(&self) -> bool {
        let number = self.queries.fetch_add(1, Relaxed);
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 >= (self.dropped.load(Relaxed) << 32) / 100
    }

    /// When what comes now is to be answered, if not at once.
    fn due(&self) -> Option<Instant> {
        let delay = self.delay.load(Relaxed);
        (delay > 0).then(|| Instant::now() + Duration::from_micros(delay))
    }
}

/// Answers datagrams until the socket breaks.
fn datagrams(socket: UdpSocket, mood: &Mood) -> io::Result<()> {
    let mut query = [0; 1536];
    let later = socket.try_clone()?;
    let later =
        in_time(move |(answer, client): (Vec<u8>, SocketAddr)| later.send_to(&answer, client).map(drop))?;
    loop {
        let (n, client) = socket.recv_from(&mut query)?;
        let mut answer = Vec::with_capacity(512);
        if !zone::answer(&query[..n], &mut answer) || !mood.answers() {
            continue;
        }
        match mood.due() {
            None => drop(socket.send_to(&answer, client)?),
            Some(due) => drop(later.send((due, (answer, client)))),
        }
    }
}

/// Answers one connection until it ends, or until something comes that is not a query.
fn connection(mut stream: TcpStream, mood: &Mood) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK];
    let (mut held, mut queries, mut later) = (0, Vec::new(), None);
    loop {
        let n = stream.read(&mut buffer[held..])?;
        if n == 0 {
            return Ok(());
        }
        held += n;
        let (mut start, mut answers) = (0, Vec::with_capacity(4096));
        while let Some(message) = frame(&buffer[start..held]) {
            queries.push(start + 2..start + 2 + message.len());
            start += 2 + message.len();
        }
        for query in queries.drain(..).rev().filter(|_| mood.answers()) {
            let length_at = answers.len();
            answers.extend_from_slice(&[0, 0]);
            if !zone::answer(&buffer[query], &mut answers) {
                return Ok(());
            }
            let length = (answers.len() - length_at - 2) as u16;
            answers[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        }
        buffer.copy_within(start..held, 0);
        held -= start;
        let Some(due) = mood.due() else {
            stream.write_all(&answers)?;
            continue;
        };
        if later.is_none() {
            let mut stream = stream.try_clone()?;
            later = Some(in_time(move |answers: Vec<u8>| stream.write_all(&answers))?);
        }
        if let Some(later) = &later {
            // It is gone only when the connection broke; then the next read says so.
            let _ = later.send((due, answers));
        }
    }
}

/// A thread that hands on what it is given when it is due. It ends with the first failure, or when nobody is left to
/// give it anything.
fn in_time<T: Send + 'static>(
    mut hand_on: impl FnMut(T) -> io::Result<()> + Send + 'static,
) -> io::Result<Sender<(Instant, T)>> {
    let (sender, receiver): (_, Receiver<(Instant, T)>) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        // Sleeps otherwise end up to 50 us late. A kernel that refuses lets them.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        for (due, what) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if hand_on(what).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// The message at the beginning of `bytes`, if all of it is there, which has its length before it (RFC 1035 section
/// 4.2.2).
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let [high, low, rest @ ..] = bytes else { return None };
    rest.get(..usize::from(u16::from_be_bytes([*high, *low])))
}
