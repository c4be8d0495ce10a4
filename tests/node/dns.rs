//! A small DNS: servers of the cluster DNS that answer every question, and clients that ask once and count what is lost.
//!
//! An answer of the servers is authoritative (AA), one of ours is not: so a client sees who has answered.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::message;
use super::namespace::Namespace;

/// The headless Service whose name stands for the servers.
pub const SERVICE: &str = "dns-pods.kube-system.svc.cluster.local";
/// The servers, as the cluster has them.
pub const PODS: [&str; 4] = ["10.2.0.2", "10.2.0.3", "fd02::2", "fd02::3"];
/// A Service's addresses, which kube-proxy translates to the servers'.
pub const SERVICE_IPS: [&str; 2] = ["10.96.0.10", "fd96::10"];
/// A name that the servers take [`SLOWNESS`] to answer.
pub const SLOW: &str = "slow.cluster.local";
const SLOWNESS: Duration = Duration::from_millis(2500);
pub const A: u16 = 1;
/// Its answer is large: 60,000 bytes.
pub const TXT: u16 = 16;
const AAAA: u16 = 28;
/// How long a server waits before it looks whether it is to end.
const TURN: Duration = Duration::from_millis(50);

/// All servers of the cluster DNS.
pub struct ClusterDns {
    ends: Arc<AtomicBool>,
    /// TCP connections that were accepted.
    pub accepted: Arc<AtomicUsize>,
}

impl ClusterDns {
    pub fn start(at: &Namespace) -> Self {
        let this = Self { ends: Arc::default(), accepted: Arc::default() };
        for address in PODS {
            let address = SocketAddr::new(address.parse().unwrap(), 53);
            let (udp, tcp) =
                at.run(move || (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
            udp.set_read_timeout(Some(TURN)).unwrap();
            // An accept that waits no longer than this, too.
            SockRef::from(&tcp).set_read_timeout(Some(TURN)).unwrap();
            let ends = this.ends.clone();
            thread::spawn(move || {
                let mut query = [0; 512];
                while !ends.load(Relaxed) {
                    if let Ok((length, client)) = udp.recv_from(&mut query) {
                        let _ = udp.send_to(&answer(&query[..length]), client);
                    }
                }
            });
            let (ends, accepted) = (this.ends.clone(), this.accepted.clone());
            thread::spawn(move || {
                while !ends.load(Relaxed) {
                    if let Ok((client, _)) = tcp.accept() {
                        accepted.fetch_add(1, Relaxed);
                        let ends = ends.clone();
                        thread::spawn(move || serve(client, &ends));
                    }
                }
            });
        }
        this
    }
}

impl Drop for ClusterDns {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
    }
}

fn serve(mut client: TcpStream, ends: &AtomicBool) -> Option<()> {
    client.set_nodelay(true).ok()?;
    client.set_read_timeout(Some(TURN)).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 2048];
    while !ends.load(Relaxed) {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        while let Some(length) = framed(&bytes) {
            if bytes[14..].starts_with(b"\x04slow") {
                sleep(SLOWNESS);
            }
            client.write_all(&frame(&answer(&bytes[2..length]))).ok()?;
            bytes.drain(..length);
        }
    }
    Some(())
}

/// The length of the first message with its prefix, if it is there as a whole.
fn framed(bytes: &[u8]) -> Option<usize> {
    let length = 2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    (bytes.len() >= length).then_some(length)
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Addresses for every name; the Service's name has the servers'.
fn answer(query: &[u8]) -> Vec<u8> {
    let labels = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let (name, rest) = query[12..].split_at(labels);
    let question = [name, &rest[..4]].concat();
    let rtype = u16::from_be_bytes([rest[0], rest[1]]);
    let record = |address: IpAddr| match address {
        IpAddr::V4(v4) => message::record(message::QNAME, A, 30, &v4.octets()),
        IpAddr::V6(v6) => message::record(message::QNAME, AAAA, 30, &v6.octets()),
    };
    let addresses: Vec<IpAddr> = if name.eq_ignore_ascii_case(&message::name(SERVICE)) {
        PODS.iter().map(|pod| pod.parse().unwrap()).collect()
    } else {
        vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]
    };
    if rtype == TXT {
        let text: Vec<u8> = [vec![250], vec![b'.'; 250]].concat().repeat(240);
        return reply(query, &question, &[message::record(message::QNAME, TXT, 300, &text)]);
    }
    let wanted = |address: &IpAddr| matches!((address.is_ipv4(), rtype), (true, A) | (false, AAAA));
    let answers: Vec<_> = addresses.into_iter().filter(wanted).map(record).collect();
    reply(query, &question, &answers)
}

fn reply(query: &[u8], question: &[u8], answers: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = message::reply(question, answers);
    reply[..2].copy_from_slice(&query[..2]);
    reply[2] |= 0x04; // AA
    reply
}

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Sidestep,
    Cluster,
}

