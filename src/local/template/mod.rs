//! Answers made from the question: CoreDNS's `template`.
//!
//! A template is for a class, a type and some zones, and may have patterns; the first that matches the name
//! counts. A name in its zones that no pattern matches ends in SERVFAIL, unless it falls through. Records are
//! written as text with fields of the question in it, in the part of Go's template language that rules need
//! ([`rendering`]).
//!
//! An answer to A or AAAA that is a CNAME is followed: what its target has comes behind it.

pub mod rendering;

use super::Said;
use super::message::{Message, Rr};
use super::pattern::Pattern;
use super::refused::{Refused, shown};
use super::zones::Zones;
use super::{record, text};
use crate::limit::Limit;
use crate::upstream::Ask;
use crate::wire::{class, rcode, rtype};
use rendering::{Question, Rendering};

/// Templates of one zone.
pub const TEMPLATES: Limit<usize> = Limit::new(0, 0, 256);
/// Records and patterns of one template, each kind.
pub const TEMPLATE_PARTS: Limit<usize> = Limit::new(0, 0, 64);
/// Bytes of the text of an extended error.
const REASON: usize = 200;
/// The option code of an extended error (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;
/// The UDP size that an OPT record of ours states; nobody hears of it.
const PAYLOAD_SIZE: u16 = 1232;

/// One template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The class; ANY is for all.
    pub class: u16,
    /// The type; ANY is for all.
    pub rtype: u16,
    /// Where it holds.
    pub zones: Zones,
    /// What names it is for; none is for all.
    pub patterns: Vec<Pattern>,
    /// The answer, authority and additional sections.
    pub sections: [Vec<Rendering>; 3],
    /// The response code, 0 to 15.
    pub rcode: u8,
    /// An extended error and its words (RFC 8914).
    pub error: Option<(u16, String)>,
    /// Names that no pattern matches go on from here, below these.
    pub fallthrough: Zones,
}

impl Template {
    /// A template for a class, a type and zones that answers nothing yet.
    pub fn new(class: u16, rtype: u16, zones: Zones) -> Self {
        Self {
            class,
            rtype,
            zones,
            patterns: Vec::new(),
            sections: Default::default(),
            rcode: 0,
            error: None,
            fallthrough: Zones::default(),
        }
    }

    /// That its parts go together: groups that are used are there, and what can be tried out is a record.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self) -> Result<(), Refused> {
        let parts = [self.patterns.len()].into_iter().chain(self.sections.iter().map(Vec::len));
        if parts.max() > Some(TEMPLATE_PARTS.max) {
            let hint = format!("a template has at most {} of each", TEMPLATE_PARTS.max);
            return Err(Refused::new("too many patterns or records", hint));
        }
        if self.error.as_ref().is_some_and(|(_, reason)| reason.len() > REASON) {
            return Err(Refused::new("a very long reason", format!("write at most {REASON} bytes")));
        }
        let everything = [Pattern::new(".*")?];
        let patterns = if self.patterns.is_empty() { &everything[..] } else { &self.patterns };
        for rendering in self.sections.iter().flatten() {
            rendering.uses_groups_of(patterns)?;
            if let Some(line) = rendering.trial(self) {
                let whole = |refused: Refused| {
                    let what = format!("`{}` makes no record: {}", shown(rendering.text()), refused.what);
                    Refused::new(what, refused.hint)
                };
                record::read(&line).map_err(whole)?;
            }
        }
        Ok(())
    }

    /// What it says to `ask`.
    pub(super) fn say(&self, ask: &Ask) -> Said {
        let is_for = |of: u16, asked: u16| of == rtype::ANY || asked == rtype::ANY || of == asked;
        let zone = self.zones.of(&ask.name);
        let (Some(zone), true, true) = (zone, is_for(self.class, ask.class), is_for(self.rtype, ask.rtype))
        else {
            return Said::Nothing;
        };
        let name = text::show(&ask.name);
        let Some((pattern, captures)) = self.captures(&name) else {
            return if self.fallthrough.hold(&ask.name) { Said::Nothing } else { Said::Failure };
        };
        if u16::from(self.rcode) == rcode::SERVFAIL {
            return Said::Failure;
        }
        let known = |asked, own| if asked == rtype::ANY { own } else { asked };
        let question = Question {
            zone: text::show(zone),
            name,
            class: text::class_name(known(ask.class, self.class)),
            rtype: text::type_name(known(ask.rtype, self.rtype)),
            numbers: (ask.class, ask.rtype),
            pattern,
            captures,
        };
        self.answer(ask, &question).unwrap_or(Said::Failure)
    }

    /// The first pattern that matches, and what it captured.
    fn captures(&self, name: &str) -> Option<(&str, Vec<(Option<&str>, String)>)> {
        if self.patterns.is_empty() {
            return Some((".*", vec![(None, name.to_owned())]));
        }
        self.patterns.iter().find_map(|pattern| Some((pattern.text(), pattern.captures(name)?)))
    }

    /// The answer; `None` if something that was rendered is no record.
    fn answer(&self, ask: &Ask, question: &Question<'_>) -> Option<Said> {
        let mut message = Message::answer(ask, self.rcode.into());
        for (section, renderings) in message.sections.iter_mut().zip(&self.sections) {
            for rendering in renderings {
                section.push(record::read(&rendering.render(question)?).ok()?);
            }
        }
        if let Some((code, reason)) = &self.error {
            message.sections[2].push(extended_error(*code, reason));
        }
        let followed = matches!(ask.rtype, rtype::A | rtype::AAAA);
        let answers = message.sections[0].iter().enumerate();
        let aliases = answers.filter(|(_, rr)| followed && rr.rtype == rtype::CNAME && rr.class == class::IN);
        let aliases = aliases.map(|(place, rr)| (place, rr.data.clone())).collect();
        Some(Said::Answer(message, aliases))
    }
}

/// An OPT record with an extended error (RFC 8914 section 2).
fn extended_error(code: u16, reason: &str) -> Rr {
    let words = [EXTENDED_ERROR, 2 + reason.len() as u16, code].map(u16::to_be_bytes);
    let data = [words.as_flattened(), reason.as_bytes()].concat().into();
    Rr { owner: Box::from([0]), rtype: rtype::OPT, class: PAYLOAD_SIZE, ttl: 0, data }
}

impl Rendering {
    /// The record that it makes of a name in the template's first zone; `None` if it depends on more.
    fn trial(&self, template: &Template) -> Option<String> {
        let zone = text::show(template.zones.iter().next()?);
        let (class, rtype) = (text::class_name(template.class), text::type_name(template.rtype));
        let open = (self.says_type() && template.rtype == rtype::ANY)
            || (self.says_class() && template.class == rtype::ANY);
        let name = if zone == "." { "name.".to_owned() } else { format!("name.{zone}") };
        let numbers = (template.class, template.rtype);
        let question = Question { zone, name, class, rtype, numbers, pattern: ".*", captures: Vec::new() };
        if open || self.says_captures() { None } else { self.render(&question) }
    }
}
