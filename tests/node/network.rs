//! A node with a pod and a cluster DNS, each in a namespace of its own, over routed veths:
//!
//! ```text
//! pod 10.1.0.2 --- 10.1.0.1 node 10.2.0.1 --- 10.2.0.2, 10.2.0.3 cluster DNS
//!     fd01::2      fd01::1       fd02::1      fd02::2,  fd02::3
//!                  169.254.20.10, fd00:53::10 (on lo)  the same, as on every node
//! ```
//!
//! Servers answer everything, over UDP and TCP, with a name that tells who answered.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use sidestep::node::Plan;
use sidestep::node::rules::PROBE_MARK;
use socket2::SockRef;

use super::namespace::{Namespace, ip};

/// Our addresses.
pub const V4: &str = "169.254.20.10";
pub const V6: &str = "fd00:53::10";
/// How long a client waits for one answer.
const WAIT: Duration = Duration::from_secs(1);

/// The three of them.
pub struct Network {
    pub node: Namespace,
    pub pod: Namespace,
    pub cluster: Namespace,
}

impl Network {
    pub fn new() -> Self {
        let [node, pod, cluster] = [Namespace::new(), Namespace::new(), Namespace::new()];
        let (pod_id, cluster_id) = (pod.id(), cluster.id());
        for side in [&node, &pod, &cluster] {
            // Neighbours are not asked for before an interface's own address is known to be unique.
            side.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
        }
        node.run(move || {
            ip(&format!("link add pod type veth peer name eth0 netns {pod_id}"));
            ip(&format!("link add cluster type veth peer name eth0 netns {cluster_id}"));
            for (link, net) in [("pod", "1"), ("cluster", "2")] {
                ip(&format!("addr add 10.{net}.0.1/24 dev {link}"));
                ip(&format!("addr add fd0{net}::1/64 dev {link} nodad"));
                ip(&format!("link set {link} up"));
            }
            hold();
            for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{file}"), "1").unwrap();
            }
        });
        pod.run(|| attach("1", &["2"]));
        cluster.run(|| {
            attach("2", &["2", "3"]);
            hold();
        });
        Self { node, pod, cluster }
    }

    /// Servers of the cluster DNS: `cluster2` and `cluster3`, in both families.
    pub fn serve_cluster(&self) -> Vec<Server> {
        let at = [
            ("10.2.0.2", "cluster2"),
            ("10.2.0.3", "cluster3"),
            ("fd02::2", "cluster2"),
            ("fd02::3", "cluster3"),
        ];
        at.iter().map(|(address, name)| Server::start(&self.cluster, address, name)).collect()
    }

    /// Our own servers, `node`, at both addresses.
    pub fn serve_node(&self) -> Vec<Server> {
        [V4, V6].iter().map(|address| Server::start(&self.node, address, "node")).collect()
    }

    /// Asks ourselves at both addresses, with the mark that NOTRACK knows; the answers wake it.
    pub fn probe(&self) {
        self.node.run(|| {
            for address in [V4, V6] {
                assert_eq!(ask_marked(address, Some(PROBE_MARK)).as_deref(), Some("node"), "{address}");
            }
        });
    }

    /// Does so every half second, as we do, until what is returned is dropped.
    pub fn keep_probing(&self) -> Sender<()> {
        let (stop, stopped) = channel();
        let sockets = self.node.run(|| [V4, V6].map(|address| client(address, Some(PROBE_MARK))));
        sockets.iter().for_each(|socket| assert_eq!(ask_on(socket).as_deref(), Some("node")));
        thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
                sockets.iter().for_each(|socket| drop(ask_on(socket)));
            }
        });
        stop
    }
}

/// Every node has our addresses: so an answer to one does not leave the node where the server is.
fn hold() {
    ip(&format!("addr add {V4}/32 dev lo"));
    ip(&format!("addr add {V6}/128 dev lo nodad"));
}

fn attach(net: &str, hosts: &[&str]) {
    for host in hosts {
        ip(&format!("addr add 10.{net}.0.{host}/24 dev eth0"));
        ip(&format!("addr add fd0{net}::{host}/64 dev eth0 nodad"));
    }
    ip("link set eth0 up");
    ip(&format!("route add default via 10.{net}.0.1"));
    ip(&format!("-6 route add default via fd0{net}::1"));
}

