//! Addresses from hosts files and from the configuration: CoreDNS's `hosts`.
//!
//! A and AAAA for names, PTR for addresses. A name that is there but not for the type that is asked has no data;
//! one that is not there ends in SERVFAIL, as in CoreDNS (there is no SOA with which NXDOMAIN could be said),
//! unless it falls through. A PTR that is not there always goes on. Names with a star are names like others.
//!
//! A hosts file is read by whoever watches it, once for all zones that name it: see [`Shelf`](super::Shelf).

pub mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::Said;
use super::message::{Message, Rr};
use super::text;
use super::zones::Zones;
use crate::limit::Limit;
use crate::upstream::Ask;
use crate::wire::{class, rcode, rtype};
pub use table::Table;

/// The TTL of what is made of hosts entries, in seconds.
pub const HOSTS_TTL: Limit<u32> = Limit::new(1, 3600, 65_535);
/// How often a hosts file is looked at, where the kernel does not tell of changes; zero is never.
pub const HOSTS_RELOAD: Limit<Duration> =
    Limit::new(Duration::ZERO, Duration::from_secs(5), Duration::from_secs(86_400));

/// Hosts entries and where they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Names outside of these are not looked for.
    pub zones: Zones,
    /// A file to read.
    pub file: Option<PathBuf>,
    /// How often it is looked at; see [`HOSTS_RELOAD`].
    pub reload: Duration,
    /// Entries beside those of the file.
    pub inline: Table,
    /// See [`HOSTS_TTL`].
    pub ttl: u32,
    /// Whether there are PTR records too.
    pub reverse: bool,
    /// Names that are not there go on from here, below these.
    pub fallthrough: Zones,
}

impl Hosts {
    /// No entries, for names in `zones`.
    pub fn new(zones: Zones) -> Self {
        Self {
            zones,
            file: None,
            reload: HOSTS_RELOAD.default,
            inline: Table::default(),
            ttl: HOSTS_TTL.default,
            reverse: true,
            fallthrough: Zones::default(),
        }
    }

