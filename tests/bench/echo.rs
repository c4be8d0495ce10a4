//! The ceiling: a server that flips a bit. Over UDP it uses the program's own batch calls, with the same batch size,
//! and sends as many bytes as an answer has on average; so whatever a DNS server adds to it is DNS. Over TCP it
//! answers all queries that one read brought with one write.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use sidestep::listen::batch::{BATCH, Batch};
use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Bytes read at once from a connection.
const CHUNK: usize = 16 << 10;

/// Answers on `address` with `size` bytes each, or with the query's size where that is more, until killed: `workers`
/// threads for UDP and as many for TCP, which sleep while nobody connects.
pub fn serve(address: SocketAddr, size: usize, workers: usize) -> io::Result<()> {
    for _ in 0..workers {
        thread::spawn(move || streams(address, size));
    }
    for _ in 1..workers {
        thread::spawn(move || datagrams(address, size));
    }
    datagrams(address, size)
}

/// Answers datagrams on a socket of its own.
fn datagrams(address: SocketAddr, size: usize) -> io::Result<()> {
    let socket: UdpSocket = bind(address, Type::DGRAM)?.into();
    let mut batch = Batch::new(BATCH.default);
    loop {
        match batch.receive(socket.as_fd()) {
            Ok((received, _)) => {
                for i in 0..received {
                    let (query, room) = batch.query_and_room(i);
                    let len = flip(query, room, size);
                    if len > 0 {
                        batch.answer(i, len);
                    }
                }
                batch.send(socket.as_fd());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&socket, PollFlags::IN)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers connections, all on this thread.
fn streams(address: SocketAddr, size: usize) -> io::Result<()> {
    let listener = bind(address, Type::STREAM)?;
    listener.listen(BACKLOG)?;
    let listener: TcpListener = listener.into();
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let ready: Vec<bool> = {
            let streams = clients.iter().map(|client| client.stream.as_fd());
            let all = std::iter::once(listener.as_fd()).chain(streams);
            let mut all: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            poll(&mut all, None)?;
            all.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut ready = ready.into_iter();
        let accept = ready.next().unwrap_or_default();
        clients
            .retain_mut(|client| !ready.next().unwrap_or_default() || client.serve(size).unwrap_or_default());
        while accept && let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            clients.push(Client { stream, held: Vec::new() });
        }
    }
}

/// A socket that shares its address with those of the other workers.
fn bind(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A TCP client, and the beginning of a query that has not come completely.
struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Client {
    /// Answers what came. Returns whether the client is still there. It is expected to read its answers.
    fn serve(&mut self, size: usize) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let n = self.stream.read(&mut chunk)?;
        self.held.extend_from_slice(&chunk[..n]);
        let (mut answers, mut start) = (Vec::new(), 0);
        // Each message has its length before it (RFC 1035 section 4.2.2).
        while let Some((&[high, low], rest)) = self.held[start..].split_first_chunk()
            && let Some(query) = rest.get(..usize::from(u16::from_be_bytes([high, low])))
        {
            start += 2 + query.len();
            let at = answers.len();
            answers.resize(at + 2 + query.len().max(size), 0);
            let len = flip(query, &mut answers[at + 2..], size);
            answers[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
            answers.truncate(at + 2 + len);
        }
        self.held.drain(..start);
        self.stream.write_all(&answers)?;
        Ok(n > 0)
    }
}

/// Copies `query` to `room` with QR set. Returns the answer's length with its padding, 0 if it is no query. The room
/// may hold earlier answers, never zeroed: their bytes are as good as any.
fn flip(query: &[u8], room: &mut [u8], size: usize) -> usize {
    if query.len() < 3 {
        return 0;
    }
    room[..query.len()].copy_from_slice(query);
    room[2] |= 0x80;
    query.len().max(size)
}
