//! The cluster DNS: two servers with one address each, as two CoreDNS pods have. They know every name.
//!
//! Written by hand rather than with hickory-server, which the tests use: the program that is shipped would carry it
//! and its dependencies for the sake of one answer with one record.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener as TokioListener, TcpStream, UdpSocket as TokioSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::place::Place;
use super::{Doing, Trouble};
use crate::wire::header::{self, Header};
use crate::wire::query::{self, Query};
use crate::wire::{class, rtype};

/// When answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// At once.
    None,
    /// After [`SLOW`], as answers from far away do on a bad day: each after a time of its own.
    Slow,
}

/// How long a slow answer takes, in milliseconds: longer than the second for which the kernel remembers the loser of
/// a race, shorter than a client's patience.
pub(super) const SLOW: std::ops::Range<u64> = 1_100..2_500;

/// Seconds that an answer is good for.
const TTL: u32 = 30;
/// Answers of one TCP connection that may wait to be written.
const PENDING: usize = 1024;

/// Two servers. They end when this is dropped.
pub(super) struct Responders {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Responders {
    /// Starts them in `place`, on port 53 of these addresses.
    pub fn start(place: &Place, addresses: &'static [Ipv4Addr], delay: Delay) -> Result<Self, Trouble> {
        let sockets = place.run(move || {
            let bound = addresses.iter().map(|&ip| bind((ip, 53).into())).collect::<io::Result<Vec<_>>>();
            bound.doing("starting the cluster DNS")
        })?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing("starting the cluster DNS")?;
        let thread = thread::Builder::new().name("cluster DNS".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                for (udp, tcp) in sockets {
                    spawn_local(serve_udp(udp, delay));
                    spawn_local(serve_tcp(tcp, delay));
                }
                let _ = stopped.await;
            });
        });
        let thread = thread.doing("starting a thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Responders {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

async fn serve_udp(socket: UdpSocket, delay: Delay) -> io::Result<()> {
    let socket = Rc::new(TokioSocket::from_std(socket)?);
    let mut buffer = [0; 1500];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(answer) = answer(&buffer[..len]) else { continue };
        match pause(delay) {
            // A client that has gone is none of our business.
            None => drop(socket.send_to(&answer, peer).await),
            Some(pause) => {
                let socket = Rc::clone(&socket);
                spawn_local(async move {
                    sleep(pause).await;
                    let _ = socket.send_to(&answer, peer).await;
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, delay: Delay) -> io::Result<()> {
    let listener = TokioListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        spawn_local(serve_stream(stream, delay));
    }
}

/// Answers in any order (RFC 7766 section 6.2.1.1), each when it is due.
async fn serve_stream(stream: TcpStream, delay: Delay) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let (answers, mut due) = mpsc::channel::<Vec<u8>>(PENDING);
    spawn_local(async move {
        while let Some(answer) = due.recv().await {
            let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
            if write.write_all(&[&length[..], &answer].concat()).await.is_err() {
                break;
            }
        }
    });
    loop {
        let mut query = vec![0; usize::from(read.read_u16().await?)];
        read.read_exact(&mut query).await?;
        let Some(answer) = answer(&query) else { continue };
        let answers = answers.clone();
        spawn_local(async move {
            if let Some(pause) = pause(delay) {
                sleep(pause).await;
            }
            let _ = answers.send(answer).await;
        });
    }
}

fn pause(delay: Delay) -> Option<Duration> {
    (delay == Delay::Slow).then(|| Duration::from_millis(rand::rng().random_range(SLOW)))
}

/// One address for A and AAAA, nothing for other types.
fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let Query { header, question, .. } = query::parse(packet).ok()?;
    let rdata: &[u8] = match (question.class, question.rtype) {
        (class::IN, rtype::A) => &[192, 0, 2, 1],
        (class::IN, rtype::AAAA) => &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        _ => &[],
    };
    let flags = header::QR | header::AA | (header.flags & header::RD) | header::RA;
    let counts = [1, u16::from(!rdata.is_empty()), 0, 0];
    let mut out = Header { id: header.id, flags, counts }.bytes().to_vec();
    out.extend_from_slice(question.bytes);
    if !rdata.is_empty() {
        // The owner is the question's name.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&question.rtype.to_be_bytes());
        out.extend_from_slice(&class::IN.to_be_bytes());
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&u16::try_from(rdata.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(rdata);
    }
    Some(out)
}
