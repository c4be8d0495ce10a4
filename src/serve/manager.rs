//! The service manager that has started us, if it wants to hear of us (sd_notify(3)): that we serve, that we stop, and,
//! from the watchdog, that all is well. Nothing of systemd is needed for it: it is a datagram to a unix socket.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::Path;

/// The way to it.
pub struct Manager(UnixDatagram);

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// We answer. Who is ordered after us may start.
    Ready,
    /// We finish what is under way.
    Stopping,
    /// Another stretch of the watchdog's time, please (sd_watchdog_enabled(3)).
    Well,
}

impl Manager {
    /// The one that the environment names.
    pub fn of_the_environment() -> Option<Self> {
        Self::at(&std::env::var("NOTIFY_SOCKET").ok()?)
    }

    /// The same, if it ends services that do not say in time that they are well, and means this process.
    pub fn with_a_watchdog() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        variable("WATCHDOG_USEC")?;
        if variable("WATCHDOG_PID").is_some_and(|pid| pid != std::process::id().to_string()) {
            return None;
        }
        Self::of_the_environment()
    }

    /// The one at this path; an abstract one begins with `@`.
    fn at(path: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        let address = match path.strip_prefix('@') {
            Some(name) => UnixAddr::from_abstract_name(name),
            None => UnixAddr::from_pathname(Path::new(path)),
        };
        socket.connect_addr(&address.ok()?).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }

    /// Tells it.
    pub fn tell(&self, state: State) {
        let message: &[u8] = match state {
            State::Ready => b"READY=1",
            State::Stopping => b"STOPPING=1",
            State::Well => b"WATCHDOG=1",
        };
        // A manager that does not listen will say so itself, by ending us.
        let _ = self.0.send(message);
    }
}

/// Tells the manager, if there is one.
pub fn tell(state: State) {
    if let Some(manager) = Manager::of_the_environment() {
        manager.tell(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_at_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.to_str().unwrap()).unwrap();
        let said = [State::Ready, State::Well, State::Stopping].map(|state| {
            manager.tell(state);
            let mut buffer = [0; 32];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        assert_eq!(said, ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
    }
}
