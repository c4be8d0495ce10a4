//! Answers: a stored message, copied and patched for the client that asked.
//!
//! What is patched, and nothing else is touched:
//! - id, RD and CD as the client sent them; RA set, AA clear; TC stays on what came truncated and could not be had
//!   whole, which is never kept; AD only if the stored answer has it and
//!   the client set AD or DO (RFC 6840 section 5.8);
//! - the client's own question bytes, letter case and all: the stored question has the same length;
//! - TTLs, aged by the seconds that the answer has lain here (or all the same, when it is stale);
//! - the data of one address set changes places (see [`Rotation`]);
//! - an OPT record at the end iff the client sent one (RFC 6891 section 7), with our size, its DO bit, and
//!   the extended errors (RFC 8914).
//!
//! An answer that does not fit goes out with TC set and those of its answer records that do, and the client asks by TCP
//! (RFC 2181 section 9). Clients that never ask by TCP (musl before 1.2.4) take what is there.

use super::header::{self, Header};
use super::query::{Edns, Question};
use super::{rcode, rtype};

/// The bytes of an extended error of our own.
const OWN_ERROR: usize = 6;

/// A message as it is stored: without OPT, its id zero.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The message.
    pub message: &'a [u8],
    /// Where its TTLs stand: two bytes each, in native order.
    pub ttls: &'a [u8],
    /// The address set that may rotate.
    pub rotation: Rotation,
    /// Extended error options as the upstream sent them: whole options, one after the other.
    pub options: &'a [u8],
}

/// A run of address records with one owner, whose RDATA may change places. The records themselves stay where
/// they are, so that compression pointers, signatures and CNAME chains stay intact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The index of the first, among the stored TTLs.
    pub first: u16,
    /// How many; below two nothing rotates.
    pub count: u16,
}

/// What the client's query says about its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The query's header.
    pub header: Header,
    /// The query's question, as it came.
    pub question: Question<'a>,
    /// The query's EDNS part.
    pub edns: Option<Edns>,
    /// The largest message that may go out.
    pub limit: usize,
    /// The UDP size that our OPT states.
    pub our_size: u16,
}

/// How TTLs are patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The stored ones, less these seconds.
    Aged(u32),
    /// All the same: stale data (RFC 8767 section 4).
    All(u32),
}

/// Writes `stored` as the answer for `asker` into `out` and returns its length. `extended_error` is added to
/// those that the upstream gave, `turn` says how far addresses rotate. `None`: `out` has no room even for a
/// truncated answer, or the stored message is not one for this question.
#[inline]
pub fn write(
    out: &mut [u8],
    stored: &Stored<'_>,
    asker: &Asker<'_>,
    ttl: Ttl,
    turn: u32,
    extended_error: Option<u16>,
) -> Option<usize> {
    let question = asker.question.bytes;
    let body = header::LEN + question.len();
    let len = stored.message.len();
    let head = Header::read(stored.message)?;
    if len < body {
        return None;
    }
    let flags = answer_flags(asker, head.flags);
    let room = asker.limit.min(out.len());
    let whole = len + opt_len(asker, 0) <= room;
    let (flags, options) = if whole { (flags, stored.options) } else { (flags | header::TC, &[][..]) };
    let (len, mut counts) = if whole {
        (len, head.counts)
    } else {
        let own = if extended_error.is_some() { OWN_ERROR } else { 0 };
        cut(stored, head.counts[1], body, room.checked_sub(opt_len(asker, own))?)
    };
    out.get_mut(..len)?.copy_from_slice(&stored.message[..len]);
    out[header::LEN..body].copy_from_slice(question);
    patch_ttls(&mut out[..len], stored.ttls, ttl);
    if stored.rotation.count > 1 {
        rotate(&mut out[..len], stored, turn);
    }
    let end = match asker.edns {
        Some(edns) => {
            counts[3] = counts[3].saturating_add(1);
            write_opt(&mut out[..room], len, asker, edns, 0, options, extended_error)?
        }
        None => len,
    };
    out[..header::LEN].copy_from_slice(&Header { id: asker.header.id, flags, counts }.bytes());
    Some(end)
}

/// Writes an answer without records: a response code of our own, with the question where there is one.
/// Returns its length; `None` where it does not fit.
pub fn write_code(
    out: &mut [u8],
    query: Header,
    question: Option<Question<'_>>,
    edns: Option<Edns>,
    our_size: u16,
    code: u16,
    extended_error: Option<u16>,
) -> Option<usize> {
    let question = question.map_or(&[][..], |q| q.bytes);
    let body = header::LEN + question.len();
    let flags = header::QR | header::RA | query.flags & (header::OPCODE | header::RD | header::CD);
    let counts = [u16::from(!question.is_empty()), 0, 0, u16::from(edns.is_some())];
    let head = Header { id: query.id, flags: flags | code & header::RCODE, counts };
    out.get_mut(..header::LEN)?.copy_from_slice(&head.bytes());
    out.get_mut(header::LEN..body)?.copy_from_slice(question);
    let Some(edns) = edns else { return Some(body) };
    let asker = Asker {
        header: query,
        question: Question { bytes: question, rtype: 0, class: 0 },
        edns: Some(edns),
        limit: out.len(),
        our_size,
    };
    write_opt(out, body, &asker, edns, (code >> 4) as u8, &[], extended_error)
}

