//! The twelve bytes in front (RFC 1035 section 4.1.1, with AD and CD of RFC 4035 section 3.1.6).

/// Bytes of a header.
pub const LEN: usize = 12;

/// Response.
pub const QR: u16 = 1 << 15;
/// The bits of the opcode; zero is a standard query.
pub const OPCODE: u16 = 0xf << 11;
/// Authoritative.
pub const AA: u16 = 1 << 10;
/// Truncated.
pub const TC: u16 = 1 << 9;
/// Recursion desired.
pub const RD: u16 = 1 << 8;
/// Recursion available.
pub const RA: u16 = 1 << 7;
/// Authentic data.
pub const AD: u16 = 1 << 5;
/// Checking disabled.
pub const CD: u16 = 1 << 4;
/// The bits of the response code.
pub const RCODE: u16 = 0xf;

/// A header's fields, as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The id.
    pub id: u16,
    /// Everything from QR to RCODE.
    pub flags: u16,
    /// Records in the question, answer, authority and additional sections, as promised.
    pub counts: [u16; 4],
}

impl Header {
    /// The header of `message`, if it is long enough.
    #[inline]
    pub fn read(message: &[u8]) -> Option<Self> {
        let message = message.first_chunk::<LEN>()?;
        let at = |i: usize| u16::from_be_bytes([message[i], message[i + 1]]);
        Some(Self { id: at(0), flags: at(2), counts: [at(4), at(6), at(8), at(10)] })
    }

    /// As bytes.
    #[inline]
    pub fn bytes(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        let [q, an, ns, ar] = self.counts;
        let first =
            u64::from(self.id) << 48 | u64::from(self.flags) << 32 | u64::from(q) << 16 | u64::from(an);
        out[..8].copy_from_slice(&first.to_be_bytes());
        out[8..].copy_from_slice(&(u32::from(ns) << 16 | u32::from(ar)).to_be_bytes());
        out
    }

    /// The four bits of the response code; an OPT record may hold eight more.
    pub fn rcode(&self) -> u16 {
        self.flags & RCODE
    }
}
