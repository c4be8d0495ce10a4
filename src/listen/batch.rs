//! Many datagrams per system call: `recvmmsg` (Linux 2.6.33) and `sendmmsg` (Linux 3.0).
//!
//! This is the only file on the road with `unsafe` in it, and it is thin on purpose: it fills in the kernel's
//! structures, makes the two calls, and hands out slices. Buffers are allocated once. Received datagrams stand
//! in slots of a fixed size; answers are packed one behind the other, so that a batch of small answers touches
//! few cache lines. Answers that come later than their batch, to misses, leave by the same call.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use crate::limit::Limit;

/// Datagrams per system call.
pub const BATCH: Limit<usize> = Limit::new(1, 64, 1024);
/// Datagrams asked for at least: a call prepares room for as many as it asks for, however few come.
const LEAST: usize = 8;
/// Late answers per system call.
const LATE: usize = 16;
/// Bytes of a query that are looked at; a longer one is malformed to us. Queries are some 40 bytes, padded
/// ones (RFC 8467) 128, and a question without its options fits 290.
pub const QUERY_SIZE: usize = 1536;
/// Bytes for the answers of one batch, per slot: the largest UDP answer that can be configured.
const ANSWER_SIZE: usize = crate::listen::UDP_SIZE.max as usize;

/// Room for one control message with the packet's own address: `in6_pktinfo` is the larger one.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Who sent a datagram, and to which of our addresses, so that the answer leaves from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client.
    pub address: SocketAddr,
    /// The address it asked and that address's interface, on wildcard binds.
    pub local: Option<(IpAddr, u32)>,
}

/// The buffers of one socket's batches.
pub struct Batch {
    capacity: usize,
    /// How many datagrams the next call asks for: more when all came, fewer when few did.
    wanted: usize,
    queries: Vec<[u8; QUERY_SIZE]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    incoming: Vec<libc::mmsghdr>,
    received: usize,
    answers: Vec<u8>,
    used: usize,
    queued: Vec<Queued>,
    outgoing: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

/// An answer that waits for [`Batch::send`]: the query's slot and the answer's place in `answers`.
#[derive(Clone, Copy)]
struct Queued {
    slot: usize,
    start: usize,
    len: usize,
}

impl Batch {
    /// Buffers for up to `capacity` datagrams a call.
    pub fn new(capacity: usize) -> Self {
        // SAFETY: all three are plain C structures for which all-zero bytes are a valid value.
        let (name, header, vector) = unsafe {
            (mem::zeroed::<libc::sockaddr_storage>(), mem::zeroed::<libc::mmsghdr>(), mem::zeroed())
        };
        Self {
            capacity,
            wanted: LEAST.min(capacity),
            queries: vec![[0; QUERY_SIZE]; capacity],
            names: vec![name; capacity],
            controls: vec![Control([0; 64]); capacity],
            incoming: vec![header; capacity],
            received: 0,
            answers: vec![0; capacity * ANSWER_SIZE],
            used: 0,
            queued: Vec::with_capacity(capacity),
            outgoing: vec![header; capacity],
            vectors: vec![vector; capacity],
        }
    }

    /// Receives what is there, without waiting, and forgets the batch before. Returns how many datagrams came, and
    /// whether there may be more: otherwise the socket was empty.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; otherwise what the kernel said.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<(usize, bool)> {
        self.received = 0;
        self.used = 0;
        self.queued.clear();
        let parts = Pointers::of(self);
        for (i, message) in self.incoming[..self.wanted].iter_mut().enumerate() {
            let header = &mut message.msg_hdr;
            // "The caller should set this field to the buffer's size before the call": recv(2).
            header.msg_name = parts.name(i).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
            header.msg_iov = parts.vector(i, parts.query(i), QUERY_SIZE);
            header.msg_iovlen = 1;
            header.msg_control = parts.control(i).cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
        }
        // SAFETY: `incoming` holds at least `wanted` headers that were filled in above, and each points at a name, one vector, one query buffer
        // and one control buffer of the stated sizes, all owned by `self`, which is borrowed for the call. No
        // timeout is passed (its documented bug is that it is checked only after each datagram).
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.incoming.as_mut_ptr(),
                self.wanted as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        // A negative number is the error; the number of datagrams otherwise.
        self.received = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        let more = self.received == self.wanted;
        if more {
            self.wanted = (self.wanted * 2).min(self.capacity);
        } else if self.received < self.wanted / 4 {
            self.wanted = (self.wanted / 2).max(LEAST.min(self.capacity));
        }
        Ok((self.received, more))
    }

