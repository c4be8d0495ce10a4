//! The load's way over UDP: one socket, or several where several workers share the server's port, since the kernel
//! chooses the worker by the client's port.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;

use crate::batch::{BATCH, Receiver, Sender};
use crate::load::{Wait, left};
use crate::slots::Slots;

/// Bytes of answers that may wait on a socket, as far as the kernel lets us.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The longest wait in one system call.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// The sockets. Slot i asks over socket i modulo their number.
pub struct Datagrams {
    sockets: Vec<UdpSocket>,
    receiver: Receiver,
    sender: Sender,
}

impl Datagrams {
    /// `count` sockets that ask `server`.
    pub fn new(server: SocketAddr, count: usize) -> io::Result<Self> {
        let socket = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(READ_TIMEOUT))?;
            Ok(socket)
        };
        let sockets = (0..count).map(socket).collect::<io::Result<_>>()?;
        Ok(Self { sockets, receiver: Receiver::new(), sender: Sender::new() })
    }

    /// Sends the queries of the slots `queued`.
    pub fn send(&mut self, slots: &Slots, queued: &mut Vec<usize>) -> io::Result<()> {
        for (number, socket) in self.sockets.iter().enumerate() {
            let ours = |i: &&usize| **i % self.sockets.len() == number;
            let mut sent = 0;
            loop {
                let queries = queued.iter().filter(ours).skip(sent).map(|&i| slots.query(i)).take(BATCH);
                match self.sender.send(socket, queries)? {
                    0 => break,
                    n => sent += n,
                }
            }
        }
        queued.clear();
        Ok(())
    }

    /// Hands what came to `each`. Where nothing came it waits for the first, if it may, at most until `until`.
    pub fn receive(
        &mut self,
        wait: Wait,
        until: Instant,
        mut each: impl FnMut(&[u8], Instant),
    ) -> io::Result<()> {
        // The load and the upstream share a core: where one call can do the waiting, there are not three.
        let may_sleep = wait == Wait::Sleep && self.sockets.len() == 1;
        let block = may_sleep && until.saturating_duration_since(Instant::now()) >= READ_TIMEOUT;
        let mut received = 0;
        for round in 0..2 {
            for socket in &self.sockets {
                let count = self.receiver.receive(socket, block)?;
                received += count;
                let now = Instant::now();
                (0..count).for_each(|i| each(self.receiver.datagram(i), now));
            }
            if received > 0 || block || wait == Wait::Spin || round > 0 {
                break;
            }
            let mut fds: Vec<_> = self.sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
            poll(&mut fds, Some(&left(until)))?;
        }
        Ok(())
    }
}