/// How many bytes the largest answer may have for a client over UDP: what it can take, up to `cap`, and 512
/// where it says nothing (RFC 6891 section 6.2.3 to 6.2.5).
#[inline]
pub fn udp_limit(edns: Option<Edns>, cap: u16) -> usize {
    usize::from(edns.map_or(512, |e| e.udp_size.max(512)).min(cap))
}

/// Where those answer records end that fit into `room`, and the counts of a message that ends there. The question ends
/// at `body`.
fn cut(stored: &Stored<'_>, answers: u16, body: usize, room: usize) -> (usize, [u16; 4]) {
    let (mut end, mut kept) = (body, 0);
    for two in stored.ttls.as_chunks::<2>().0.iter().take(answers.into()) {
        let ttl_at = usize::from(u16::from_ne_bytes(*two));
        // RDLENGTH follows TTL, and RDATA that.
        let Some(length) = super::u16_at(stored.message, ttl_at + 4) else { break };
        let next = ttl_at + 6 + usize::from(length);
        if next > room.min(stored.message.len()) {
            break;
        }
        (end, kept) = (next, kept + 1);
    }
    (end, [1, kept, 0, 0])
}

#[inline]
fn answer_flags(asker: &Asker<'_>, stored: u16) -> u16 {
    let from_client = asker.header.flags & (header::RD | header::CD);
    let wants_ad = asker.header.flags & header::AD != 0 || asker.edns.is_some_and(|e| e.dnssec_ok);
    let ad = if wants_ad { stored & header::AD } else { 0 };
    header::QR | header::RA | from_client | ad | stored & (header::TC | header::RCODE)
}

#[inline]
fn patch_ttls(out: &mut [u8], ttls: &[u8], ttl: Ttl) {
    for two in ttls.as_chunks::<2>().0 {
        let at = usize::from(u16::from_ne_bytes(*two));
        if let Some(four) = out.get_mut(at..).and_then(|o| o.first_chunk_mut::<4>()) {
            *four = match ttl {
                Ttl::Aged(age) => u32::from_be_bytes(*four).saturating_sub(age),
                Ttl::All(same) => same,
            }
            .to_be_bytes();
        }
    }
}

/// Puts the data of record `i` of the run where that of record `i + turn` stood.
fn rotate(out: &mut [u8], stored: &Stored<'_>, turn: u32) {
    let (first, count) = (usize::from(stored.rotation.first), usize::from(stored.rotation.count));
    let turn = turn as usize % count;
    let offsets = stored.ttls.as_chunks::<2>().0;
    let Some(run) = offsets.get(first..first + count) else { return };
    // RDATA follows TTL (4 bytes) and RDLENGTH (2 bytes); all of the run have the same length.
    let rdata = |i: usize| usize::from(u16::from_ne_bytes(run[i])) + 6;
    let Some(len) = super::u16_at(stored.message, rdata(0) - 2) else { return };
    let len = usize::from(len);
    for i in 0..count {
        let from = rdata((i + turn) % count);
        let to = rdata(i);
        if let (Some(to), Some(from)) = (out.get_mut(to..to + len), stored.message.get(from..from + len)) {
            to.copy_from_slice(from);
        }
    }
}

fn opt_len(asker: &Asker<'_>, options: usize) -> usize {
    if asker.edns.is_some() { 11 + options } else { 0 }
}

/// Appends our OPT at `at`. Extended errors are left out where they do not fit: they only explain.
#[inline]
fn write_opt(
    out: &mut [u8],
    at: usize,
    asker: &Asker<'_>,
    edns: Edns,
    high_code: u8,
    options: &[u8],
    extended_error: Option<u16>,
) -> Option<usize> {
    let own = extended_error.map(|code| {
        let [a, b] = code.to_be_bytes();
        // Option 15, two bytes of data: the code without a text (RFC 8914 section 2).
        [0, 15, 0, 2, a, b] as [u8; OWN_ERROR]
    });
    let own = own.as_ref().map_or(&[][..], |o| &o[..]);
    let fits = at + opt_len(asker, own.len() + options.len()) <= out.len();
    let (own, options) = if fits { (own, options) } else { (&[][..], &[][..]) };
    let [size_a, size_b] = asker.our_size.to_be_bytes();
    let [len_a, len_b] = ((own.len() + options.len()) as u16).to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let fixed = [0, 0, rtype::OPT as u8, size_a, size_b, high_code, 0, dnssec_ok, 0, len_a, len_b];
    let mut end = at;
    for part in [&fixed[..], own, options] {
        out.get_mut(end..end + part.len())?.copy_from_slice(part);
        end += part.len();
    }
    Some(end)
}

/// Whether a response code says that there is no such name or no such data, rather than that something failed.
pub fn is_answer(code: u16) -> bool {
    code == rcode::NOERROR || code == rcode::NXDOMAIN
}
