//! node-cache's command line as scripts and manifests see it: the ways to call it, its pages, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let out = command.env_remove("KUBE_DNS_SERVICE_HOST").stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn sidestep(args: &[&str]) -> (i32, String, String) {
    run(Command::new(env!("CARGO_BIN_EXE_sidestep")).args(args))
}

/// `-check` with the files of this folder, of which none need be there.
fn check(folder: &Path, more: &[&str]) -> (i32, String, String) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [base, corefile, map] = ["Corefile.base", "Corefile", "kube-dns"].map(path);
    let args = ["node-cache", "-check", "-localip", "127.0.0.1", "-basecorefile", &base, "-conf", &corefile];
    let (code, out, err) = sidestep(&[&args[..], &["-kubednscm", &map], more].concat());
    (code, out, err.replace(&format!("{}/", folder.display()), ""))
}

#[test]
fn it_answers_to_its_name_however_it_is_called() {
    let version = format!("sidestep-{}\n", env!("CARGO_PKG_VERSION"));
    let named = run(Command::new(env!("CARGO_BIN_EXE_sidestep")).arg0("/node-cache").arg("-version"));
    for (code, out, err) in [sidestep(&["node-cache", "-version"]), sidestep(&["-version"]), named] {
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with(&version), "{out}");
    }
    let (code, out, _) = sidestep(&["--version"]);
    assert_eq!((code, out), (0, format!("sidestep {}\n", env!("CARGO_PKG_VERSION"))), "ours is clap's");
    assert!(sidestep(&["--help"]).1.contains("node-cache"));
}

#[test]
fn its_pages_go_to_standard_output() {
    let (code, plugins, err) = sidestep(&["-plugins"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let listed: Vec<&str> = plugins.lines().filter_map(|line| line.strip_prefix("  dns.")).collect();
    // Whoever looks for a plugin that is none is told which there are.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Corefile.base"), ". {\n    zzzzzzzzzzzz\n}\n").unwrap();
    let known = check(dir.path(), &[]).2;
    let known: Vec<&str> =
        known.lines().next().unwrap().split("known: ").nth(1).unwrap().split(", ").collect();
    assert_eq!(listed, known);
    let (code, page, err) = sidestep(&["node-cache", "-h"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(sidestep(&["node-cache", "--help"]).1, page);
    for line in ["  -localip IP,...", "  -setupiptables", "  -check", "Our own:"] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
    assert!(page.contains("[default: /etc/coredns/Corefile.base]"), "{page}");
}

#[test]
fn the_documentation_has_every_flag() {
    let documentation =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/node-cache.md")).unwrap();
    let page = sidestep(&["node-cache", "-h"]).1;
    let flags: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("  -")?.split(' ').next()).collect();
    assert!(flags.len() > 25, "{flags:?}");
    for flag in flags {
        assert!(
            documentation.contains(&format!("`-{flag}`")),
            "docs/node-cache.md does not say what -{flag} does"
        );
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for (args, message) in [
        (
            &["node-cache"][..],
            "sidestep node-cache: -localip is missing; write it like -localip 169.254.20.10",
        ),
        (&["node-cache", "-locallip", "::1"], "unknown flag -locallip; did you mean `localip`?"),
        (&["-localip", "dns"], "-localip: `dns` is no IP address"),
        (&["-localip", "::1", "-tls-cert", "x"], "-tls-cert is not supported"),
        (&["--localip=::1", "--syncinterval=soon"], "-syncinterval: `soon` is no interval"),
        (&["node-cache", "-localip", "::1", "serve"], "`serve` is no flag"),
    ] {
        let (code, out, err) = sidestep(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(message) && err.lines().count() == 1, "{args:?}: {err}");
    }
}

#[test]
fn without_a_corefile_it_says_where_one_may_stand() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = check(dir.path(), &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("Corefile.base: there is no such base file, nor a Corefile at Corefile; mount"),
        "{err}"
    );
}

#[test]
fn a_service_that_is_missing_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let base = ". {\n    forward . __PILLAR__CLUSTER__DNS__\n}\n";
    fs::write(dir.path().join("Corefile.base"), base).unwrap();
    let (code, out, err) = check(dir.path(), &["-upstreamsvc", "my-dns"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let start = "Corefile.base:2:15: this is the address of Service `my-dns`, and the environment has no \
                 MY_DNS_SERVICE_HOST";
    assert!(err.starts_with(start) && err.contains("-upstreamsvc") && !err.contains("nil"), "{err}");
    assert!(!dir.path().join("Corefile").exists(), "nothing is written");
}

#[test]
fn addresses_of_both_families_serve_health_and_are_converted() {
    let dir = tempfile::tempdir().unwrap();
    let base = "cluster.test {\n    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n    \
                health __PILLAR__LOCAL__DNS__:8080\n    forward . __PILLAR__CLUSTER__DNS__\n}\n";
    fs::write(dir.path().join("Corefile.base"), base).unwrap();
    for (ips, served) in [
        ("169.254.20.10,fd00::10", vec!["169.254.20.10:8080", "[fd00::10]:8080"]),
        ("fd00::10,169.254.20.10", vec!["[fd00::10]:8080", "169.254.20.10:8080"]),
        ("fd00::10", vec!["[fd00::10]:8080"]),
    ] {
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let [base, corefile, map] = ["Corefile.base", "Corefile", "kube-dns"].map(path);
        let run = |what: &str| {
            let args = [
                "node-cache",
                what,
                "-localip",
                ips,
                "-basecorefile",
                &base,
                "-conf",
                &corefile,
                "-kubednscm",
                &map,
                "-upstreamsvc",
                "up",
            ];
            run(Command::new(env!("CARGO_BIN_EXE_sidestep")).args(args).env("UP_SERVICE_HOST", "10.96.0.20"))
        };
        let (code, out, err) = run("-check");
        assert_eq!((code, err.as_str()), (0, ""), "{ips}");
        for address in served {
            assert!(
                out.contains(&format!("{{ address = \"{address}\", paths = [\"/health\", \"/ready\"] }}")),
                "{out}"
            );
        }
        let (code, converted, err) = run("-convert");
        assert_eq!((code, err.as_str()), (0, ""), "{ips}");
        assert!(converted.starts_with("[listen]") && converted.len() < out.len() / 2, "{converted}");
        let file = dir.path().join("sidestep.toml");
        fs::write(&file, converted).unwrap();
        assert_eq!(sidestep(&["check", file.to_str().unwrap()]), (0, out, String::new()), "{ips}");
    }
    assert!(!dir.path().join("Corefile").exists(), "nothing is written");
}

#[test]
fn a_config_map_that_is_wrong_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Corefile.base"), ". {\n    forward . 127.0.0.1\n}\n").unwrap();
    fs::create_dir(dir.path().join("kube-dns")).unwrap();
    fs::write(dir.path().join("kube-dns/stubDomains"), "{\n  corp: 1}").unwrap();
    let (code, out, err) = check(dir.path(), &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("kube-dns/stubDomains:2:3: this is no JSON"), "{err}");
}
