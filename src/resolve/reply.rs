//! A client that waits for an answer, whatever way it came.

use std::sync::Arc;

use crate::cache::Entry;
use crate::clock::Now;
use crate::wire::answer::{self, Asker, Ttl};
use crate::wire::extended_error;
use crate::wire::header::Header;
use crate::wire::query::{Edns, Question};
use crate::wire::rcode;

use super::ZoneCounters;
use super::log::Noted;
use super::traffic::Protocol;

/// The way back to a client.
pub trait ReplyTo {
    /// Sends a message. A client that is gone is no error.
    fn send(&self, message: &[u8]);
}

/// A client that waits.
pub struct Waiter {
    /// The query's header.
    pub header: Header,
    /// The query's question, as it came.
    pub question: Box<[u8]>,
    /// The query's EDNS part.
    pub edns: Option<Edns>,
    /// The largest message that may go back.
    pub limit: usize,
    /// The UDP size that our OPT states.
    pub our_size: u16,
    /// How the query came.
    pub protocol: Protocol,
    /// When the query came.
    pub since: Now,
    /// Where it is counted: its zone, at the listener that it came by.
    pub counters: Arc<ZoneCounters>,
    /// What is logged of it, where its zone logs.
    pub noted: Option<Box<Noted>>,
    /// The way back.
    pub reply_to: Box<dyn ReplyTo>,
}

impl Waiter {
    /// Sends it its answer, and logs that where its zone logs.
    fn send(&self, message: &[u8], now: Now) {
        self.reply_to.send(message);
        if let Some(Noted { log, asked }) = self.noted.as_deref() {
            log.answered(*asked, message, now.since(self.since), &self.counters);
        }
    }
}

/// What a flight brings.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    /// An answer, or an upstream's refusal, as it came.
    Fresh(&'a Entry),
    /// The old answer.
    Stale(&'a Entry),
}

/// Writes answers for waiters and sends them; one per worker, with one buffer.
pub struct Desk {
    buffer: Box<[u8]>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { buffer: vec![0; crate::wire::MESSAGE_MAX].into() }
    }
}

/// What an answer needs to know besides the entry and the waiter.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The time.
    pub now: Now,
    /// The TTL of stale data, in seconds.
    pub stale_ttl: u32,
}

impl Desk {
    /// Answers one waiter and counts it.
    pub fn answer(&mut self, waiter: &Waiter, outcome: Outcome<'_>, manner: Manner) {
        let zone = &waiter.counters;
        let Ok(question) = Question::read(&waiter.question) else { return };
        let asker = Asker {
            header: waiter.header,
            question,
            edns: waiter.edns,
            limit: waiter.limit,
            our_size: waiter.our_size,
        };
        let (entry, ttl, error) = match outcome {
            Outcome::Fresh(entry) => (entry, Ttl::Aged(entry.age(manner.now)), None),
            Outcome::Stale(entry) => {
                zone.stale.bump();
                (entry, Ttl::All(manner.stale_ttl), Some(stale_error(entry)))
            }
        };
        if let Some(len) = answer::write(&mut self.buffer, &entry.stored(), &asker, ttl, 0, error) {
            zone.traffic.answered(waiter.protocol, entry.rcode(), len);
            waiter.send(&self.buffer[..len], manner.now);
        }
        zone.miss_latency.record(manner.now.since(waiter.since), 1);
    }

    /// Answers one waiter with a response code of our own.
    pub fn refuse(&mut self, waiter: &Waiter, error: u16, now: Now) {
        let question = Question::read(&waiter.question).ok();
        let code = rcode::SERVFAIL;
        let written = answer::write_code(
            &mut self.buffer,
            waiter.header,
            question,
            waiter.edns,
            waiter.our_size,
            code,
            Some(error),
        );
        if let Some(len) = written {
            waiter.counters.traffic.answered(waiter.protocol, code, len);
            waiter.send(&self.buffer[..len], now);
        }
        waiter.counters.miss_latency.record(now.since(waiter.since), 1);
    }
}

/// The extended error that stale data carries (RFC 8914 sections 4.4, 4.20).
pub fn stale_error(entry: &Entry) -> u16 {
    if entry.rcode() == rcode::NXDOMAIN {
        extended_error::STALE_NXDOMAIN
    } else {
        extended_error::STALE_ANSWER
    }
}

/// The upstream's words where there were none: a response code with an extended error, as an entry, so that it is
/// remembered and given out like any other failure. `question` is in wire format.
pub fn failure_entry(question: &[u8], code: u16, error: u16, now: Now) -> Option<Entry> {
    let mut buffer = [0; 512];
    let header = Header { id: 0, flags: 0, counts: [0; 4] };
    let edns = Some(Edns { udp_size: 512, dnssec_ok: false });
    let question = Question::read(question).ok()?;
    let len = answer::write_code(&mut buffer, header, Some(question), edns, 512, code, Some(error))?;
    Entry::from_reply(&buffer[..len], &crate::cache::Rules::default(), now).ok()
}
