//! What is done to the answer to a question that was asked differently.

use super::super::message::{Message, Rr};
use super::super::pattern::Pattern;
use super::super::{rdata, text};
use super::Matcher;
use crate::wire::rtype;

/// One step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Undo {
    /// Owners of records.
    Name(Back),
    /// Names in the data of records.
    Value(Back),
    Ttl {
        min: u32,
        max: u32,
    },
    Rcode {
        from: u8,
        to: u8,
    },
    Cname {
        matcher: Matcher,
        to: String,
    },
}

/// How one name becomes another again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Back {
    Regex {
        pattern: Pattern,
        to: String,
    },
    /// A name, and names below it.
    Remap {
        from: String,
        to: String,
    },
    /// An end of names.
    Suffix {
        from: String,
        to: String,
    },
}

impl Back {
    /// What becomes of `name`, if anything does.
    fn apply(&self, name: &str) -> Option<String> {
        match self {
            Self::Regex { pattern, to } => pattern.replace(name, to),
            Self::Remap { from, to } => {
                let above = name.strip_suffix(from.as_str())?;
                (above.is_empty() || above.ends_with('.')).then(|| format!("{above}{to}"))
            }
            Self::Suffix { from, to } => name.strip_suffix(from.as_str()).map(|above| format!("{above}{to}")),
        }
    }
}

/// The steps back of `answer auto`, for a rule that made `to` of `from`: by ends of names where the rule is
/// about these, by this one name otherwise.
pub(super) fn auto(matcher: &Matcher, rule_to: &str, from: String, to: String) -> [Undo; 2] {
    let back = match matcher {
        Matcher::Suffix(suffix) => Back::Suffix { from: rule_to.to_owned(), to: suffix.clone() },
        _ => Back::Remap { from: to, to: from },
    };
    [Undo::Name(back.clone()), Undo::Value(back)]
}

/// The steps back of one question, in the order of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Undos(pub(super) Vec<Undo>);

impl Undos {
    /// Takes all steps back, the last rule's first.
    pub(super) fn rewrite(&self, message: &mut Message) -> Option<(usize, Box<[u8]>)> {
        for rr in message.records_mut() {
            self.0.iter().rev().for_each(|undo| undo.on_record(rr));
        }
        for undo in self.0.iter().rev() {
            if let Undo::Rcode { from, to } = undo
                && message.code() == u16::from(*from)
            {
                message.set_code((*to).into());
            }
        }
        self.0.iter().rev().find_map(|undo| undo.redirect(message))
    }
}

impl Undo {
    fn on_record(&self, rr: &mut Rr) {
        match self {
            Self::Name(back) => {
                if let Some(owner) = renamed(back, &rr.owner) {
                    rr.owner = owner;
                }
            }
            Self::Value(back) => rewrite_value(rr, back),
            Self::Ttl { min, max } => rr.ttl = rr.ttl.max(*min).min(*max),
            Self::Rcode { .. } | Self::Cname { .. } => {}
        }
    }

    /// An alias whose target this step replaces: the answers end with it then.
    fn redirect(&self, message: &mut Message) -> Option<(usize, Box<[u8]>)> {
        let Self::Cname { matcher, to } = self else { return None };
        let answers = &mut message.sections[0];
        answers.iter().position(|rr| rr.rtype == rtype::CNAME && target(matcher, to, rr).is_some())?;
        answers.retain(|rr| rr.rtype == rtype::CNAME);
        let place = answers.iter().position(|rr| target(matcher, to, rr).is_some())?;
        answers.truncate(place + 1);
        let target = target(matcher, to, &answers[place])?;
        answers[place].data = target.clone();
        Some((place, target))
    }
}

/// Where an alias is to point, if the rule is about where it points.
fn target(matcher: &Matcher, to: &str, alias: &Rr) -> Option<Box<[u8]>> {
    matcher.replace(&text::show(&alias.data), to).and_then(|name| text::read(&name))
}

/// What becomes of a name; `None` if nothing does, or nothing that is a name.
fn renamed(back: &Back, name: &[u8]) -> Option<Box<[u8]>> {
    back.apply(&text::show(name)).and_then(|name| text::read(&name))
}

/// The name in a record's data that answers are known by: the target of SRV, MX, CNAME, NS, DNAME, NAPTR and
/// PTR, the server of SOA.
fn rewrite_value(rr: &mut Rr, back: &Back) {
    if !matches!(rr.rtype, rtype::NS | rtype::CNAME | rtype::SOA | rtype::PTR | 15 | 33 | 35 | rtype::DNAME) {
        return;
    }
    let Some(range) = rdata::names(rr.rtype, &rr.data).next() else { return };
    if let Some(name) = renamed(back, &rr.data[range.clone()]) {
        rr.data = [&rr.data[..range.start], &name, &rr.data[range.end..]].concat().into();
    }
}