    /// Datagram `i` of the last [`receive`](Self::receive), cut at [`QUERY_SIZE`].
    pub fn query(&self, i: usize) -> &[u8] {
        let len = self.incoming[..self.received][i].msg_len as usize;
        &self.queries[i][..len.min(QUERY_SIZE)]
    }

    /// Who sent datagram `i`; `None` for an address family that is not IP.
    pub fn peer(&self, i: usize) -> Option<Peer> {
        let header = &self.incoming[..self.received][i].msg_hdr;
        let address = socket_address(&self.names[i])?;
        Some(Peer { address, local: local_address(header) })
    }

    /// Datagram `i`, with room for its answer.
    pub fn query_and_room(&mut self, i: usize) -> (&[u8], &mut [u8]) {
        let len = self.incoming[..self.received][i].msg_len as usize;
        (&self.queries[i][..len.min(QUERY_SIZE)], &mut self.answers[self.used..][..ANSWER_SIZE])
    }

    /// Queues the first `len` bytes of the room as the answer to datagram `i`. At most one answer a datagram.
    pub fn answer(&mut self, i: usize, len: usize) {
        debug_assert!(len <= ANSWER_SIZE && self.queued.len() < self.received);
        self.queued.push(Queued { slot: i, start: self.used, len });
        self.used += len;
    }

    /// How many answers are queued.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Sends the queued answers without waiting, each to whom its query came from and from the address that
    /// was asked. Returns how many the kernel took; the rest is dropped, as the network might have done.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let total = self.queued.len();
        let parts = Pointers::of(self);
        for (n, q) in self.queued.iter().enumerate() {
            let from = self.incoming[q.slot].msg_hdr;
            let header = &mut self.outgoing[n].msg_hdr;
            header.msg_name = parts.name(q.slot).cast();
            header.msg_namelen = from.msg_namelen;
            header.msg_iov = parts.vector(n, parts.answer(q.start), q.len);
            header.msg_iovlen = 1;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            if from.msg_controllen > 0
                && let Some(local) = local_address(&from)
            {
                write_local_address(parts.control(q.slot), local, header);
            }
        }
        let sent = send_messages(socket, &mut self.outgoing[..total]);
        self.queued.clear();
        self.used = 0;
        sent
    }
}

/// Where each buffer of a [`Batch`] begins. All pointers that the kernel gets stem from one of these: making the
/// next one takes no reference to the buffer, and so never invalidates those made before.
struct Pointers {
    queries: *mut [u8; QUERY_SIZE],
    names: *mut libc::sockaddr_storage,
    controls: *mut Control,
    vectors: *mut libc::iovec,
    answers: *mut u8,
}

impl Pointers {
    fn of(batch: &mut Batch) -> Self {
        Self {
            queries: batch.queries.as_mut_ptr(),
            names: batch.names.as_mut_ptr(),
            controls: batch.controls.as_mut_ptr(),
            vectors: batch.vectors.as_mut_ptr(),
            answers: batch.answers.as_mut_ptr(),
        }
    }

    fn query(&self, i: usize) -> *mut libc::c_void {
        self.queries.wrapping_add(i).cast()
    }

    fn name(&self, i: usize) -> *mut libc::sockaddr_storage {
        self.names.wrapping_add(i)
    }

    fn control(&self, i: usize) -> *mut Control {
        self.controls.wrapping_add(i)
    }

    fn answer(&self, start: usize) -> *mut libc::c_void {
        self.answers.wrapping_add(start).cast()
    }

    /// Vector `i`, set to `len` bytes at `base`.
    fn vector(&self, i: usize, base: *mut libc::c_void, len: usize) -> *mut libc::iovec {
        let vector = self.vectors.wrapping_add(i);
        // SAFETY: callers count `i` along headers, of which there are as many as vectors; nothing else refers
        // to the vectors meanwhile.
        unsafe { vector.write(libc::iovec { iov_base: base, iov_len: len }) };
        vector
    }
}

