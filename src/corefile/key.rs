//! A block's key: `dns://cluster.local:53`, `10.0.0.0/24`. A reverse network stands for the zones that hold its names.

use std::net::IpAddr;

use super::place::shown;
use super::{Fault, Token};

/// How a block's clients speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP and TCP (RFC 1035).
    #[default]
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS in gRPC, CoreDNS's own.
    Grpc,
    /// DNS over HTTPS (RFC 8484).
    Https,
    /// DNS over HTTP/3.
    Https3,
}

impl Transport {
    const ALL: [Self; 6] = [Self::Dns, Self::Tls, Self::Quic, Self::Grpc, Self::Https, Self::Https3];

    /// As it stands before `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Grpc => "grpc",
            Self::Https => "https",
            Self::Https3 => "https3",
        }
    }

    /// The port where a key names none.
    pub fn port(self) -> u16 {
        match self {
            Self::Dns => 53,
            Self::Tls | Self::Quic => 853,
            Self::Grpc | Self::Https | Self::Https3 => 443,
        }
    }
}

/// A block's key, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub token: Token,
    /// What stands before `://`.
    pub transport: Transport,
    /// The zones, in lower case, with the last dot: one, or as many as a reverse network takes (at most 128).
    pub zones: Vec<String>,
    /// The port, where it is written.
    pub port: Option<u16>,
}

/// Reads a key.
pub(super) fn parse(token: Token) -> Result<Key, Fault> {
    match read(&token.text) {
        Ok((transport, zones, port)) => Ok(Key { token, transport, zones, port }),
        Err((why, hint)) => {
            Err(Fault::new(token.at, format!("the key `{}` {why}", shown(&token.text)), hint))
        }
    }
}

type Wrong = (String, &'static str);

fn wrong<T>(why: impl Into<String>, hint: &'static str) -> Result<T, Wrong> {
    Err((why.into(), hint))
}

fn read(text: &str) -> Result<(Transport, Vec<String>, Option<u16>), Wrong> {
    let (transport, rest) = match text.split_once("://") {
        None => (Transport::Dns, text),
        Some((scheme, rest)) => match Transport::ALL.into_iter().find(|t| t.scheme() == scheme) {
            Some(transport) => (transport, rest),
            None => {
                return wrong("has an unknown transport", "known: dns, tls, quic, grpc, https, https3");
            }
        },
    };
    // The last colon begins the port, unless it belongs to an IPv6 network: its mask comes after that.
    let (zone, port) = match rest.rsplit_once(':') {
        Some((_, after)) if after.contains('/') => (rest, None),
        Some((zone, digits)) => (zone, Some(port(digits)?)),
        None => (rest, None),
    };
    let zones = match network(zone)? {
        Some(zones) => zones,
        None => vec![name(zone)?],
    };
    Ok((transport, zones, port))
}

fn port(digits: &str) -> Result<u16, Wrong> {
    match digits.parse() {
        Ok(port) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ if digits.ends_with('{') => wrong("has a brace at its end", "put a blank before a brace"),
        // A manifest, a ConfigMap: `kind: ConfigMap`.
        _ if digits.is_empty() => wrong(
            "has no port after its colon",
            "give 0 to 65535, or leave the colon out; of a manifest in YAML, only what stands below `Corefile: |` is a Corefile",
        ),
        _ if digits.bytes().all(|b| b.is_ascii_digit()) => {
            wrong("has a port beyond 65535", "give 0 to 65535")
        }
        _ => wrong("has no port after its colon", "give 0 to 65535, or leave the colon out"),
    }
}

/// The reverse zones of `10.0.0.0/24` (RFC 1035 section 3.5) or `2001:db8::/32` (RFC 3596 section 2.5). `None` if it is
/// no network.
fn network(text: &str) -> Result<Option<Vec<String>>, Wrong> {
    let Some((address, length)) = text.split_once('/') else { return Ok(None) };
    let Ok(address) = address.parse() else { return Ok(None) };
    let (bits, width, digit, suffix) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32, 8, "in-addr.arpa."),
        IpAddr::V6(v6) => (v6.to_bits(), 128, 4, "ip6.arpa."),
    };
    // Compared as text too, so that `+8` and `08` are none.
    match length.parse::<u32>() {
        Ok(bits_kept) if bits_kept <= width && bits_kept.to_string() == length => {
            Ok(Some(reverse(bits, width, bits_kept, digit, suffix)))
        }
        _ => wrong("has no length after its slash", "give 0 to 32 for IPv4, 0 to 128 for IPv6"),
    }
}

/// The zones whose names make up a network. A zone ends between two digits (8 bits in IPv4, 4 in IPv6), so that a
/// network between two of them takes several.
fn reverse(bits: u128, width: u32, length: u32, digit: u32, suffix: &str) -> Vec<String> {
    let whole = length.next_multiple_of(digit);
    let base = bits.checked_shr(width - length).unwrap_or(0) << (whole - length);
    let zone = |number: u128| {
        let mut zone = String::new();
        for place in 0..whole / digit {
            let value = number >> (place * digit) & ((1 << digit) - 1);
            zone += &if digit == 8 { format!("{value}.") } else { format!("{value:x}.") };
        }
        zone + suffix
    };
    (0..1_u128 << (whole - length)).map(|i| zone(base + i)).collect()
}

