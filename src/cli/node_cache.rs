//! `sidestep node-cache`: serves by node-cache's flags, under its name too.
//!
//! Go's flags have long names behind one dash, which clap would take for several short ones. So they are recognised
//! before it sees them, in the three ways that they come: behind the command, behind the program name `node-cache`, and
//! bare, as the arguments of a container whose image is ours.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::config::node_cache::{Asked, is_flag, parse, usage};
use crate::config::{Flags, corefile_plugins};
use crate::serve::Ears;

/// The command, and the program name that stands for it.
const NAME: &str = "node-cache";

/// The arguments of node-cache, if these are for it; the first is the program's name.
pub(super) fn arguments(all: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = all.split_first()?;
    if Path::new(program).file_name().is_some_and(|name| name == NAME) {
        return Some(rest.to_vec());
    }
    let first = rest.first()?;
    if first == NAME {
        return Some(rest[1..].to_vec());
    }
    let text = |argument: &OsString| argument.to_str().map(str::to_owned).unwrap_or_default();
    let is_bare = text(first).starts_with('-') && rest.iter().any(|argument| is_flag(&text(argument)));
    is_bare.then(|| rest.to_vec())
}

/// The command line of `sidestep doctor` with node-cache's flags behind `--`, where clap expects them. The name
/// `node-cache` may stand before them, so that a DaemonSet's command can be pasted.
pub(super) fn behind_doctor(mut all: Vec<OsString>) -> Vec<OsString> {
    let text = |argument: &OsString| argument.to_str().map(str::to_owned).unwrap_or_default();
    if all.get(1).is_none_or(|command| command != "doctor") || all.iter().any(|argument| argument == "--") {
        return all;
    }
    let name = |argument: &OsString| Path::new(argument).file_name().is_some_and(|name| name == NAME);
    if let Some(first) = all.iter().position(|argument| name(argument) || is_flag(&text(argument))) {
        all.insert(first, "--".into());
    }
    all
}

/// What the flags say of a cache that is run by them, for those who look at it and do not run it.
///
/// # Errors
/// They make no sense, or ask for something else.
pub(super) fn flags(arguments: Vec<OsString>) -> Result<Flags, String> {
    let is_named =
        arguments.first().and_then(|first| Path::new(first).file_name()).is_some_and(|name| name == NAME);
    let asked = asked(arguments.into_iter().skip(usize::from(is_named)).collect());
    match asked.map_err(|wrong| format!("node-cache's flags: {wrong}"))? {
        Asked::Run(flags) | Asked::Check(flags) | Asked::Convert(flags) => Ok(*flags),
        Asked::Version | Asked::Plugins | Asked::Help => Err("node-cache's flags ask for a page".to_owned()),
    }
}

/// Does what the flags ask for.
pub(super) fn node_cache(arguments: Vec<OsString>, ears: Option<Ears>) -> ExitCode {
    match asked(arguments) {
        Ok(Asked::Run(flags)) => super::run(*flags, ears),
        Ok(Asked::Check(flags)) => super::check::check(*flags),
        Ok(Asked::Convert(flags)) => super::convert::print(&flags),
        Ok(Asked::Version) => super::print(version().as_bytes()),
        Ok(Asked::Plugins) => super::print(plugins().as_bytes()),
        Ok(Asked::Help) => super::print(usage().as_bytes()),
        Err(wrong) => refused(&wrong),
    }
}

fn asked(arguments: Vec<OsString>) -> Result<Asked, String> {
    let plain: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let plain = plain.map_err(|odd| format!("`{}` is not UTF-8", odd.display()))?;
    parse(plain).map_err(|wrong| wrong.to_string())
}

/// A command line that makes no sense.
fn refused(what: &str) -> ExitCode {
    super::complain(&format!("sidestep node-cache: {what}"));
    ExitCode::from(2)
}

/// Two lines, as CoreDNS prints them.
fn version() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("sidestep-{}\n{os}/{arch}\n", env!("CARGO_PKG_VERSION"))
}

/// As CoreDNS lists them.
fn plugins() -> String {
    let lines: String = corefile_plugins().map(|name| format!("  dns.{name}\n")).collect();
    format!("Server types:\n  dns\n\nOther plugins:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<String> {
        let all: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let arguments = arguments(&all)?;
        Some(arguments.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn node_caches_arguments_are_known_in_three_ways() {
        for (line, arguments) in [
            ("sidestep node-cache -localip ::1", "-localip ::1"),
            ("sidestep node-cache -h", "-h"),
            ("sidestep node-cache", ""),
            ("/node-cache --localip ::1", "--localip ::1"),
            ("node-cache", ""),
            ("sidestep -localip ::1", "-localip ::1"),
            ("sidestep --localip=::1", "--localip=::1"),
            ("sidestep --workers 1 --localip=::1", "--workers 1 --localip=::1"),
            ("sidestep -p 53 -localip ::1", "-p 53 -localip ::1"),
            ("sidestep -locallip ::1 -conf x", "-locallip ::1 -conf x"),
            ("sidestep -version", "-version"),
            ("sidestep -help", "-help"),
        ] {
            assert_eq!(found(line).as_deref(), Some(arguments), "{line}");
        }
    }

    #[test]
    fn the_doctor_is_given_them_behind_its_own() {
        for (line, expected) in [
            ("sidestep doctor -localip ::1 -conf x", "sidestep doctor -- -localip ::1 -conf x"),
            (
                "sidestep doctor --json /node-cache -localip ::1",
                "sidestep doctor --json -- /node-cache -localip ::1",
            ),
            ("sidestep doctor -- -localip ::1", "sidestep doctor -- -localip ::1"),
            ("sidestep doctor --json --config x", "sidestep doctor --json --config x"),
            ("sidestep teardown -localip ::1", "sidestep teardown -localip ::1"),
            ("sidestep", "sidestep"),
        ] {
            let all: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let expected: Vec<OsString> = expected.split(' ').map(OsString::from).collect();
            assert_eq!(behind_doctor(all), expected);
        }
    }

    #[test]
    fn our_own_arguments_stay_ours() {
        for line in [
            "sidestep",
            "sidestep -v",
            "sidestep -vv",
            "sidestep -h",
            "sidestep -V",
            "sidestep --help",
            "sidestep --version",
            "sidestep --config x --lenient -vv",
            "sidestep --workers 1 --cache-size 2MiB --log json --link lo --firewall none --teardown-on-exit",
            "sidestep run -vv",
            "sidestep check -localip",
            "sidestep teardown",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
