//! Upstreams as they are written: `tcp://IP[:53]`, `udp://IP[:53]`, `IP[:port]`, the path of a resolv.conf, or
//! `svc://NAME[:53]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::address;
use super::name::ZoneName;
use super::problem::{Wrong, shown};
use crate::upstream::{Server, Transport};

/// An upstream, with its transport settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `tcp://IP[:53]`, `udp://IP[:53]`, `IP[:port]`.
    Server(Server),
    /// The path of a resolv.conf: its servers, spoken to like this. Read again when it changes.
    ResolvConf(PathBuf, Transport),
    /// `svc://NAME[:53]`.
    Service(Service),
}

/// The addresses behind a name, a headless Service's: its pods. The zone's other targets are asked for them,
/// and asked again before their TTL is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The name.
    pub name: ZoneName,
    /// The port of each address.
    pub port: u16,
    /// How each is spoken to.
    pub transport: Transport,
}

/// As it is written.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_service(f, &self.name, self.port)
    }
}

fn write_service(f: &mut fmt::Formatter<'_>, name: &ZoneName, port: u16) -> fmt::Result {
    write!(f, "svc://{}:{port}", name.text().trim_end_matches('.'))
}

/// An upstream as it is written: what it leaves open, its zone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTarget {
    place: Place,
    scheme: Option<Transport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    ResolvConf(PathBuf),
    Service(ZoneName, u16),
}

impl WrittenTarget {
    /// The servers of this resolv.conf.
    pub fn resolv_conf(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::ResolvConf(path.into()), scheme: None }
    }

    /// It, if it is an address: over this transport, unless it says so itself.
    pub(super) fn over(&self, transport: Transport) -> Self {
        let scheme = matches!(self.place, Place::Address(_)).then_some(transport);
        Self { place: self.place.clone(), scheme: self.scheme.or(scheme) }
    }

    /// Whether somebody else must be asked for its addresses.
    pub fn is_service(&self) -> bool {
        matches!(self.place, Place::Service(..))
    }

    /// Settles the transport: the scheme, else what the zone says, else TCP for an address or a service and UDP
    /// for the servers of a resolv.conf, because many resolvers of hosts refuse TCP.
    pub fn settle(&self, zone: Option<Transport>) -> Target {
        match &self.place {
            Place::Address(address) => {
                let transport = self.scheme.or(zone).unwrap_or(Transport::Tcp);
                Target::Server(Server { address: *address, transport })
            }
            Place::ResolvConf(path) => Target::ResolvConf(path.clone(), zone.unwrap_or(Transport::Udp)),
            Place::Service(name, port) => {
                let transport = zone.unwrap_or(Transport::Tcp);
                Target::Service(Service { name: name.clone(), port: *port, transport })
            }
        }
    }
}

impl From<&Target> for WrittenTarget {
    fn from(target: &Target) -> Self {
        match target {
            Target::Server(s) => Self { place: Place::Address(s.address), scheme: Some(s.transport) },
            Target::ResolvConf(path, _) => Self::resolv_conf(path),
            Target::Service(s) => Self { place: Place::Service(s.name.clone(), s.port), scheme: None },
        }
    }
}

impl fmt::Display for WrittenTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.scheme) {
            (Place::ResolvConf(path), _) => write!(f, "{}", path.display()),
            (Place::Service(name, port), _) => write_service(f, name, *port),
            (Place::Address(address), None) => write!(f, "{address}"),
            (Place::Address(address), Some(Transport::Tcp)) => write!(f, "tcp://{address}"),
            (Place::Address(address), Some(Transport::Udp)) => write!(f, "udp://{address}"),
        }
    }
}

impl FromStr for WrittenTarget {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (Some(Transport::Tcp), rest),
            Some(("udp", rest)) => (Some(Transport::Udp), rest),
            Some(("svc", rest)) => return Self::service(rest),
            Some((scheme, _)) => return Err(Wrong::unknown("scheme", scheme, ["tcp", "udp", "svc"])),
            None if text.contains('/') => return Self::path(text),
            None => (None, text),
        };
        Ok(Self { place: Place::Address(address::parse_server(rest)?), scheme })
    }
}

impl WrittenTarget {
    fn path(text: &str) -> Result<Self, Wrong> {
        if text.chars().any(char::is_control) {
            let what = format!("path `{}` has control characters", shown(text));
            return Err(Wrong::new(what, "write it like \"/etc/resolv.conf\""));
        }
        Ok(Self::resolv_conf(text))
    }

