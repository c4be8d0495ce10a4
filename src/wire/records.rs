//! Walking over the records of a message, section by section, without looking into their data.

use std::ops::Range;

use super::header::{self, Header};
use super::query::Question;
use super::{Malformed, name, u16_at, u32_at};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who knows: SOA of a negative answer, NS of a referral.
    Authority,
    /// What may be of use, and OPT.
    Additional,
}

/// A record's place and fixed fields (RFC 1035 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The section it stands in.
    pub section: Section,
    /// Where its owner name begins.
    pub owner: usize,
    /// Where its TTL stands; type and class are the four bytes before.
    pub ttl_at: usize,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// The TTL, as it stands.
    pub ttl: u32,
    /// Where its data stands.
    pub rdata: Range<usize>,
}

/// The records of a message that has at most one question, in order; the last item is an error where the
/// message is malformed.
///
/// # Errors
/// A header or question that cannot be read, or more than one question.
pub fn walk(message: &[u8]) -> Result<Walk<'_>, Malformed> {
    let header = Header::read(message).ok_or(Malformed)?;
    let at = match header.counts[0] {
        0 => header::LEN,
        1 => header::LEN + Question::read(&message[header::LEN..])?.bytes.len(),
        _ => return Err(Malformed),
    };
    let [_, answer, authority, additional] = header.counts;
    Ok(Walk { message, at, left: [answer, authority, additional] })
}

/// See [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl Walk<'_> {
    /// Where the next record begins; after the last one, where the records end.
    pub fn at(&self) -> usize {
        self.at
    }

    fn read(&mut self, section: Section) -> Result<Record, Malformed> {
        let owner = self.at;
        let fixed = name::end(self.message, owner)?;
        let rtype = u16_at(self.message, fixed).ok_or(Malformed)?;
        let class = u16_at(self.message, fixed + 2).ok_or(Malformed)?;
        let ttl = u32_at(self.message, fixed + 4).ok_or(Malformed)?;
        let start = fixed + 10;
        let end = start + usize::from(u16_at(self.message, fixed + 8).ok_or(Malformed)?);
        if end > self.message.len() {
            return Err(Malformed);
        }
        self.at = end;
        Ok(Record { section, owner, ttl_at: fixed + 4, rtype, class, ttl, rdata: start..end })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let i = self.left.iter().position(|&n| n > 0)?;
        self.left[i] -= 1;
        let record = self.read([Section::Answer, Section::Authority, Section::Additional][i]);
        if record.is_err() {
            self.left = [0; 3];
        }
        Some(record)
    }
}

/// The options in the data of an OPT record: code and data each (RFC 6891 section 6.1.2).
pub fn options(rdata: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    let mut rest = rdata;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let option = (|| {
            let code = u16_at(rest, 0)?;
            let end = 4 + usize::from(u16_at(rest, 2)?);
            let data = rest.get(4..end)?;
            rest = &rest[end..];
            Some((code, data))
        })();
        if option.is_none() {
            rest = &[];
        }
        Some(option.ok_or(Malformed))
    })
}
