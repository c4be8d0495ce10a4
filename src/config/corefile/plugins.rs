//! Which plugin is read by whom.

use super::block::{Said, Whole};
use super::tell::Teller;
use super::words::near;
use super::{cache, foreign, forward, local, log, pages, plain, server};
use crate::config::name::ZoneName;
use crate::config::problem::shown;
use crate::corefile::{Directive, Fault, Token};

/// What a plugin's line is read into.
pub(super) struct Context<'c> {
    /// The zones of the block's keys.
    pub zones: &'c [ZoneName],
    /// The block.
    pub said: &'c mut Said,
    /// What holds for all blocks.
    pub whole: &'c mut Whole,
    /// Who is told.
    pub tell: &'c mut Teller,
}

/// Reads a plugin's line.
type Read = fn(&Directive, &mut Context<'_>) -> Result<(), Fault>;

/// How often a plugin may stand in a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Any,
}

use Times::{Any, Once};

/// Every plugin of node-cache.
const PLUGINS: [(&str, Times, Read); 23] = [
    ("bind", Any, server::bind),
    ("bufsize", Any, server::bufsize),
    ("cache", Once, cache::read),
    ("debug", Any, plain::told),
    ("dns64", Any, local::dns64),
    ("dnstap", Any, plain::told),
    ("errors", Once, plain::errors),
    ("forward", Any, forward::read),
    ("health", Any, pages::health),
    ("hosts", Once, local::hosts),
    ("loadbalance", Any, server::loadbalance),
    ("log", Any, log::read),
    ("loop", Once, plain::looped),
    ("metadata", Any, plain::told),
    ("pprof", Any, plain::told),
    ("prometheus", Once, pages::prometheus),
    ("ready", Once, pages::ready),
    ("reload", Once, plain::reload),
    ("rewrite", Any, local::rewrite),
    ("template", Any, local::template),
    ("timeouts", Any, server::timeouts),
    ("trace", Any, plain::told),
    ("whoami", Any, plain::told),
];

/// The names of the plugins that a Corefile may have, in the order of the alphabet.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, ..)| *name)
}

/// Reads the lines of a block.
pub(super) fn read(lines: &[Directive], context: &mut Context<'_>) -> Result<(), Fault> {
    let mut seen: Vec<&Token> = Vec::new();
    for line in lines {
        let name = line.name.text.as_str();
        if let Some(&(_, times, read)) = PLUGINS.iter().find(|(known, ..)| *known == name) {
            let first = seen.iter().find(|other| other.text == name).filter(|_| times == Once);
            if let Some(first) = first {
                let what = format!("`{name}` stands in this block a second time, after {}", first.at);
                return Err(Fault::new(line.at().clone(), what, "make one of the two"));
            }
            seen.push(&line.name);
            read(line, context)?;
        } else if let Some(&plugin) = foreign::PLUGINS.iter().find(|(known, ..)| *known == name) {
            foreign::read(line, plugin, context)?;
        } else {
            let known: Vec<&str> = names().collect();
            return Err(near(&line.name, format!("unknown plugin `{}`", shown(name)), &known));
        }
    }
    Ok(())
}
