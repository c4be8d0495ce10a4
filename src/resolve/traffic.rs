//! What is counted about every query from a client and its answer, whoever gives it: type, size, response code.
//!
//! One block a zone, listener and worker; and one a listener and worker for queries that belong to no zone.

use std::time::Duration;

use crate::count::{Counter, Histogram, Sizes};

/// Types that are counted by name, as CoreDNS names them; others are counted together.
pub const TYPES: [(u16, &str); 19] = [
    (1, "A"),
    (28, "AAAA"),
    (12, "PTR"),
    (33, "SRV"),
    (65, "HTTPS"),
    (16, "TXT"),
    (15, "MX"),
    (5, "CNAME"),
    (2, "NS"),
    (6, "SOA"),
    (48, "DNSKEY"),
    (43, "DS"),
    (64, "SVCB"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (50, "NSEC3"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
];

/// [`type_index`] for the types below 256, where all of [`TYPES`] are.
const INDEX: [u8; 256] = {
    let mut index = [TYPES.len() as u8; 256];
    let mut i = 0;
    while i < TYPES.len() {
        index[TYPES[i].0 as usize] = i as u8;
        i += 1;
    }
    index
};

/// The place of a type in [`Traffic::queries`]: its index in [`TYPES`], or one past the end.
#[inline]
pub fn type_index(rtype: u16) -> usize {
    INDEX.get(usize::from(rtype)).map_or(TYPES.len(), |&i| i.into())
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One datagram.
    Udp = 0,
    /// A message of a stream.
    Tcp = 1,
}

/// How a query came, and what it is, as far as that is counted.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How it came.
    pub protocol: Protocol,
    /// Over IPv6.
    pub v6: bool,
    /// The type that it asks for.
    pub rtype: u16,
    /// Whether it has the DO bit.
    pub dnssec_ok: bool,
    /// Its bytes.
    pub size: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Queries by [`Protocol`], family (0 IPv4, 1 IPv6) and type ([`type_index`]).
    pub queries: [[[Counter; TYPES.len() + 1]; 2]; 2],
    /// Queries with the DO bit (RFC 3225).
    pub dnssec_ok: Counter,
    /// Bytes of queries, by [`Protocol`].
    pub query_sizes: [Sizes; 2],
    /// Answers from the cache or from upstreams, by response code (0 to 15).
    pub answers: [Counter; 16],
    /// Answers of our own (refusals, ANY, who we are), by response code (0 to 15).
    pub own_answers: [Counter; 16],
    /// Bytes of answers, by [`Protocol`].
    pub answer_sizes: [Sizes; 2],
    /// Time from the receipt of a query to its answer of our own being ready.
    pub own_latency: Histogram,
}

impl Traffic {
    /// Counts a query. Only the owning thread may call this.
    #[inline]
    pub fn asked(&self, query: Shape) {
        self.queries[query.protocol as usize][usize::from(query.v6)][type_index(query.rtype)].bump();
        if query.dnssec_ok {
            self.dnssec_ok.bump();
        }
        self.query_sizes[query.protocol as usize].record(query.size);
    }

    /// Counts an answer from the cache or from upstreams. Only the owning thread may call this.
    #[inline]
    pub fn answered(&self, protocol: Protocol, rcode: u16, size: usize) {
        self.answers[usize::from(rcode & 15)].bump();
        self.answer_sizes[protocol as usize].record(size);
    }

    /// Counts an answer of our own. Only the owning thread may call this.
    pub fn answered_ourselves(&self, protocol: Protocol, rcode: u16, size: usize, took: Duration) {
        self.own_answers[usize::from(rcode & 15)].bump();
        self.answer_sizes[protocol as usize].record(size);
        self.own_latency.record(took, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_its_place() {
        for (i, (rtype, _)) in TYPES.iter().enumerate() {
            assert_eq!(type_index(*rtype), i);
        }
        for other in [0, 3, 99, 256, 257, u16::MAX] {
            assert_eq!(type_index(other), TYPES.len());
        }
    }
}
