//! The questions that are asked, and what their answers must be.
//!
//! The warm set is what a node's pods ask: 1,000 names, each for A and AAAA as stub resolvers do. 450 are the
//! misses of a search path with `ndots:5` (NXDOMAIN), 300 are services of the cluster, 250 stand outside of
//! it, a fifth of those behind an alias.

use crate::zone::{self, A, AAAA};

/// The search path of a pod in namespace `ns-3`.
const SEARCH_PATH: [&str; 3] = ["ns-3.svc.cluster.local", "svc.cluster.local", "cluster.local"];

/// One question, as it stands in a query, and what the answer must say.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Name, type and class.
    pub wire: Vec<u8>,
    /// The response code.
    pub rcode: u8,
    /// The records in the answer section.
    pub answers: u16,
}

impl Question {
    fn new(name: &str, qtype: u16) -> Self {
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

/// Where the load takes its next question from.
pub enum Questions {
    /// A fixed set: once in order, so that every name gets warm, then at random (the same in every run).
    Warm {
        /// The set; never empty.
        set: Vec<Question>,
        /// How many questions were asked.
        asked: usize,
        /// State of the generator.
        random: u64,
    },
    /// Names that were never asked before.
    Unique {
        /// How many were asked.
        asked: u64,
        /// The last one.
        question: Question,
    },
}

impl Questions {
    /// The warm set.
    pub fn warm() -> Self {
        Self::Warm { set: warm_set(), asked: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The warm set as the echo answers it: with nothing.
    pub fn echoed() -> Self {
        let mut set = warm_set();
        for question in &mut set {
            (question.rcode, question.answers) = (zone::NOERROR, 0);
        }
        Self::Warm { set, asked: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Names that were never asked before, in the same proportions as the warm set's.
    pub fn unique() -> Self {
        Self::Unique { asked: 0, question: Question::default() }
    }

    /// The next question.
    pub fn next(&mut self) -> &Question {
        match self {
            Self::Warm { set, asked, random } => {
                let in_order = *asked;
                *asked += 1;
                if in_order < set.len() {
                    return &set[in_order];
                }
                // xorshift64 (Marsaglia): spread evenly enough, and nearly free.
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                &set[(*random >> 32) as usize % set.len()]
            }
            Self::Unique { asked, question } => {
                let n = *asked;
                *asked += 1;
                let qtype = if n.is_multiple_of(2) { A } else { AAAA };
                question.set(&unique_name(n), qtype);
                question
            }
        }
    }
}

fn warm_set() -> Vec<Question> {
    let outside = (0..200).map(|i| format!("host-{i}.example.com"));
    let aliases = (0..50).map(|i| format!("www-{i}.example.net"));
    let services = (0..300).map(|i| format!("svc-{i}.ns-{}.svc.cluster.local", i % 20));
    let searched = (0..150).flat_map(|i| SEARCH_PATH.map(|suffix| format!("host-{i}.example.com.{suffix}")));
    let names = outside.chain(aliases).chain(services).chain(searched);
    names.flat_map(|name| [A, AAAA].map(|qtype| Question::new(&name, qtype))).collect()
}

/// Name `n`: of twenty pairs of questions, nine do not exist, six are services, five stand outside.
fn unique_name(n: u64) -> String {
    let name = n / 2;
    match name % 20 {
        0..9 => format!("u{name}.example.com.{}", SEARCH_PATH[(name % 3) as usize]),
        9..15 => format!("svc-u{name}.ns-{}.svc.cluster.local", name % 7),
        15 => format!("www-u{name}.example.net"),
        _ => format!("u{name}.example.com"),
    }
}

/// The mean size of the warm set's answers in bytes: what the echo pads to.
pub fn mean_answer_size() -> usize {
    let set = warm_set();
    let mut answers = Vec::new();
    for question in &set {
        let mut query = vec![0; zone::HEADER];
        query.extend_from_slice(&question.wire);
        zone::answer(&query, &mut answers);
    }
    answers.len() / set.len()
}
