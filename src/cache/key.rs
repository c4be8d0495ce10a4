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
//! entries of a zone whose upstreams changed are not found again. The question stands as it does in a message, and so in
//! an entry, which knows the rest as well: entries are kept under themselves, without a copy of their key. `Asked` is
//! what both can say.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, Hasher};

use super::{Entry, Seed};

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
        write_parts(self, &mut hasher);
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

/// What an answer is kept under, and what is looked for: equal if all three parts are.
pub(super) trait Asked {
    /// The zone.
    fn zone(&self) -> u32;

    /// DO and CD.
    fn bits(&self) -> u8;

    /// Name in lower case, type and class.
    fn question(&self) -> &[u8];

    /// The hash of it all, if it is known already.
    fn known_hash(&self) -> Option<u64>;
}

impl Asked for Key {
    fn zone(&self) -> u32 {
        Self::zone(self)
    }

    fn bits(&self) -> u8 {
        self.bytes[FIXED - 1]
    }

    fn question(&self) -> &[u8] {
        Self::question(self)
    }

    fn known_hash(&self) -> Option<u64> {
        Some(Self::hash(self))
    }
}

/// Has the parts hashed, for keys and entries in the same way.
fn write_parts(asked: &(impl Asked + ?Sized), state: &mut impl Hasher) {
    state.write_u32(asked.zone());
    state.write_u8(asked.bits());
    state.write(asked.question());
}

impl PartialEq for dyn Asked {
    fn eq(&self, other: &Self) -> bool {
        (self.zone(), self.bits()) == (other.zone(), other.bits()) && self.question() == other.question()
    }
}

impl Eq for dyn Asked {}

impl Hash for dyn Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.known_hash() {
            Some(hash) => state.write_u64(hash),
            None => write_parts(self, state),
        }
    }
}

/// An entry as what it is kept under.
#[derive(Clone, Debug)]
pub(super) struct Kept(pub(super) Entry);

impl Asked for Kept {
    fn zone(&self) -> u32 {
        self.0.zone()
    }

    fn bits(&self) -> u8 {
        self.0.bits()
    }

    fn question(&self) -> &[u8] {
        self.0.question()
    }

    fn known_hash(&self) -> Option<u64> {
        None
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        let [own, others]: [&dyn Asked; 2] = [self, other];
        own == others
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        write_parts(self, state);
    }
}

impl<'a> Borrow<dyn Asked + 'a> for Kept {
    fn borrow(&self) -> &(dyn Asked + 'a) {
        self
    }
}

/// Hashes as keys are hashed, and takes the hash of one that brings its own.
#[derive(Clone, Debug)]
pub(super) struct Hashing(pub(super) Seed);

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { known: None, parts: self.0.build_hasher() }
    }
}

/// See [`Hashing`].
pub(super) struct KeyHasher {
    known: Option<u64>,
    parts: <Seed as BuildHasher>::Hasher,
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.parts.write(bytes);
    }

    fn write_u8(&mut self, byte: u8) {
        self.parts.write_u8(byte);
    }

    fn write_u32(&mut self, number: u32) {
        self.parts.write_u32(number);
    }

    /// No part has eight bytes: this is a hash.
    fn write_u64(&mut self, hash: u64) {
        self.known = Some(hash);
    }

    fn finish(&self) -> u64 {
        self.known.unwrap_or_else(|| self.parts.finish())
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
    use crate::cache::Rules;
    use crate::clock::Now;

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

    #[test]
    fn an_entry_is_kept_under_what_its_key_says() {
        let seed = Seed::random();
        let complete = |name: &[u8], zone, dnssec_ok| {
            let mut key = Key::of_name(name);
            key.complete(&seed, zone, 1, 1, dnssec_ok, false);
            key
        };
        let entry = |key: &Key| {
            let reply = [&[0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0], key.question()].concat();
            Entry::from_reply(&reply, &Rules::default(), Now::default()).unwrap().kept_for(key)
        };
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], b"\0"].concat();
        for name in [&b"\0"[..], b"\x03www\0", b"\x03www\x07example\0", &long] {
            let key = complete(name, 7, true);
            let kept = Kept(entry(&key));
            let [own, asked]: [&dyn Asked; 2] = [&kept, &key];
            assert!(own == asked);
            assert_eq!(Hashing(seed.clone()).hash_one(&kept), key.hash());
            assert_eq!(Hashing(seed.clone()).hash_one(asked), key.hash());
            for other in [complete(name, 8, true), complete(name, 7, false), complete(b"\x01x\0", 7, true)] {
                let other: &dyn Asked = &other;
                assert!(other != own);
            }
        }
    }
}
