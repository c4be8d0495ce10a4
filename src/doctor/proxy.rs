//! Those who translate queries to Services: kube-proxy in one of its modes, or Cilium; and what they say of themselves.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::ipvs::{self, Service};
use super::proc::Root;
use crate::node::link::overview::Link;

/// How long kube-proxy may take to tell its mode.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where kube-proxy tells it (its --metrics-bind-address).
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// What is known of those who translate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// What kube-proxy says itself.
    pub said: Option<String>,
    /// IPVS services.
    pub ipvs: Vec<Service>,
    /// Signs of Cilium.
    pub cilium: Vec<String>,
    /// `service-ips` of kube-proxy in nftables mode.
    pub services: Vec<(SocketAddr, String)>,
}

impl Proxy {
    /// Looks at it; `services` comes from the packet filter.
    pub fn read(root: &Root, links: &[Link], services: Vec<(SocketAddr, String)>) -> Self {
        let mut cilium: Vec<String> = links
            .iter()
            .filter(|link| matches!(link.name.as_str(), "cilium_host" | "cilium_net"))
            .map(|link| format!("link {}", link.name))
            .collect();
        const MAPS: &str = "sys/fs/bpf/tc/globals";
        if root.holds(MAPS, "cilium") {
            cilium.push(format!("/{MAPS}/cilium*"));
        }
        let ipvs = root.text("proc/net/ip_vs").map(|text| ipvs::parse(&text)).unwrap_or_default();
        Self { said: mode(PROXY), ipvs, cilium, services }
    }
}

/// Asks kube-proxy for its mode.
fn mode(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    // A server that keeps the connection open has answered nevertheless.
    let _ = stream.take(4096).read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let word = body.trim();
    let plain = (1..=20).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric());
    (plain && head.split_whitespace().nth(1) == Some("200")).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn kube_proxy_is_asked_for_its_mode_and_nonsense_is_no_mode() {
        for (answer, expected) in [
            ("HTTP/1.0 200 OK\r\n\r\nipvs", Some("ipvs")),
            ("HTTP/1.1 404 Not Found\r\n\r\nno", None),
            ("HTTP/1.1 200 OK\r\n\r\n<html>\n", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(mode(address).as_deref(), expected);
            server.join().unwrap();
        }
    }
}
