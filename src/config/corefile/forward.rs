//! `forward FROM TO...`: who is asked for what, and how.
//!
//! Names are for the first `forward` of their block that takes them: below its FROM and below none of its `except`. That
//! holds for names that `rewrite` makes, too: a zone's `by_name`.
//!
//! # What differs
//!
//! - Upstreams are asked over UDP unless `force_tcp` says otherwise; which way a client came makes no difference.
//! - Where no `policy` is given, whoever has the fewest open questions of ours is asked, not anybody.
//! - Without `failover`, SERVFAIL, REFUSED, NOTIMP and FORMERR are not given to a client before every upstream was asked.
//! - `health_check` says how often an upstream that is out is tried; the query that tries it is a client's.
//! - Who is asked for a name that `rewrite` made is asked in the manner of the zone's own `forward`, whatever options his
//!   has, and without its `next`.
//! - Upstreams are asked unencrypted: `tls://` is an error, and over TCP at port 53 for the lenient.

use std::path::Path;

use super::plugins::Context;
use super::tell::Teller;
use super::words::{Words, body, duration, near, number, parse, refused, unknown, zones};
use crate::config::UPSTREAMS;
use crate::config::address::parse_server;
use crate::config::by_name::WrittenByName;
use crate::config::name::ZoneName;
use crate::config::next::WrittenNext;
use crate::config::problem::shown;
use crate::config::target::WrittenTarget;
use crate::corefile::{Directive, Fault, Token};
use crate::local::text;
use crate::upstream::{self, Asking, Policy, Transport, asking, health};

/// Upstreams of one `forward`, as CoreDNS counts them.
const TO: usize = 15;

const OPTIONS: [&str; 20] = [
    "except",
    "force_tcp",
    "prefer_udp",
    "expire",
    "max_fails",
    "max_connect_attempts",
    "tls",
    "tls_servername",
    "policy",
    "health_check",
    "max_concurrent",
    "next",
    "next_on_nodata",
    "failover",
    "failfast_all_unhealthy_upstreams",
    "max_idle_conns",
    "max_age",
    "read_timeout",
    "resolver",
    "doh_method",
];

/// What one `forward` says.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    /// Where it stands.
    pub at: Token,
    /// The names that it takes.
    pub from: ZoneName,
    /// Those of them that it does not.
    pub except: Vec<ZoneName>,
    /// Whom to ask.
    pub upstreams: Vec<WrittenTarget>,
    /// By UDP or TCP.
    pub transport: Transport,
    /// How they are asked.
    pub asking: Asking,
    /// The response codes for which the block's next `forward` is asked; NOERROR is an answer without data.
    pub next: Vec<u8>,
    /// Where that is said.
    next_at: Option<Token>,
}

impl Forward {
    fn goes_on(&mut self, line: &Directive, codes: &[u8]) {
        self.next_at.get_or_insert_with(|| line.name.clone());
        self.next.extend(codes);
        self.next.sort_unstable();
        self.next.dedup();
    }

    /// Whom to ask when one before it said one of these codes.
    pub fn as_next(&self, on: &[u8]) -> WrittenNext {
        let upstreams = self.upstreams.iter().map(|target| target.over(self.transport)).collect();
        WrittenNext { on: on.to_vec(), upstreams }
    }

    /// Whom to ask for names that a rule made; nobody if the zone asks him anyway.
    pub fn by_name(&self, is_own: bool) -> WrittenByName {
        let texts = |names: &[ZoneName]| names.iter().map(|name| name.text().to_owned()).collect();
        // Where there is a service there is somebody else, who finds out what its name stands for.
        let only_services = self.upstreams.iter().all(WrittenTarget::is_service);
        let servers = self.upstreams.iter().filter(|t| !is_own && (only_services || !t.is_service()));
        WrittenByName {
            names: vec![self.from.text().to_owned()],
            except: texts(&self.except),
            upstreams: servers.map(|target| target.over(self.transport)).collect(),
        }
    }

    /// Whether it takes names that lie in `within` and in no zone longer than those that were named.
    pub fn takes(&self, within: impl Fn(&ZoneName) -> bool) -> bool {
        within(&self.from) && !self.except.iter().any(within)
    }
}

/// Reads the directive.
pub(super) fn read(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let from = words.need("the names that it is for, such as `.`")?;
    if is_server(from) {
        from_is_server(line, from, context)?;
    }
    let mut names = zones([from])?;
    if names.len() > 1 {
        let what = format!("`{}` is several reverse zones", shown(&from.text));
        return Err(Fault::new(from.at.clone(), what, "write a `forward` for each of them"));
    }
    let Some(name) = names.pop() else { return Ok(()) };
    let to = words.some("the servers to ask")?;
    if to.len() > TO {
        let what = format!("{} servers are too many", to.len());
        return Err(Fault::new(to[TO].at.clone(), what, format!("give {TO} at most")));
    }
    let mut forward = Forward {
        at: line.name.clone(),
        from: name,
        except: Vec::new(),
        upstreams: Vec::new(),
        transport: Transport::Udp,
        asking: Asking::default(),
        next: Vec::new(),
        next_at: None,
    };
    for word in to {
        add(word, &mut forward.upstreams, context)?;
    }
    for line in body(line) {
        option(line, &mut forward, context)?;
    }
    context.said.forwards.push(forward);
    Ok(())
}

