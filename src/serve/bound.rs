//! What is bound before any worker runs. Whatever fails here is fatal, and has answered nobody.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use super::Fatal;
use crate::config::{Config, HttpListener};
use crate::listen::Served;
use crate::listen::bind::{self, Presence, Sockets};
use crate::listen::guard::Guard;
use crate::node::FirewallKind;

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
        bind::is_free(address, presence(config, address))?;
    }
    if !config.node.addresses.is_empty() {
        guards.push(Guard::succeed(|| Guard::take_link(&config.node.interface))?);
        if config.node.firewall != FirewallKind::None {
            guards.push(Guard::succeed(Guard::take_rules)?);
        }
    }
    Ok(guards)
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
    let listening =
        if is_everywhere { bind::listen_everywhere(address.port()) } else { bind::listen(address, presence) };
    let (listener, bound) = listening
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|e| format!("cannot serve HTTP on {address}: {e}; give it another address with --http"))?;
    // Port 0 is chosen by the kernel, and the log is to say which it is.
    Ok((listener, HttpListener { address: bound, ..settings.clone() }))
}
