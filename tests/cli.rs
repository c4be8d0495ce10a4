//! The command line as scripts see it: what is printed where, and the exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sidestep::config::Config;

/// Exit code, standard output, standard error.
fn sidestep(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_sidestep")).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("sidestep.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_without_a_file_prints_the_defaults() {
    let printed = Config::default().to_toml();
    assert_eq!(sidestep(&["check"]), (0, printed, String::new()));
}

#[test]
fn check_prints_what_holds_in_a_form_that_checks_again() {
    for name in ["sidestep.toml", "kubernetes.toml", "host.toml"] {
        let path = format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"));
        let (code, printed, complaints) = sidestep(&["check", &path]);
        assert_eq!((code, complaints.as_str()), (0, ""), "{name}");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sidestep(&["check", &file(dir.path(), &printed)]), (0, printed, String::new()), "{name}");
    }
}

#[test]
fn check_takes_the_flags_of_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "[cache]\nsize = \"2MiB\"\n[log]\nlevel = \"error\"\n");
    let flags =
        ["--workers", "1", "--upstream", "corp.example=udp://192.0.2.1", "--http", "127.0.0.1:9353", "-vv"];
    let as_argument = sidestep(&[&["check", &path], &flags[..]].concat());
    let as_flag = sidestep(&[&["check", "--config", &path], &flags[..]].concat());
    assert_eq!(as_argument, as_flag);
    let (code, printed, _) = as_argument;
    assert_eq!(code, 0);
    for line in [
        "workers = 1",
        "size = \"2MiB\"",
        "level = \"trace\"",
        "name = \"corp.example.\"",
        "upstreams = [\"udp://192.0.2.1:53\"]",
        "serve = [{ address = \"127.0.0.1:9353\", paths = [\"/metrics\", \"/health\", \"/ready\"] }]",
    ] {
        assert!(printed.lines().any(|l| l == line), "no `{line}` in\n{printed}");
    }
}

#[test]
fn a_bad_file_is_shown_with_line_column_and_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "# ours\n[cache]\n  sise = \"32MiB\"\n");
    let message = format!(
        "{path}:3:3: unknown key `sise` in [cache]; did you mean `size`?\n  |\n\
         3 |   sise = \"32MiB\"\n  |   ^^^^\n"
    );
    assert_eq!(sidestep(&["check", &path]), (1, String::new(), message.clone()));
    assert_eq!(sidestep(&["run", "--config", &path]), (1, String::new(), message.clone()));
    assert_eq!(sidestep(&["--config", &path]), (1, String::new(), message));
}

#[test]
fn a_missing_file_is_a_clear_complaint() {
    let message = "/nonexistent/f: cannot be opened: No such file or directory (os error 2)\n";
    assert_eq!(sidestep(&["check", "/nonexistent/f"]), (1, String::new(), message.to_owned()));
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let flags = ["check", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"];
    let message = "--listen: 127.0.0.1:1 is given twice; leave one out\n";
    assert_eq!(sidestep(&flags), (1, String::new(), message.to_owned()));
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for (args, message) in [
        (&["--upstream", "dns.example"][..], "`dns.example` is a host name"),
        (&["--upstream", "a..b=192.0.2.1"], "zone name `a..b` is no DNS name"),
        (&["--upstream", "tpc://192.0.2.1"], "unknown scheme `tpc`; did you mean `tcp`?"),
        (&["--listen", "127.0.0.1"], "`127.0.0.1` has no port; write \"127.0.0.1:53\""),
        (&["--workers", "0"], "0 is out of bounds; give 1 to 64"),
        (&["--cache-size", "1KiB"], "1KiB is out of bounds; give 1MiB to 64GiB"),
        (&["--log", "xml"], "possible values: text, json"),
        (&["run", "--listne", "127.0.0.1:1"], "a similar argument exists: '--listen'"),
        (&["-l", "127.0.0.1:1"], "unexpected argument '-l'"),
        (&["chekc"], "a similar subcommand exists: 'check'"),
        (&["check", "a", "--config", "b"], "cannot be used with"),
        (&["completions"], "<SHELL>"),
    ] {
        let (code, printed, complaints) = sidestep(args);
        assert_eq!((code, printed.as_str()), (2, ""), "{args:?}");
        assert!(complaints.contains(message), "{args:?}: {complaints}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let (code, help, complaints) = sidestep(&["-h"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    for word in
        ["--config <FILE>", "--upstream <[ZONE=]TARGET>", "--cache-size <BYTES>", "completions", "check"]
    {
        assert!(help.contains(word), "no {word} in\n{help}");
    }
    let version = format!("sidestep {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(sidestep(&["-V"]), (0, version, String::new()));
}

#[test]
fn there_are_three_short_options() {
    let (_, help, _) = sidestep(&["run", "-h"]);
    let is_option = |w: &&str| w.len() > 1 && w.starts_with('-') && !w.starts_with("--");
    let mut short: Vec<char> = help
        .lines()
        .filter_map(|line| line.split_whitespace().next().filter(is_option)?.chars().nth(1))
        .collect();
    short.sort_unstable();
    // The version is asked of the program, not of a command.
    assert_eq!(short, ['h', 'v']);
}

#[test]
fn completions_know_our_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, complaints) = sidestep(&["completions", shell]);
        assert_eq!((code, complaints.as_str()), (0, ""), "{shell}");
        assert!(script.contains("sidestep") && script.contains("cache-size"), "{shell}");
    }
}

#[test]
fn the_manual_page_has_its_sections() {
    let (code, page, complaints) = sidestep(&["man"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    for section in
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "SIGNALS", "EXIT STATUS", "VERSION"]
    {
        let quoted = format!(".SH \"{section}\"");
        let plain = format!(".SH {section}");
        assert!(page.lines().any(|l| l == plain || l == quoted), "no {section} in\n{page}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = Command::new(env!("CARGO_BIN_EXE_sidestep")).arg("check").stdout(writer).output().unwrap();
    assert_eq!((out.status.code(), out.stderr), (Some(0), Vec::new()));
}
