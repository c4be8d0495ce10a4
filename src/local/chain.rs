//! The way of one question through the rules, out to the upstreams and back.
//!
//! ```text
//! question > dns64 > rewrite > template > records > hosts > upstreams      down
//! answer   < dns64 < rewrite <                            <                back
//! ```
//!
//! Whoever wants to see what comes back leaves a [`Frame`]; the last one left is the first to see it. Some then
//! want to know something else first: a question of their own. That of an alias may be about any name, so it is handed
//! out as a client's would be, and goes the same way from the top only where the name is of this zone. Nothing waits here:
//! what is to be asked is handed out ([`Pending`]), and goes on with the reply.

use std::sync::Arc;

use super::dns64::{Dns64, Verdict};
use super::message::Message;
use super::rewrite::{self, Rewritten, Undos};
use super::{Local, Said};
use crate::upstream::Ask;
use crate::wire::answer::is_answer;
use crate::wire::rtype;

/// Questions of our own on the way of one client's: aliases that are followed. A template may point to itself.
const LOOKUPS: usize = 8;

/// How a question begins.
#[derive(Debug)]
pub enum Begin {
    /// With its answer: a whole message, nobody is to be asked.
    Answer(Vec<u8>),
    /// By asking the upstreams.
    Ask(Pending),
}

/// How it goes on when they have replied.
#[derive(Debug)]
pub enum End {
    /// With the answer to the client's question: a whole message.
    Done(Vec<u8>),
    /// By asking them something else.
    Again(Pending),
}

/// A question that waits for a reply.
#[derive(Debug)]
pub struct Pending {
    chain: Chain,
    ask: Ask,
    whom: Whom,
}

/// Who is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// The zone's upstreams.
    Upstreams,
    /// Whoever answers clients for the name.
    Zone,
}

impl Pending {
    /// What is to be asked.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Whether an alias is followed: whoever answers clients for its name is to be asked. Where that is this zone, it
    /// goes on with [`here`](Self::here).
    pub fn is_lookup(&self) -> bool {
        self.whom == Whom::Zone
    }

    /// Goes on with the question as one of this zone's, from the top.
    pub fn here(self) -> End {
        let Self { mut chain, ask, .. } = self;
        let first = chain.enter(ask);
        chain.go_on(first)
    }

    /// Goes on with the reply to [`ask`](Self::ask). A reply that nobody wants to see goes on as it came; one
    /// that is malformed and was to be changed ends in SERVFAIL.
    pub fn reply(self, reply: Vec<u8>) -> End {
        let Self { mut chain, ask, .. } = self;
        if chain.frames.is_empty() {
            return End::Done(reply);
        }
        let Ok(message) = Message::read(&reply, &ask) else { return End::Done(chain.failure()) };
        chain.failed = !is_answer(message.code());
        chain.go_on(Step::Back(Answer { message, came: Some(reply) }))
    }
}

/// Lets a client's question begin.
pub(super) fn begin(local: &Arc<Local>, client: &Ask) -> Begin {
    let local = Arc::clone(local);
    let mut chain =
        Chain { local, client: client.clone(), frames: Vec::new(), lookups: LOOKUPS, failed: false };
    let first = chain.enter(client.clone());
    match chain.go_on(first) {
        End::Done(answer) => Begin::Answer(answer),
        End::Again(pending) => Begin::Ask(pending),
    }
}

/// Where a question is on its way.
#[derive(Debug)]
struct Chain {
    local: Arc<Local>,
    /// What the client asked.
    client: Ask,
    frames: Vec<Frame>,
    /// See [`LOOKUPS`]: how many are left.
    lookups: usize,
    /// Whether what the upstreams replied last says that something failed.
    failed: bool,
}

/// Who wants to see an answer, and what for. Each keeps the question as it came to him.
#[derive(Debug)]
enum Frame {
    /// dns64: whether there is an AAAA.
    Aaaa(Dns64, Ask),
    /// dns64: the A records, and the longest TTL.
    A(Dns64, Ask, u32),
    /// rewrite: to turn it back.
    TurnBack(Ask, Undos),
    /// Whoever made a message with aliases: to put it behind the alias at a place.
    Follow { ask: Ask, message: Message, place: usize, left: Vec<(usize, Box<[u8]>)> },
}

