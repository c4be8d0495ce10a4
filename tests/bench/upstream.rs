//! The scripted upstream: answers at once, by the rule in `zone`, over UDP and pipelined TCP.
//!
//! It runs in the load's process, on the load's core. Whatever it costs, it costs the same for every server:
//! one write answers all queries that one read brought.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::zone;

/// Bytes read at once from a connection.
const CHUNK: usize = 64 << 10;

/// Starts an upstream on a port of its own, for as long as the process lives. Returns its address.
pub fn start() -> io::Result<SocketAddr> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address)?;
    thread::Builder::new().name("upstream udp".to_owned()).spawn(move || datagrams(&udp))?;
    thread::Builder::new().name("upstream tcp".to_owned()).spawn(move || {
        for stream in tcp.incoming().flatten() {
            // A thread that cannot be started is a connection that is closed: the servers try again.
            let _ = thread::Builder::new().spawn(move || connection(stream));
        }
    })?;
    Ok(address)
}

/// Answers datagrams until the socket breaks.
fn datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut query = [0; 1536];
    let mut answer = Vec::new();
    loop {
        let (n, client) = socket.recv_from(&mut query)?;
        answer.clear();
        if zone::answer(&query[..n], &mut answer) {
            socket.send_to(&answer, client)?;
        }
    }
}

/// Answers one connection until it ends, or until something comes that is not a query.
fn connection(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK];
    let (mut held, mut answers) = (0, Vec::new());
    loop {
        let n = stream.read(&mut buffer[held..])?;
        if n == 0 {
            return Ok(());
        }
        held += n;
        let mut start = 0;
        // Each message has its length before it (RFC 1035 section 4.2.2).
        while let Some(message) = frame(&buffer[start..held]) {
            start += 2 + message.len();
            let length_at = answers.len();
            answers.extend_from_slice(&[0, 0]);
            if !zone::answer(message, &mut answers) {
                return Ok(());
            }
            let length = (answers.len() - length_at - 2) as u16;
            answers[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        }
        buffer.copy_within(start..held, 0);
        held -= start;
        stream.write_all(&answers)?;
        answers.clear();
    }
}

/// The message at the beginning of `bytes`, if all of it is there.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let [high, low, rest @ ..] = bytes else { return None };
    rest.get(..usize::from(u16::from_be_bytes([*high, *low])))
}
