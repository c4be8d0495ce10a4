//! IP addresses with ports and scopes, as flags, files and resolv.conf write them.
//!
//! The standard library reads all of it but interface names (`fe80::1%eth0`): a link-local address means
//! nothing without its interface, and people know names, not numbers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::problem::{Wrong, shown};

/// Where we answer: `ADDR:PORT`, IPv6 in brackets. Port 0 is any free port.
pub fn parse_listen(text: &str) -> Result<SocketAddr, Wrong> {
    match parse(text) {
        Some((address, Some(port))) => Ok(with_port(address, port)),
        Some((address, None)) => {
            let example = with_port(address, 53);
            Err(Wrong::new(format!("`{}` has no port", shown(text)), format!("write \"{example}\"")))
        }
        None => Err(refused(text, "write an IP address and a port: \"127.0.0.1:53\", \"[::1]:53\"")),
    }
}

/// Where HTTP is served, as Go's programs write it: as [`parse_listen`], and `:PORT` is every address of the machine, of
/// both families.
pub fn parse_endpoint(text: &str) -> Result<SocketAddr, Wrong> {
    match text.strip_prefix(':').and_then(number) {
        Some(port) => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        None => parse_listen(text),
    }
}

/// A server of ours: `IP` or `IP:PORT`; without a port 53. IPv6 with a port stands in brackets.
pub fn parse_server(text: &str) -> Result<SocketAddr, Wrong> {
    match parse(text) {
        Some((_, Some(0))) => {
            Err(Wrong::new(format!("`{}` has port 0", shown(text)), "servers listen on 53"))
        }
        Some((address, port)) => Ok(with_port(address, port.unwrap_or(53))),
        None => Err(refused(
            text,
            "write an IP address: \"10.96.0.10\", \"[2001:db8::1]:53\", or a path with a slash",
        )),
    }
}

/// An address that a node holds for its pods: not one that has another meaning to the kernel.
pub fn parse_node(text: &str) -> Result<IpAddr, Wrong> {
    let like = "write it like \"169.254.20.10\" or \"fd00::10\"";
    let Ok(address) = text.parse::<IpAddr>() else {
        let what = match parse(text) {
            Some(_) => format!("`{}` is more than an IP address", shown(text)),
            None => format!("`{}` is no IP address", shown(text)),
        };
        return Err(Wrong::new(what, format!("{like}; the port is 53")));
    };
    let meaning = match address {
        a if a.is_unspecified() => "every address of the machine",
        a if a.is_multicast() => "a multicast address",
        IpAddr::V4(a) if a.is_broadcast() => "the broadcast address",
        IpAddr::V6(a) if a.is_unicast_link_local() => {
            "a link-local address, which pods cannot name without a scope"
        }
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 dress",
        _ => return Ok(address),
    };
    Err(Wrong::new(format!("`{address}` is {meaning}"), like))
}

/// The name of a network interface: what the kernel takes (IFNAMSIZ is 16 with the final NUL). Of `%d` it would make a
/// number, and the link would have another name; `all` and `default` are no links but sysctls.
pub fn parse_interface(text: &str) -> Result<String, Wrong> {
    let odd = |c: char| "/:%".contains(c) || c.is_whitespace() || c.is_control();
    let is_taken = [".", "..", "all", "default", "sidestep-trial"].contains(&text);
    if text.is_empty() || text.len() > 15 || is_taken || text.contains(odd) {
        let what = format!("`{}` is no name of an interface", shown(text));
        return Err(Wrong::new(
            what,
            "write 1 to 15 bytes without `/`, `:`, `%` and blanks, like \"nodelocaldns\"",
        ));
    }
    Ok(text.to_owned())
}

/// An address alone, as `nameserver` lines have it, with port 53.
pub fn parse_nameserver(text: &str) -> Option<SocketAddr> {
    ip(text).map(|address| with_port(address, 53))
}

fn refused(text: &str, hint: &str) -> Wrong {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_whole = host.starts_with('[') || !host.contains(':');
    if host.len() < text.len() && is_whole && parse(host).is_some() {
        let digits = text[host.len() + 1..].bytes().all(|b| b.is_ascii_digit()) && !text.ends_with(':');
        let what = if digits { "has a port beyond 65535" } else { "has no port after its colon" };
        return Wrong::new(format!("`{}` {what}", shown(text)), "ports are 1 to 65535");
    }
    let name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(':');
    let what = if name {
        format!("`{}` is a host name, which nobody could resolve before we run", shown(text))
    } else {
        format!("`{}` is no IP address", shown(text))
    };
    Wrong::new(what, hint)
}

/// An address with the scope of its interface (0: none).
type Scoped = (IpAddr, u32);

fn with_port((address, scope): Scoped, port: u16) -> SocketAddr {
    match address {
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)),
    }
}

