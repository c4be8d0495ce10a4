//! Where names stand in the data of records.
//!
//! Only these types may hold names that point to other places of the message (RFC 1035 section 3.3, RFC 3597
//! section 4); the data of every other type is taken as it is.

use std::ops::Range;

use crate::wire::{Malformed, name};

/// A piece of data in front of what is not looked at.
#[derive(Clone, Copy)]
enum Piece {
    /// So many bytes.
    Fixed(usize),
    /// A length byte and as many bytes.
    Text,
    /// A name.
    Name,
}

use Piece::{Fixed, Name, Text};

fn pieces(rtype: u16) -> &'static [Piece] {
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME
        2..=5 | 7..=9 | 12 | 39 => &[Name],
        // SOA, MINFO, RP
        6 | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => &[Fixed(2), Name],
        // PX
        26 => &[Fixed(2), Name, Name],
        // SIG
        24 => &[Fixed(18), Name],
        // NXT
        30 => &[Name],
        // SRV
        33 => &[Fixed(6), Name],
        // NAPTR
        35 => &[Fixed(4), Text, Text, Text, Name],
        _ => &[],
    }
}

/// The data at `range` of `message`, with the names in it written out.
///
/// # Errors
/// The data is not what its type promises.
pub fn expand(message: &[u8], rtype: u16, range: Range<usize>) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut at) = (Vec::with_capacity(range.len()), range.start);
    if range.is_empty() {
        return Ok(out);
    }
    for piece in pieces(rtype) {
        at = match piece {
            Name => name::expand(message, at, &mut out)?,
            Fixed(_) | Text => {
                let end = at + length(message, at, *piece).ok_or(Malformed)?;
                out.extend_from_slice(message.get(at..end).ok_or(Malformed)?);
                end
            }
        };
        if at > range.end {
            return Err(Malformed);
        }
    }
    out.extend_from_slice(message.get(at..range.end).ok_or(Malformed)?);
    Ok(out)
}

/// Where the names stand in data that is written out.
pub fn names(rtype: u16, data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let (mut at, mut pieces) = (0, pieces(rtype).iter());
    std::iter::from_fn(move || {
        loop {
            match pieces.next()? {
                Name => {
                    let start = at;
                    at = name::end_uncompressed(data, start).ok()?;
                    return Some(start..at);
                }
                piece => at += length(data, at, *piece)?,
            }
        }
    })
}

fn length(data: &[u8], at: usize, piece: Piece) -> Option<usize> {
    match piece {
        Fixed(length) => Some(length),
        Text => Some(1 + usize::from(*data.get(at)?)),
        Name => None,
    }
}
