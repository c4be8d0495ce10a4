//! A small cluster: one pod, its node, and two servers of the cluster DNS.
//!
//! ```text
//!   pod 10.244.0.2 ---- 10.244.0.1  node  10.244.1.1 ---- 10.244.1.10 cluster DNS, pod 1
//!                         169.254.20.10 sidestep     \--- 10.244.1.11 cluster DNS, pod 2
//!                          10.96.0.10 the Service
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Trouble;
use super::place::Place;
use super::responder::{Delay, Responders};
use super::service::{self, Spread};
use super::wires::{self, End};

/// The ClusterIP of the cluster DNS.
pub(super) const SERVICE: SocketAddr = at(Ipv4Addr::new(10, 96, 0, 10));
/// The link-local address that sidestep holds.
pub(super) const LOCAL: SocketAddr = at(Ipv4Addr::new(169, 254, 20, 10));
/// The node's address as the pod sees it.
pub(super) const NODE: SocketAddr = at(TO_POD);
/// The cluster DNS pods.
pub(super) const SERVERS: &[Ipv4Addr] = &[Ipv4Addr::new(10, 244, 1, 10), Ipv4Addr::new(10, 244, 1, 11)];

const TO_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const TO_SERVERS: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

const fn at(ip: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(ip), 53)
}

/// See the module. Dropping it removes all of it.
pub(super) struct World {
    /// Where clients ask.
    pub pod: Place,
    /// Where packets are translated, tracked or not, and where sidestep runs.
    pub node: Place,
    _servers: Responders,
    _cluster: Place,
}

impl World {
    /// Builds it, with rows for the Service.
    pub fn new(delay: Delay, spread: Spread) -> Result<Self, Trouble> {
        let [pod, node, cluster] = [Place::new("pod")?, Place::new("node")?, Place::new("cluster")?];
        for place in [&pod, &node, &cluster] {
            wires::loopback(place)?;
        }
        wires::connect(
            End { place: &node, name: "pod0", addresses: &[TO_POD] },
            End { place: &pod, name: "eth0", addresses: &[POD] },
        )?;
        wires::connect(
            End { place: &node, name: "eth0", addresses: &[TO_SERVERS] },
            End { place: &cluster, name: "eth0", addresses: SERVERS },
        )?;
        for link in ["pod0", "eth0"] {
            wires::forward(&node, link)?;
        }
        wires::default_route(&pod, TO_POD)?;
        wires::default_route(&cluster, TO_SERVERS)?;
        let servers = Responders::start(&cluster, SERVERS, delay)?;
        service::translate(&node, SERVICE, SERVERS, spread)?;
        Ok(Self { pod, node, _servers: servers, _cluster: cluster })
    }
}