/// Whether a word that stands in the place of FROM is what people write as TO.
fn is_server(from: &Token) -> bool {
    let plain = from.text.strip_prefix("dns://").unwrap_or(&from.text);
    parse_server(plain).is_ok() || from.text.starts_with('/')
}

/// Tells whoever leaves FROM out. CoreDNS takes the first server for a name, and asks nobody for others.
fn from_is_server(line: &Directive, from: &Token, context: &mut Context<'_>) -> Result<(), Fault> {
    let to: Vec<&str> = line.arguments.iter().map(|word| word.text.as_str()).collect();
    let hint = format!("write the names first, all of them are `.`: `forward . {}`", shown(&to.join(" ")));
    let what = format!(
        "`{}` stands where FROM does, the names to ask for, before TO, the servers",
        shown(&from.text)
    );
    if to.len() > 1 && zones([from]).is_ok() {
        return context.tell.vain(&from.at, what, &hint);
    }
    Err(Fault::new(from.at.clone(), what, hint))
}

/// An upstream, unless it is there already.
fn add(word: &Token, upstreams: &mut Vec<WrittenTarget>, context: &mut Context<'_>) -> Result<(), Fault> {
    let target = target(word, context)?;
    if upstreams.contains(&target) {
        context.tell.note(&word.at, format!("`{}` is given twice", shown(&word.text)));
    } else if upstreams.len() < UPSTREAMS.max {
        upstreams.push(target);
    }
    Ok(())
}

fn target(word: &Token, context: &mut Context<'_>) -> Result<WrittenTarget, Fault> {
    let text = word.text.as_str();
    let (scheme, rest) = text.split_once("://").unwrap_or(("dns", text));
    let plain = Token { text: rest.to_owned(), ..word.clone() };
    match scheme {
        "dns" if is_file(rest) => Ok(WrittenTarget::resolv_conf(rest)),
        "dns" if OPTIONS.contains(&rest) => {
            let what = format!("`{rest}` is an option, and stands where a server does");
            Err(Fault::new(
                word.at.clone(),
                what,
                "write `{` at the end of the line, and the option below it",
            ))
        }
        "dns" => parse(&plain),
        "tls" | "https" | "quic" | "grpc" => {
            let what = format!("`{}`: upstreams are asked unencrypted", shown(text));
            let hint = "write the address alone, or let a forwarder on the node that does encrypt be asked";
            context.tell.vain(&word.at, what, hint)?;
            let host = rest.split(['%', '/']).next().unwrap_or_default();
            let address: WrittenTarget = parse(&Token { text: host.to_owned(), ..word.clone() })?;
            Ok(address.over(Transport::Tcp))
        }
        "svc" => parse(word),
        _ => {
            let what = format!("`{}` has an unknown scheme", shown(text));
            Err(Fault::new(word.at.clone(), what, "write an address, dns://ADDRESS, or a resolv.conf's path"))
        }
    }
}

/// Whether this is a path: it has a slash, or is no address and there is such a file.
fn is_file(text: &str) -> bool {
    text.contains('/') || (text.parse::<WrittenTarget>().is_err() && Path::new(text).is_file())
}

fn option(line: &Directive, forward: &mut Forward, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let asked = &mut forward.asking;
    match line.name.text.as_str() {
        "except" => forward.except.extend(zones(words.some("names")?)?),
        // Both may be written: then TCP it is.
        "force_tcp" => forward.transport = Transport::Tcp,
        "prefer_udp" => {}
        "next_on_nodata" => forward.goes_on(line, &[0]),
        "policy" => asked.policy = policy(words.need("a policy")?)?,
        "next" | "failover" => codes(line, &mut words, forward)?,
        "failfast_all_unhealthy_upstreams" => asked.fail_fast = true,
        "max_fails" | "max_connect_attempts" | "max_concurrent" | "max_idle_conns" => {
            count(line, words.need("a number")?, asked, context)?;
        }
        "expire" | "max_age" | "read_timeout" => time(line, words.need("a duration")?, asked, context)?,
        "health_check" => health_check(&mut words, asked, context)?,
        "tls" | "tls_servername" | "resolver" | "doh_method" => {
            let _ = words.rest();
            in_vain(line, context)?;
        }
        _ => return unknown(line, "forward", &OPTIONS),
    }
    words.end()
}

