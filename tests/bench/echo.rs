//! The ceiling: a server that flips a bit. It uses the program's own batch calls, with the same batch size, and
//! sends as many bytes as an answer has on average; so whatever a DNS server adds to it is DNS.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use sidestep::listen::batch::{BATCH, Batch};

/// Answers on `address` with `size` bytes each, or with the query's size where that is more, until killed.
pub fn serve(address: SocketAddr, size: usize) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let mut batch = Batch::new(BATCH.default);
    loop {
        match batch.receive(socket.as_fd()) {
            Ok((received, _)) => {
                for i in 0..received {
                    flip(&mut batch, i, size);
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

/// Answers datagram `i` with itself, QR set, and padding. The room holds earlier answers, never zeroed: its
/// bytes are as good as any.
fn flip(batch: &mut Batch, i: usize, size: usize) {
    let (query, room) = batch.query_and_room(i);
    if query.len() < 3 {
        return;
    }
    let len = query.len();
    room[..len].copy_from_slice(query);
    room[2] |= 0x80;
    batch.answer(i, len.max(size));
}
