//! `health`, `ready` and `prometheus`: what is served over HTTP, and where.
//!
//! `health :8080` serves `/ready` beside `/health`. With two local addresses the add-on's line becomes
//! `health 169.254.20.10 10.96.0.10:8080`, and with an IPv6 one last `health 169.254.20.10 fd00::10:8080`. CoreDNS refuses
//! both; here each address is served, at the port behind the last colon.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::plugins::Context;
use super::words::{Words, body, duration, near, unknown, wrong};
use crate::config::address::{number, parse_endpoint};
use crate::config::problem::{Wrong, shown};
use crate::config::{HttpListener, HttpPath};
use crate::corefile::{Directive, Fault, Token};

/// CoreDNS's own addresses, where a line names none.
const HEALTH: &str = ":8080";
const READY: &str = ":8181";
const PROMETHEUS: &str = "localhost:9153";

/// `health [ADDRESS...] { lameduck DURATION }`
pub(super) fn health(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let paths = [HttpPath::Health, HttpPath::Ready];
    match line.arguments.split_last() {
        None => serve(line, HEALTH, &paths, context)?,
        Some((last, others)) => {
            let whole = read_last(last)?;
            for word in others {
                let address = match bare(&word.text) {
                    Some(ip) => SocketAddr::new(ip, whole.port()),
                    None => read(word)?,
                };
                add(address, word, &paths, context);
            }
            add(whole, last, &paths, context);
        }
    }
    for line in body(line) {
        if line.name.text != "lameduck" {
            return unknown(line, "health", &["lameduck"]);
        }
        let mut words = Words::of(line);
        duration(words.need("a duration")?)?;
        words.end()?;
        let what = "no lameduck is needed: queries that are under way are answered before the end";
        context.tell.note(line.at(), what);
    }
    Ok(())
}

/// The last address of `health`. Brackets may have come around all of them, or around none: as a port has to be there, it
/// is what stands behind the last colon.
fn read_last(word: &Token) -> Result<SocketAddr, Fault> {
    let parts = word.text.rsplit_once(':');
    let parts = parts.and_then(|(ip, port)| Some(SocketAddr::new(bare(ip)?, number(port)?)));
    parts.map_or_else(|| read(word), Ok)
}

/// An address alone, whichever of its brackets are there.
fn bare(text: &str) -> Option<IpAddr> {
    text.trim_matches(['[', ']']).parse().ok()
}

/// `ready [ADDRESS] [until-ready|continuously]`
pub(super) fn ready(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    const MODES: [&str; 2] = ["until-ready", "continuously"];
    let mut words = Words::of(line);
    let mut address = words.next();
    let mut mode = words.next();
    if address.is_some_and(|word| MODES.contains(&word.text.as_str())) {
        mode = address.take();
    }
    match address {
        None => serve(line, READY, &[HttpPath::Ready], context)?,
        Some(word) => add(read(word)?, word, &[HttpPath::Ready], context),
    }
    if let Some(word) = mode {
        if !MODES.contains(&word.text.as_str()) {
            return Err(near(word, format!("unknown way to be ready `{}`", shown(&word.text)), &MODES));
        }
        if word.text == MODES[1] {
            let hint = "leave the word out: once every zone was answered, it is ready";
            context.tell.vain(&word.at, "readiness is not looked at continuously", hint)?;
        }
    }
    words.end()
}

/// `prometheus [ADDRESS]`
pub(super) fn prometheus(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    match words.next() {
        None => serve(line, PROMETHEUS, &[HttpPath::Metrics], context)?,
        Some(word) => add(read(word)?, word, &[HttpPath::Metrics], context),
    }
    words.end_of_line()?;
    for line in body(line) {
        match line.name.text.as_str() {
            "runtime_metrics" => context.tell.note(line.at(), "there is no Go runtime to tell of"),
            "tls" => context.tell.vain(
                line.at(),
                "metrics are served unencrypted",
                "leave `tls` out, and let a proxy on the node encrypt them",
            )?,
            _ => return unknown(line, "prometheus", &["runtime_metrics", "tls"]),
        }
    }
    Ok(())
}

fn serve(
    line: &Directive,
    address: &str,
    paths: &[HttpPath],
    context: &mut Context<'_>,
) -> Result<(), Fault> {
    let word = Token { text: address.to_owned(), ..line.name.clone() };
    add(read(&word)?, &word, paths, context);
    Ok(())
}

/// `ADDRESS:PORT`, `:PORT`, `localhost:PORT`
fn read(word: &Token) -> Result<SocketAddr, Fault> {
    let host = word.text.strip_prefix("localhost");
    let loopback = host.and_then(|port| parse_endpoint(port).ok());
    if let Some(address) = loopback {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()));
    }
    parse_endpoint(&word.text).map_err(|_| {
        let what = format!("`{}` is no address and port", shown(&word.text));
        wrong(word, Wrong::new(what, "write it like 169.254.20.10:8080, [fd00::10]:8080 or :8080"))
    })
}

fn add(address: SocketAddr, word: &Token, paths: &[HttpPath], context: &mut Context<'_>) {
    context.whole.place_of("http.serve", address, &word.at);
    HttpListener::add(&mut context.whole.config.http, address, paths);
}
