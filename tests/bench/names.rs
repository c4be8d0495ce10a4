//! The names that are asked for, and what their answers must be.
//!
//! The warm names are what a node's pods ask: 1,000 names, each for A and AAAA as stub resolvers do. 450 are the
//! misses of a search path with `ndots:5` (NXDOMAIN), 300 are services of the cluster, 250 stand outside of
//! it, a fifth of those behind an alias. Larger sets and new names are made in about the same proportions.

use crate::zone::{self, A, AAAA};

/// The search path of a pod in namespace `ns-3`.
const SEARCH_PATH: [&str; 3] = ["ns-3.svc.cluster.local", "svc.cluster.local", "cluster.local"];

/// Whether a cache can know a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It was asked before.
    #[default]
    Known,
    /// It was not.
    New,
}

/// One question, as it stands in a query, and what the answer must say.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Name, type and class.
    pub wire: Vec<u8>,
    /// The response code.
    pub rcode: u8,
    /// The records in the answer section.
    pub answers: u16,
    /// Whether a cache can know it.
    pub kind: Kind,
}

impl Question {
    /// The question for `name` and `qtype`, class IN.
    pub fn new(name: &str, qtype: u16) -> Self {
        let mut question = Self::default();
        question.set(name, qtype);
        question
    }

    /// Makes this the question for `name` and `qtype`, class IN, without a new allocation.
    fn set(&mut self, name: &str, qtype: u16) {
        self.wire.clear();
        for label in name.split('.') {
            self.wire.push(label.len() as u8);
            self.wire.extend_from_slice(label.as_bytes());
        }
        self.wire.push(0);
        self.wire.extend_from_slice(&qtype.to_be_bytes());
        self.wire.extend_from_slice(&[0, 1]);
        let outcome = zone::outcome(&self.wire);
        self.rcode = outcome.map_or(zone::NOERROR, |o| o.rcode());
        self.answers = outcome.map_or(0, |o| o.answers());
    }
}

/// The warm names, for A and AAAA.
pub fn warm_set() -> Vec<Question> {
    let outside = (0..200).map(|i| format!("host-{i}.example.com"));
    let aliases = (0..50).map(|i| format!("www-{i}.example.net"));
    let services = (0..300).map(|i| format!("svc-{i}.ns-{}.svc.cluster.local", i % 20));
    let searched = (0..150).flat_map(|i| SEARCH_PATH.map(|suffix| format!("host-{i}.example.com.{suffix}")));
    let names = outside.chain(aliases).chain(services).chain(searched);
    names.flat_map(|name| [A, AAAA].map(|qtype| Question::new(&name, qtype))).collect()
}

/// One name that everybody asks for.
pub fn hot_set() -> Vec<Question> {
    vec![Question::new("svc-1.ns-1.svc.cluster.local", A)]
}

/// So many names, in no order that tells what kind they are; each for A.
pub fn large_set(count: u64) -> Vec<Question> {
    (0..count).map(|n| Question::new(&name("k", n), A)).collect()
}

/// Makes `question` number `n` of those that were never asked before: a name is asked for A, then for AAAA.
pub fn make_new(question: &mut Question, n: u64) {
    question.set(&name("u", n / 2), if n.is_multiple_of(2) { A } else { AAAA });
    question.kind = Kind::New;
}

/// Name `n` of the family `prefix`: of twenty in a row, nine do not exist, six are services, five stand outside.
fn name(prefix: &str, n: u64) -> String {
    match n * 7 % 20 {
        0..9 => format!("{prefix}{n}.example.com.{}", SEARCH_PATH[(n % 3) as usize]),
        9..15 => format!("svc-{prefix}{n}.ns-{}.svc.cluster.local", n % 7),
        15 => format!("www-{prefix}{n}.example.net"),
        _ => format!("{prefix}{n}.example.com"),
    }
}

/// The mean size in bytes of the answers to `set`: what the echo pads to.
pub fn mean_answer_size(set: &[Question], edns: bool) -> usize {
    let mut answers = Vec::new();
    for question in set {
        let mut query = vec![0; zone::HEADER];
        query.extend_from_slice(&question.wire);
        zone::answer(&query, &mut answers);
    }
    // An OPT record without options has 11 bytes.
    answers.len() / set.len() + if edns { 11 } else { 0 }
}
