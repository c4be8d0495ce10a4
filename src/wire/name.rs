//! Names: labels of up to 63 bytes, 255 bytes in all, and pointers to earlier ones (RFC 1035 sections 3.1,
//! 4.1.4).

use super::Malformed;

/// The longest name in wire format, with its last zero byte.
pub const MAX: usize = 255;
/// The two high bits of a length byte that is half of a pointer.
const POINTER: u8 = 0xc0;
/// Pointers followed in one name: more than there are labels in a name can only be a trick.
const HOPS: usize = 128;

/// The end of the name at `at`, which must not be compressed: a question's.
///
/// # Errors
/// A pointer, a label or a name that is too long, or the end of the message.
pub fn end_uncompressed(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut i = at;
    loop {
        match message.get(i) {
            Some(0) if i + 1 - at <= MAX => return Ok(i + 1),
            Some(&len @ 1..=63) => i += 1 + usize::from(len),
            _ => return Err(Malformed),
        }
    }
}

/// The end of the name at `at`, where it may end in a pointer. The pointer must point backwards.
///
/// # Errors
/// A label or name that is too long, a pointer forwards, or the end of the message.
pub fn end(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut i = at;
    loop {
        match message.get(i) {
            Some(0) if i + 1 - at <= MAX => return Ok(i + 1),
            Some(&len @ 1..=63) if i - at <= MAX => i += 1 + usize::from(len),
            Some(&high @ POINTER..) => {
                let low = *message.get(i + 1).ok_or(Malformed)?;
                let target = usize::from(high & !POINTER) << 8 | usize::from(low);
                return if target < i { Ok(i + 2) } else { Err(Malformed) };
            }
            _ => return Err(Malformed),
        }
    }
}

/// The labels of the name at `at`, pointers followed; it ends early where the name is malformed. That is also
/// where it has more than [`MAX`] bytes: pointers that go in circles, or from label to label, cost no more.
fn labels(message: &[u8], at: usize) -> impl Iterator<Item = &[u8]> {
    let (mut i, mut hops, mut left) = (at, 0, MAX);
    std::iter::from_fn(move || {
        loop {
            match *message.get(i)? {
                0 => return None,
                len @ 1..=63 => {
                    let label = message.get(i + 1..i + 1 + usize::from(len))?;
                    left = left.checked_sub(1 + label.len())?;
                    i += 1 + usize::from(len);
                    return Some(label);
                }
                high @ POINTER.. => {
                    let target = usize::from(high & !POINTER) << 8 | usize::from(*message.get(i + 1)?);
                    hops += 1;
                    if target >= i || hops > HOPS {
                        return None;
                    }
                    i = target;
                }
                _ => return None,
            }
        }
    })
}