fn in_vain(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let name = line.name.text.as_str();
    let (what, hint) = match name {
        "resolver" => ("host names of upstreams are not looked up", "leave it out, and write addresses"),
        _ => ("upstreams are asked unencrypted", "leave it out"),
    };
    context.tell.vain(line.at(), format!("`{name}`: {what}"), hint)
}

fn policy(word: &Token) -> Result<Policy, Fault> {
    match word.text.as_str() {
        "random" => Ok(Policy::Random),
        "round_robin" => Ok(Policy::RoundRobin),
        "sequential" => Ok(Policy::Ordered),
        text => {
            let known = ["random", "round_robin", "sequential"];
            Err(near(word, format!("unknown policy `{}`", shown(text)), &known))
        }
    }
}

/// `next RCODE...`, `failover RCODE...`
fn codes(line: &Directive, words: &mut Words<'_>, forward: &mut Forward) -> Result<(), Fault> {
    let mut codes = Vec::new();
    for word in words.some("response codes, such as NXDOMAIN")? {
        let code = text::response_code(&word.text.to_ascii_uppercase()).map_err(|r| refused(word, &[], r))?;
        if !(1..=10).contains(&code) {
            let what = format!("`{}` is no failure to go on from", shown(&word.text));
            return Err(Fault::new(word.at.clone(), what, "give codes from FORMERR to NOTZONE"));
        }
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if line.name.text == "next" {
        forward.goes_on(line, &codes);
    } else {
        forward.asking.failover = codes;
    }
    Ok(())
}

fn count(line: &Directive, word: &Token, asked: &mut Asking, context: &mut Context<'_>) -> Result<(), Fault> {
    let value: u32 = number(word)?;
    match line.name.text.as_str() {
        "max_fails" => {
            asked.terms.max_fails = context.tell.bounded(word, value, health::FAILURES, |n| n.to_string())?;
        }
        // 0 is any number of them.
        "max_connect_attempts" if value == 0 => {}
        "max_connect_attempts" => {
            let tries = value as usize;
            let most = upstream::TRIES.max;
            if tries > most {
                let what = format!("a query is sent {most} times at most, however many attempts it may have");
                context.tell.note(&word.at, what);
            }
            asked.tries = tries.min(most);
        }
        "max_concurrent" => {
            let limit = asking::MAX_CONCURRENT;
            asked.max_concurrent = context.tell.bounded(word, value as usize, limit, |n| n.to_string())?;
        }
        _ => {
            let what =
                "queries share connections, so few of them are idle: their number is upstream.connections";
            context.tell.note(line.at(), what);
        }
    }
    Ok(())
}

fn time(line: &Directive, word: &Token, asked: &mut Asking, context: &mut Context<'_>) -> Result<(), Fault> {
    let time = duration(word)?;
    let terms = &mut asked.terms;
    match line.name.text.as_str() {
        "expire" => terms.idle = Some(context.tell.time(word, time, upstream::IDLE)?),
        // 0 is no end there: ours is what `upstream.max_age` says.
        "max_age" if time.is_zero() => {}
        "max_age" => terms.max_age = Some(context.tell.time(word, time, upstream::MAX_AGE)?),
        _ => terms.try_timeout = Some(context.tell.time(word, time, upstream::TRY)?),
    }
    Ok(())
}

/// `DURATION [no_rec] [domain NAME]`
fn health_check(words: &mut Words<'_>, asked: &mut Asking, context: &mut Context<'_>) -> Result<(), Fault> {
    let word = words.need("a duration")?;
    let time = duration(word)?;
    if time.is_zero() {
        context.tell.note(&word.at, "an upstream that is out is tried all the same, with a client's query");
    } else {
        asked.terms.probe_every = Some(context.tell.time(word, time, health::PROBE_EVERY)?);
    }
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "no_rec" => {}
            "domain" => drop(zones([words.need("a name")?])?),
            text => {
                let what = format!("unknown option `{}` of `health_check`", shown(text));
                return Err(near(word, what, &["no_rec", "domain"]));
            }
        }
        let what = "an upstream that is out is tried with a client's query: there is no other to describe";
        context.tell.note(&word.at, what);
    }
    Ok(())
}

/// Tells of a `next` that means nothing, or less than one could think.
pub(super) fn check_next(forwards: &[Forward], tell: &mut Teller) {
    for (i, forward) in forwards.iter().enumerate() {
        let Some(word) = &forward.next_at else { continue };
        match forwards.get(i + 1) {
            None => tell.note(&word.at, "there is no next `forward` in this block, so `next` means nothing"),
            Some(next) if next.asking != forward.asking => {
                tell.note(&next.at.at, "how its servers are asked is what the `forward` before it says");
            }
            Some(_) => {}
        }
    }
}
