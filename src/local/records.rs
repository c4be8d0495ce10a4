//! Records that the configuration gives, served as they stand: small zones without a server.
//!
//! A name that has records has these and no others: for another type it has no data. An alias is followed, here
//! first. Where an SOA is given, its zone is ours: what is not there does not exist (RFC 2308), and the SOA says
//! for how long. Without one, a small SOA is made up, so that "no data" can be kept (RFC 6303 section 3).
//! There are no wildcards and no delegations.

use std::collections::BTreeMap;

use super::Said;
use super::message::{Message, Rr};
use super::refused::{Refused, shown};
use super::{record, text};
use crate::limit::Limit;
use crate::upstream::Ask;
use crate::wire::{class, rcode, rtype};

/// Records of one zone.
pub const RECORDS: Limit<usize> = Limit::new(0, 0, 10_000);
/// Aliases that are followed within the records.
const ALIASES: usize = 8;
/// The TTL of the SOA that is made up, and how long "no data" is kept by it, in seconds.
const SOA_TTL: u32 = 60;

/// Records by owner; an owner without any is there because something is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    by_owner: BTreeMap<Box<[u8]>, Vec<Rr>>,
    /// As they were written.
    lines: Vec<String>,
}

impl Records {
    /// Reads records, one from each text.
    ///
    /// # Errors
    /// One is no record, or does not go with the others; [`Refused::word`] says which.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, Refused> {
        let mut records = Self::default();
        for (i, line) in lines.into_iter().enumerate() {
            if i == RECORDS.max {
                let hint = format!("a zone has at most {}", RECORDS.max);
                return Err(Refused::new("too many records", hint).at(i));
            }
            let added = record::read(line).and_then(|rr| records.add(rr, line));
            added.map_err(|refused| refused.at(i))?;
            records.lines.push(line.to_owned());
        }
        records.add_middles();
        Ok(records)
    }

    /// They as they were written.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    fn add(&mut self, rr: Rr, line: &str) -> Result<(), Refused> {
        let wrong = |why: &str, hint: &str| Err(Refused::new(format!("`{}` {why}", shown(line)), hint));
        if rr.class != class::IN {
            return wrong("is not of class IN", "only the Internet's records can be served");
        }
        if rr.rtype == rtype::OPT || matches!(rr.rtype, 128..=255) {
            return wrong("is of a type that only questions have", "write a record with data");
        }
        if rr.owner.starts_with(b"\x01*") {
            return wrong("has a wildcard owner", "write each name, or a template");
        }
        let there = self.by_owner.entry(rr.owner.clone()).or_default();
        let alone = |rr: &Rr| rr.rtype == rtype::CNAME;
        if !there.is_empty() && (alone(&rr) || there.iter().any(alone)) {
            return wrong("stands beside another record of its name", "a name with a CNAME has nothing else");
        }
        if rr.rtype == rtype::SOA && there.iter().any(|other| other.rtype == rtype::SOA) {
            return wrong("is a second SOA", "a zone has one");
        }
        if !there.contains(&rr) {
            there.push(rr);
        }
        Ok(())
    }

    /// Names between an owner and its zone's SOA exist, without records (RFC 8020 section 2).
    fn add_middles(&mut self) {
        let mut middles = Vec::new();
        for owner in self.by_owner.keys() {
            let Some(apex) = self.soa(owner) else { continue };
            middles.extend(above(owner).filter(|name| name.len() > apex.owner.len()).map(Box::from));
        }
        for middle in middles {
            self.by_owner.entry(middle).or_default();
        }
    }

    /// The SOA of the zone that a name is in.
    fn soa(&self, name: &[u8]) -> Option<&Rr> {
        above(name).find_map(|name| self.by_owner.get(name)?.iter().find(|rr| rr.rtype == rtype::SOA))
    }

    /// What they say to `ask`.
    pub(super) fn say(&self, ask: &Ask) -> Said {
        if ask.class != class::IN || (!self.by_owner.contains_key(&ask.name) && self.soa(&ask.name).is_none())
        {
            return Said::Nothing;
        }
        let mut message = Message::answer(ask, rcode::NOERROR);
        let mut name = ask.name.clone();
        for _ in 0..ALIASES {
            let Some(there) = self.by_owner.get(&name) else {
                let Some(soa) = self.soa(&name) else {
                    let place = message.sections[0].len() - 1;
                    return Said::Answer(message, vec![(place, name)]);
                };
                message.set_code(rcode::NXDOMAIN);
                message.sections[1].push(soa.clone());
                break;
            };
            let wanted = |rr: &&Rr| ask.rtype == rtype::ANY || rr.rtype == ask.rtype;
            let before = message.sections[0].len();
            message.sections[0].extend(there.iter().filter(wanted).cloned());
            if message.sections[0].len() > before {
                break;
            }
            let Some(alias) = there.iter().find(|rr| rr.rtype == rtype::CNAME) else {
                let soa = self.soa(&name).cloned().unwrap_or_else(|| made_up(&name));
                message.sections[1].push(soa);
                break;
            };
            if message.sections[0].contains(alias) {
                break;
            }
            message.sections[0].push(alias.clone());
            name.clone_from(&alias.data);
        }
        Said::Answer(message, Vec::new())
    }
}