/// Appends the name at `at` to `out` without pointers; gives where it ends in the message.
///
/// # Errors
/// As [`end`]; also a name that is too long when its pointers are followed, or has too many of them.
pub fn expand(message: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, Malformed> {
    let end = end(message, at)?;
    let (start, mut i, mut hops) = (out.len(), at, 0);
    loop {
        match *message.get(i).ok_or(Malformed)? {
            0 => break,
            len @ 1..=63 => {
                let next = i + 1 + usize::from(len);
                out.extend_from_slice(message.get(i..next).ok_or(Malformed)?);
                i = next;
            }
            high @ POINTER.. => {
                let target =
                    usize::from(high & !POINTER) << 8 | usize::from(*message.get(i + 1).ok_or(Malformed)?);
                hops += 1;
                if target >= i || hops > HOPS {
                    return Err(Malformed);
                }
                i = target;
            }
            _ => return Err(Malformed),
        }
        // Room for the last zero byte is needed too.
        if out.len() - start >= MAX {
            return Err(Malformed);
        }
    }
    out.push(0);
    Ok(end)
}

/// Whether the names at `a` and `b` of one message are the same, letter case aside (RFC 4343).
pub fn same(message: &[u8], a: usize, b: usize) -> bool {
    let (mut a_labels, mut b_labels) = (labels(message, a), labels(message, b));
    a == b
        || loop {
            match (a_labels.next(), b_labels.next()) {
                (None, None) => break true,
                (Some(a), Some(b)) if same_bytes(a, b) => {}
                _ => break false,
            }
        }
}

/// Whether the name `suffix` is `name` or stands above it. Both in wire format, lower case, uncompressed.
pub fn within(name: &[u8], suffix: &[u8]) -> bool {
    // The root is above all names.
    if suffix == [0] {
        return true;
    }
    let Some(start) = name.len().checked_sub(suffix.len()) else { return false };
    if &name[start..] != suffix {
        return false;
    }
    // The match must begin at a label: walk to it.
    let mut i = 0;
    while i < start {
        i += 1 + usize::from(name[i]);
    }
    i == start
}

/// Copies a name in lower case (RFC 4343). Length bytes are at most 63 and so never letters.
pub fn lower_into(name: &[u8], out: &mut [u8]) {
    for (to, from) in out.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
}

/// Whether two uncompressed names are the same, letter case aside (RFC 4343).
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_after_its_zero_byte_or_its_pointer() {
        let message = b"\x03www\x02ab\0\x01x\xc0\x04";
        assert_eq!(end_uncompressed(message, 0), Ok(8));
        assert_eq!(end(message, 0), Ok(8));
        assert_eq!(end(message, 8), Ok(12));
        assert_eq!(end_uncompressed(message, 8), Err(Malformed));
    }

    #[test]
    fn names_have_at_most_255_bytes() {
        let labels = |n: usize, last: usize| {
            let mut v = Vec::new();
            for _ in 0..n {
                v.push(63);
                v.extend([b'a'; 63]);
            }
            v.push(last as u8);
            v.extend(vec![b'b'; last]);
            v.push(0);
            v
        };
        let fits = labels(3, 61);
        assert_eq!((fits.len(), end_uncompressed(&fits, 0)), (255, Ok(255)));
        let over = labels(3, 62);
        assert_eq!((end_uncompressed(&over, 0), end(&over, 0)), (Err(Malformed), Err(Malformed)));
    }

    #[test]
    fn pointers_must_point_backwards() {
        assert_eq!(end(b"\xc0\x00", 0), Err(Malformed));
        assert_eq!(end(b"\x01a\xc0\x05\0\0", 0), Err(Malformed));
        assert_eq!(end(b"\xc0", 0), Err(Malformed));
        assert_eq!(end(b"\x40a\0", 0), Err(Malformed));
    }

    #[test]
    fn names_are_compared_through_pointers_and_without_case() {
        let message = b"\x03WWW\x02ab\0\x03www\xc0\x04\x03wwx\xc0\x04";
        assert!(same(message, 0, 8));
        assert!(!same(message, 0, 14));
    }

    #[test]
    fn a_name_is_copied_out_with_its_pointers_followed() {
        let message = b"\x03WWW\x02ab\0\x03www\xc0\x04\xc0\x08";
        let mut out = vec![7];
        assert_eq!(expand(message, 8, &mut out), Ok(14));
        assert_eq!(out, b"\x07\x03www\x02ab\0");
        out.clear();
        assert_eq!(expand(message, 14, &mut out), Ok(16));
        assert_eq!(out, b"\x03www\x02ab\0");
        let mut long = b"\x01a".repeat(200);
        long.extend_from_slice(&[POINTER, 0]);
        let end = long.len() - 2;
        assert_eq!(expand(&long, end, &mut out), Err(Malformed));
    }

    #[test]
    fn a_zone_holds_names_at_label_boundaries_only() {
        let zone = b"\x05local\0";
        assert!(within(zone, zone));
        assert!(within(b"\x01a\x05local\0", zone));
        assert!(!within(b"\x06xlocal\0", zone));
        assert!(!within(b"\x07a\x05local\0", zone), "the suffix stands inside of a label");
        assert!(within(zone, b"\0"));
        assert!(!within(b"\0", zone));
    }

    #[test]
    fn a_name_in_circles_costs_no_more_than_the_longest_one() {
        // 8,000 labels and a pointer back to the first of them.
        let mut message = b"\x01a".repeat(8000);
        message.extend_from_slice(&[POINTER, 0]);
        let end = message.len() - 2;
        for at in [0, end] {
            assert!(labels(&message, at).map(|label| 1 + label.len()).sum::<usize>() <= MAX);
        }
    }
}
