//! Pods reach the link's addresses through their default route, in the ways that networks are built: a routed veth
//! for each pod, one that asks for everything on the link (proxy ARP), and a bridge that pods are ports of.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sidestep::listen::bind::{Presence, Sockets, bind, is_free};
use sidestep::node::LinkKind;
use sidestep::node::link::Link;

use super::namespace::{Namespace, ip};

const NAME: &str = "nodelocaldns";
const PATIENCE: Duration = Duration::from_secs(3);

fn addresses() -> [IpAddr; 2] {
    ["169.254.20.10".parse().unwrap(), "fd00:10::10".parse().unwrap()]
}

/// A node and one pod. PID stands for the pod, DEV for its end of the wire.
struct Cluster {
    node: Namespace,
    pod: Namespace,
}

impl Cluster {
    fn new(node_script: &str, pod_script: &str) -> Self {
        let (node, pod) = (Namespace::new(), Namespace::new());
        let script = node_script.replace("PID", &pod.id().to_string());
        node.run(move || run(&script));
        let script = pod_script.to_owned();
        pod.run(move || run(&script));
        Self { node, pod }
    }
}

fn run(script: &str) {
    script
        .split(';')
        .map(str::trim)
        .filter(|command| !command.is_empty())
        .for_each(|command| drop(ip(command)));
}

/// How Calico, and kube-router without a bridge, do it: /32 on either end.
const ROUTED: (&str, &str) = (
    "link add pod0 type veth peer name eth0 netns PID; link set pod0 up; address add 10.1.0.1/32 dev pod0; \
     route add 10.1.0.2/32 dev pod0; address add fd01::1/64 dev pod0 nodad",
    "link set eth0 up; address add 10.1.0.2/32 dev eth0; route add 10.1.0.1 dev eth0; \
     route add default via 10.1.0.1; address add fd01::2/64 dev eth0 nodad; route add default via fd01::1",
);
/// The pod asks for every address by ARP. Not so for IPv6: no machine answers neighbour discovery for an address of
/// another of its links, so networks give a gateway there.
const ON_LINK: (&str, &str) = (
    "link add pod0 type veth peer name eth0 netns PID; link set pod0 up; route add 10.1.0.2/32 dev pod0; \
     address add fd01::1/64 dev pod0 nodad",
    "link set eth0 up; address add 10.1.0.2/32 dev eth0; route add default dev eth0; \
     address add fd01::2/64 dev eth0 nodad; route add default via fd01::1",
);
/// How flannel, and the bridge plugin, do it.
const BRIDGED: (&str, &str) = (
    "link add cni0 type bridge; link set cni0 up; address add 10.1.0.1/24 dev cni0; \
     address add fd01::1/64 dev cni0 nodad; link add pod0 type veth peer name eth0 netns PID; \
     link set pod0 master cni0; link set pod0 up",
    "link set eth0 up; address add 10.1.0.2/24 dev eth0; route add default via 10.1.0.1; \
     address add fd01::2/64 dev eth0 nodad; route add default via fd01::1",
);

/// Sends back one datagram and one connection's bytes.
fn echo(sockets: Sockets) {
    let Sockets { udp, tcp } = sockets;
    udp.set_nonblocking(false).unwrap();
    tcp.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], from);
            if buffer[0] == b'.' {
                break;
            }
        }
    });
    std::thread::spawn(move || accept(&tcp));
}

fn accept(tcp: &TcpListener) {
    while let Ok((mut stream, _)) = tcp.accept() {
        let mut buffer = [0; 1];
        if stream.read_exact(&mut buffer).is_ok() {
            let _ = stream.write_all(&buffer);
        }
        if buffer[0] == b'.' {
            break;
        }
    }
}

/// Whether an address answers over UDP, and over TCP, from where we are. A full stop ends the echo.
fn asks(address: SocketAddr, what: &[u8; 1]) -> (std::io::Result<()>, std::io::Result<()>) {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let udp = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(what)?;
        socket.recv(&mut [0; 1]).map(drop)
    };
    let tcp = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(what)?;
        stream.read_exact(&mut [0; 1])
    };
    (udp(), tcp())
}

/// In the order of a start: bound, found nowhere else, and then put up.
fn a_pod_is_served(kind: LinkKind, (node, pod): (&str, &str), sysctls: &'static [(&str, &str)]) {
    let cluster = Cluster::new(node, pod);
    let (link, ports) = cluster.node.run(move || {
        for (name, value) in sysctls {
            std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
        }
        let ports = addresses().map(|address| {
            let address = SocketAddr::new(address, 53);
            is_free(address, Presence::Coming).unwrap();
            let (bound, mut sockets) = bind(address, Presence::Coming, 1).unwrap();
            echo(sockets.remove(0));
            bound
        });
        let mut link = Link::new(NAME, kind, &addresses());
        link.up().unwrap();
        (link, ports)
    });
    for address in ports {
        let (udp, tcp) = cluster.pod.run(move || asks(address, b"."));
        udp.unwrap_or_else(|error| panic!("{address} over UDP, {kind:?}: {error}"));
        tcp.unwrap_or_else(|error| panic!("{address} over TCP, {kind:?}: {error}"));
    }
    drop(link);
}

#[test]
fn in_the_ways_that_networks_are_built() {
    let _turn = crate::turn();
    for kind in [LinkKind::Bridge, LinkKind::Tun, LinkKind::Loopback, LinkKind::Auto] {
        for wires in [ROUTED, ON_LINK, BRIDGED] {
            a_pod_is_served(kind, wires, &[]);
        }
    }
}

#[test]
fn with_the_sysctls_that_nodes_have() {
    const STRICT: &[(&str, &str)] = &[
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
    ];
    const IPVS: &[(&str, &str)] = &[("ipv4/conf/all/arp_ignore", "1"), ("ipv4/conf/all/arp_announce", "2")];
    let _turn = crate::turn();
    for kind in [LinkKind::Bridge, LinkKind::Tun] {
        for wires in [ROUTED, BRIDGED] {
            a_pod_is_served(kind, wires, STRICT);
            a_pod_is_served(kind, wires, IPVS);
        }
        a_pod_is_served(kind, ON_LINK, STRICT);
    }
}

#[test]
fn on_a_bridge_that_has_lost_its_carrier() {
    const LOST: &str = "link add nodelocaldns type bridge; link set nodelocaldns up; \
        link add port type veth peer name far; link set port master nodelocaldns; link del port";
    let _turn = crate::turn();
    let shown = Namespace::new().run(|| {
        run(LOST);
        ip("link show dev nodelocaldns")
    });
    assert!(shown.contains("NO-CARRIER"), "this would test something else: {shown}");
    a_pod_is_served(LinkKind::Auto, (&format!("{}; {LOST}", ROUTED.0), ROUTED.1), &[]);
}
