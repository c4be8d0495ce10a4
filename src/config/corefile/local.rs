//! `hosts`, `rewrite`, `template` and `dns64`: what is answered without asking, or asked differently.
//!
//! The rules themselves are [`crate::local`]'s, with what differs. A block's rules hold in each zone that it becomes.

use std::net::IpAddr;
use std::path::PathBuf;

use super::plugins::Context;
use super::words::{Words, body, duration, number, refused, unknown, zones};
use crate::config::name::ZoneName;
use crate::config::problem::shown;
use crate::corefile::{Directive, Fault, Token};
use crate::local::hosts::{HOSTS_RELOAD, HOSTS_TTL};
use crate::local::{
    Dns64, Hosts, Pattern, Prefix, Refused, Rendering, Rewrite, Table, Template, Zones, text,
};

/// The file that `hosts` reads where it names none.
const HOSTS: &str = "/etc/hosts";

/// `hosts [FILE [ZONES...]] { ADDRESS NAMES...; ttl; no_reverse; reload; fallthrough [ZONES...] }`
pub(super) fn hosts(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let file = match words.next() {
        Some(word) if word.text.is_empty() => {
            let hint = format!("write its path, or nothing for {HOSTS}");
            return Err(Fault::new(word.at.clone(), "a file without a name", hint));
        }
        Some(word) => word.text.as_str(),
        None => HOSTS,
    };
    let named = zones(words.rest())?;
    let mut hosts = Hosts::new(of(&named, context.zones));
    hosts.file = Some(PathBuf::from(file));
    let mut inline = String::new();
    for line in body(line) {
        let mut words = Words::of(line);
        match line.name.text.as_str() {
            "ttl" => {
                let word = words.need("seconds")?;
                let ttl = number(word).ok().filter(|ttl| HOSTS_TTL.contains(*ttl));
                let what = format!("`{}` is no TTL", shown(&word.text));
                let hint = format!("give {} to {}", HOSTS_TTL.min, HOSTS_TTL.max);
                hosts.ttl = ttl.ok_or_else(|| Fault::new(word.at.clone(), what, hint))?;
            }
            "no_reverse" => hosts.reverse = false,
            "reload" => {
                let word = words.need("a duration")?;
                hosts.reload = context.tell.time(word, duration(word)?, HOSTS_RELOAD)?;
            }
            "fallthrough" => hosts.fallthrough = fallthrough(&mut words)?,
            _ => {
                entry(line, &mut inline)?;
                words.rest();
            }
        }
        words.end()?;
    }
    hosts.inline = Table::parse(&inline);
    context.said.local.hosts = Some(hosts);
    Ok(())
}

/// A line of hosts entries.
fn entry(line: &Directive, inline: &mut String) -> Result<(), Fault> {
    let address = line.name.text.split('%').next().unwrap_or_default();
    if address.parse::<IpAddr>().is_err() {
        if let Some(other) = line.arguments.iter().find(|word| word.text.parse::<IpAddr>().is_ok()) {
            let what = format!("`{}` stands where an entry has its address", shown(&line.name.text));
            let hint = format!("write the address first: {} {}", other.text, shown(&line.name.text));
            return Err(Fault::new(line.at().clone(), what, hint));
        }
        return unknown(line, "hosts", &["ttl", "no_reverse", "reload", "fallthrough"]);
    }
    inline.push_str(address);
    for word in Words::of(line).some("a name")? {
        text::name(&word.text).map_err(|r| refused(word, &[], r))?;
        inline.push(' ');
        inline.push_str(&word.text);
    }
    inline.push('\n');
    Ok(())
}

/// The names that follow `fallthrough`; without any, all.
fn fallthrough(words: &mut Words<'_>) -> Result<Zones, Fault> {
    let named = zones(words.rest())?;
    Ok(of(&named, &[ZoneName::root()]))
}

