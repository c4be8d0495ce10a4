//! DNS messages as bytes: `&[u8]` in, offsets and bytes out; depends on nothing.
//!
//! The road never builds a tree of records. A query is checked and its question found ([`query`]); a response
//! is walked once, when it is stored ([`records`]); an answer is a copy with a few bytes patched ([`answer`]).
//! Everything here is total: any bytes give a result, never a panic.

pub mod answer;
pub mod header;
pub mod name;
pub mod query;
pub mod records;

/// Bytes that are not a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The largest message (RFC 1035 section 4.2.2: a length of two bytes).
pub const MESSAGE_MAX: usize = 65_535;

/// Response codes (RFC 1035 section 4.1.1, RFC 6891 section 9).
pub mod rcode {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BADVERS: u16 = 16;

    /// By name, extended ones too (the IANA registry "DNS RCODEs"); those without one are numbered.
    pub const NAMES: [&str; 24] = [
        "NOERROR",
        "FORMERR",
        "SERVFAIL",
        "NXDOMAIN",
        "NOTIMP",
        "REFUSED",
        "YXDOMAIN",
        "YXRRSET",
        "NXRRSET",
        "NOTAUTH",
        "NOTZONE",
        "DSOTYPENI",
        "RCODE12",
        "RCODE13",
        "RCODE14",
        "RCODE15",
        "BADVERS",
        "BADKEY",
        "BADTIME",
        "BADMODE",
        "BADNAME",
        "BADALG",
        "BADTRUNC",
        "BADCOOKIE",
    ];
    /// How many of these fit into a header and have a name.
    pub const NAMED: usize = 12;
}

/// Record types that this program treats apart from others.
pub mod rtype {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Classes (RFC 1035 section 3.2.4).
pub mod class {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const IN: u16 = 1;
    pub const CH: u16 = 3;
}

/// Extended errors that this program gives (RFC 8914 section 4).
pub mod extended_error {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const OTHER: u16 = 0;
    pub const STALE_ANSWER: u16 = 3;
    pub const CACHED_ERROR: u16 = 13;
    pub const STALE_NXDOMAIN: u16 = 19;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const NETWORK_ERROR: u16 = 23;
}

/// The two bytes at `at`, in network order.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// The four bytes at `at`, in network order.
pub(crate) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?))
}
