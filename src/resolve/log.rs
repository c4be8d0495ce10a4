//! The log of queries: what a zone wants logged, and the queue in which it leaves the road.
//!
//! A zone that logs has a [`Log`]; one that does not pays a branch. A worker copies what a line needs ([`Answered`])
//! and puts it into a queue that never makes it wait: where there is no room the line is lost, and counted. Whoever
//! holds the other end reads the answer, decides by its class, and writes ([`Answered::rule`], [`Class`]).

pub mod format;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

pub use format::Format;

use crate::limit::Limit;
use crate::local::Zones;
use crate::wire::header;
use crate::wire::name::{self, MAX};
use crate::wire::query::{Edns, Question};

use super::ZoneCounters;
use super::traffic::Protocol;

/// Answers that wait for their lines to be written, all zones together; beyond it lines are lost.
pub const QUEUE: Limit<usize> = Limit::new(8192, 8192, 8192);
/// Bytes of these answers; beyond it lines are lost too.
pub const QUEUE_BYTES: Limit<usize> = Limit::new(8 << 20, 8 << 20, 8 << 20);
/// Rules of one zone.
pub const RULES: Limit<usize> = Limit::new(0, 0, 64);

/// What an answer says, as far as rules tell answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Whatever it says.
    All,
    /// Data, a referral, or nothing at all without an SOA.
    Success,
    /// There is no such name, or no such type.
    Denial,
    /// Anything else.
    Error,
}

/// Which queries are logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names at or below one of these.
    pub names: Zones,
    /// What a line says.
    pub format: Format,
    /// The classes of answers that are logged.
    pub classes: Vec<Class>,
}

impl Rule {
    /// Whether answers of `class` are logged.
    pub fn logs(&self, class: Class) -> bool {
        self.classes.iter().any(|&wanted| wanted == Class::All || wanted == class)
    }
}

/// What is known of a query when it comes.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Who asks.
    pub client: SocketAddr,
    /// Which of our addresses is asked.
    pub local: IpAddr,
    /// How it came.
    pub protocol: Protocol,
    /// Its bytes.
    pub size: usize,
    /// Its EDNS part.
    pub edns: Option<Edns>,
}

/// A query with its answer, to be written.
#[derive(Debug)]
pub struct Answered {
    /// The log of its zone.
    log: Arc<Log>,
    /// The place of the rule that holds.
    rule: usize,
    /// The query.
    pub asked: Asked,
    /// The whole answer as it was sent; its question is the query's own.
    pub answer: Box<[u8]>,
    /// The time from the one to the other.
    pub took: Duration,
    /// Where the loss of its line is counted.
    counters: Arc<ZoneCounters>,
}

impl Answered {
    /// Its line could not be written. To be said by the thread that holds the [`Source`].
    pub fn is_lost(&self) {
        self.counters.log_unwritten.bump();
    }

    /// The rule that holds.
    pub fn rule(&self) -> Option<&Rule> {
        self.log.rules.get(self.rule)
    }
}

/// What goes through the queue.
#[derive(Debug)]
pub enum Message {
    /// A query with its answer.
    Answered(Box<Answered>),
    /// Nothing more is to be waited for.
    End,
}

/// The end of the queue into which lines are put.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Message>,
    bytes: Arc<AtomicUsize>,
}

/// The end of the queue from which they are taken.
#[derive(Debug)]
pub struct Source {
    queue: Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

/// A queue for all zones: [`QUEUE`], [`QUEUE_BYTES`].
pub fn queue() -> (Sink, Source) {
    let (sender, queue) = sync_channel(QUEUE.default);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Sink { queue: sender, bytes: Arc::clone(&bytes) }, Source { queue, bytes })
}

impl Sink {
    /// Puts an answer into the queue, if there is room.
    fn put(&self, answered: Answered) -> bool {
        let len = answered.answer.len();
        if self.bytes.fetch_add(len, Relaxed) + len <= QUEUE_BYTES.default
            && self.queue.try_send(Message::Answered(Box::new(answered))).is_ok()
        {
            return true;
        }
        self.bytes.fetch_sub(len, Relaxed);
        false
    }

    /// Says that nothing more is to be waited for; whether there was room to say so.
    pub fn end(&self) -> bool {
        self.queue.try_send(Message::End).is_ok()
    }
}

