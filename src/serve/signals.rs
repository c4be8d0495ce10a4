//! What the outside tells us, heard from the first moment on.
//!
//! A signal that nobody hears ends the program, or, as the first process of a container, is lost: a SIGHUP that comes
//! while the configuration is read would be the end, and a SIGTERM would be waited out for half a minute. So the main
//! thread's event loop is made before anything else, and hears signals before a file is read; what comes while
//! the program starts waits, and is a reload or a stop as soon as it serves. What comes before `main` nobody can hear.
//!
//! SIGINT is the exception: who starts the program at a terminal may end a start that takes long (it waits for an instance
//! that is ending, or for the lock of iptables), until the program serves.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The main thread's event loop, which hears signals already.
pub struct Ears {
    runtime: Runtime,
    hangup: Signal,
    user: Signal,
    terminate: Signal,
}

impl Ears {
    /// Hears SIGHUP, SIGUSR1 and SIGTERM from now on.
    ///
    /// # Errors
    /// No event loop can be had.
    pub fn open() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (hangup, user) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
        let terminate = signal(SignalKind::terminate())?;
        drop(inside);
        Ok(Self { runtime, hangup, user, terminate })
    }

    /// The event loop, and what it has heard and hears: SIGINT, too, from now on.
    ///
    /// # Errors
    /// SIGINT cannot be heard.
    pub(super) fn listen(self) -> io::Result<(Runtime, Signals)> {
        let Self { runtime, hangup, user, terminate } = self;
        let inside = runtime.enter();
        let interrupt = signal(SignalKind::interrupt())?;
        drop(inside);
        Ok((runtime, Signals { hangup, user, terminate, interrupt }))
    }
}

/// Signals that are heard.
pub(super) struct Signals {
    pub(super) hangup: Signal,
    /// SIGUSR1, by which CoreDNS reloads.
    pub(super) user: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}
