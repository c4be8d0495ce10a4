//! The guard that keeps an address, a link or the node's rules to one instance.
//!
//! Workers share their address (SO_REUSEPORT), so a second process of the same user could bind it as well and take half
//! of the queries in silence; and two instances at one node's rules would undo each other's. So each of them has a
//! guard: an abstract unix socket, which lives in the same network namespace as what it guards, needs no file system, and
//! goes with the process however it ends. Whoever finds the guard taken asks the kernel for the holder's process id.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::unix::UCred;
use tracing::info;

use super::bind::BindError;
use super::ending::is_ending;

/// How long a start waits for an instance that is ending: more than the kernel was seen to need for one that was killed
/// (0.3 s, while another program changed 20,000 rules).
pub const ENDING: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
pub const ENDING_STEP: Duration = Duration::from_millis(10);

/// Keeps an address, a link, or the node's rules to this instance until it is dropped.
#[derive(Debug)]
pub struct Guard(
    #[allow(dead_code, reason = "holds the name in the kernel, is never read")] Option<UnixListener>,
);

impl Guard {
    /// What `take` takes, with some patience (5 s) for a holder that has been killed and is not gone yet, and for one that
    /// cannot be seen from this pid namespace. Of the sockets of a process the guard goes last, as it was opened first:
    /// when it is free, the others have gone as well.
    ///
    /// # Errors
    /// As `take`.
    pub fn succeed(take: impl Fn() -> Result<Self, BindError>) -> Result<Self, BindError> {
        let end = Instant::now() + ENDING;
        let mut told = false;
        loop {
            match take() {
                Err(BindError::Taken { pid, .. } | BindError::Held { pid, .. })
                    if pid.is_none_or(is_ending) && Instant::now() < end =>
                {
                    if !told {
                        info!("another instance may be ending: waiting for it");
                        told = true;
                    }
                    thread::sleep(ENDING_STEP);
                }
                taken => return taken,
            }
        }
    }

    /// Takes the address, or says who has it. Any user may hold any name, so that one that is not seen to be held
    /// by root or ourselves proves nothing: then the address goes without a guard, and [`is_free`](super::bind::is_free) has the last word.
    ///
    /// # Errors
    /// [`BindError::Taken`] when another instance holds it.
    pub fn take(address: SocketAddr) -> Result<Self, BindError> {
        let refused = |error| BindError::Refused { address, protocol: "guard", error };
        match Self::of(&format!("sidestep {address}")).map_err(refused)? {
            Ok(guard) => Ok(guard),
            Err(pid) => Err(BindError::Taken { address, pid }),
        }
    }

    /// Takes a node's link, or says who has it: another instance would take the first one's addresses off it.
    ///
    /// # Errors
    /// [`BindError::Held`] when another instance holds it.
    pub fn take_link(link: &str) -> Result<Self, BindError> {
        Self::hold(format!("link {link}"))
    }

    /// Takes the node's rules, or says who has them. The rows of one instance would meet the packets of another, whatever
    /// packet filter each has them in, and the first start takes what other addresses have of them for leftovers.
    ///
    /// # Errors
    /// [`BindError::Held`] when another instance holds them.
    pub fn take_rules() -> Result<Self, BindError> {
        Self::hold("the rules of this node".to_owned())
    }

    fn hold(what: String) -> Result<Self, BindError> {
        match Self::of(&format!("sidestep {what}")) {
            Ok(Err(pid)) => Err(BindError::Held { what, pid }),
            Ok(Ok(guard)) => Ok(guard),
            // Without guards, rules and addresses have their own ways to find somebody else's.
            Err(_) => Ok(Self(None)),
        }
    }

    /// Takes a name; the inner error is the process that has it, if it is to be seen.
    fn of(name: &str) -> io::Result<Result<Self, Option<i32>>> {
        let name = UnixAddr::from_abstract_name(name)?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Ok(Self(Some(listener)))),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => match holder(&name) {
                Ok(holder) if !is_trusted(holder.uid()) => Ok(Ok(Self(None))),
                // A process of another pid namespace has no id here: the kernel says 0.
                Ok(holder) => Ok(Err(holder.pid().filter(|&pid| pid > 0))),
                // It does not listen, which ours do at once, or it has let its backlog fill.
                Err(_) => Ok(Ok(Self(None))),
            },
            Err(e) => Err(e),
        }
    }
}

/// Who holds a name: SO_PEERCRED of a connection to it (unix(7)).
fn holder(name: &UnixAddr) -> io::Result<UCred> {
    // Nobody accepts these connections; when its backlog is full, the kernel says so rather than wait.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let path = [b"\0", name.as_abstract_name().unwrap_or_default()].concat();
    socket.connect(&SockAddr::unix(std::ffi::OsStr::from_bytes(&path))?)?;
    let stream = UnixStream::from(socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::net::UnixStream::from_std(stream)?.peer_cred() })
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_learns_who_holds_the_address() {
        let address = "127.0.0.1:54321".parse().unwrap();
        let _guard = Guard::take(address).unwrap();
        let error = Guard::take(address).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    }

    #[test]
    fn asking_for_the_holder_never_waits() {
        let address = "127.0.0.1:54320".parse().unwrap();
        let _guard = Guard::take(address).unwrap();
        // More than any backlog (net.core.somaxconn is 4096): nobody accepts these connections.
        let (found, unknown): (Vec<_>, Vec<_>) =
            (0..5000).map(|_| Guard::take(address)).partition(Result::is_err);
        assert!(found.iter().all(|taken| matches!(taken, Err(BindError::Taken { .. }))));
        assert!(found.len() >= 100, "{} found, {} unknown", found.len(), unknown.len());
    }

    #[test]
    fn a_name_that_nobody_can_be_asked_about_keeps_no_address() {
        let address: SocketAddr = "127.0.0.1:54319".parse().unwrap();
        let path = format!("\0sidestep {address}");
        let silent = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        silent.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert!(Guard::take(address).is_ok(), "it is bound, and does not listen");
        silent.listen(0).unwrap();
        let filling = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.connect(&SockAddr::unix(&path)?)?;
            Ok(socket)
        };
        let full: Vec<_> = std::iter::from_fn(|| filling().ok()).take(10).collect();
        assert!(full.len() < 10, "its backlog has room for one");
        assert!(Guard::take(address).is_ok(), "its backlog is full");
    }
}