fn query(name: &str, rtype: u16) -> Vec<u8> {
    message::message(0x5353, 0x0100, &message::question(name, rtype), [&[], &[], &[]])
}

/// Who has sent a usable answer, if it is one.
fn who(reply: &[u8]) -> Option<Who> {
    let usable = reply.len() > 12 && reply[..2] == [0x53; 2] && reply[3] & 0x0f == 0 && reply[7] > 0;
    usable.then(|| if reply[2] & 0x04 == 0 { Who::Sidestep } else { Who::Cluster })
}

/// Asks once over UDP, from a new socket.
pub fn look_up(server: &str, name: &str, patience: Duration) -> Option<Who> {
    let socket = send(SocketAddr::new(server.parse().unwrap(), 53), name).ok()?;
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).ok()?;
    who(&reply[..length])
}

/// Asks once for what is answered without any upstream (`id.server. CH TXT`), whatever the answer is.
pub fn look_up_chaos(server: &str, patience: Duration) -> bool {
    let mut query = query("id.server", TXT);
    *query.last_mut().unwrap() = 3; // CH
    let socket = socket(SocketAddr::new(server.parse().unwrap(), 53)).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(&query).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

/// Asks once over TCP, on a new connection.
pub fn look_up_tcp(server: &str, name: &str, patience: Duration) -> Option<Who> {
    let server = SocketAddr::new(server.parse().unwrap(), 53);
    let mut connection = TcpStream::connect_timeout(&server, patience).ok()?;
    on_connection(&mut connection, name, A, patience)
}

/// Asks once more on a connection.
pub fn on_connection(connection: &mut TcpStream, name: &str, rtype: u16, patience: Duration) -> Option<Who> {
    connection.set_read_timeout(Some(patience)).unwrap();
    send_on(connection, name, rtype).ok()?;
    let mut length = [0; 2];
    connection.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut reply).ok()?;
    who(&reply)
}

/// Asks on a connection, and reads nothing.
pub fn send_on(connection: &mut TcpStream, name: &str, rtype: u16) -> io::Result<()> {
    connection.write_all(&frame(&query(name, rtype)))
}

fn send(server: SocketAddr, name: &str) -> io::Result<UdpSocket> {
    let socket = socket(server)?;
    // A query that cannot be sent is lost, and nothing else.
    let _ = socket.send(&query(name, A));
    Ok(socket)
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any)?;
    // Connected, so that only answers from where we asked are taken, as resolvers do it.
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What became of a stream of lookups. Times are those of sending, since the first one.
#[derive(Debug, Default)]
pub struct Tally {
    pub lost: Vec<Duration>,
    pub by_us: usize,
    pub by_cluster: usize,
    /// When the first one was sent.
    pub start: Option<Instant>,
}

impl Tally {
    /// When lookups were lost, in milliseconds from this instant on.
    pub fn lost_since(&self, instant: Instant) -> Vec<i128> {
        let start = self.start.unwrap();
        let ms = |d: Duration| i128::try_from(d.as_millis()).unwrap();
        let zero = ms(instant.saturating_duration_since(start));
        self.lost.iter().map(|sent| ms(*sent) - zero).collect()
    }
}

/// A lookup without an answer after this long is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// `count` lookups, one each millisecond and each from a socket of its own. Nobody asks twice.
pub fn stream(server: &str, count: u32) -> Tally {
    let server = SocketAddr::new(server.parse().unwrap(), 53);
    let mut tally = Tally { start: Some(Instant::now()), ..Tally::default() };
    let start = Instant::now();
    let mut waiting: VecDeque<(Duration, UdpSocket)> = VecDeque::new();
    for i in 0..count {
        sleep((start + Duration::from_millis(1) * i).saturating_duration_since(Instant::now()));
        waiting.push_back((start.elapsed(), send(server, &format!("n{}.cluster.local", i % 20)).unwrap()));
        if i % 8 == 0 {
            tally.collect(&mut waiting);
        }
        while waiting.front().is_some_and(|(sent, _)| start.elapsed() - *sent > PATIENCE) {
            tally.lost.extend(waiting.pop_front().map(|(sent, _)| sent));
        }
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !waiting.is_empty() {
        tally.collect(&mut waiting);
        sleep(Duration::from_millis(5));
    }
    tally.lost.extend(waiting.iter().map(|(sent, _)| *sent));
    tally.lost.sort();
    tally
}

impl Tally {
    fn collect(&mut self, waiting: &mut VecDeque<(Duration, UdpSocket)>) {
        waiting.retain(|(_, socket)| match receive(socket) {
            Some(Who::Sidestep) => {
                self.by_us += 1;
                false
            }
            Some(Who::Cluster) => {
                self.by_cluster += 1;
                false
            }
            None => true,
        });
    }
}

fn receive(socket: &UdpSocket) -> Option<Who> {
    let mut reply = [0; 512];
    loop {
        match socket.recv(&mut reply) {
            Ok(length) => return who(&reply[..length]),
            // An ICMP error of before; the answer may lie behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}
