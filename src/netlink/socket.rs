//! A netlink socket: requests that the kernel acknowledges, dumps, batches, events.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, getsockname, recv, send, socket_with};

use super::message::{Message, Reply};

/// How long the kernel may take to answer one request.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of one read; the kernel's dumps come in pieces of at most 32 KiB (netlink(7), NLMSG_GOODSIZE).
const BUFFER: usize = 64 << 10;

const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Whom to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links and addresses (rtnetlink(7)).
    Route,
    /// Packet filter and connection tracking.
    Netfilter,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Error {
    /// There is no way to talk to the kernel, or it did not answer within [`PATIENCE`].
    Broken(io::Error),
    /// The kernel refused.
    Refused(Refused),
}

/// What the kernel refused, and with which error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which message of a transaction, counted from zero; zero where there is only one.
    pub index: usize,
    /// Its error.
    pub errno: Errno,
}

impl Error {
    /// The kernel's error, if it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(refused) => Some(refused.errno),
            Self::Broken(error) => Errno::from_io_error(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) if error.kind() == io::ErrorKind::WouldBlock => {
                write!(f, "the kernel did not answer within {} s", PATIENCE.as_secs())
            }
            Self::Broken(error) => write!(f, "{error}"),
            Self::Refused(refused) => write!(f, "{}", io::Error::from(refused.errno)),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Broken(errno.into())
    }
}

