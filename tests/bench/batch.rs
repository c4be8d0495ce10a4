//! Many datagrams per system call for the load: `recvmmsg` and `sendmmsg` on a connected socket.
//!
//! The program's own batch answers what it received, to whoever sent it. The load sends first, sends other
//! datagrams than it received, and always to one server; a connected socket also spares the kernel the route
//! lookup, so that the load stays ahead of the echo. Hence this second, smaller pair of calls.
#![allow(unsafe_code, reason = "the two system calls take C structures with pointers in them")]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

/// Datagrams per system call.
pub const BATCH: usize = 64;
/// Bytes of an answer that are looked at.
const SIZE: usize = 1536;

/// Buffers for received datagrams.
pub struct Receiver {
    buffers: Vec<[u8; SIZE]>,
    headers: Vec<libc::mmsghdr>,
    /// The headers point at these, which never move.
    _vectors: Vec<libc::iovec>,
    received: usize,
}

impl Receiver {
    /// Buffers for [`BATCH`] datagrams.
    pub fn new() -> Self {
        let mut buffers = vec![[0; SIZE]; BATCH];
        let mut vectors: Vec<_> = buffers
            .iter_mut()
            .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: SIZE })
            .collect();
        let headers = vectors.iter_mut().map(header).collect();
        Self { buffers, headers, _vectors: vectors, received: 0 }
    }

    /// Receives what is there. Returns how many datagrams came. With `block` it waits for the first, at most for the
    /// socket's read timeout.
    pub fn receive(&mut self, socket: &UdpSocket, block: bool) -> io::Result<usize> {
        // "Turns on MSG_DONTWAIT after the first message has been received": recvmmsg(2).
        let flags = if block { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: each of the BATCH headers points at one vector, which points at one buffer of SIZE bytes, all
        // owned by `self`, allocated once and never moved.
        let n = unsafe {
            let count = self.headers.len() as u32;
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, flags as _, ptr::null_mut())
        };
        self.received = match usize::try_from(n) {
            Ok(n) => n,
            Err(_) => nothing_yet(io::Error::last_os_error())?,
        };
        Ok(self.received)
    }

    /// Datagram `i` of the last batch.
    pub fn datagram(&self, i: usize) -> &[u8] {
        let len = self.headers[..self.received][i].msg_len as usize;
        &self.buffers[i][..len.min(SIZE)]
    }
}

/// The kernel's structures for sending, filled in anew by each call.
pub struct Sender {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

impl Sender {
    /// Room for [`BATCH`] datagrams a call.
    pub fn new() -> Self {
        let mut vectors = vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        Self { headers: vectors.iter_mut().map(header).collect(), vectors }
    }

    /// Sends the first [`BATCH`] of `datagrams`. Returns how many the kernel took.
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (vector, datagram) in self.vectors.iter_mut().zip(datagrams) {
            *vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers point at vectors that were filled in above and point at datagrams
        // that outlive the call, which does not write to them.
        let n = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

/// A header for one vector, without an address: the socket is connected.
fn header(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr.
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// No datagrams, if that is all that `error` says.
fn nothing_yet(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}
