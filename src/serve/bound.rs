//! What is bound before any worker runs. Whatever fails here is fatal, and has answered nobody.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Instant;

use tracing::info;

use super::Fatal;
use crate::config::{Config, HttpListener};
use crate::listen::Served;
use crate::listen::bind::{self, BindError, Presence, Sockets};
use crate::listen::ending::is_ending;
use crate::listen::guard::{ENDING, ENDING_STEP, Guard};
use crate::node::{FirewallKind, bound};

/// Everything that is ours alone from here on.
pub struct Bound {
    /// Where we listen, in the order of the configuration, with the ports that the kernel has chosen.
    pub addresses: Vec<SocketAddr>,
    /// What each worker does at each of these.
    pub served: Vec<Vec<Arc<Served>>>,
    /// Each worker's sockets, a pair an address.
    pub sockets: Vec<Vec<(Sockets, Arc<Served>)>>,
    /// HTTP's, with the ports that the kernel has chosen.
    pub http: Vec<(TcpListener, HttpListener)>,
    /// Addresses, link and rules, kept to this instance for as long as these live.
    pub guards: Vec<Guard>,
}

/// Guards, then binds, all that the configuration names, for so many workers.
///
/// # Errors
/// The first that cannot be had, and what to do about it.
pub fn bind(config: &Config, workers: usize) -> Result<Bound, Fatal> {
    let guards = guard(config)?;
    let mut addresses = Vec::new();
    let mut served = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in &config.listen.addresses {
        let (bound, pairs) = bind::bind(address, presence(config, address), workers)?;
        addresses.push(bound);
        let here: Vec<Arc<Served>> = pairs.iter().map(|_| Arc::default()).collect();
        for ((of_worker, pair), served) in sockets.iter_mut().zip(pairs).zip(&here) {
            of_worker.push((pair, Arc::clone(served)));
        }
        served.push(here);
    }
    let http = config.http.iter().map(|http| bind_http(http, presence(config, http.address), &config.http));
    let http = http.collect::<Result<_, _>>()?;
    Ok(Bound { addresses, served, sockets, http, guards })
}

/// Makes sure that nobody else is there: neither another instance of ours, nor another program.
fn guard(config: &Config) -> Result<Vec<Guard>, Fatal> {
    let mut guards = Vec::new();
    // Port 0 is a port of our own, which nobody else can have.
    for &address in config.listen.addresses.iter().filter(|a| a.port() != 0) {
        guards.push(Guard::succeed(|| Guard::take(address))?);
        let is_taken =
            |error: &BindError| matches!(error, BindError::Refused { error, .. } if is_in_use(error));
        succeed(address, || bind::is_free(address, presence(config, address)), is_taken)?;
    }
    if !config.node.addresses.is_empty() {
        guards.push(Guard::succeed(|| Guard::take_link(&config.node.interface))?);
        if config.node.firewall != FirewallKind::None {
            guards.push(Guard::succeed(Guard::take_rules)?);
        }
    }
    Ok(guards)
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// What `take` takes at an address. Beside another program, the same patience as beside another instance
/// ([`Guard::succeed`]): with a process that is ending, and with one that cannot be seen from this pid namespace. In an
/// update that starts the new pod first, that is the old one, node-cache's.
fn succeed<T, E>(
    address: SocketAddr,
    take: impl Fn() -> Result<T, E>,
    is_taken: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + ENDING;
    let mut told = false;
    loop {
        match take() {
            Err(error) if is_taken(&error) && Instant::now() < end => {
                if !told {
                    // Nobody: it is gone since.
                    if let Some(bound) = bound::find(&BTreeSet::from([address])) {
                        let process = bound.process.and_then(|process| i32::try_from(process).ok());
                        if !process.is_none_or(is_ending) {
                            return Err(error);
                        }
                        info!("{bound}, which may be ending: waiting for it");
                    }
                    told = true;
                }
                sleep(ENDING_STEP);
            }
            taken => return taken,
        }
    }
}

/// The node's addresses are put up later.
fn presence(config: &Config, address: SocketAddr) -> Presence {
    if config.node.addresses.contains(&address.ip()) { Presence::Coming } else { Presence::Expected }
}

/// `[::]` is IPv4 too, as Go's programs have it, unless one of `all` wants the port for IPv4 alone.
fn bind_http(
    settings: &HttpListener,
    presence: Presence,
    all: &[HttpListener],
) -> Result<(TcpListener, HttpListener), Fatal> {
    let address = settings.address;
    let is_v4 = |other: &HttpListener| other.address.is_ipv4() && other.address.port() == address.port();
    let is_everywhere = address.ip() == Ipv6Addr::UNSPECIFIED && !all.iter().any(is_v4);
    let listen = || match is_everywhere {
        true => bind::listen_everywhere(address.port()),
        false => bind::listen(address, presence),
    };
    let (listener, bound) = succeed(address, listen, is_in_use)
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|e| format!("cannot serve HTTP on {address}: {e}; give it another address with --http"))?;
    // Port 0 is chosen by the kernel, and the log is to say which it is.
    Ok((listener, HttpListener { address: bound, ..settings.clone() }))
}