fn name(text: &str) -> Result<String, Wrong> {
    if text == "." {
        return Ok(text.to_owned());
    }
    let foreign = |c: &char| !c.is_ascii_alphanumeric() && !"-_/.".contains(*c);
    if let Some(c) = text.chars().find(foreign) {
        let hint = match c {
            ',' => "put a blank after a comma",
            '{' | '}' => "put a blank before a brace",
            '(' | ')' => "a snippet is `(name) {` and has no other keys",
            ':' => "a zone has no colon; say what to listen on with `bind`",
            '*' => "leave the star out: a zone holds every name below it",
            _ => "write letters, digits, `-` and `_`; other scripts in their xn-- form",
        };
        return wrong(format!("has the character `{}`", c.escape_debug()), hint);
    }
    if text.is_empty() {
        let hint = "all names are `.`; a variable like {$NAME} that is not set leaves nothing";
        return wrong("names no zone", hint);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    // RFC 1035 section 2.3.4.
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return wrong(
            "is no DNS name",
            "labels have 1 to 63 letters, a name has at most 253; all names are `.`",
        );
    }
    Ok(name + ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(text: &str) -> Vec<String> {
        read(text).unwrap().1
    }

    #[test]
    fn a_key_is_a_transport_a_zone_and_a_port() {
        use Transport::*;
        for (text, transport, zone, port) in [
            (".", Dns, ".", None),
            (".:53", Dns, ".", Some(53)),
            ("Cluster.LOCAL", Dns, "cluster.local.", None),
            ("dns://cluster.local.:0", Dns, "cluster.local.", Some(0)),
            ("tls://.", Tls, ".", None),
            ("quic://.", Quic, ".", None),
            ("grpc://a:5", Grpc, "a.", Some(5)),
            ("https://a_b.c-d", Https, "a_b.c-d.", None),
            ("https3://.:65535", Https3, ".", Some(65535)),
            ("0/25.2.0.192.in-addr.arpa", Dns, "0/25.2.0.192.in-addr.arpa.", None),
            ("10.0.0.1:53", Dns, "10.0.0.1.", Some(53)),
        ] {
            assert_eq!(read(text), Ok((transport, vec![zone.to_owned()], port)), "{text}");
        }
    }

    #[test]
    fn a_network_stands_for_its_reverse_zones() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.in-addr.arpa."),
            ("10.1.2.3/24", "2.1.10.in-addr.arpa."),
            ("10.1.2.3/32:53", "3.2.1.10.in-addr.arpa."),
            ("0.0.0.0/0", "in-addr.arpa."),
            ("::/0", "ip6.arpa."),
            ("2001:db8::/32", "8.b.d.0.1.0.0.2.ip6.arpa."),
            ("dns://fd00::/8:1053", "d.f.ip6.arpa."),
        ] {
            assert_eq!(zones(text), [expected], "{text}");
        }
        assert_eq!(zones("10.0.6.0/23"), ["6.0.10.in-addr.arpa.", "7.0.10.in-addr.arpa."]);
        assert_eq!(zones("10.0.7.9/22").len(), 4);
        assert_eq!(zones("10.0.7.9/22")[0], "4.0.10.in-addr.arpa.");
        assert_eq!(zones("128.0.0.0/1").len(), 128);
        assert_eq!(zones("128.0.0.0/1")[127], "255.in-addr.arpa.");
        assert_eq!(zones("2000::/3"), ["2.ip6.arpa.", "3.ip6.arpa."]);
        assert_eq!(zones("ffff::1/128").concat().len(), 2 * 32 + "ip6.arpa.".len());
        assert_eq!(zones("::/127").len(), 2);
    }

    #[test]
    fn what_people_write_by_mistake_has_a_hint_of_its_own() {
        for (text, hint) in [
            (".:53{", "put a blank before a brace"),
            ("a{", "put a blank before a brace"),
            ("a:65536", "give 0 to 65535"),
            ("apiVersion:", "below `Corefile: |`"),
            (":53", "a variable like {$NAME}"),
        ] {
            let (_, found) = read(text).unwrap_err();
            assert!(found.contains(hint), "{text}: {found}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (long, deep) = ("a".repeat(64), "abcdefg.".repeat(32));
        for text in [
            "",
            ":53",
            "a:",
            "a:b",
            "a:+5",
            "a:65536",
            "a,b",
            "a{",
            "*.a",
            "é.fr",
            "a..b",
            "..",
            "unix://a",
            "://a",
            "::1",
            "a\\.b",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "fd00::/129",
            "dns://",
            &long,
            &deep,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
