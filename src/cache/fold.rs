//! Questions in whatever letter case they came: hashed and compared eight bytes at a time, where they stand.
//!
//! Letter case does not matter in names (RFC 4343), so both fold it away as they go; nothing is copied first. Eight
//! bytes are one number. To compare, with the top bit of each byte as its carry, all eight are compared with `A` and `Z`
//! at once. To hash, one bit is enough: what it makes equal beside letters (`@` and the backquote, say) meets in one place,
//! and is told apart there.

/// Bytes of type and class, which end a question.
const TAIL: usize = 4;
const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = 0x80 * ONES;
/// The bit by which `a` differs from `A`, in all eight.
const CASE: u64 = 0x20 * ONES;

/// What hashes start from, and what they are multiplied with: secrets, so that nobody can make questions that meet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secrets([u64; 2]);

impl Secrets {
    /// From two random numbers.
    pub(super) fn of(numbers: [u64; 2]) -> Self {
        // Odd, so that a multiplication loses nothing of its lower half.
        Self([numbers[0], numbers[1] | 1])
    }

    /// The hash of a question (name, type, class) and of what else its answer depends on. The same for all letter cases.
    #[inline]
    pub(super) fn hash(self, question: &[u8], beside: u32) -> u64 {
        let Self([start, factor]) = self;
        let Some((name, tail)) = question.split_last_chunk::<TAIL>() else { return start };
        let last = u64::from(u32::from_ne_bytes(*tail)) << 32 | u64::from(beside);
        let (whole, rest) = words(name);
        let mut hash = start ^ name.len() as u64;
        for eight in whole {
            hash = mix(hash ^ (u64::from_le_bytes(*eight) | CASE), factor);
        }
        hash = mix(hash ^ (rest | CASE), factor);
        // Type and class come last, so they are spread as the rest is.
        mix(hash ^ last, factor)
    }
}

/// Whether `question` asks for the same as `stored`, whose name is in lower case.
#[inline]
pub(super) fn same(question: &[u8], stored: &[u8]) -> bool {
    // Most ask in lower case.
    if question == stored {
        return true;
    }
    match (question.split_last_chunk::<TAIL>(), stored.split_last_chunk::<TAIL>()) {
        (Some((name, tail)), Some((kept, kept_tail))) => {
            name.len() == kept.len() && tail == kept_tail && difference(name, kept) == 0
        }
        _ => false,
    }
}

/// Zero if `name` in lower case is `kept`, which is as long. Looks at all bytes: whoever asks has compared hashes.
fn difference(name: &[u8], kept: &[u8]) -> u64 {
    let ((whole, rest), (kept_whole, kept_rest)) = (words(name), words(kept));
    let mut difference = lower(rest) ^ kept_rest;
    for (eight, kept) in whole.iter().zip(kept_whole) {
        difference |= lower(u64::from_le_bytes(*eight)) ^ u64::from_le_bytes(*kept);
    }
    difference
}

/// The bytes by eight, and the last eight as a number, which may have been among the others, or is filled up where there
/// are fewer in all.
#[inline]
fn words(bytes: &[u8]) -> (&[[u8; 8]], u64) {
    let last = bytes.last_chunk::<8>().copied().unwrap_or_else(|| {
        let mut eight = [0; 8];
        eight.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        eight
    });
    (bytes.as_chunks::<8>().0, u64::from_le_bytes(last))
}

/// All eight bytes in lower case. Length bytes are at most 63 and so never letters.
fn lower(word: u64) -> u64 {
    let seven = word & !TOPS;
    let from_a = seven + (0x80 - u64::from(b'A')) * ONES;
    let beyond_z = seven + (0x7f - u64::from(b'Z')) * ONES;
    let upper = from_a & !beyond_z & !word & TOPS;
    // The top bit, moved to where `a` differs from `A`.
    word | upper >> 2
}

/// Both halves of the product: each bit of the result depends on all of `word`.
fn mix(word: u64, factor: u64) -> u64 {
    let product = u128::from(word) * u128::from(factor);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::of([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344])
    }

    /// A question for type and class 1 with a name of one label of `len` letters.
    fn question(len: usize, letter: impl Fn(usize) -> u8) -> Vec<u8> {
        let label = (0..len).map(letter);
        std::iter::once(len as u8).chain(label).chain([0, 0, 1, 0, 1]).collect()
    }

    #[test]
    fn each_byte_becomes_what_it_is_in_lower_case() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let mut eight = *b"aZ\x01\xff@[`{";
                eight[place] = byte;
                assert_eq!(
                    lower(u64::from_le_bytes(eight)).to_le_bytes(),
                    eight.map(|b| b.to_ascii_lowercase())
                );
            }
        }
    }

    #[test]
    fn letter_case_does_not_matter_at_any_length() {
        for len in 0..64 {
            let lower = question(len, |i| b'a' + (i % 26) as u8);
            let mixed = question(len, |i| (if i % 3 == 0 { b'A' } else { b'a' }) + (i % 26) as u8);
            assert!(same(&mixed, &lower) && same(&lower, &lower), "{len}");
            assert_eq!(secrets().hash(&mixed, 3), secrets().hash(&lower, 3), "{len}");
        }
    }

    #[test]
    fn everything_else_does() {
        for len in 1..64 {
            let base = question(len, |_| b'a');
            let mut hashes = HashSet::from([secrets().hash(&base, 0), secrets().hash(&base, 1)]);
            for place in 0..base.len() {
                let mut other = base.clone();
                other[place] ^= 0x11;
                assert!(!same(&other, &base), "{len} {place}");
                hashes.insert(secrets().hash(&other, 0));
            }
            assert_eq!(hashes.len(), base.len() + 2, "{len}");
            assert!(!same(&base, &base[..base.len() - 1]));
            assert!(!same(&base[..3], &base));
        }
        // Type 65 (HTTPS) has the letter A in it, which no case is folded of.
        let [upper, lower] = [b'A', b'a'].map(|byte| [&b"\x01x\0\0"[..], &[byte], &b"\0\x01"[..]].concat());
        assert!(!same(&upper, &lower) && secrets().hash(&upper, 0) != secrets().hash(&lower, 0));
    }
}