/// A name, and those above it up to the root.
fn above(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| match name {
        [len @ 1..=255, rest @ ..] => rest.get(usize::from(*len)..),
        _ => None,
    })
}

/// The SOA of a name that has no zone.
fn made_up(owner: &[u8]) -> Rr {
    let contact = text::read("nobody.invalid.").unwrap_or_else(|| Box::from([0]));
    let numbers = [1, 3600, 1200, 604_800, SOA_TTL].map(u32::to_be_bytes);
    let data = [owner, &contact, numbers.as_flattened()].concat().into();
    Rr { owner: owner.into(), rtype: rtype::SOA, class: class::IN, ttl: SOA_TTL, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        Records::parse([
            "lab.test. 300 IN SOA ns.lab.test. host.lab.test. 1 2 3 4 30",
            "www.lab.test. 60 IN A 192.0.2.1",
            "www.lab.test. 60 IN A 192.0.2.2",
            "www.lab.test. 60 IN A 192.0.2.2",
            "alias.lab.test. 60 IN CNAME www.lab.test.",
            "lost.lab.test. 60 IN CNAME gone.lab.test.",
            "out.lab.test. 60 IN CNAME www.elsewhere.",
            "deep.middle.lab.test. 60 IN TXT x",
            "round.lab.test. 60 IN CNAME round.lab.test.",
            "single.other. 60 IN A 192.0.2.3",
        ])
        .unwrap()
    }

    /// Code, answers, type and TTL of the authority; places to be followed.
    type Told = (u16, usize, Option<(u16, u32)>, usize);

    fn said(name: &str, rtype: u16) -> Option<Told> {
        let ask = Ask {
            name: text::read(name).unwrap(),
            rtype,
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
        };
        match records().say(&ask) {
            Said::Answer(message, follow) => {
                let authority = message.sections[1].first().map(|rr| (rr.rtype, rr.ttl));
                Some((message.code(), message.sections[0].len(), authority, follow.len()))
            }
            Said::Nothing => None,
            Said::Failure => panic!("records never fail"),
        }
    }

    #[test]
    fn names_have_what_is_written_and_nothing_else() {
        for (name, rtype, expected) in [
            ("www.lab.test.", 1, Some((0, 2, None, 0))),
            ("www.lab.test.", 255, Some((0, 2, None, 0))),
            ("www.lab.test.", 28, Some((0, 0, Some((6, 300)), 0))),
            ("alias.lab.test.", 1, Some((0, 3, None, 0))),
            ("alias.lab.test.", 5, Some((0, 1, None, 0))),
            ("alias.lab.test.", 28, Some((0, 1, Some((6, 300)), 0))),
            ("lost.lab.test.", 1, Some((3, 1, Some((6, 300)), 0))),
            ("out.lab.test.", 1, Some((0, 1, None, 1))),
            ("gone.lab.test.", 1, Some((3, 0, Some((6, 300)), 0))),
            ("middle.lab.test.", 1, Some((0, 0, Some((6, 300)), 0))),
            ("round.lab.test.", 1, Some((0, 1, None, 0))),
            ("single.other.", 28, Some((0, 0, Some((6, 60)), 0))),
            ("x.single.other.", 1, None),
            ("other.", 1, None),
            ("test.", 1, None),
        ] {
            assert_eq!(said(name, rtype), expected, "{name} {rtype}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for lines in [
            &["a.test. A 192.0.2.1", "a.test. CNAME b.test."][..],
            &["a.test. CNAME b.test.", "a.test. A 192.0.2.1"],
            &["a.test. A 192.0.2.1", "*.test. A 192.0.2.1"],
            &["a.test. A 192.0.2.1", "a.test. CH TXT x"],
            &["a.test. SOA a. b. 1 2 3 4 5", "a.test. SOA a. b. 2 2 3 4 5"],
            &["a.test. A 192.0.2.1", "a.test. TYPE255 \\# 0"],
        ] {
            assert_eq!(Records::parse(lines.iter().copied()).unwrap_err().word, Some(1), "{lines:?}");
        }
    }
}
