//! The load's way over TCP: some connections that queries follow each other on, or a connection for every query.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::load::{Wait, left};
use crate::slots::Slots;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// The connections. Slot i asks over connection i modulo their number.
pub struct Streams {
    server: SocketAddr,
    connections: Vec<Connection>,
    /// Whether each query has a connection of its own.
    single: bool,
    /// How many were opened.
    opened: u32,
    chunk: Vec<u8>,
}

/// A connection, as far as it is open.
#[derive(Default)]
struct Connection {
    stream: Option<TcpStream>,
    /// What is still to be written.
    out: Vec<u8>,
    /// The beginning of an answer that has not come completely.
    held: Vec<u8>,
    /// The slots that wait for answers here.
    asked: Vec<usize>,
}

impl Streams {
    /// `count` connections to `server`; `single`: each is closed after one answer.
    pub fn new(server: SocketAddr, count: usize, single: bool) -> Self {
        let connections = (0..count).map(|_| Connection::default()).collect();
        Self { server, connections, single, opened: 0, chunk: vec![0; CHUNK] }
    }

    /// Sends the queries of the slots `queued`.
    pub fn send(&mut self, slots: &Slots, queued: &mut Vec<usize>) -> io::Result<()> {
        let count = self.connections.len();
        for index in queued.drain(..) {
            let connection = &mut self.connections[index % count];
            if connection.stream.is_none() {
                self.opened += 1;
                connection.stream = Some(connect(self.server, self.opened)?);
            }
            let query = slots.query(index);
            // Each message has its length before it (RFC 1035 section 4.2.2).
            connection.out.extend_from_slice(&(query.len() as u16).to_be_bytes());
            connection.out.extend_from_slice(query);
            connection.asked.push(index);
        }
        // What cannot be written now is written later; a broken connection is noticed when it is read.
        self.connections.iter_mut().for_each(Connection::write);
        Ok(())
    }

    /// Hands what came to `each`, and queues again what was asked on connections that the server closed. Where nothing
    /// came it waits, if it may, at most until `until`.
    pub fn receive(
        &mut self,
        wait: Wait,
        until: Instant,
        queued: &mut Vec<usize>,
        mut each: impl FnMut(&[u8], Instant),
    ) -> io::Result<()> {
        let ready = self.ready(wait, until)?;
        let now = Instant::now();
        for number in ready {
            let connection = &mut self.connections[number];
            let open = connection.read(&mut self.chunk, now, &mut each);
            if !open || (self.single && connection.asked.is_empty()) {
                queued.append(&mut connection.asked);
                *connection = Connection::default();
            }
        }
        Ok(())
    }

    /// The connections that have something to read.
    fn ready(&self, wait: Wait, until: Instant) -> io::Result<Vec<usize>> {
        let open = self.connections.iter().enumerate();
        let open = open.filter_map(|(number, c)| Some((number, c, c.stream.as_ref()?)));
        let (numbers, mut fds): (Vec<_>, Vec<_>) = open
            .map(|(number, connection, stream)| {
                let out = if connection.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                (number, PollFd::new(stream, PollFlags::IN | out))
            })
            .unzip();
        let timeout = if wait == Wait::Spin { Timespec::default() } else { left(until) };
        poll(&mut fds, Some(&timeout))?;
        let readable = |fd: &PollFd| !fd.revents().difference(PollFlags::OUT).is_empty();
        Ok(numbers.into_iter().zip(&fds).filter(|(_, fd)| readable(fd)).map(|(number, _)| number).collect())
    }
}

impl Connection {
    /// Writes what goes.
    fn write(&mut self) {
        if let Some(stream) = &mut self.stream
            && !self.out.is_empty()
            && let Ok(n) = stream.write(&self.out)
        {
            self.out.drain(..n);
        }
    }

    /// Reads what is there, and hands each complete answer to `each`. Returns whether the connection is still open.
    fn read(&mut self, chunk: &mut [u8], now: Instant, each: &mut impl FnMut(&[u8], Instant)) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        match stream.read(chunk) {
            Ok(0) => return false,
            Ok(n) => self.held.extend_from_slice(&chunk[..n]),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let mut start = 0;
        while let Some((&[high, low], rest)) = self.held[start..].split_first_chunk()
            && let Some(answer) = rest.get(..usize::from(u16::from_be_bytes([high, low])))
        {
            start += 2 + answer.len();
            each(answer, now);
            let index = Slots::index(answer);
            self.asked.retain(|&asked| asked != index);
        }
        self.held.drain(..start);
        true
    }
}

/// Opens connection number `number`, from an address that many others do not use: the ports of one address would run
/// out, since closed connections keep theirs for a minute.
fn connect(server: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number % 4096);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    socket.connect(&server.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
