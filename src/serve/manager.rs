//! The service manager's watchdog (sd_watchdog_enabled(3)): systemd restarts a service that does not feed it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::Path;

/// The service manager's socket (sd_notify(3)).
pub struct Manager(UnixDatagram);

impl Manager {
    /// The one that the environment names, if it wants to be fed by this process.
    pub fn of_the_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        variable("WATCHDOG_USEC")?;
        if variable("WATCHDOG_PID").is_some_and(|pid| pid != std::process::id().to_string()) {
            return None;
        }
        Self::at(&variable("NOTIFY_SOCKET")?)
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

    /// Says that all is well.
    pub fn feed(&self) {
        // A manager that does not listen will say so itself, by ending us.
        let _ = self.0.send(b"WATCHDOG=1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_is_fed_at_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::at(path.to_str().unwrap()).unwrap().feed();
        let mut buffer = [0; 32];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
    }
}
