//! The limit of open files: raised, and enough.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use super::Fatal;
use crate::config::Config;

/// What is there however little is served: standard streams, the event loops of supervisor and watchdog, signals, files
/// that are watched, netlink, a probe of an upstream.
const FIXED: u64 = 20;
/// An event loop, with what wakes it.
const LOOP: u64 = 3;
/// A guard and, from time to time, a question to ourselves over UDP and over TCP.
const ADDRESS: u64 = 3;
/// A listener, and its copy.
const HTTP: u64 = 2;
/// Upstreams and clients over TCP, at the very least.
const ROOM: u64 = 16;

/// Raises the limit as far as we may, and makes sure that it will do.
///
/// Clients and upstreams may take thousands of descriptors; the usual soft limit of 1024 is for programs that use
/// select(2), and the hard one is what the administrator means (getrlimit(2)).
///
/// # Errors
/// It will not do, and what to do about it.
pub fn provide(config: &Config, workers: usize) -> Result<(), Fatal> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "the limit of open files stays at {:?}", limit.current);
            limit.current
        }
    };
    let needed = needed(config.listen.addresses.len() as u64, config.http.len() as u64, workers as u64);
    match current {
        Some(limit) if limit < needed => Err(format!(
            "the limit of open files is {limit}, and {workers} workers at {} addresses need at least {needed}, better \
             1024 for clients over TCP: raise it (`ulimit -n`, LimitNOFILE= of a systemd unit)",
            config.listen.addresses.len()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Descriptors that are open at once when there is next to nothing to do.
fn needed(addresses: u64, http: u64, workers: u64) -> u64 {
    FIXED + addresses * ADDRESS + workers * (LOOP + 2 * addresses) + http * HTTP + ROOM
}