/// See the module. Closing it ends what the kernel ties to it: owned tables, memberships.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket for requests.
    ///
    /// # Errors
    /// What socket(2) says: the kernel may lack the family, or a sandbox may forbid it.
    pub fn open(family: Family) -> Result<Self, Error> {
        Self::listen(family, &[])
    }

    /// A socket that also hears of the events of these multicast groups (RTNLGRP_*, NFNLGRP_*; 1 to 32).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn listen(family: Family, groups: &[u32]) -> Result<Self, Error> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let descriptor =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&descriptor, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&descriptor, Timeout::Send, Some(PATIENCE))?;
        let groups = groups.iter().fold(0, |all, group| all | 1u32.checked_shl(group - 1).unwrap_or(0));
        bind(&descriptor, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { descriptor, sequence: 0 })
    }

    /// The same socket under a descriptor number of at least `lowest`, and closed under its old one.
    ///
    /// # Errors
    /// No such number is free below the limit of open files; the socket is lost then.
    pub fn pinned(self, lowest: i32) -> Result<Self, Error> {
        let descriptor = rustix::io::fcntl_dupfd_cloexec(&self.descriptor, lowest)?;
        Ok(Self { descriptor, sequence: self.sequence })
    }

    /// Its port: the number by which the kernel, and other programs' listings, tell it from other sockets.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn port(&self) -> Result<u32, Error> {
        Ok(SocketAddrNetlink::try_from(getsockname(&self.descriptor)?)?.pid())
    }

    /// Sends one message and waits until the kernel has done it.
    ///
    /// # Errors
    /// The kernel's own, or none came.
    pub fn request(&mut self, mut message: Message) -> Result<(), Error> {
        let first = self.next();
        send(&self.descriptor, message.seal(first, NLM_F_ACK), SendFlags::empty())?;
        self.acknowledgement(first, 0)
    }

    /// Sends two messages at once and waits until the kernel has done both, or tried to: nothing comes between them, not
    /// even the end of this process.
    ///
    /// # Errors
    /// The kernel's own to the first of them; the second is tried either way.
    pub fn pair(&mut self, mut messages: [Message; 2]) -> Result<(), Error> {
        let first = self.next();
        let second = self.next();
        let bytes =
            [messages[0].seal(first, NLM_F_ACK).to_vec(), messages[1].seal(second, NLM_F_ACK).to_vec()];
        send(&self.descriptor, &bytes.concat(), SendFlags::empty())?;
        match self.acknowledgement(first, 1) {
            Err(Error::Refused(Refused { index: 1, .. })) => Ok(()),
            done => done,
        }
    }

    /// Sends messages of one nfnetlink subsystem that the kernel does all or none of, and waits until it has.
    ///
    /// # Errors
    /// The first that the kernel refused, or none came.
    pub fn transaction(&mut self, subsystem: u8, mut messages: Vec<Message>) -> Result<(), Error> {
        const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
        const NFNL_MSG_BATCH_END: u16 = 0x11;
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        // struct nfgenmsg: no family, version 0, the subsystem in network byte order.
        let fixed = [0, 0, 0, subsystem];
        let begin = self.next();
        let mut bytes = Message::new(NFNL_MSG_BATCH_BEGIN, 0, &fixed).seal(begin, 0).to_vec();
        for (index, message) in messages.iter_mut().enumerate() {
            let flags = if index == last { NLM_F_ACK } else { 0 };
            bytes.extend_from_slice(message.seal(self.next(), flags));
        }
        bytes.extend_from_slice(Message::new(NFNL_MSG_BATCH_END, 0, &fixed).seal(self.next(), 0));
        send(&self.descriptor, &bytes, SendFlags::empty())?;
        self.acknowledgement(begin, last + 1).map_err(|error| match error {
            Error::Refused(Refused { index, errno }) => {
                Error::Refused(Refused { index: index.saturating_sub(1), errno })
            }
            broken @ Error::Broken(_) => broken,
        })
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Waits for the word on message number `last`, or on any before it that failed.
    fn acknowledgement(&mut self, first: u32, last: usize) -> Result<(), Error> {
        let mut refused: Option<Refused> = None;
        loop {
            for reply in self.receive()? {
                let index = reply.sequence.wrapping_sub(first) as usize;
                if reply.kind != NLMSG_ERROR || index > last {
                    continue; // of an earlier request that nobody waits for any more, or an event
                }
                let errno = error_of(&reply);
                if let Some(errno) = errno {
                    refused.get_or_insert(Refused { index, errno });
                }
                // Without the right to begin, a transaction is refused as a whole, with the number of its beginning.
                if index == last || (index == 0 && errno.is_some()) {
                    self.drain();
                    return refused.map_or(Ok(()), |refused| Err(Error::Refused(refused)));
                }
            }
        }
    }

    /// Throws away what is still there of an answered request.
    fn drain(&mut self) {
        let mut buffer = [0; 512];
        while recv(&self.descriptor, &mut buffer, RecvFlags::DONTWAIT).is_ok_and(|(n, _)| n > 0) {}
    }

    /// Asks for a list of things, and gathers it. A list that changed while it was read may be incomplete; it is
    /// asked for once more then.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn dump(&mut self, message: &Message) -> Result<Vec<Reply>, Error> {
        const NLM_F_DUMP_INTR: u16 = 0x10;
        const TRIES: usize = 3;
        let mut all = Vec::new();
        for _ in 0..TRIES {
            all = self.gather(message, NLM_F_DUMP)?;
            if all.iter().all(|reply| reply.flags & NLM_F_DUMP_INTR == 0) {
                break;
            }
        }
        Ok(all)
    }

    /// Asks for one thing; `None` if there is no such thing.
    ///
    /// # Errors
    /// The kernel's own, other than ENOENT and ENODEV.
    pub fn get(&mut self, message: &Message) -> Result<Option<Reply>, Error> {
        match self.gather(message, NLM_F_ACK) {
            Ok(replies) => Ok(replies.into_iter().next()),
            Err(Error::Refused(Refused { errno: Errno::NOENT | Errno::NODEV, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn gather(&mut self, message: &Message, flags: u16) -> Result<Vec<Reply>, Error> {
        let sequence = self.next();
        send(&self.descriptor, message.clone().seal(sequence, flags), SendFlags::empty())?;
        let mut all = Vec::new();
        loop {
            for reply in self.receive()? {
                if reply.sequence != sequence {
                    continue;
                }
                match reply.kind {
                    NLMSG_DONE => return Ok(all),
                    NLMSG_ERROR => {
                        return match error_of(&reply) {
                            None => Ok(all),
                            Some(errno) => Err(Error::Refused(Refused { index: 0, errno })),
                        };
                    }
                    _ => all.push(reply),
                }
            }
        }
    }

    /// The events that are there, without waiting. `None`: some were lost, and nobody knows which.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn events(&mut self) -> Result<Option<Vec<Reply>>, Error> {
        let mut buffer = vec![0; BUFFER];
        let mut all = Vec::new();
        loop {
            match recv(&self.descriptor, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((n, _)) => all.extend(Reply::all(&buffer[..n])),
                Err(Errno::AGAIN) => return Ok(Some(all)),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    self.drain();
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&self) -> Result<Vec<Reply>, Error> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match recv(&self.descriptor, &mut buffer[..], RecvFlags::empty()) {
                Ok((n, _)) => return Ok(Reply::all(&buffer[..n])),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }
}

/// The error that an NLMSG_ERROR carries; zero is an acknowledgement.
fn error_of(reply: &Reply) -> Option<Errno> {
    let code = i32::from_ne_bytes(reply.fixed()).wrapping_neg();
    (code != 0).then(|| Errno::from_raw_os_error(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTM_GETLINK: u16 = 18;
    const RTM_NEWLINK: u16 = 16;
    const IFLA_IFNAME: u16 = 3;

    #[test]
    fn the_kernel_lists_its_links() {
        let mut socket = Socket::open(Family::Route).unwrap();
        for _ in 0..2 {
            let links = socket.dump(&Message::new(RTM_GETLINK, 0, &[0; 16])).unwrap();
            assert!(links.iter().all(|link| link.kind == RTM_NEWLINK));
            assert!(links.iter().any(|link| link.attributes(16).text(IFLA_IFNAME) == Some("lo")));
        }
    }

    #[test]
    fn what_is_not_there_is_none_and_what_is_wrong_an_error() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut absent = Message::new(RTM_GETLINK, 0, &[0; 16]);
        absent.text(IFLA_IFNAME, "sidestep-none");
        assert_eq!(socket.get(&absent).unwrap(), None);
        // A header that is cut off; the kernel passes over one that is not there at all.
        let error = socket.request(Message::new(RTM_GETLINK, 0, &[0; 4])).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }
}
