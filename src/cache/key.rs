//! What an answer is kept under: zone, DO, CD, and the question with its name in lower case.
//!
//! A key is one run of bytes with its hash in front, made on the stack while the query is looked at, so that
//! a hit hashes once and allocates nothing:
//!
//! ```text
//! hash (8) | zone (4) | DO, CD (1) | name (1 to 255) | type (2) | class (2)
//! ```
//!
//! DO and CD are part of it because they change the answer (RFC 6840 sections 5.7, 5.9). The zone is, so that
//! entries of a zone whose upstreams changed are not found again. The question stands as it does in a message, so that
//! an entry proves by its own that it is the one that is looked for.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::wire::name;

const HASH: usize = 8;
const FIXED: usize = HASH + 5;
/// Type and class.
const TAIL: usize = 4;
const MAX: usize = FIXED + name::MAX + TAIL;

/// A key, on the stack.
#[derive(Clone, Debug)]
pub struct Key {
    bytes: [u8; MAX],
    len: usize,
}

impl Key {
    /// The first half: the name in lower case, so that its zone can be looked for. `name` is in wire format,
    /// uncompressed, at most 255 bytes; longer ones are cut.
    pub fn of_name(name: &[u8]) -> Self {
        let end = FIXED + name.len().min(name::MAX);
        let mut bytes = [0; MAX];
        name::lower_into(name, &mut bytes[FIXED..end]);
        Self { bytes, len: end + TAIL }
    }

    /// The second half; the key can be looked up after it.
    pub fn complete(
        &mut self,
        seed: &impl BuildHasher,
        zone: u32,
        rtype: u16,
        class: u16,
        dnssec_ok: bool,
        checking_disabled: bool,
    ) {
        let [t0, t1] = rtype.to_be_bytes();
        let [c0, c1] = class.to_be_bytes();
        self.bytes[HASH..HASH + 4].copy_from_slice(&zone.to_ne_bytes());
        self.bytes[FIXED - 1] = u8::from(dnssec_ok) | u8::from(checking_disabled) << 1;
        self.bytes[self.len - TAIL..self.len].copy_from_slice(&[t0, t1, c0, c1]);
        let mut hasher = seed.build_hasher();
        hasher.write(&self.bytes[HASH..self.len]);
        self.bytes[..HASH].copy_from_slice(&hasher.finish().to_ne_bytes());
    }

    /// The name, in lower case.
    pub fn name(&self) -> &[u8] {
        &self.bytes[FIXED..self.len - TAIL]
    }

    /// Name, type and class, as in a message.
    pub fn question(&self) -> &[u8] {
        &self.bytes[FIXED..self.len]
    }

    /// The zone.
    pub fn zone(&self) -> u32 {
        let mut four = [0; 4];
        four.copy_from_slice(&self.bytes[HASH..HASH + 4]);
        u32::from_ne_bytes(four)
    }

    /// DO and CD.
    pub(super) fn bits(&self) -> u8 {
        self.bytes[FIXED - 1]
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The hash.
    pub fn hash(&self) -> u64 {
        let mut eight = [0; HASH];
        eight.copy_from_slice(&self.bytes[..HASH]);
        u64::from_ne_bytes(eight)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Key::hash(self));
    }
}

/// Takes a hash for what it is: keys bring their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prehashed(u64);

impl Hasher for Prehashed {
    /// Nobody brings anything but a hash.
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Prehashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8], zone: u32, rtype: u16, class: u16, d: bool, c: bool) -> Key {
        let mut key = Key::of_name(name);
        key.complete(&foldhash::fast::FixedState::default(), zone, rtype, class, d, c);
        key
    }

    #[test]
    fn letter_case_does_not_matter_and_everything_else_does() {
        let base = key(b"\x03WwW\0", 1, 1, 1, false, false);
        assert_eq!(base.bytes(), key(b"\x03www\0", 1, 1, 1, false, false).bytes());
        for other in [
            key(b"\x03wwx\0", 1, 1, 1, false, false),
            key(b"\x03www\0", 2, 1, 1, false, false),
            key(b"\x03www\0", 1, 28, 1, false, false),
            key(b"\x03www\0", 1, 1, 3, false, false),
            key(b"\x03www\0", 1, 1, 1, true, false),
            key(b"\x03www\0", 1, 1, 1, false, true),
        ] {
            assert_ne!(base.bytes()[HASH..], other.bytes()[HASH..]);
            assert_ne!(base.hash(), other.hash());
        }
    }

    #[test]
    fn its_parts_can_be_had_from_it() {
        let key = key(b"\x03WwW\0", 7, 0x4142, 0x4344, true, false);
        assert_eq!((key.zone(), key.name()), (7, &b"\x03www\0"[..]));
        assert_eq!(key.question(), b"\x03www\0\x41\x42\x43\x44");
    }
}