/// Both of our addresses, one server of the cluster DNS in each family.
pub fn plan() -> Plan {
    Plan {
        addresses: [V4, V6].map(|address| address.parse().unwrap()).into(),
        dns_port: 53,
        http_ports: vec![8080],
        fallbacks: vec!["10.2.0.2:53".parse().unwrap(), "[fd02::2]:53".parse().unwrap()],
        notrack_upstream: false,
        upstream_idle: Duration::from_secs(60),
    }
}

/// A server that answers with its name; while it hangs, it answers nothing.
pub struct Server {
    hangs: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
}

impl Server {
    pub fn start(at: &Namespace, address: &str, name: &'static str) -> Self {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 53);
        let (udp, tcp) =
            at.run(move || (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
        let [hangs, ends] = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
        udp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // An accept that waits no longer than this, too.
        SockRef::from(&tcp).set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (hanging, ending) = (hangs.clone(), ends.clone());
        thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let asked = udp.recv_from(&mut [0; 64]);
                if let Some((_, client)) = asked.ok().filter(|_| !hanging.load(Ordering::Relaxed)) {
                    let _ = udp.send_to(name.as_bytes(), client);
                }
            }
        });
        let ending = ends.clone();
        thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                if let Ok((client, _)) = tcp.accept() {
                    thread::spawn(move || answer(client, name));
                }
            }
        });
        Self { hangs, ends }
    }

    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn answer(mut client: TcpStream, name: &str) {
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while client.read(&mut [0; 64]).is_ok_and(|n| n > 0) && client.write_all(name.as_bytes()).is_ok() {}
}

/// Asks over UDP; who answered.
pub fn ask(address: &str) -> Option<String> {
    ask_marked(address, None)
}

fn ask_marked(address: &str, mark: Option<u32>) -> Option<String> {
    let socket = client(address, mark);
    ask_on(&socket)
}

/// A socket of a client of this server.
pub fn client(address: &str, mark: Option<u32>) -> UdpSocket {
    let server = SocketAddr::new(address.parse().unwrap(), 53);
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark).unwrap();
    }
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket.connect(server).unwrap();
    socket
}

/// Asks once more on the same socket.
pub fn ask_on(socket: &UdpSocket) -> Option<String> {
    let mut answer = [0; 64];
    socket.send(b"?").ok()?;
    let n = socket.recv(&mut answer).ok()?;
    Some(String::from_utf8(answer[..n].to_vec()).unwrap())
}

/// Asks over TCP; who answered.
pub fn ask_tcp(address: &str) -> Option<String> {
    ask_on_tcp(&mut connect(address, None)?)
}

/// Opens a connection.
pub fn connect(address: &str, mark: Option<u32>) -> Option<TcpStream> {
    let server = SocketAddr::new(address.parse().unwrap(), 53);
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(server), socket2::Type::STREAM, None).unwrap();
    if let Some(mark) = mark {
        socket.set_mark(mark).unwrap();
    }
    socket.connect_timeout(&server.into(), WAIT).ok()?;
    socket.set_read_timeout(Some(WAIT)).unwrap();
    Some(socket.into())
}

/// Asks once more on the same connection.
pub fn ask_on_tcp(connection: &mut TcpStream) -> Option<String> {
    let mut answer = [0; 64];
    connection.write_all(b"?").ok()?;
    let n = connection.read(&mut answer).ok().filter(|n| *n > 0)?;
    Some(String::from_utf8(answer[..n].to_vec()).unwrap())
}

/// Runs a program, with arguments as one would type them to a shell; what it prints.
pub fn sh(line: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh").args(["-ec", line]).env("PATH", path).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = text(output.stderr);
    assert!(output.status.success(), "{line}: {said} (apt-get install nftables iptables conntrack)");
    text(output.stdout)
}

/// The entries of connection tracking that hold one of our addresses.
pub fn tracked() -> Vec<String> {
    let all = sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    all.lines().filter(|line| line.contains(V4) || line.contains(V6)).map(str::to_owned).collect()
}
