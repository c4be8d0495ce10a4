//! IPv6 addresses for names that have IPv4 addresses only (RFC 6147): CoreDNS's `dns64`.
//!
//! AAAA is asked first. If there is none that can be used, A is asked, and each address put behind a prefix
//! (RFC 6052 section 2.2). NXDOMAIN stays; other errors count as "none" (RFC 6147 section 5.1.2). An address in
//! ::ffff:0:0/96 cannot be used (section 5.1.4). Who asks with both DO and CD set validates by himself, and gets
//! what is there (section 5.5).
//!
//! As in CoreDNS, PTR of addresses behind the prefix is asked like any other.

use std::fmt;
use std::net::Ipv6Addr;

use super::message::{Message, Rr};
use super::refused::{Refused, shown};
use crate::upstream::Ask;
use crate::wire::{class, rcode, rtype};

/// The TTL of an address that is made, where the AAAA answer had no SOA that says less (RFC 6147 section
/// 5.1.7), in seconds.
const TTL_MAX: u32 = 600;
/// ::ffff:0:0/96.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Whose AAAA records are made, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dns64 {
    /// What the addresses begin with.
    pub prefix: Prefix,
    /// Also for clients that ask over IPv4; see [`Settings::for_clients`](super::Settings::for_clients).
    pub allow_ipv4: bool,
    /// Also for names that have IPv6 addresses.
    pub translate_all: bool,
}

/// An IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits (RFC 6052 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    octets: [u8; 16],
    /// In bytes.
    length: usize,
}

impl Default for Prefix {
    /// 64:ff9b::/96, the well-known one (RFC 6052 section 2.1).
    fn default() -> Self {
        Self { octets: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).octets(), length: 12 }
    }
}

/// As [`parse`](Prefix::parse) reads it.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.octets), self.length * 8)
    }
}

impl Prefix {
    /// Reads `64:ff9b::/96`.
    ///
    /// # Errors
    /// It is no IPv6 prefix of a length that may be.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let length: usize = length.parse().ok().filter(|n| matches!(n, 32 | 40 | 48 | 56 | 64 | 96))?;
            Some((address.parse::<Ipv6Addr>().ok()?, length / 8))
        });
        let (address, length) = parsed.ok_or_else(|| {
            let hint = "write an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, as in 64:ff9b::/96";
            Refused::new(format!("`{}` is no prefix for IPv4 addresses", shown(text)), hint)
        })?;
        let mut octets = address.octets();
        octets[length..].fill(0);
        Ok(Self { octets, length })
    }

    /// The IPv6 address that stands for an IPv4 one. Bits 64 to 71 stay zero.
    fn with(&self, v4: [u8; 4]) -> [u8; 16] {
        let mut octets = self.octets;
        let places = (self.length..16).filter(|place| *place != 8);
        for (place, byte) in places.zip(v4) {
            octets[place] = byte;
        }
        octets
    }
}

/// What becomes of an AAAA answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays.
    Keep,
    /// It stays, without some addresses.
    Changed,
    /// Addresses are to be made, of no more than this TTL.
    Make(u32),
}

impl Dns64 {
    /// Whether the answer to `ask` may be made.
    pub(super) fn is_for(&self, ask: &Ask) -> bool {
        let validates = ask.dnssec_ok && ask.checking_disabled;
        ask.rtype == rtype::AAAA && ask.class == class::IN && !validates
    }

    /// Looks at an AAAA answer. Takes out addresses that cannot be used, where others can.
    pub(super) fn judge(&self, reply: &mut Message) -> Verdict {
        if reply.code() == rcode::NXDOMAIN {
            return Verdict::Keep;
        }
        let is_usable = |rr: &Rr| rr.rtype == rtype::AAAA && !rr.data.starts_with(&MAPPED);
        let [answers, authority, _] = &mut reply.sections;
        if self.translate_all || !answers.iter().any(is_usable) {
            let soa = authority.iter().find(|rr| rr.rtype == rtype::SOA);
            return Verdict::Make(soa.map_or(TTL_MAX, |rr| rr.ttl));
        }
        let before = answers.len();
        answers.retain(|rr| rr.rtype != rtype::AAAA || is_usable(rr));
        if answers.len() < before { Verdict::Changed } else { Verdict::Keep }
    }

    /// Makes the answer to `ask` of the A answer; other records stay (RFC 6147 section 5.3.3).
    pub(super) fn make(&self, reply: &mut Message, ask: &Ask, ttl: u32) {
        reply.turn_to(ask);
        for rr in &mut reply.sections[0] {
            if rr.rtype == rtype::A
                && rr.class == class::IN
                && let Ok(v4) = <[u8; 4]>::try_from(&*rr.data)
            {
                rr.rtype = rtype::AAAA;
                rr.ttl = rr.ttl.min(ttl);
                rr.data = self.prefix.with(v4).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_behind_prefixes_as_the_rfc_has_it() {
        // RFC 6052 section 2.4.
        for (prefix, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::1/96", "64:ff9b::192.0.2.33"),
        ] {
            let made = Prefix::parse(prefix).unwrap().with([192, 0, 2, 33]);
            assert_eq!(Ipv6Addr::from(made), expected.parse::<Ipv6Addr>().unwrap(), "{prefix}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in
            ["64:ff9b::", "64:ff9b::/97", "64:ff9b::/72", "10.0.0.0/32", "/96", "x/96", "64:ff9b::/-1"]
        {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
        assert_eq!(Prefix::parse("64:ff9b::/96").unwrap(), Prefix::default());
    }

    #[test]
    fn an_answer_is_made_where_there_is_none_to_use() {
        let ask = |dnssec_ok, checking_disabled| Ask {
            name: Box::from([0]),
            rtype: rtype::AAAA,
            class: 1,
            dnssec_ok,
            checking_disabled,
        };
        let rr =
            |rtype, ttl, data: &[u8]| Rr { owner: Box::from([0]), rtype, class: 1, ttl, data: data.into() };
        let good = rr(rtype::AAAA, 5, &[1; 16]);
        let mapped = rr(rtype::AAAA, 5, &Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 1, 2]).octets());
        let dns64 = Dns64::default();
        assert!(dns64.is_for(&ask(true, false)) && dns64.is_for(&ask(false, true)));
        assert!(!dns64.is_for(&ask(true, true)));
        let judged = |code, answers: &[&Rr], soa: bool, all| {
            let mut message = Message::answer(&ask(false, false), code);
            message.sections[0].extend(answers.iter().copied().cloned());
            message.sections[1].extend(soa.then(|| rr(rtype::SOA, 7, &[0; 22])));
            Dns64 { translate_all: all, ..dns64 }.judge(&mut message)
        };
        assert_eq!(judged(0, &[&good], false, false), Verdict::Keep);
        assert_eq!(judged(0, &[&good, &mapped], false, false), Verdict::Changed);
        assert_eq!(judged(0, &[&mapped], true, false), Verdict::Make(7));
        assert_eq!(judged(0, &[], false, false), Verdict::Make(600));
        assert_eq!(judged(2, &[], false, false), Verdict::Make(600));
        assert_eq!(judged(3, &[], true, true), Verdict::Keep);
        assert_eq!(judged(0, &[&good], false, true), Verdict::Make(600));
    }
}
