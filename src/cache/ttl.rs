//! How long an answer is kept. The decisions, one paragraph each; the code below only obeys them.
//!
//! **A TTL is a number of seconds below 2^31**; a larger one means zero (RFC 2181 section 8).
//!
//! **Every TTL is capped and floored when it is stored**, by its zone's [`Rules`], so that clients see what we
//! do. An answer is kept as a whole, for the smallest TTL in it: no record is served past its time.
//!
//! **NXDOMAIN and NODATA** are kept for the smaller of the SOA's TTL and its MINIMUM (RFC 2308 section 5), under
//! caps and floors of their own; without an SOA they are not kept. A chain of CNAMEs that ends in nothing is
//! NODATA, and so it is not kept without an SOA either: the end of the chain may have data a second later.
//!
//! **What says nothing is not kept**: a referral, an empty answer without SOA, a truncated message.
//!
//! **Stale data** (RFC 8767) stays for `stale_for` after its time; negatives only if `stale_negative`.
//!
//! **A zone may have nothing kept** of its answers or of its negatives. TTLs then stay as the rules above make
//! them: what we do not keep, a client may.

use std::time::Duration;

use super::{Prefetch, Share};
use crate::limit::Limit;
use crate::wire::records::{Record, Section};
use crate::wire::{rcode, rtype, u32_at};

/// A cap on the TTL of answers.
pub const TTL_MAX: Limit<Duration> =
    Limit::new(Duration::from_secs(0), Duration::from_secs(3600), Duration::from_secs(604_800));
/// A cap on the TTL of NXDOMAIN and NODATA.
pub const NEGATIVE_TTL_MAX: Limit<Duration> =
    Limit::new(Duration::from_secs(0), Duration::from_secs(1800), Duration::from_secs(604_800));
/// A floor under TTLs, of answers and of negatives.
pub const TTL_MIN: Limit<Duration> =
    Limit::new(Duration::from_secs(0), Duration::from_secs(0), Duration::from_secs(3600));
/// How long after expiry an answer may still be served when fresh data fails (RFC 8767 section 5: up to days).
pub const STALE_FOR: Limit<Duration> =
    Limit::new(Duration::from_secs(0), Duration::from_secs(86_400), Duration::from_secs(604_800));

/// How answers of one zone are kept and given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// See [`TTL_MAX`].
    pub ttl_max: Duration,
    /// See [`TTL_MIN`].
    pub ttl_min: Duration,
    /// See [`NEGATIVE_TTL_MAX`].
    pub negative_ttl_max: Duration,
    /// See [`TTL_MIN`].
    pub negative_ttl_min: Duration,
    /// See [`STALE_FOR`]; zero turns serving stale off.
    pub stale_for: Duration,
    /// Whether NXDOMAIN and NODATA may be served stale.
    pub stale_negative: bool,
    /// Whether answers are kept at all.
    pub cache_positive: bool,
    /// Whether NXDOMAIN and NODATA are kept at all.
    pub cache_negative: bool,
    /// Whether a kept answer is given out with the TTLs under which it was stored, however old it is.
    pub keep_ttl: bool,
    /// Whether the addresses of an answer change places from hit to hit.
    pub rotate: bool,
    /// Which answers are refreshed ahead of their expiry.
    pub prefetch: Prefetch,
    /// What it has of the cache before others.
    pub share: Share,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ttl_max: TTL_MAX.default,
            ttl_min: TTL_MIN.default,
            negative_ttl_max: NEGATIVE_TTL_MAX.default,
            negative_ttl_min: TTL_MIN.default,
            stale_for: STALE_FOR.default,
            stale_negative: true,
            cache_positive: true,
            cache_negative: true,
            keep_ttl: false,
            rotate: true,
            prefetch: Prefetch::default(),
            share: Share::default(),
        }
    }
}

impl Rules {
    /// The TTL under which a record of an answer is stored.
    pub fn positive(&self, ttl: u32) -> u32 {
        clamp(ttl, self.ttl_min, self.ttl_max)
    }

    /// The TTL under which a negative answer is stored.
    pub fn negative(&self, ttl: u32) -> u32 {
        clamp(ttl, self.negative_ttl_min, self.negative_ttl_max)
    }

    /// Whether an answer of this kind is kept.
    pub fn keeps(&self, kind: Kind) -> bool {
        match kind {
            Kind::Positive => self.cache_positive,
            Kind::NoData | Kind::NxDomain => self.cache_negative,
            Kind::Nothing => false,
        }
    }

    /// How long past its time an answer of this kind stays of use.
    pub fn stale_for(&self, kind: Kind) -> Duration {
        if kind == Kind::Positive || self.stale_negative { self.stale_for } else { Duration::ZERO }
    }
}

/// RFC 2181 section 8: with the sign bit set it is zero.
fn unsigned(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

fn clamp(ttl: u32, min: Duration, max: Duration) -> u32 {
    let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    unsigned(ttl).min(seconds(max)).max(seconds(min).min(seconds(max)))
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Here is the data.
    Positive,
    /// The name is there, the type is not.
    NoData,
    /// There is no such name.
    NxDomain,
    /// Nothing that can be kept: an error, a referral, an empty answer without SOA.
    Nothing,
}

impl Kind {
    /// All of them, each at its number.
    pub(super) const ALL: [Self; 4] = [Self::Positive, Self::NoData, Self::NxDomain, Self::Nothing];
}

/// What a message of response code `code` for type `asked` says, and for a negative one the TTL that its SOA
/// gives.
pub fn classify(message: &[u8], records: &[Record], code: u16, asked: u16) -> (Kind, Option<u32>) {
    let soa = records
        .iter()
        .find(|r| r.section == Section::Authority && r.rtype == rtype::SOA)
        .and_then(|r| Some(unsigned(r.ttl).min(unsigned(soa_minimum(message, r)?))));
    let mut answers = records.iter().filter(|r| r.section == Section::Answer);
    let found = answers.any(|r| r.rtype == asked || asked == rtype::ANY);
    match (code, soa) {
        (rcode::NXDOMAIN, Some(_)) => (Kind::NxDomain, soa),
        (rcode::NOERROR, _) if found => (Kind::Positive, None),
        (rcode::NOERROR, Some(_)) => (Kind::NoData, soa),
        _ => (Kind::Nothing, None),
    }
}

/// MINIMUM: the last four of the five numbers that close an SOA (RFC 1035 section 3.3.13).
fn soa_minimum(message: &[u8], soa: &Record) -> Option<u32> {
    // Two names of at least a byte and five numbers of four.
    if soa.rdata.len() < 22 { None } else { u32_at(message, soa.rdata.end - 4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_capped_floored_and_never_negative() {
        let secs = Duration::from_secs;
        assert_eq!(clamp(100, secs(0), secs(30)), 30);
        assert_eq!(clamp(1, secs(5), secs(30)), 5);
        assert_eq!(clamp(1 << 31, secs(0), secs(30)), 0);
        assert_eq!(clamp(1 << 31, secs(5), secs(30)), 5);
        assert_eq!(clamp(100, secs(60), secs(30)), 30, "the cap wins");
    }
}