/// An answer on its way back.
struct Answer {
    message: Message,
    /// As it came, while it is unchanged.
    came: Option<Vec<u8>>,
}

enum Step {
    /// Somebody is to be asked.
    Ask(Ask, Whom),
    /// An answer is there.
    Back(Answer),
}

impl From<Message> for Step {
    fn from(message: Message) -> Self {
        Self::Back(Answer { message, came: None })
    }
}

impl Chain {
    /// Goes on until the client's answer is there, or something is to be asked.
    fn go_on(mut self, mut step: Step) -> End {
        loop {
            step = match step {
                Step::Ask(ask, whom) => return End::Again(Pending { chain: self, ask, whom }),
                Step::Back(answer) => match self.frames.pop() {
                    Some(frame) => self.back(frame, answer),
                    None => {
                        let bytes = answer.came.or_else(|| answer.message.write());
                        return End::Done(bytes.unwrap_or_else(|| self.failure()));
                    }
                },
            };
        }
    }

    /// SERVFAIL for the client.
    fn failure(&self) -> Vec<u8> {
        Message::failure(&self.client).write().unwrap_or_default()
    }

    /// Down, from the top.
    fn enter(&mut self, ask: Ask) -> Step {
        let settings = &self.local.settings;
        if let Some(dns64) = settings.dns64.filter(|dns64| dns64.is_for(&ask)) {
            self.frames.push(Frame::Aaaa(dns64, ask.clone()));
        }
        match rewrite::apply(&settings.rewrites, &ask) {
            Rewritten::No => self.answer(ask),
            Rewritten::Yes(asked, undos) => {
                self.frames.push(Frame::TurnBack(ask, undos));
                self.answer(asked)
            }
            Rewritten::Broken => Message::failure(&ask).into(),
        }
    }

    /// Down from where questions are answered.
    fn answer(&mut self, ask: Ask) -> Step {
        match self.local.say(&ask) {
            Said::Answer(message, aliases) => self.follow(message, aliases, ask),
            Said::Failure => Message::failure(&ask).into(),
            Said::Nothing if self.local.settings.ends() => Message::failure(&ask).into(),
            Said::Nothing => Step::Ask(ask, Whom::Upstreams),
        }
    }

    /// Follows the last of the aliases; behind it the places of the others stay what they are.
    fn follow(&mut self, message: Message, mut aliases: Vec<(usize, Box<[u8]>)>, ask: Ask) -> Step {
        let (Some((place, name)), Some(left)) = (aliases.pop(), self.lookups.checked_sub(1)) else {
            return message.into();
        };
        self.lookups = left;
        let target = Ask { name, ..ask.clone() };
        self.frames.push(Frame::Follow { ask, message, place, left: aliases });
        Step::Ask(target, Whom::Zone)
    }

    /// Back, past one who wanted to see the answer.
    fn back(&mut self, frame: Frame, mut answer: Answer) -> Step {
        match frame {
            Frame::Aaaa(dns64, ask) => match dns64.judge(&mut answer.message) {
                Verdict::Keep => Step::Back(answer),
                Verdict::Changed => {
                    answer.message.turn_to(&ask);
                    answer.message.into()
                }
                Verdict::Make(ttl) => {
                    let a = Ask { rtype: rtype::A, ..ask.clone() };
                    self.frames.push(Frame::A(dns64, ask, ttl));
                    self.enter(a)
                }
            },
            Frame::A(dns64, ask, ttl) => {
                dns64.make(&mut answer.message, &ask, ttl);
                answer.message.into()
            }
            Frame::TurnBack(ask, undos) => {
                let mut message = answer.message;
                let elsewhere = undos.turn_back(&mut message, &ask);
                // Whoever followed an alias is known by the question that he asked.
                self.follow(message, elsewhere.into_iter().collect(), ask)
            }
            // An alias that could not be followed would be kept as one that leads nowhere.
            Frame::Follow { ask, .. } if self.failed && !is_answer(answer.message.code()) => {
                Message::failure(&ask).into()
            }
            Frame::Follow { ask, mut message, place, left } => {
                let behind = answer.message.sections[0].drain(..);
                message.sections[0].splice(place + 1..place + 1, behind);
                message.set_truncated(answer.message.is_truncated());
                self.follow(message, left, ask)
            }
        }
    }
}
