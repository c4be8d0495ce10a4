//! Pods ask: nothing is tracked, and without us the cluster DNS answers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sidestep::node::iptables::Family;
use sidestep::node::{Firewall, Plan};

use super::tools::{Folder, VARIANTS, iptables};
use super::{classic, plan};
use crate::namespace::{Namespace, ip};

const PATIENCE: Duration = Duration::from_secs(2);
const OURS: [&str; 2] = ["169.254.20.10", "fd00:53::10"];
const CLUSTER: [&str; 2] = ["10.9.9.9", "fd99::9"];

/// A node with our addresses and the cluster's, and a pod behind a routed veth.
struct Cluster {
    node: Namespace,
    pod: Namespace,
}

impl Cluster {
    fn new() -> Self {
        let (node, pod) = (Namespace::new(), Namespace::new());
        let id = pod.id();
        node.run(move || {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
            }
            ip(&format!("link add pod0 type veth peer name eth0 netns {id}"));
            ip("link set pod0 up");
            ip("address add 10.1.0.1/24 dev pod0");
            ip("address add fd01::1/64 dev pod0 nodad");
            for address in ["169.254.20.10/32", "10.9.9.9/32", "fd00:53::10/128", "fd99::9/128"] {
                ip(&format!("address add {address} dev lo"));
            }
        });
        pod.run(|| {
            ip("link set eth0 up");
            ip("address add 10.1.0.2/24 dev eth0");
            ip("address add fd01::2/64 dev eth0 nodad");
            ip("route add default via 10.1.0.1");
            ip("route add default via fd01::1");
        });
        Self { node, pod }
    }

    /// Something that answers with one byte, at both addresses, over UDP and TCP.
    fn answer(&self, addresses: [&'static str; 2], byte: u8) -> Responder {
        self.node.run(move || {
            let stop = Arc::new(AtomicBool::new(false));
            let mut threads = Vec::new();
            for address in addresses {
                let address = SocketAddr::new(address.parse().unwrap(), 53);
                let udp = UdpSocket::bind(address).unwrap();
                udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let tcp = TcpListener::bind(address).unwrap();
                tcp.set_nonblocking(true).unwrap();
                let (one, other) = (stop.clone(), stop.clone());
                threads.push(std::thread::spawn(move || answer_udp(&udp, byte, &one)));
                threads.push(std::thread::spawn(move || answer_tcp(&tcp, byte, &other)));
            }
            Responder { stop, threads }
        })
    }

    /// Who answers a pod: over UDP, `times` times from as many sockets, and over TCP.
    fn ask(&self, address: &'static str, times: usize) -> (u8, u8) {
        self.pod.run(move || ask(address.parse().unwrap(), times))
    }
}

struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Its sockets are closed when this returns.
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn answer_udp(udp: &UdpSocket, byte: u8, stop: &AtomicBool) {
    let mut query = [0; 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, from)) = udp.recv_from(&mut query) {
            let _ = udp.send_to(&[byte], from);
        }
    }
}

fn answer_tcp(tcp: &TcpListener, byte: u8, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = tcp.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let mut query = [0; 1];
        if stream.read_exact(&mut query).is_ok() {
            let _ = stream.write_all(&[byte]);
        }
    }
}

fn ask(address: IpAddr, times: usize) -> (u8, u8) {
    let address = SocketAddr::new(address, 53);
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let mut byte = [0; 1];
    for _ in 0..times {
        let udp = UdpSocket::bind((any, 0)).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        udp.connect(address).unwrap();
        udp.send(b"?").unwrap();
        udp.recv(&mut byte).unwrap_or_else(|error| panic!("{address} over UDP: {error}"));
    }
    let by_udp = byte[0];
    for _ in 0..times.div_ceil(20) {
        let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("{address} over TCP: {error}"));
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.write_all(b"?").unwrap();
        tcp.read_exact(&mut byte).unwrap();
    }
    (by_udp, byte[0])
}

