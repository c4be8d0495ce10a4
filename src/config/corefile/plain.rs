//! Plugins that need nothing from us: what they ask for is done anyway, or there is nothing to do it to.

use super::plugins::Context;
use super::words::{Words, body, duration, near, unknown};
use crate::config::problem::shown;
use crate::corefile::{Directive, Fault};

/// `errors [stdout] { consolidate DURATION PATTERN [LEVEL] [show_first]; stacktrace }`
pub(super) fn errors(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    if let Some(word) = words.next().filter(|word| !matches!(word.text.as_str(), "stdout" | "stderr")) {
        let what = format!("`{}` is nowhere that errors could go", shown(&word.text));
        return Err(Fault::new(word.at.clone(), what, "leave it out: they go to standard error"));
    }
    words.end_of_line()?;
    for line in body(line) {
        let mut words = Words::of(line);
        match line.name.text.as_str() {
            "consolidate" => {
                duration(words.need("a duration")?)?;
                words.need("a pattern")?;
                for word in words.rest() {
                    let known = ["warning", "error", "info", "debug", "show_first"];
                    if !known.contains(&word.text.as_str()) {
                        let what = format!("unknown option `{}` of `consolidate`", shown(&word.text));
                        return Err(near(word, what, &known));
                    }
                }
                let what =
                    "failed queries are counted, not logged one by one: there is nothing to consolidate";
                context.tell.note(line.at(), what);
            }
            "stacktrace" => context.tell.note(line.at(), "there are no stack traces of queries"),
            _ => return unknown(line, "errors", &["consolidate", "stacktrace"]),
        }
        words.end()?;
    }
    Ok(())
}

/// `loop`: upstreams are tried for one always, and those that are in one are left out instead of an end.
pub(super) fn looped(line: &Directive, _: &mut Context<'_>) -> Result<(), Fault> {
    Words::of(line).end()
}

/// `reload [INTERVAL [JITTER]]`: files are watched in any case, and read again as soon as they change.
pub(super) fn reload(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    for _ in 0..2 {
        if let Some(word) = words.next().filter(|word| word.text != "off") {
            duration(word)?;
            context.tell.note(&word.at, "files are read again as soon as they change: there is no interval");
        }
    }
    words.end()
}

/// What has a meaning to CoreDNS's own making alone. Its words are not looked at.
pub(super) fn told(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let name = line.name.text.as_str();
    let what = match name {
        "debug" => "`debug` has no meaning here: -v says more",
        "pprof" => "`pprof` has no meaning here: there is no Go runtime to look into",
        "trace" => "`trace`: queries are not traced",
        "dnstap" => "`dnstap`: queries are not mirrored",
        "metadata" => "`metadata` has no meaning here: nothing reads it",
        "whoami" => {
            "`whoami`: nobody is told his own address; names that nobody else answers for end in SERVFAIL"
        }
        _ => "this has no meaning here",
    };
    context.tell.note(line.at(), what);
    Ok(())
}