    /// What stands behind `svc://`.
    fn service(text: &str) -> Result<Self, Wrong> {
        const HINT: &str = "write it like \"svc://kube-dns-headless.kube-system.svc.cluster.local\"";
        let wrong = |why: &str| Wrong::new(format!("service `{}` {why}", shown(text)), HINT);
        if address::parse_server(text).is_ok() {
            let hint = format!("write \"tcp://{text}\"");
            return Err(Wrong::new(format!("`{}` is an address, not a service's name", shown(text)), hint));
        }
        let (name, port) = match text.split_once(':') {
            None => (text, Some(53)),
            Some((name, port)) => (name, address::number(port).filter(|&port| port != 0)),
        };
        let port = port.ok_or_else(|| wrong("has no port behind its colon"))?;
        if name.is_empty() || name == "." || name.contains('/') {
            return Err(wrong("has no name"));
        }
        let name = name.parse().map_err(|_| wrong("is no DNS name"))?;
        Ok(Self { place: Place::Service(name, port), scheme: None })
    }
}

/// What `--upstream [ZONE=]TARGET` says; without a zone it is for `.`
pub fn parse_flag(text: &str) -> Result<(ZoneName, WrittenTarget), Wrong> {
    let is_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    match text.split_once('=') {
        Some((zone, target)) if !is_path => Ok((zone.parse()?, target.parse()?)),
        _ => Ok((ZoneName::root(), text.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(text: &str, zone: Option<Transport>) -> String {
        match text.parse::<WrittenTarget>().unwrap().settle(zone) {
            Target::Server(s) => format!("{:?} {}", s.transport, s.address),
            Target::ResolvConf(path, transport) => format!("{transport:?} {}", path.display()),
            Target::Service(s) => format!("{:?} {s}", s.transport),
        }
    }

    #[test]
    fn the_scheme_wins_over_the_zone_and_the_zone_over_the_custom() {
        let udp = Some(Transport::Udp);
        let tcp = Some(Transport::Tcp);
        assert_eq!(settled("10.0.0.1", None), "Tcp 10.0.0.1:53");
        assert_eq!(settled("10.0.0.1", udp), "Udp 10.0.0.1:53");
        assert_eq!(settled("tcp://10.0.0.1:5353", udp), "Tcp 10.0.0.1:5353");
        assert_eq!(settled("udp://[::1]", tcp), "Udp [::1]:53");
        assert_eq!(settled("/etc/resolv.conf", None), "Udp /etc/resolv.conf");
        assert_eq!(settled("./resolv.conf", tcp), "Tcp ./resolv.conf");
        assert_eq!(settled("svc://DNS.kube-system.svc.cluster.local.", None), format!("Tcp {DNS}:53"));
        assert_eq!(settled("svc://dns.kube-system.svc.cluster.local:5353", udp), format!("Udp {DNS}:5353"));
    }

    const DNS: &str = "svc://dns.kube-system.svc.cluster.local";

    #[test]
    fn a_service_is_a_name_with_a_port_or_without() {
        let error = |text: &str| text.parse::<WrittenTarget>().unwrap_err().to_string();
        assert_eq!(
            error("svc://10.96.0.10:53"),
            "`10.96.0.10:53` is an address, not a service's name; write \"tcp://10.96.0.10:53\""
        );
        assert!(error("svc://[2001:db8::1]").contains("is an address"));
        for (text, why) in [
            ("svc://", "has no name"),
            ("svc://.", "has no name"),
            ("svc:///etc/resolv.conf", "has no name"),
            ("svc://a..b", "is no DNS name"),
            ("svc://*.a", "is no DNS name"),
            ("svc://a:", "has no port"),
            ("svc://a:0", "has no port"),
            ("svc://a:dns", "has no port"),
        ] {
            let message = error(text);
            assert!(message.contains(why) && message.contains("svc://kube-dns"), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_reason() {
        let error = |text: &str| text.parse::<WrittenTarget>().unwrap_err().to_string();
        assert_eq!(error("tpc://10.0.0.1"), "unknown scheme `tpc`; did you mean `tcp`?");
        assert_eq!(error("tls://10.0.0.1"), "unknown scheme `tls`; known: tcp, udp, svc");
        assert!(error("dns.google").contains("is a host name"));
        assert!(error("udp:///etc/resolv.conf").contains("`/etc/resolv.conf`"));
        assert!(error("").contains("is no IP address"));
    }

    #[test]
    fn a_flag_names_its_zone_before_an_equals_sign() {
        let zone = |text: &str| parse_flag(text).map(|(zone, target)| format!("{zone} {target}"));
        assert_eq!(zone("10.0.0.1").unwrap(), ". 10.0.0.1:53");
        assert_eq!(zone("Cluster.local=udp://10.0.0.1").unwrap(), "cluster.local. udp://10.0.0.1:53");
        assert_eq!(zone("/run/a=b/resolv.conf").unwrap(), ". /run/a=b/resolv.conf");
        assert!(zone("=10.0.0.1").is_err());
        assert!(zone("cluster.local=").is_err());
    }
}