/// Zones that were named, or else those of the block.
fn of(named: &[ZoneName], block: &[ZoneName]) -> Zones {
    let zones = if named.is_empty() { block } else { named };
    Zones::from_wire(zones.iter().map(|zone| zone.wire().into()))
}

/// `rewrite [continue|stop] KIND ...`; the words may stand in a block.
pub(super) fn rewrite(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words: Vec<&Token> = line.arguments.iter().collect();
    for line in body(line) {
        words.push(&line.name);
        words.extend(&line.arguments);
    }
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    match Rewrite::from_words(&texts) {
        Ok(rule) => context.said.local.rewrites.push(rule),
        Err(reason) if texts.iter().take(2).any(|word| word.eq_ignore_ascii_case("edns0")) => {
            let Fault { at, what, hint } = refused(&line.name, &words, reason);
            context.tell.vain(&at, what, &hint)?;
        }
        Err(reason) => return Err(refused(&line.name, &words, reason)),
    }
    Ok(())
}

/// `template CLASS TYPE [ZONES...] { match; answer; authority; additional; rcode; ederror; fallthrough }`
pub(super) fn template(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let class = read(words.need("a class, such as IN or ANY")?, text::record_class)?;
    let rtype = read(words.need("a type, such as A or ANY")?, text::record_type)?;
    let named = zones(words.rest())?;
    let mut template = Template::new(class, rtype, of(&named, context.zones));
    for line in body(line) {
        template_option(line, &mut template)?;
    }
    template.check().map_err(|r| refused(&line.name, &[], r))?;
    context.said.local.templates.push(template);
    Ok(())
}

fn template_option(line: &Directive, template: &mut Template) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let [answers, authority, additional] = &mut template.sections;
    match line.name.text.as_str() {
        "match" => {
            for word in words.some("a pattern")? {
                template.patterns.push(read(word, Pattern::new)?);
            }
        }
        "answer" => renderings(&mut words, answers)?,
        "authority" => renderings(&mut words, authority)?,
        "additional" => renderings(&mut words, additional)?,
        "rcode" => template.rcode = read(words.need("a response code")?, text::response_code)?,
        "ederror" => {
            let code = number(words.need("the number of an extended error")?)?;
            template.error = Some((code, words.next().map(|word| word.text.clone()).unwrap_or_default()));
        }
        "fallthrough" => template.fallthrough = fallthrough(&mut words)?,
        // It meant something once, and is let pass there.
        "upstream" => drop(words.rest()),
        _ => {
            let known = ["match", "answer", "authority", "additional", "rcode", "ederror", "fallthrough"];
            return unknown(line, "template", &known);
        }
    }
    words.end()
}

fn renderings(words: &mut Words<'_>, section: &mut Vec<Rendering>) -> Result<(), Fault> {
    for word in words.some("a record")? {
        section.push(read(word, Rendering::new)?);
    }
    Ok(())
}

/// A word that one of the stage's own functions reads.
fn read<T>(word: &Token, how: fn(&str) -> Result<T, Refused>) -> Result<T, Fault> {
    how(&word.text).map_err(|r| refused(word, &[], r))
}

/// `dns64 [PREFIX]`, `dns64 { prefix PREFIX; translate_all; allow_ipv4 }`
pub(super) fn dns64(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let mut dns64 = Dns64::default();
    if let Some(word) = words.next() {
        dns64.prefix = read(word, Prefix::parse)?;
    }
    words.end_of_line()?;
    for line in body(line) {
        let mut words = Words::of(line);
        match line.name.text.as_str() {
            "prefix" => dns64.prefix = read(words.need("a prefix")?, Prefix::parse)?,
            "translate_all" => dns64.translate_all = true,
            "allow_ipv4" => dns64.allow_ipv4 = true,
            _ => return unknown(line, "dns64", &["prefix", "translate_all", "allow_ipv4"]),
        }
        words.end()?;
    }
    context.said.local.dns64 = Some(dns64);
    context.said.dns64_at = Some(line.name.clone());
    Ok(())
}
