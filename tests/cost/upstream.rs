//! The upstream: answers at once, by the rule in `zone`, all queries of one read in one write, the last one first.
//!
//! It is a thread of whoever counts, which is not the process that is counted. Answers out of order tell the program
//! that no query waits for another, so that no clock decides what it does next.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::zone;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Starts an upstream on a port of its own, for as long as the process lives.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A thread that cannot be started is a connection that is closed: the program tries again.
            let _ = thread::Builder::new().spawn(move || connection(stream));
        }
    })?;
    Ok(address)
}

/// Answers one connection until it ends.
fn connection(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        let n = stream.read(&mut buffer[held..])?;
        if n == 0 {
            return Ok(());
        }
        held += n;
        let (mut start, mut answers) = (0, Vec::new());
        // Each message has its length before it (RFC 1035 section 4.2.2).
        while let Some((length, rest)) = buffer[start..held].split_first_chunk::<2>()
            && let Some(query) = rest.get(..usize::from(u16::from_be_bytes(*length)))
        {
            start += 2 + query.len();
            let mut answer = vec![0, 0];
            zone::answer(query, &mut answer);
            let length = (answer.len() - 2) as u16;
            answer[..2].copy_from_slice(&length.to_be_bytes());
            answers.push(answer);
        }
        buffer.copy_within(start..held, 0);
        held -= start;
        answers.reverse();
        stream.write_all(&answers.concat())?;
    }
}
