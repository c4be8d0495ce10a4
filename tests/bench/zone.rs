//! What the scripted upstream knows: a rule from a name to its answer, so that no table has to be shared.
//!
//! | name | A and AAAA | other types |
//! |---|---|---|
//! | `svc-*.NAMESPACE.svc.cluster.local` | one address; no AAAA (an IPv4 cluster) | no data |
//! | any other name below `cluster.local` (what search paths make) | NXDOMAIN | NXDOMAIN |
//! | `www-*`, three labels or more | an alias and its two addresses | no data |
//! | everything else | two addresses | no data |
//!
//! TTLs are long: nothing runs out during a benchmark.

/// Type A (RFC 1035 section 3.2.2).
pub const A: u16 = 1;
/// Type AAAA (RFC 3596).
pub const AAAA: u16 = 28;
/// Bytes of a message's header.
pub const HEADER: usize = 12;
/// No error.
pub const NOERROR: u8 = 0;
/// The name does not exist.
pub const NXDOMAIN: u8 = 3;
/// Seconds that data lives.
const TTL: u32 = 3600;
/// Seconds that "no such name" and "no such data" live (the SOA's minimum, RFC 2308).
const NEGATIVE_TTL: u32 = 1800;

/// What a question comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This many address records.
    Addresses(u16),
    /// An alias, and this many address records of its target.
    Alias(u16),
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NoName,
}

impl Outcome {
    /// The response code that goes with it.
    pub fn rcode(self) -> u8 {
        if self == Self::NoName { NXDOMAIN } else { NOERROR }
    }

    /// The records in the answer section.
    pub fn answers(self) -> u16 {
        match self {
            Self::Addresses(n) => n,
            Self::Alias(n) => n + 1,
            Self::NoData | Self::NoName => 0,
        }
    }
}

/// A query's question, where its labels begin, and whether an OPT record follows.
struct Asked<'a> {
    /// Name, type and class.
    question: &'a [u8],
    /// Offset of each label in the message, and of the root label behind them.
    labels: Vec<usize>,
    qtype: u16,
    edns: bool,
}

/// What `question` (name, type, class) comes to; `None` if it is not a question.
pub fn outcome(question: &[u8]) -> Option<Outcome> {
    let mut query = vec![0; HEADER];
    query.extend_from_slice(question);
    Some(rule(&query, &parse(&query)?))
}

/// Appends the answer to `query` to `into`. Returns whether there is one: no query, no answer.
pub fn answer(query: &[u8], into: &mut Vec<u8>) -> bool {
    let Some(asked) = parse(query) else { return false };
    let outcome = rule(query, &asked);
    let negative = u16::from(outcome.answers() == 0);
    into.extend_from_slice(&query[..2]);
    // QR and RA are set, opcode, RD and CD are the query's.
    into.push(0x80 | (query[2] & 0x79));
    into.push(0x80 | (query[3] & 0x10) | outcome.rcode());
    for count in [1, outcome.answers(), negative, u16::from(asked.edns)] {
        into.extend_from_slice(&count.to_be_bytes());
    }
    let start = into.len() - HEADER;
    into.extend_from_slice(asked.question);
    match outcome {
        Outcome::Addresses(n) => addresses(into, HEADER, asked.qtype, n),
        Outcome::Alias(n) => {
            record(into, HEADER, 5, TTL, 6);
            let target = into.len() - start;
            into.extend_from_slice(b"\x03cdn");
            pointer(into, HEADER);
            addresses(into, target, asked.qtype, n);
        }
        Outcome::NoData | Outcome::NoName => authority(into, &asked),
    }
    if asked.edns {
        // Root name, type OPT, 1232 bytes, no extended code or flags, no options (RFC 6891 section 6.1.2).
        into.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    }
    true
}

/// Takes a query apart; `None` unless it is a query with one uncompressed question.
fn parse(query: &[u8]) -> Option<Asked<'_>> {
    if query.len() < HEADER || query[2] & 0x80 != 0 {
        return None;
    }
    let mut labels = vec![HEADER];
    let mut at = HEADER;
    while *query.get(at)? != 0 {
        at += 1 + usize::from(query[at]);
        labels.push(at);
    }
    let question = query.get(HEADER..at + 5)?;
    let qtype = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let edns = query.get(at + 5..at + 8) == Some(&[0, 0, 41]);
    Some(Asked { question, labels, qtype, edns })
}

/// The table at the top of this file.
fn rule(query: &[u8], asked: &Asked) -> Outcome {
    let label = |i: usize| {
        let start = asked.labels[i];
        &query[start + 1..start + 1 + usize::from(query[start])]
    };
    // Resolvers ask in letters of random case, and only take answers that repeat them.
    let is = |i: usize, word: &[u8]| label(i).eq_ignore_ascii_case(word);
    let begins =
        |i: usize, word: &[u8]| label(i).get(..word.len()).is_some_and(|l| l.eq_ignore_ascii_case(word));
    let count = asked.labels.len() - 1;
    let addresses = asked.qtype == A || asked.qtype == AAAA;
    if count >= 2 && is(count - 2, b"cluster") && is(count - 1, b"local") {
        let service = count == 5 && is(2, b"svc") && begins(0, b"svc-");
        return match (service, asked.qtype) {
            (true, A) => Outcome::Addresses(1),
            (true, _) => Outcome::NoData,
            (false, _) => Outcome::NoName,
        };
    }
    match addresses {
        true if count >= 3 && begins(0, b"www-") => Outcome::Alias(2),
        true => Outcome::Addresses(2),
        false => Outcome::NoData,
    }
}

/// `count` address records with the owner at offset `owner`.
fn addresses(into: &mut Vec<u8>, owner: usize, qtype: u16, count: u16) {
    for n in 1..=count {
        let [high, low] = n.to_be_bytes();
        if qtype == A {
            record(into, owner, A, TTL, 4);
            // 198.18.0.0/15 is set aside for benchmarks (RFC 2544).
            into.extend_from_slice(&[198, 18, high, low]);
        } else {
            record(into, owner, AAAA, TTL, 16);
            // So is 2001:2::/48 (RFC 5180).
            into.extend_from_slice(&[0x20, 0x01, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
        }
    }
}

/// The SOA record of the zone: the name's last two labels.
fn authority(into: &mut Vec<u8>, asked: &Asked) {
    let zone = asked.labels[asked.labels.len().saturating_sub(3)];
    record(into, zone, 6, NEGATIVE_TTL, 42);
    into.extend_from_slice(b"\x02ns\x03dns");
    pointer(into, zone);
    into.extend_from_slice(b"\x0ahostmaster");
    pointer(into, zone);
    for value in [2026, 7200, 1800, 86400, NEGATIVE_TTL] {
        into.extend_from_slice(&value.to_be_bytes());
    }
}

/// A record up to its data, class IN.
fn record(into: &mut Vec<u8>, owner: usize, rtype: u16, ttl: u32, data: u16) {
    pointer(into, owner);
    into.extend_from_slice(&rtype.to_be_bytes());
    into.extend_from_slice(&[0, 1]);
    into.extend_from_slice(&ttl.to_be_bytes());
    into.extend_from_slice(&data.to_be_bytes());
}

/// A compression pointer (RFC 1035 section 4.1.4) to `offset`, which lies in the question or right behind it.
fn pointer(into: &mut Vec<u8>, offset: usize) {
    into.extend_from_slice(&(0xc000 | (offset & 0x3fff) as u16).to_be_bytes());
}
