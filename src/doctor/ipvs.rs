//! IPVS, as /proc/net/ip_vs lists it: a Service's address, its scheduler, the servers behind it.
//!
//! In this mode kube-proxy holds every Service's address itself, on the link `kube-ipvs0`; so we must not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A UDP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its address.
    pub address: SocketAddr,
    /// How a server is chosen: `rr`, `sh`, `lc`.
    pub scheduler: String,
    /// The servers.
    pub servers: Vec<SocketAddr>,
}

/// Reads the UDP services.
pub fn parse(text: &str) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    let mut udp = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["UDP", at, scheduler, ..] => {
                udp = false;
                if let Some(address) = address(at) {
                    udp = true;
                    services.push(Service { address, scheduler: scheduler.to_owned(), servers: Vec::new() });
                }
            }
            ["->", at, ..] if udp => {
                if let Some(service) = services.last_mut() {
                    service.servers.extend(address(at));
                }
            }
            _ => udp = false,
        }
    }
    services
}

/// `0A60000A:0035`, `[fd00:0000:...:000a]:0035`: the port and IPv4 addresses are hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address: IpAddr = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).into(),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_table_is_read() {
        let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A60000A:0035 rr
  -> 0AF40005:0035      Masq    1      0          0         \n\
UDP  0A60000A:0035 rr
  -> 0AF40005:0035      Masq    1      0          12        \n\
  -> 0AF40006:0035      Masq    1      0          9         \n\
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 sh
";
        let services = parse(text);
        let [v4, v6] = &services[..] else { panic!("two UDP services: {services:?}") };
        assert_eq!((v4.address, v4.scheduler.as_str()), ("10.96.0.10:53".parse().unwrap(), "rr"));
        assert_eq!(v4.servers, ["10.244.0.5:53".parse().unwrap(), "10.244.0.6:53".parse().unwrap()]);
        assert_eq!((v6.address, v6.scheduler.as_str()), ("[fd00::a]:53".parse().unwrap(), "sh"));
    }
}