    /// What the entries, `file`'s first, say to `ask`. Nobody knows yet what a file says that was not read (`None`).
    pub(super) fn say(&self, file: Option<&Table>, ask: &Ask) -> Said {
        let asks_for_names = ask.rtype == rtype::PTR;
        if ask.class != class::IN || !(asks_for_names || self.zones.hold(&ask.name)) {
            return Said::Nothing;
        }
        let Some(file) = file else { return Said::Failure };
        if asks_for_names {
            return self.say_names(file, ask);
        }
        let mut found: Vec<IpAddr> = Vec::new();
        for address in file.addresses(&ask.name).chain(self.inline.addresses(&ask.name)) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            let goes_on = self.fallthrough.hold(&ask.name);
            return if goes_on { Said::Nothing } else { Said::Failure };
        }
        let data = found.iter().filter_map(|address| match (address, ask.rtype) {
            (IpAddr::V4(v4), rtype::A) => Some(v4.octets().as_slice().into()),
            (IpAddr::V6(v6), rtype::AAAA) => Some(v6.octets().as_slice().into()),
            _ => None,
        });
        self.answer(ask, data)
    }

    /// The names of the address that is asked for.
    fn say_names(&self, file: &Table, ask: &Ask) -> Said {
        let Some(address) = reversed(&text::show(&ask.name)).filter(|_| self.reverse) else {
            return Said::Nothing;
        };
        let names = file.names(address).chain(self.inline.names(address));
        let mut names = names.filter(|name| self.zones.hold(name)).map(Box::from).peekable();
        if names.peek().is_none() { Said::Nothing } else { self.answer(ask, names) }
    }

    fn answer(&self, ask: &Ask, data: impl Iterator<Item = Box<[u8]>>) -> Said {
        let mut message = Message::answer(ask, rcode::NOERROR);
        let rr =
            |data| Rr { owner: ask.name.clone(), rtype: ask.rtype, class: class::IN, ttl: self.ttl, data };
        message.sections[0].extend(data.map(rr));
        Said::Answer(message, Vec::new())
    }
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for (RFC 1035 section 3.5, RFC 3596 section
/// 2.5).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(parts) = name.strip_suffix(".in-addr.arpa.") {
        let forward: Vec<&str> = parts.rsplit('.').collect();
        return forward.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let parts = name.strip_suffix(".ip6.arpa.")?;
    let digits: Vec<u128> = parts
        .rsplit('.')
        .map(|part| part.parse::<char>().ok().and_then(|c| c.to_digit(16)).map(u128::from))
        .collect::<Option<_>>()?;
    let bits = (digits.len() == 32).then(|| digits.iter().fold(0, |bits, digit| bits << 4 | digit))?;
    // An IPv4 address in an IPv6 one is that IPv4 address, as in the table.
    Some(IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let zones = Zones::parse(["test.", "in-addr.arpa."]).unwrap();
        Hosts { inline: Table::parse("192.0.2.2 b.test a.test\n2001:db8::2 b.test"), ..Hosts::new(zones) }
    }

    fn ask(name: &str, rtype: u16) -> Ask {
        let name = text::read(name).unwrap();
        Ask { name, rtype, class: 1, dnssec_ok: false, checking_disabled: false }
    }

    /// The data of the answers; `None` for nothing, an error for a failure.
    fn said(hosts: &Hosts, name: &str, rtype: u16) -> Result<Option<Vec<String>>, ()> {
        let file = Table::parse("192.0.2.1 b.test\n192.0.2.2 b.test\n192.0.2.9 b.other\n");
        match hosts.say(Some(&file), &ask(name, rtype)) {
            Said::Nothing => Ok(None),
            Said::Failure => Err(()),
            Said::Answer(message, _) => {
                assert!(message.sections[0].iter().all(|rr| rr.ttl == 3600));
                let shown = |rr: &Rr| match rr.rtype {
                    12 => text::show(&rr.data),
                    _ => rr.data.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
                };
                Ok(Some(message.sections[0].iter().map(shown).collect()))
            }
        }
    }

    #[test]
    fn addresses_and_names_are_found() {
        let found = |texts: &[&str]| Ok(Some(texts.iter().map(|&t| t.to_owned()).collect()));
        for (name, rtype, expected) in [
            ("b.test.", 1, found(&["192.0.2.1", "192.0.2.2"])),
            ("b.test.", 16, found(&[])),
            ("a.test.", 28, found(&[])),
            ("c.test.", 1, Err(())),
            ("b.other.", 1, Ok(None)),
            ("2.2.0.192.in-addr.arpa.", 12, found(&["b.test.", "b.test.", "a.test."])),
            ("3.2.0.192.in-addr.arpa.", 12, Ok(None)),
            ("9.2.0.192.in-addr.arpa.", 12, Ok(None)),
            ("2.2.0.192.in-addr.arpa.", 1, Err(())),
            ("b.test.", 12, Ok(None)),
        ] {
            assert_eq!(said(&hosts(), name, rtype), expected, "{name} {rtype}");
        }
        let falls = Hosts { fallthrough: Zones::parse(["c.test"]).unwrap(), reverse: false, ..hosts() };
        assert_eq!(said(&falls, "c.test.", 1), Ok(None));
        assert_eq!(said(&falls, "d.test.", 1), Err(()));
        assert_eq!(said(&falls, "2.2.0.192.in-addr.arpa.", 12), Ok(None));
    }

    #[test]
    fn before_the_file_was_read_nothing_is_said_of_what_it_may_have() {
        let falls = Hosts { fallthrough: Zones::all(), ..hosts() };
        let said = |name, rtype| falls.say(None, &ask(name, rtype));
        assert!(matches!(said("b.test.", 1), Said::Failure));
        assert!(matches!(said("2.2.0.192.in-addr.arpa.", 12), Said::Failure));
        assert!(matches!(said("b.other.", 1), Said::Nothing));
    }

    #[test]
    fn reverse_names_are_addresses() {
        let v6 = "8.b.d.0.1.0.0.2.ip6.arpa.";
        let full = format!("2.{}{v6}", "0.".repeat(23));
        assert_eq!(reversed(&full), Some("2001:db8::2".parse().unwrap()));
        assert_eq!(reversed("4.3.2.1.in-addr.arpa."), Some("1.2.3.4".parse().unwrap()));
        for name in
            [v6, "3.2.1.in-addr.arpa.", "x.3.2.1.in-addr.arpa.", "in-addr.arpa.", "04.3.2.1.in-addr.arpa."]
        {
            assert_eq!(reversed(name), None, "{name}");
        }
    }
}