impl Source {
    /// The next one. Where there is none, `idle` is called before it is waited for. `None` at the end.
    pub fn next(&self, idle: impl FnOnce()) -> Option<Box<Answered>> {
        let message = self.queue.try_recv().or_else(|_| {
            idle();
            self.queue.recv()
        });
        match message {
            Ok(Message::Answered(answered)) => {
                self.bytes.fetch_sub(answered.answer.len(), Relaxed);
                Some(answered)
            }
            Ok(Message::End) | Err(_) => None,
        }
    }
}

/// The log of a zone.
#[derive(Debug)]
pub struct Log {
    /// The first that is for a name holds, as in CoreDNS.
    rules: Vec<Rule>,
    sink: Sink,
}

impl Log {
    /// A log by these rules into this queue.
    pub fn new(rules: Vec<Rule>, sink: Sink) -> Self {
        Self { rules, sink }
    }

    /// Logs an answer that was sent, if a rule is for its name. What is lost is counted.
    pub fn answered(
        self: &Arc<Self>,
        asked: Asked,
        answer: &[u8],
        took: Duration,
        counters: &Arc<ZoneCounters>,
    ) {
        let question = answer.get(header::LEN..).map(Question::read);
        let Some(Ok(question)) = question else { return };
        let mut lower = [0; MAX];
        let Some(lower) = lower.get_mut(..question.name().len()) else { return };
        name::lower_into(question.name(), lower);
        let Some(rule) = self.rules.iter().position(|rule| rule.names.hold(lower)) else { return };
        let (log, its_counters) = (Arc::clone(self), Arc::clone(counters));
        let answered = Answered { log, rule, asked, answer: answer.into(), took, counters: its_counters };
        if !self.sink.put(answered) {
            counters.log_lost.bump();
        }
    }
}

/// A query whose answer is to be logged when it is there.
#[derive(Debug)]
pub struct Noted {
    /// The log of its zone.
    pub log: Arc<Log>,
    /// It.
    pub asked: Asked,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"\0\x07\x81\x80\0\x01\0\0\0\0\0\0\x01A\x04test\0\0\x01\0\x01";

    fn rule(names: &[&str], classes: &[Class]) -> Rule {
        let names = Zones::parse(names.iter().copied()).unwrap();
        Rule { names, format: Format::default(), classes: classes.to_vec() }
    }

    fn asked() -> Asked {
        let client = ([127, 0, 0, 1], 4000).into();
        let local = [127, 0, 0, 2].into();
        Asked { client, local, protocol: Protocol::Udp, size: 24, edns: None }
    }

    #[test]
    fn the_first_rule_for_a_name_holds_and_other_names_are_not_logged() {
        let (sink, source) = queue();
        let rules = vec![rule(&["b.test"], &[Class::All]), rule(&["a.test", "."], &[Class::Error])];
        let log = Arc::new(Log::new(rules, sink.clone()));
        let counters = Arc::<ZoneCounters>::default();
        log.answered(asked(), ANSWER, Duration::ZERO, &counters);
        let one = source.next(|| panic!("one waits")).unwrap();
        assert_eq!((one.rule, &*one.answer), (1, ANSWER));
        assert!(!one.rule().unwrap().logs(Class::Success));
        let log = Arc::new(Log::new(vec![rule(&["x.a.test"], &[Class::All])], sink.clone()));
        log.answered(asked(), ANSWER, Duration::ZERO, &counters);
        log.answered(asked(), &ANSWER[..20], Duration::ZERO, &counters);
        assert!(sink.end());
        assert!(source.next(|| panic!("the end waits")).is_none());
        assert_eq!(counters.log_lost.get(), 0);
    }

    #[test]
    fn lines_beyond_the_queue_are_counted_and_never_waited_for() {
        let (sink, source) = queue();
        let log = Arc::new(Log::new(vec![rule(&["."], &[Class::All])], sink));
        let counters = Arc::<ZoneCounters>::default();
        for _ in 0..QUEUE.default + 3 {
            log.answered(asked(), ANSWER, Duration::ZERO, &counters);
        }
        assert_eq!(counters.log_lost.get(), 3);
        assert!(source.next(|| ()).is_some());
        let large = [ANSWER, &[0; 65_000]].concat();
        for _ in 0..10 {
            (0..200).for_each(|_| drop(source.next(|| ())));
            (0..200).for_each(|_| log.answered(asked(), &large, Duration::ZERO, &counters));
        }
        assert!(counters.log_lost.get() > 1000, "bytes are bounded too");
    }
}
