//! A small byte-level DNS server that does as a script says, right or wrong.
//!
//! It listens on UDP and TCP at the same loopback port, on a thread of its own. The script is a closure from
//! a query to a list of [`Action`]s. On TCP it works either like CoreDNS, one query at a time per
//! connection, in order, or on all queries at once. Dropping or [killing](Scripted::kill) it closes all its
//! sockets, as the end of a process would; [`Scripted::start_at`] starts another at the same address.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use super::message::{self, QNAME, REPLY, record, word};

/// What a script sees of a query.
#[derive(Clone, Debug)]
pub struct Query {
    /// The name as text, lower case, without the last dot; `.` for the root.
    pub name: String,
    pub rtype: u16,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// Which connection, counted from 0 over the server's life; 0 for UDP.
    pub connection: usize,
    /// How many queries came before it, over both transports.
    pub number: usize,
    pub came: Instant,
    /// The message as it came.
    pub message: Vec<u8>,
}

/// What the server does with a query; several are done one after the other.
#[derive(Clone, Debug)]
pub enum Action {
    /// A right answer: one A or AAAA record, for other types no data.
    Answer,
    /// A right answer with this response code and no records.
    Rcode(u8),
    /// An empty answer with TC set.
    Truncated,
    /// An answer with another id.
    WrongId,
    /// An answer to another question.
    WrongQuestion,
    /// This message, framed on TCP.
    Message(Vec<u8>),
    /// These bytes as they are, on UDP a packet.
    Bytes(Vec<u8>),
    /// A right answer, byte by byte (TCP).
    Bytewise,
    /// The first half of a right answer (TCP).
    Half,
    /// A right answer is made but kept back until [`Action::Release`].
    Hold,
    /// All answers kept back go out in one write, the newest first.
    Release,
    Wait(Duration),
    /// Closes the connection (FIN).
    Close,
    /// Resets the connection (RST).
    Reset,
    /// Nothing, ever: the connection stays open.
    Silence,
}

/// How the queries of one connection are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One at a time, as CoreDNS does.
    InOrder,
    /// All at once.
    AtOnce,
}

type Script = dyn Fn(&Query) -> Vec<Action> + Send + Sync;

/// The server; see the module.
pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Query>>>,
    connections: Arc<Mutex<Vec<Connected>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The life of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    pub opened: Instant,
    /// When the client closed it, or we did.
    pub closed: Option<Instant>,
}

impl Scripted {
    /// Starts at a free port of 127.0.0.1.
    pub fn start(order: Order, script: impl Fn(&Query) -> Vec<Action> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), order, script)
    }

    /// Starts one all of whose names have the address 192.0.2.`last`.
    pub fn with_address(last: u8) -> Self {
        Self::start(Order::AtOnce, move |query| {
            let answer = record(QNAME, 1, 300, &[192, 0, 2, last]);
            let question = message::question(&query.name, query.rtype);
            vec![Action::Message(message::message(
                word(&query.message, 0),
                REPLY,
                &question,
                [&[answer], &[], &[]],
            ))]
        })
    }

    /// Starts at this address.
    pub fn start_at(
        address: SocketAddr,
        order: Order,
        script: impl Fn(&Query) -> Vec<Action> + Send + Sync + 'static,
    ) -> Self {
        let (tcp, udp) = bind(address);
        let address = tcp.local_addr().unwrap();
        let server =
            Server { script: Box::new(script), order, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections) = (server.seen.clone(), server.connections.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let server = Rc::new(server);
                spawn_local(server.clone().serve_udp(UdpSocket::from_std(udp).unwrap()));
                spawn_local(server.serve_tcp(TcpListener::from_std(tcp).unwrap()));
                let _ = stopped.await;
            });
        });
        Self { address, seen, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// A well-behaved server that answers everything at once.
    pub fn good() -> Self {
        Self::start(Order::AtOnce, |_| vec![Action::Answer])
    }

    /// All queries so far.
    pub fn seen(&self) -> Vec<Query> {
        self.seen.lock().unwrap().clone()
    }

    /// How often this name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|q| q.name == name).count()
    }

    /// All TCP connections so far.
    pub fn connections(&self) -> Vec<Connected> {
        self.connections.lock().unwrap().clone()
    }

    /// TCP connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.connections.lock().unwrap().iter().filter(|c| c.closed.is_none()).count()
    }

    /// Ends it as if its process was killed.
    pub fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Both sockets at one port. With port 0 a port is looked for that is free on both.
