//! What a block says of how it speaks with clients: `bind`, `loadbalance`, `bufsize`, `timeouts`.

use super::plugins::Context;
use super::words::{Words, body, duration, near, number, seconds, unknown, wrong};
use crate::config::problem::{Wrong, shown};
use crate::corefile::{Directive, Fault, Token};
use crate::listen;
use std::net::IpAddr;
use std::time::Duration;

/// What `timeouts` takes.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(86_400)];

/// `bind ADDRESS... { except ADDRESS... }`
pub(super) fn bind(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut found = Vec::new();
    for word in Words::of(line).some("an address")? {
        found.push((address(line, word)?, word.at.clone()));
    }
    for line in body(line) {
        if line.name.text != "except" {
            return unknown(line, "bind", &["except"]);
        }
        for word in Words::of(line).some("an address")? {
            let except = address(line, word)?;
            found.retain(|(address, _)| *address != except);
        }
    }
    let bind = context.said.bind.get_or_insert_default();
    for (address, at) in found {
        if bind.iter().all(|(other, _)| *other != address) {
            bind.push((address, at));
        }
    }
    Ok(())
}

/// A word of `line` that has to be an address.
fn address(line: &Directive, word: &Token) -> Result<IpAddr, Fault> {
    word.text.parse().map_err(|_| {
        let plain = bare(&word.text);
        if plain.parse::<IpAddr>().is_err() {
            let what = format!("`{}` is no IP address", shown(&word.text));
            let hint = "write addresses; an interface's too: `ip addr` shows them";
            return wrong(word, Wrong::new(what, hint));
        }
        let what = format!("`{}` is more than an IP address", shown(&word.text));
        let words: Vec<&str> = line.arguments.iter().map(|word| bare(&word.text)).collect();
        let right = format!("{} {}", line.name.text, words.join(" "));
        let hint =
            format!("write it without brackets, and a port behind the block's key: `{}`", shown(&right));
        wrong(word, Wrong::new(what, hint))
    })
}

/// What is left of an address without its brackets and port.
fn bare(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match (inner, text.split_once(':')) {
        (Some((address, _)), _) => address,
        (None, Some((address, port))) if !port.contains(':') => address,
        _ => text,
    }
}

/// `loadbalance [round_robin]`
pub(super) fn loadbalance(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    context.said.rotate = true;
    if let Some(word) = words.next() {
        match word.text.as_str() {
            "round_robin" => {}
            "weighted" => {
                words.need("a file with weights")?;
                let hint = "leave it out: each address is first as often as the others";
                return context.tell.vain(&word.at, "addresses have no weights", hint);
            }
            text => {
                let what = format!("unknown policy `{}`", shown(text));
                return Err(near(word, what, &["round_robin", "weighted"]));
            }
        }
    }
    words.end_of_line()?;
    for line in body(line) {
        if line.name.text != "prefer" {
            return unknown(line, "loadbalance", &["prefer"]);
        }
        let hint = "leave it out: each address is first as often as the others";
        context.tell.vain(line.at(), "no addresses are preferred", hint)?;
    }
    Ok(())
}

/// `bufsize [SIZE]`. It holds for all blocks: the smallest of them.
pub(super) fn bufsize(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    let limit = listen::UDP_SIZE;
    let size = match words.next() {
        None => limit.default,
        Some(word) => number(word).ok().filter(|size| limit.contains(*size)).ok_or_else(|| {
            let what = format!("`{}` is no size of a datagram", shown(&word.text));
            Fault::new(word.at.clone(), what, format!("give {} to {}", limit.min, limit.max))
        })?,
    };
    words.end()?;
    let whole = &mut context.whole;
    if whole.udp_size.is_some_and(|other| other != size) {
        let what = "blocks differ in `bufsize`: the smallest holds for all of them";
        context.tell.note(line.at(), what);
    }
    whole.udp_size = Some(whole.udp_size.map_or(size, |other| other.min(size)));
    Ok(())
}

/// `timeouts { read DURATION; write DURATION; idle DURATION }`. `idle` holds for all blocks: the longest of them.
pub(super) fn timeouts(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    Words::of(line).end_of_line()?;
    for line in body(line) {
        let mut words = Words::of(line);
        let word = words.need("a duration")?;
        let bare = word.text.bytes().all(|b| b.is_ascii_digit());
        let time = if bare { seconds(word)? } else { duration(word)? };
        words.end()?;
        if time < TIMEOUTS[0] || time > TIMEOUTS[1] {
            let what = format!("`{}` is out of bounds", shown(&word.text));
            return Err(Fault::new(word.at.clone(), what, "give 1s to 24h"));
        }
        match line.name.text.as_str() {
            "idle" => {
                let time = context.tell.time(word, time, listen::TCP_IDLE)?;
                let idle = &mut context.whole.tcp_idle;
                if idle.is_some_and(|other| other != time) {
                    let what = "blocks differ in `timeouts idle`: the longest holds for all of them";
                    context.tell.note(line.at(), what);
                }
                *idle = Some(idle.map_or(time, |other| other.max(time)));
            }
            "read" | "write" => context.tell.note(
                line.at(),
                "only `idle` matters: a client that neither asks nor reads for so long is closed",
            ),
            _ => return unknown(line, "timeouts", &["read", "write", "idle"]),
        }
    }
    Ok(())
}
