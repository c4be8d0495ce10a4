//! docs/corefile.md says of every plugin and option what the program does with it; both are held against each other here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

const PAGE: &str = include_str!("../docs/corefile.md");

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing is said.
    Silent,
    /// A note, without being asked to be lenient.
    Note,
    /// An error, but a warning for the lenient.
    Lenient,
    /// An error.
    Refused,
}

/// Exit code and complaints of `sidestep check` for a block that holds `line` and, unless it is one itself, a `forward`.
fn check(line: &str, lenient: bool) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Corefile");
    let forward = if line.starts_with("forward") { "" } else { "    forward . 192.0.2.1\n" };
    fs::write(&path, format!(". {{\n    {line}\n{forward}}}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    command.arg("check").arg(&path).args(lenient.then_some("--lenient")).stdin(Stdio::null());
    let out = command.output().unwrap();
    (out.status.success(), String::from_utf8(out.stderr).unwrap())
}

fn fate(line: &str) -> Fate {
    match (check(line, false), check(line, true)) {
        ((true, said), _) if said.is_empty() => Fate::Silent,
        ((true, _), _) => Fate::Note,
        (_, (true, _)) => Fate::Lenient,
        _ => Fate::Refused,
    }
}

/// The part of the page below a heading.
fn section(heading: &str) -> &'static str {
    let start = PAGE.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &PAGE[start + heading.len() + 2..];
    rest.find("\n#").map_or(rest, |end| &rest[..end])
}

/// The rows of its table: a name, and what the page says of it.
fn rows(heading: &str) -> BTreeMap<&'static str, &'static str> {
    let cells = |line: &'static str| line.split('|').map(str::trim).skip(1).take(2).collect::<Vec<_>>();
    let rows = section(heading).lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|row| (row[0].trim_matches('`'), row[1])).collect()
}

/// The words that a message lists as known, when nothing like `zzzzzzzzzzzz` is.
fn known(line: &str) -> Vec<String> {
    let (_, said) = check(line, false);
    let list = said.lines().next().unwrap().split("known: ").nth(1).unwrap_or_else(|| panic!("{said}"));
    list.split(", ").map(str::to_owned).collect()
}

/// What people write to have it.
fn example(name: &str) -> String {
    match name {
        "bind" => "bind 127.0.0.1".to_owned(),
        "dns64" => "dns64 {\n allow_ipv4\n }".to_owned(),
        "errors" => "errors {\n stacktrace\n }".to_owned(),
        "hosts" => "hosts {\n 192.0.2.7 a.test\n fallthrough\n }".to_owned(),
        "forward" => "forward . 192.0.2.1".to_owned(),
        "reload" => "reload 10s".to_owned(),
        "rewrite" => "rewrite name a.test b.test".to_owned(),
        "template" => "template IN A {\n rcode NXDOMAIN\n }".to_owned(),
        "timeouts" => "timeouts {\n idle 5s\n }".to_owned(),
        _ => name.to_owned(),
    }
}

fn option(name: &str) -> String {
    let value = match name {
        "success" | "denial" => " 100 30",
        "prefetch" => " 5",
        "max_age" => " 30s",
        "servfail" | "expire" | "read_timeout" | "health_check" => " 2s",
        "disable" => " denial",
        "except" => " a.test",
        "max_fails" | "max_connect_attempts" | "max_concurrent" | "max_idle_conns" => " 2",
        "policy" => " random",
        "next" | "failover" => " SERVFAIL",
        "tls_servername" | "resolver" | "doh_method" => " a.test",
        _ => "",
    };
    format!("{name}{value}")
}

fn hold(name: &str, said: &str, line: &str) {
    let found = fate(line);
    let fits = match said {
        "honoured" | "differs" => found == Fate::Silent,
        "note" => found == Fate::Note,
        "lenient" => found == Fate::Lenient,
        "refused" => found == Fate::Refused,
        _ => panic!("`{name}` is {said}, which the page does not explain"),
    };
    assert!(fits, "docs/corefile.md: `{name}` is {said}; the program: {found:?}, {}", check(line, false).1);
}

#[test]
fn every_plugin_is_on_the_page_and_does_what_it_says() {
    let rows = rows("## Plugins");
    let known = known("zzzzzzzzzzzz");
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), known, "the page, and the program");
    for (name, said) in rows {
        hold(name, said, &example(name));
    }
}

#[test]
fn every_option_is_on_the_page_and_does_what_it_says() {
    for (heading, before) in [("### cache", "cache {\n"), ("### forward", "forward . 192.0.2.1 {\n")] {
        let rows = rows(heading);
        let mut known = known(&format!("{before} zzzzzzzzzzzz\n }}"));
        known.sort();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), known, "{heading}: the page, and the program");
        for (name, said) in rows {
            // `next` means something where another `forward` follows.
            let after = if name.starts_with("next") { "\n forward . 192.0.2.2" } else { "" };
            hold(name, said, &format!("{before} {}\n }}{after}", option(name)));
        }
    }
}

#[test]
fn plugins_of_others_are_on_the_page() {
    let rows =
        section("## Plugins that node-cache does not have").lines().filter(|line| line.contains("`, `"));
    let mut names = Vec::new();
    for row in rows {
        let said = if row.starts_with("| refused") { "refused" } else { "lenient" };
        for name in row.split('`').skip(1).step_by(2) {
            hold(name, said, name);
            names.push(name);
        }
    }
    // The list that the program has.
    let table = include_str!("../src/config/corefile/foreign.rs");
    let entry = |line: &'static str| line.strip_prefix("    (\"").and_then(|rest| rest.split('"').next());
    let mut missing: Vec<&str> = table.lines().filter_map(entry).collect();
    assert!(missing.len() > 30, "{missing:?}");
    missing.retain(|name| !names.contains(name));
    assert!(missing.is_empty(), "not in docs/corefile.md: {missing:?}");
}
