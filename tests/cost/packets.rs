//! The queries: those of the benchmark beside this one, as packets.

use crate::names::{self, Question};

/// An OPT record as resolvers send it (RFC 6891 section 6.1.2): 1,232 bytes, no flags, no options.
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// What kind of query a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without EDNS, as glibc and musl ask.
    Plain,
    /// With an OPT record.
    Edns,
}

/// A query, and what its answer must say.
pub struct Packet {
    /// The message.
    pub bytes: Vec<u8>,
    /// The response code.
    pub rcode: u8,
    /// The records in the answer section.
    pub answers: u16,
}

impl Packet {
    fn new(number: usize, question: &Question, form: Form) -> Self {
        let [high, low] = (number as u16).to_be_bytes();
        let edns = form == Form::Edns;
        // RD; one question; none or one additional record.
        let mut bytes = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.into()];
        bytes.extend_from_slice(&question.wire);
        if edns {
            bytes.extend_from_slice(&OPT);
        }
        Self { bytes, rcode: question.rcode, answers: question.answers }
    }

    /// Whether `answer` is the one to this query.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let Some(&[id_high, id_low, flags, code, _, _, high, low]) = answer.first_chunk() else {
            return false;
        };
        self.bytes.starts_with(&[id_high, id_low])
            && flags & 0x80 != 0
            && code & 15 == self.rcode
            && u16::from_be_bytes([high, low]) == self.answers
    }
}

/// 1,000 names, each for A and AAAA, in an order that jumps about: no two neighbours are alike in kind, and the
/// processor cannot foresee which is next.
pub fn warm(form: Form) -> Vec<Packet> {
    let set = names::warm_set();
    let count = set.len();
    // 769 has no divisor in common with 2,000: every question comes once.
    (0..count).map(|i| Packet::new(i, &set[i * 769 % count], form)).collect()
}

/// Names that are asked for the first time, from the `first` on.
pub fn unique(first: usize, count: usize) -> Vec<Packet> {
    let mut question = Question::default();
    let packets = (first..first + count).map(|n| {
        names::make_new(&mut question, n as u64);
        Packet::new(n, &question, Form::Plain)
    });
    packets.collect()
}