/// Entries of connection tracking that have one of our addresses at either end.
fn tracked() -> usize {
    let list = |family: &str| {
        let output = Command::new("conntrack").args(["-L", "-f", family]).output();
        let output = output.expect("conntrack runs: apt-get install conntrack");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = |line: &&str| OURS.iter().any(|address| line.contains(&format!("={address} ")));
    [list("ipv4"), list("ipv6")].iter().flat_map(|text| text.lines()).filter(ours).count()
}

fn leaves_no_entries(plan: Plan, variant: &'static str) {
    let cluster = Cluster::new();
    let (folder, us) = (Folder::of(variant), cluster.answer(OURS, b's'));
    cluster.node.run(move || folder.find().up(&plan).unwrap());
    for address in OURS {
        assert_eq!(cluster.ask(address, 1000), (b's', b's'));
        // Clients on the host network.
        cluster.node.run(move || assert_eq!(ask(address.parse().unwrap(), 100), (b's', b's')));
    }
    let entries = cluster.node.run(tracked);
    us.stop();
    assert_eq!(entries, 0, "{variant}");
}

#[test]
fn a_thousand_lookups_leave_no_entry() {
    let _turn = crate::turn();
    for variant in VARIANTS {
        leaves_no_entries(plan(), variant);
        leaves_no_entries(classic(), variant);
    }
}

/// If this fails, then the test above shows nothing.
#[test]
fn without_our_rules_there_are_entries() {
    let _turn = crate::turn();
    for variant in VARIANTS {
        let cluster = Cluster::new();
        let (folder, us) = (Folder::of(variant), cluster.answer(OURS, b's'));
        cluster.node.run(move || {
            let mut firewall = folder.find();
            firewall
                .up(&Plan {
                    fallbacks: plan().fallbacks,
                    addresses: vec!["10.5.5.5".parse().unwrap()],
                    ..plan()
                })
                .unwrap();
        });
        assert_eq!(cluster.ask(OURS[0], 10), (b's', b's'));
        assert!(cluster.node.run(tracked) >= 10);
        us.stop();
    }
}

#[test]
fn pods_fall_back_when_our_sockets_close_and_return_when_they_open() {
    let _turn = crate::turn();
    for variant in VARIANTS {
        let cluster = Cluster::new();
        let (folder, them) = (Folder::of(variant), cluster.answer(CLUSTER, b'c'));
        let us = cluster.answer(OURS, b's');
        let mut firewall = cluster.node.run(move || {
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            (firewall, folder)
        });
        for address in OURS {
            assert_eq!(cluster.ask(address, 20), (b's', b's'));
        }
        us.stop();
        for address in OURS {
            assert_eq!(
                cluster.ask(address, 20),
                (b'c', b'c'),
                "{variant} {address}: nobody but the kernel did this"
            );
        }
        let us = cluster.answer(OURS, b's');
        for address in OURS {
            assert_eq!(cluster.ask(address, 20), (b's', b's'), "{variant} {address}: back");
        }
        us.stop();
        cluster.node.run(move || firewall.0.down().unwrap());
        for address in OURS {
            cluster.node.run(move || {
                assert_eq!(ask(address.parse().unwrap(), 5), (b'c', b'c'), "the host's clients")
            });
        }
        them.stop();
    }
}

/// With the image alone nobody is known to fall back to, but kube-proxy translates the Service's address.
#[test]
fn an_address_that_others_translate_falls_back_although_no_server_is_known() {
    let _turn = crate::turn();
    for variant in VARIANTS {
        let cluster = Cluster::new();
        let (folder, them) = (Folder::of(variant), cluster.answer(CLUSTER, b'c'));
        let us = cluster.answer(OURS, b's');
        cluster.node.run(move || {
            for ((family, address), server) in
                Family::ALL.into_iter().zip(OURS).zip(["10.9.9.9:53", "[fd99::9]:53"])
            {
                for protocol in ["udp", "tcp"] {
                    let row =
                        format!("-d {address} -p {protocol} --dport 53 -j DNAT --to-destination {server}");
                    iptables(family, variant, &format!("-t nat -A PREROUTING {row}"));
                }
            }
            folder.find().up(&classic()).unwrap();
        });
        for address in OURS {
            assert_eq!(cluster.ask(address, 20), (b's', b's'));
        }
        us.stop();
        for address in OURS {
            assert_eq!(cluster.ask(address, 20), (b'c', b'c'), "{variant} {address}: our rules hold nobody");
        }
        them.stop();
    }
}

/// Each server is asked, and a client's socket stays with one.
#[test]
fn several_servers_share_clients_by_their_ports() {
    let _turn = crate::turn();
    for variant in VARIANTS {
        let cluster = Cluster::new();
        let folder = Folder::of(variant);
        let two: [&str; 2] = ["10.9.9.8", "fd99::8"];
        cluster.node.run(move || {
            ip("address add 10.9.9.8/32 dev lo");
            ip("address add fd99::8/128 dev lo");
            let mut plan = plan();
            plan.fallbacks.extend(two.map(|server| SocketAddr::new(server.parse().unwrap(), 53)));
            folder.find().up(&plan).unwrap();
        });
        let (one, other) = (cluster.answer(CLUSTER, b'1'), cluster.answer(two, b'2'));
        for address in OURS {
            let answers = cluster.pod.run(move || {
                [33000_u16, 46800, 46900, 60900, 1024, 65000].map(|port| {
                    let address = SocketAddr::new(address.parse().unwrap(), 53);
                    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
                    let udp = UdpSocket::bind((any, port)).unwrap();
                    udp.set_read_timeout(Some(PATIENCE)).unwrap();
                    udp.connect(address).unwrap();
                    let mut bytes = [0; 2];
                    for byte in &mut bytes {
                        udp.send(b"?").unwrap();
                        udp.recv(std::slice::from_mut(byte)).unwrap();
                    }
                    bytes
                })
            });
            assert_eq!(answers, [*b"11", *b"11", *b"22", *b"22", *b"11", *b"22"], "{variant} {address}");
        }
        one.stop();
        other.stop();
    }
}