/// Sends answers later than the batches of their queries, each a part of `bytes`: misses. Returns how many the kernel
/// took; the rest is dropped, as the network might have done.
pub fn send_late(socket: BorrowedFd<'_>, late: &[(Peer, Range<usize>)], bytes: &[u8]) -> usize {
    late.chunks(LATE).map(|late| send_few(socket, late, bytes)).sum()
}

/// At most [`LATE`] of them.
fn send_few(socket: BorrowedFd<'_>, late: &[(Peer, Range<usize>)], bytes: &[u8]) -> usize {
    // SAFETY: both are plain C structures for which all-zero bytes are a valid value.
    let (header, vector) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
    let (mut headers, mut vectors, mut controls) =
        ([header; LATE], [vector; LATE], [const { Control([0; 64]) }; LATE]);
    let names: [_; LATE] = std::array::from_fn(|i| late.get(i).map(|(peer, _)| SockAddr::from(peer.address)));
    let parts = headers.iter_mut().zip(&mut vectors).zip(&mut controls).zip(&names).zip(late);
    for ((((message, vector), control), name), (peer, range)) in parts {
        let (header, answer) = (&mut message.msg_hdr, &bytes[range.clone()]);
        *vector = libc::iovec { iov_base: answer.as_ptr().cast_mut().cast(), iov_len: answer.len() };
        if let Some(name) = name {
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        header.msg_iov = ptr::from_mut(vector);
        header.msg_iovlen = 1;
        if let Some(local) = peer.local {
            write_local_address(ptr::from_mut(control), local, header);
        }
    }
    send_messages(socket, &mut headers[..late.len()])
}

/// Sends without waiting. Returns how many the kernel took. What the headers point at must be there.
fn send_messages(socket: BorrowedFd<'_>, messages: &mut [libc::mmsghdr]) -> usize {
    let (mut sent, mut next) = (0, 0);
    while next < messages.len() {
        let rest = &mut messages[next..];
        // SAFETY: both callers have filled in all of these headers; they point into buffers that outlive the call.
        let n = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT as _)
        };
        match usize::try_from(n) {
            Ok(n) => {
                sent += n;
                next += n;
            }
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => break,
            // "If an error occurs, it is that of the first datagram": sendmmsg(2). Skip that one.
            Err(_) => next += 1,
        }
    }
    sent
}

/// Asks the kernel to say of each datagram to which of our addresses it was sent.
///
/// # Errors
/// What the kernel said.
pub fn want_local_address(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, option) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    // SAFETY: both options take an int, whose address and size are passed.
    let result = unsafe {
        let size = mem::size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&on).cast(), size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's address as ours.
fn socket_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in, which fits and is aligned there.
            let a = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let a = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(a.sin6_port), 0, a.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Which of our addresses a datagram was sent to: `IP_PKTINFO` (ip(7)) or `IPV6_PKTINFO` (RFC 3542 section 6).
/// Both options are switched on for wildcard binds only, so elsewhere there is nothing to find.
fn local_address(header: &libc::msghdr) -> Option<(IpAddr, u32)> {
    if header.msg_controllen == 0 {
        return None;
    }
    // SAFETY: the kernel filled the control buffer, and `msg_controllen` says how far; the CMSG macros stay
    // within it, and the level and type say which structure the data holds (read unaligned, as cmsg(3) asks).
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(header);
        while !c.is_null() {
            match ((*c).cmsg_level, (*c).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(c).cast());
                    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    // An answer may take another interface than the query did: routing decides.
                    return Some((ip.into(), 0));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(c).cast());
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    // fe80::/10 means nothing without its interface.
                    let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                    return Some((ip.into(), interface as u32));
                }
                _ => c = libc::CMSG_NXTHDR(header, c),
            }
        }
    }
    None
}