fn bind(address: SocketAddr) -> (std::net::TcpListener, std::net::UdpSocket) {
    let mut last = None;
    for _ in 0..50 {
        match try_bind(address) {
            Ok(sockets) => return sockets,
            Err(e) => last = Some(e),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("cannot bind {address}: {last:?}");
}

fn try_bind(address: SocketAddr) -> std::io::Result<(std::net::TcpListener, std::net::UdpSocket)> {
    let tcp = std::net::TcpListener::bind(address)?;
    let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((tcp, udp))
}

struct Server {
    script: Box<Script>,
    order: Order,
    seen: Arc<Mutex<Vec<Query>>>,
    connections: Arc<Mutex<Vec<Connected>>>,
}

/// What is to be done with the socket.
enum Out {
    Bytes(Vec<u8>),
    Close,
    Reset,
}

impl Server {
    async fn serve_udp(self: Rc<Self>, socket: UdpSocket) {
        let socket = Rc::new(socket);
        loop {
            let mut buffer = vec![0; 65_535];
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            buffer.truncate(length);
            let (server, socket) = (self.clone(), socket.clone());
            spawn_local(async move {
                let (out, mut packets) = mpsc::unbounded_channel();
                let query = server.see(buffer, false, 0);
                let mut held = Vec::new();
                let sender = async {
                    while let Some(packet) = packets.recv().await {
                        if let Out::Bytes(bytes) = packet {
                            let _ = socket.send_to(&bytes, from).await;
                        }
                    }
                };
                tokio::join!(server.act(&query, out, &mut held), sender);
            });
        }
    }

    async fn serve_tcp(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let number = {
                let mut connections = self.connections.lock().unwrap();
                connections.push(Connected { opened: Instant::now(), closed: None });
                connections.len() - 1
            };
            let server = self.clone();
            spawn_local(async move {
                server.serve(stream, number).await;
                server.connections.lock().unwrap()[number].closed = Some(Instant::now());
            });
        }
    }

    async fn serve(self: &Rc<Self>, stream: TcpStream, number: usize) {
        let (reader, writer) = stream.into_split();
        let (out, outbox) = mpsc::unbounded_channel();
        tokio::select! {
            () = self.read(reader, number, out) => {}
            () = write(writer, outbox) => {}
        }
    }

    async fn read(
        self: &Rc<Self>,
        mut reader: OwnedReadHalf,
        number: usize,
        out: mpsc::UnboundedSender<Out>,
    ) {
        let mut held = Vec::new();
        while let Ok(length) = reader.read_u16().await {
            let mut message = vec![0; usize::from(length)];
            if reader.read_exact(&mut message).await.is_err() {
                return;
            }
            let query = self.see(message, true, number);
            if self.order == Order::AtOnce && !self.holds(&query) {
                let (server, out) = (self.clone(), out.clone());
                spawn_local(async move { server.act(&query, out, &mut Vec::new()).await });
            } else {
                self.act(&query, out.clone(), &mut held).await;
            }
        }
    }

    /// Kept answers are the connection's: such queries are worked on in order in any case.
    fn holds(&self, query: &Query) -> bool {
        (self.script)(query).iter().any(|a| matches!(a, Action::Hold | Action::Release))
    }

    fn see(&self, message: Vec<u8>, tcp: bool, connection: usize) -> Query {
        let mut seen = self.seen.lock().unwrap();
        let (name, rtype) = question(&message);
        let query = Query { name, rtype, tcp, connection, number: seen.len(), came: Instant::now(), message };
        seen.push(query.clone());
        query
    }

    async fn act(&self, query: &Query, out: mpsc::UnboundedSender<Out>, held: &mut Vec<Vec<u8>>) {
        let frame = |message: Vec<u8>| {
            if !query.tcp {
                return message;
            }
            let mut frame = (message.len() as u16).to_be_bytes().to_vec();
            frame.extend(message);
            frame
        };
        let send = |bytes| drop(out.send(Out::Bytes(bytes)));
        for action in (self.script)(query) {
            match action {
                Action::Answer => send(frame(query.answer())),
                Action::Rcode(rcode) => send(frame(query.rcode(rcode))),
                Action::Truncated => send(frame(query.truncated())),
                Action::WrongId => {
                    let mut message = query.answer();
                    message[0] ^= 0x55;
                    send(frame(message));
                }
                Action::WrongQuestion => {
                    let mut message = query.answer();
                    message[13] ^= 0x03; // the first letter of the name
                    send(frame(message));
                }
                Action::Message(message) => send(frame(message)),
                Action::Bytes(bytes) => send(bytes),
                Action::Bytewise => {
                    for byte in frame(query.answer()) {
                        send(vec![byte]);
                        tokio::time::sleep(Duration::from_micros(200)).await;
                    }
                }
                Action::Half => {
                    let mut bytes = frame(query.answer());
                    bytes.truncate(bytes.len() / 2);
                    send(bytes);
                }
                Action::Hold => held.push(frame(query.answer())),
                Action::Release => {
                    held.reverse();
                    send(held.concat());
                    held.clear();
                }
                Action::Wait(time) => tokio::time::sleep(time).await,
                Action::Close => drop(out.send(Out::Close)),
                Action::Reset => drop(out.send(Out::Reset)),
                Action::Silence => std::future::pending().await,
            }
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut outbox: mpsc::UnboundedReceiver<Out>) {
    while let Some(out) = outbox.recv().await {
        match out {
            Out::Bytes(bytes) => {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Out::Close => return,
            Out::Reset => {
                let stream: &TcpStream = writer.as_ref();
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                return;
            }
        }
    }
}

impl Query {
    /// The right answer.
    pub fn answer(&self) -> Vec<u8> {
        let rdata: &[u8] = match self.rtype {
            1 => &[192, 0, 2, 1],
            28 => &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            _ => return self.rcode(0),
        };
        let mut message = self.head(0, u16::from(true));
        message.extend(b"\xc0\x0c");
        message.extend(self.rtype.to_be_bytes());
        message.extend(b"\x00\x01\x00\x00\x00\x3c");
        message.extend((rdata.len() as u16).to_be_bytes());
        message.extend(rdata);
        self.end(message, &[])
    }

    /// An answer without records.
    pub fn rcode(&self, rcode: u8) -> Vec<u8> {
        self.end(self.head(rcode, 0), &[])
    }

    /// An empty answer with TC set.
    pub fn truncated(&self) -> Vec<u8> {
        let mut message = self.rcode(0);
        message[2] |= 0x02;
        message
    }

    /// The right answer, with these options in its OPT record.
    pub fn answer_with_options(&self, options: &[u8]) -> Vec<u8> {
        let mut message = self.answer();
        if self.has_opt() {
            message.truncate(message.len() - 11);
        }
        self.end(message, options)
    }

    /// Whether the query has an OPT record; ours is the only additional record we know.
    pub fn has_opt(&self) -> bool {
        self.message[11] > 0
    }

    /// Header and question.
    fn head(&self, rcode: u8, answers: u16) -> Vec<u8> {
        let end = question_end(&self.message);
        let mut message = self.message[..end].to_vec();
        message[2] = 0x81; // QR, RD
        message[3] = 0x80 | rcode; // RA
        message[6..8].copy_from_slice(&answers.to_be_bytes());
        message[8..12].copy_from_slice(&[0, 0, 0, u8::from(self.has_opt())]);
        message
    }

    fn end(&self, mut message: Vec<u8>, options: &[u8]) -> Vec<u8> {
        if self.has_opt() {
            message.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00");
            message.extend((options.len() as u16).to_be_bytes());
            message.extend(options);
        }
        message
    }
}

/// Name and type of the first question.
fn question(message: &[u8]) -> (String, u16) {
    let mut labels = Vec::new();
    let mut at = 12;
    while message[at] > 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let name = if labels.is_empty() { ".".into() } else { labels.join(".") };
    (name, u16::from_be_bytes([message[at + 1], message[at + 2]]))
}

fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] > 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}
