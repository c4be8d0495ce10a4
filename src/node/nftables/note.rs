//! What we write beside a rule (NFTA_RULE_USERDATA): its comment, which `nft list ruleset` shows, and a fingerprint of
//! its expressions.
//!
//! The kernel keeps the note with the rule and changes neither; who changes a rule replaces both. So a rule whose
//! fingerprint is the planned one is the planned rule, and expressions need not be read back, which differ between
//! kernels in what they leave out and add.
//!
//! The format is libnftnl's: one byte of type, one of length, the value. Programs pass over types that they do not
//! know.

use super::expr::Expressions;

/// NFTNL_UDATA_RULE_COMMENT.
const COMMENT: u8 = 0;
/// Ours.
const FINGERPRINT: u8 = 0x53;
/// Bytes of a comment that `nft` reads, with its terminating zero.
const LONGEST: usize = 128;

/// A note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// For people; may be empty. What is beyond 127 bytes is cut off.
    pub(crate) comment: String,
    /// Of the expressions; another program's rule has none.
    pub(crate) fingerprint: Option<u64>,
}

impl Note {
    /// The note of one of our rules.
    pub(crate) fn new(comment: &str, expressions: &Expressions) -> Self {
        Self { comment: comment.to_owned(), fingerprint: Some(fingerprint(expressions.bytes())) }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut end = self.comment.len().min(LONGEST - 1);
        while !self.comment.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = Vec::new();
        if end > 0 {
            put(&mut bytes, COMMENT, &[&self.comment.as_bytes()[..end], b"\0"].concat());
        }
        if let Some(fingerprint) = self.fingerprint {
            put(&mut bytes, FINGERPRINT, &fingerprint.to_be_bytes());
        }
        bytes
    }

    /// What a rule's user data says; nothing where it is none that we know.
    pub(crate) fn read(mut bytes: &[u8]) -> Self {
        let mut note = Self::default();
        while let [kind, length, rest @ ..] = bytes {
            let Some((value, behind)) = rest.split_at_checked(usize::from(*length)) else { break };
            match *kind {
                COMMENT => {
                    let text = value.strip_suffix(b"\0").unwrap_or(value);
                    note.comment = String::from_utf8_lossy(text).into_owned();
                }
                FINGERPRINT => note.fingerprint = value.try_into().ok().map(u64::from_be_bytes),
                _ => {}
            }
            bytes = behind;
        }
        note
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.extend([kind, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    bytes.extend(value);
}

/// FNV-1a, 64 bits: the same in every version of ours, so that a successor knows its predecessor's rules.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_damage_is_passed_over() {
        let mut expressions = Expressions::new();
        expressions.udp().to_port(53).notrack();
        let note = Note::new("pods", &expressions);
        let bytes = note.bytes();
        assert_eq!(&bytes[..7], b"\x00\x05pods\x00");
        assert_eq!(Note::read(&bytes), note);
        for cut in 0..bytes.len() {
            assert_ne!(Note::read(&bytes[..cut]), note);
        }
        assert_eq!(Note::read(&[9, 1, 7, 0, 2, b'a', 0]).comment, "a");
    }

    #[test]
    fn other_expressions_have_another_fingerprint() {
        let [mut one, mut other] = [Expressions::new(), Expressions::new()];
        one.udp().notrack();
        other.tcp().notrack();
        assert_ne!(Note::new("x", &one), Note::new("x", &other));
    }

    #[test]
    fn long_comments_are_cut_where_a_letter_ends() {
        let long = Note { comment: "ä".repeat(100), fingerprint: None };
        assert_eq!(Note::read(&long.bytes()).comment, "ä".repeat(63));
    }
}