/// Makes an answer leave from `local`.
fn write_local_address(control: *mut Control, local: (IpAddr, u32), header: &mut libc::msghdr) {
    header.msg_control = control.cast();
    header.msg_controllen = mem::size_of::<Control>() as _;
    // SAFETY: the control buffer lives, nothing else refers to it, and it has room for either structure (CMSG_SPACE is 32 and 40 bytes of its 64) and
    // is aligned for cmsghdr; the length is set to what was written.
    unsafe {
        let c = libc::CMSG_FIRSTHDR(header);
        header.msg_controllen = match local {
            (IpAddr::V4(ip), _) => {
                let size = mem::size_of::<libc::in_pktinfo>() as u32;
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                (*c).cmsg_level = libc::IPPROTO_IP;
                (*c).cmsg_type = libc::IP_PKTINFO;
                (*c).cmsg_len = libc::CMSG_LEN(size) as _;
                ptr::write_unaligned(libc::CMSG_DATA(c).cast(), info);
                libc::CMSG_SPACE(size) as _
            }
            (IpAddr::V6(ip), interface) => {
                let size = mem::size_of::<libc::in6_pktinfo>() as u32;
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    ipi6_ifindex: interface as _,
                };
                (*c).cmsg_level = libc::IPPROTO_IPV6;
                (*c).cmsg_type = libc::IPV6_PKTINFO;
                (*c).cmsg_len = libc::CMSG_LEN(size) as _;
                ptr::write_unaligned(libc::CMSG_DATA(c).cast(), info);
                libc::CMSG_SPACE(size) as _
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn wildcard(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        want_local_address(socket.as_fd(), address.starts_with('[')).unwrap();
        socket
    }

    fn ask_and_answer(server: &UdpSocket, asked: SocketAddr) {
        let client = UdpSocket::bind((asked.ip(), 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // Connected: an answer from another address would not be delivered.
        client.connect(asked).unwrap();
        client.send(b"one").unwrap();
        client.send(b"two").unwrap();
        let mut batch = Batch::new(8);
        assert_eq!(batch.receive(server.as_fd()).unwrap(), (2, false));
        assert_eq!((batch.query(0), batch.query(1)), (&b"one"[..], &b"two"[..]));
        for i in 0..2 {
            let (query, room) = batch.query_and_room(i);
            let len = query.len();
            room[..len].copy_from_slice(query);
            batch.answer(i, len);
        }
        assert_eq!(batch.send(server.as_fd()), 2);
        let peer = batch.peer(0).unwrap();
        assert_eq!(peer.address, client.local_addr().unwrap());
        let mut buffer = [0; 16];
        for expected in [&b"one"[..], b"two"] {
            let n = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], expected);
        }
        for count in [0, 1, LATE, LATE * 2 + 1] {
            let late: Vec<_> = (0..count).map(|i| (peer, i..i + 2)).collect();
            let bytes: Vec<_> = (0..=count as u8).collect();
            assert_eq!(send_late(server.as_fd(), &late, &bytes), count);
            for expected in bytes.windows(2) {
                let n = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..n], expected);
            }
        }
        assert_eq!(batch.receive(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        let server = wildcard("0.0.0.0:0");
        let port = server.local_addr().unwrap().port();
        ask_and_answer(&server, SocketAddr::from(([127, 0, 0, 7], port)));
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked_over_ipv6() {
        let server = wildcard("[::]:0");
        let port = server.local_addr().unwrap().port();
        ask_and_answer(&server, SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }

    #[test]
    fn nothing_is_left_behind_however_many_come() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = Batch::new(32);
        for count in [1, 7, 8, 9, 15, 16, 32, 33, 100, 1, 1, 1, 8, 64, 3, 96, 0, 8] {
            for _ in 0..count {
                client.send_to(b"one", server.local_addr().unwrap()).unwrap();
            }
            let mut came = 0;
            loop {
                match batch.receive(server.as_fd()) {
                    Ok((n, more)) => {
                        came += n;
                        assert!(n <= 32 && (batch.wanted >= LEAST && batch.wanted <= 32));
                        if !more {
                            break;
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            assert_eq!(came, count, "the socket is empty when that is said");
        }
    }

    #[test]
    fn a_query_longer_than_its_slot_is_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[7; QUERY_SIZE + 1], server.local_addr().unwrap()).unwrap();
        client.send_to(&[8; QUERY_SIZE], server.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new(2);
        assert_eq!(batch.receive(server.as_fd()).unwrap(), (2, true));
        assert_eq!((batch.query(0).len(), batch.query(1).len()), (QUERY_SIZE, QUERY_SIZE));
    }
}