/// `1.2.3.4`, `1.2.3.4:53`, `::1`, `[::1]`, `[::1]:53`, each IPv6 address with or without `%scope`.
fn parse(text: &str) -> Option<(Scoped, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address = ip(address).filter(|(a, _)| a.is_ipv6())?;
        return match port.strip_prefix(':') {
            Some(port) => Some((address, Some(number(port)?))),
            None => port.is_empty().then_some((address, None)),
        };
    }
    match text.split_once(':') {
        Some((v4, port)) if !port.contains(':') => {
            Some((ip(v4).filter(|(a, _)| a.is_ipv4())?, Some(number(port)?)))
        }
        _ => ip(text).map(|address| (address, None)),
    }
}

/// A port in digits alone: the standard library would take a plus sign too.
pub(super) fn number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn ip(text: &str) -> Option<Scoped> {
    match text.split_once('%') {
        None => text.parse().ok().map(|address| (address, 0)),
        Some((address, scope)) => {
            let address: Ipv6Addr = address.parse().ok()?;
            Some((IpAddr::V6(address), interface(scope)?))
        }
    }
}

/// The index of an interface by its name or its number.
fn interface(scope: &str) -> Option<u32> {
    if !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_digit()) {
        return scope.parse().ok().filter(|&index| index != 0);
    }
    // The kernel's own limit (IFNAMSIZ) is 16 with the final NUL.
    if scope.is_empty() || scope.len() > 15 || scope.contains('\0') {
        return None;
    }
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    rustix::net::netdevice::name_to_index(socket.ok()?, scope).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> String {
        parse_server(text).map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn servers_have_port_53_unless_they_say_otherwise() {
        assert_eq!(server("10.0.0.1"), "10.0.0.1:53");
        assert_eq!(server("10.0.0.1:5353"), "10.0.0.1:5353");
        assert_eq!(server("[2001:db8::1]"), "[2001:db8::1]:53");
        assert_eq!(server("[2001:db8::1]:5353"), "[2001:db8::1]:5353");
        assert_eq!(server("2001:db8::1"), "[2001:db8::1]:53");
        assert_eq!(server("[fe80::1%3]:53"), "[fe80::1%3]:53");
    }

    #[test]
    fn a_scope_may_be_the_name_of_an_interface() {
        assert_eq!(server("fe80::1%lo"), "[fe80::1%1]:53");
        assert!(parse_server("fe80::1%nosuchnic0").is_err());
        assert!(parse_server("10.0.0.1%lo").is_err());
    }

    #[test]
    fn errors_name_what_was_wrong() {
        assert!(server("dns.example:53").contains("is a host name"));
        assert!(server("300.1.2.3").contains("is no IP address"));
        assert!(server("10.0.0.1:0").contains("has port 0"));
        assert!(server("10.0.0.1:99999").contains("has a port beyond 65535; ports are 1 to 65535"));
        assert!(server("[::1]:x").contains("has no port after its colon"));
        for text in
            ["", ":", "[", "[]", "[::1", "[::1]x", "[10.0.0.1]", "1.2.3.4:", "1.2.3.4:+53", "::1%", "::1%0"]
        {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_node_holds_is_a_plain_address() {
        let node = |text: &str| parse_node(text).map_or_else(|e| e.to_string(), |a| a.to_string());
        assert_eq!(node("169.254.20.10"), "169.254.20.10");
        assert_eq!(node("fd00::10"), "fd00::10");
        assert!(node("169.254.20.10:53").contains("is more than an IP address"));
        assert!(node("dns").contains("is no IP address"));
        for (text, meaning) in [
            ("0.0.0.0", "every address"),
            ("ff02::1", "multicast"),
            ("fe80::1", "scope"),
            ("::ffff:1.2.3.4", "dress"),
        ] {
            assert!(node(text).contains(meaning), "{text}: {}", node(text));
        }
    }

    #[test]
    fn an_interface_has_a_name_that_the_kernel_takes() {
        assert!(parse_interface("nodelocaldns").is_ok());
        for text in ["", "sixteen-letters-", "a b", "a/b", "..", "eth0:1", "dns%d", "all", "default"] {
            assert!(parse_interface(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_every_address() {
        let endpoint = |text: &str| parse_endpoint(text).map(|a| a.to_string()).ok();
        assert_eq!(endpoint(":9253").as_deref(), Some("[::]:9253"));
        assert_eq!(endpoint("0.0.0.0:9353").as_deref(), Some("0.0.0.0:9353"));
        assert_eq!((endpoint(":"), endpoint(":x"), endpoint("9253")), (None, None, None));
    }

    #[test]
    fn where_we_listen_has_a_port() {
        assert_eq!(parse_listen("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(parse_listen("::1").unwrap_err().to_string(), "`::1` has no port; write \"[::1]:53\"");
    }
}
