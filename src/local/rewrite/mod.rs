//! Questions that are asked differently, and the answers to them turned back: CoreDNS's `rewrite`.
//!
//! The rules are tried in their order, each on what those before it made of the question. One that stops is the
//! last if it applies; one that continues is not. What comes back answers the client's question again. Names in
//! it are turned back by the rules that say how: `exact` by itself, the others by `answer auto`, or by
//! `answer name` and `answer value` with patterns of their own; the last rule's come first.
//!
//! As in CoreDNS, the texts of `prefix` and `substring` get a last dot, too: `prefix api` is `api.`, a whole
//! label.
//!
//! Not supported: `edns0` rules. EDNS is hop by hop here (RFC 6891): what a client sends in it is not part of
//! what an answer is kept under, so that nothing may depend on it.

mod parse;
mod response;

use std::fmt;

use super::message::Message;
use super::pattern::Pattern;
use super::text;
use crate::limit::Limit;
use crate::upstream::Ask;
use response::Undo;
pub(super) use response::Undos;

/// Rules of one zone.
pub const REWRITES: Limit<usize> = Limit::new(0, 0, 256);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// As it was written.
    text: String,
    /// Whether the rules behind it are tried when it applied.
    continues: bool,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Name {
        matcher: Matcher,
        to: String,
        auto: bool,
        answers: Vec<Undo>,
    },
    Type {
        from: u16,
        to: u16,
    },
    Class {
        from: u16,
        to: u16,
    },
    /// The answers' TTLs get bounds.
    Ttl {
        matcher: Matcher,
        min: u32,
        max: u32,
    },
    Rcode {
        matcher: Matcher,
        from: u8,
        to: u8,
    },
    /// Where an answer's alias points to.
    Cname {
        matcher: Matcher,
        to: String,
    },
}

/// As it was written, with one blank between its words.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which names a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Pattern),
}

impl Matcher {
    /// Whether it is for `name`.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => name == text,
            Self::Prefix(text) => name.starts_with(text.as_str()),
            Self::Suffix(text) => name.ends_with(text.as_str()),
            Self::Substring(text) => name.contains(text.as_str()),
            Self::Regex(pattern) => pattern.matches(name),
        }
    }

    /// What it makes of `name` with `to`, if it is for it.
    pub(super) fn replace(&self, name: &str, to: &str) -> Option<String> {
        match self {
            Self::Exact(text) => (name == text).then(|| to.to_owned()),
            Self::Prefix(text) => name.strip_prefix(text.as_str()).map(|rest| format!("{to}{rest}")),
            Self::Suffix(text) => name.strip_suffix(text.as_str()).map(|rest| format!("{rest}{to}")),
            Self::Substring(text) => name.contains(text.as_str()).then(|| name.replace(text.as_str(), to)),
            Self::Regex(pattern) => pattern.replace(name, to),
        }
    }
}

impl Rewrite {
    /// Whether it makes other names.
    pub fn renames(&self) -> bool {
        matches!(self.rule, Rule::Name { .. })
    }
}

/// What the rules made of a question.
pub(super) enum Rewritten {
    /// None is for it.
    No,
    /// It is to be asked so; what comes back is to be turned back so.
    Yes(Ask, Undos),
    /// A name came out that is none.
    Broken,
}

/// Applies the rules to a question.
pub(super) fn apply(rules: &[Rewrite], ask: &Ask) -> Rewritten {
    let (mut asked, mut undos, mut applied) = (ask.clone(), Vec::new(), false);
    for Rewrite { continues, rule, .. } in rules {
        match rule.apply(&mut asked, &mut undos) {
            Some(true) => applied = true,
            Some(false) => continue,
            None => return Rewritten::Broken,
        }
        if !continues {
            break;
        }
    }
    if applied { Rewritten::Yes(asked, Undos(undos)) } else { Rewritten::No }
}

impl Rule {
    /// Whether it applied; `None` if it made a name that is none.
    fn apply(&self, asked: &mut Ask, undos: &mut Vec<Undo>) -> Option<bool> {
        let name = || text::show(&asked.name);
        Some(match self {
            Self::Name { matcher, to, auto, answers } => {
                let name = name();
                let Some(new) = matcher.replace(&name, to) else { return Some(false) };
                asked.name = text::read(&new)?;
                if *auto {
                    undos.extend(response::auto(matcher, to, name, text::show(&asked.name)));
                }
                undos.extend_from_slice(answers);
                true
            }
            Self::Type { from, to } => change(&mut asked.rtype, *from, *to),
            Self::Class { from, to } => change(&mut asked.class, *from, *to),
            Self::Ttl { matcher, min, max } => {
                let matches = matcher.matches(&name());
                undos.extend(matches.then_some(Undo::Ttl { min: *min, max: *max }));
                matches
            }
            Self::Rcode { matcher, from, to } => {
                let matches = matcher.matches(&name());
                undos.extend(matches.then_some(Undo::Rcode { from: *from, to: *to }));
                matches
            }
            Self::Cname { matcher, to } => {
                undos.push(Undo::Cname { matcher: matcher.clone(), to: to.clone() });
                true
            }
        })
    }
}

fn change(field: &mut u16, from: u16, to: u16) -> bool {
    let matches = *field == from;
    if matches {
        *field = to;
    }
    matches
}

impl Undos {
    /// Makes `message` the answer to `ask`. Gives the alias that points elsewhere now, by its place among the
    /// answers, and where it points: what is there is to be found out and put behind it.
    pub(super) fn turn_back(&self, message: &mut Message, ask: &Ask) -> Option<(usize, Box<[u8]>)> {
        message.turn_to(ask);
        self.rewrite(message)
    }
}
