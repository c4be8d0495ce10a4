//! CoreDNS and we log the same queries in the same words, from the same block.

use std::net::SocketAddr;
use std::process::Command;

use super::process::{Process, command, output, program};
use super::servers::{address, coredns};
use super::turn;

/// What the upstream serves: addresses, except for names that begin with `nx`, and no IPv6.
const ZONE: &str = "template IN A {\n match ^nx\n rcode NXDOMAIN\n \
    authority \"any.test. 60 IN SOA ns.any.test. h.any.test. 1 60 60 60 60\"\n fallthrough\n }\n\
    template IN A {\n answer \"{{ .Name }} 300 IN A 192.0.2.1\"\n }\n\
    template IN AAAA {\n authority \"any.test. 60 IN SOA ns.any.test. h.any.test. 1 60 60 60 60\"\n }\n\
    template IN TXT {\n rcode SERVFAIL\n }";

/// The block of both.
fn block(upstream: SocketAddr) -> String {
    format!(
        "cache 30\n forward . {upstream} {{\n force_tcp\n }}\n log quiet.any.test {{\n class denial error\n }}\n \
         log one.any.test two.any.test \"{{remote}} {{local}} {{combined}} {{nothing}}\" {{\n class success\n }}\n log"
    )
}

/// Names, types and more arguments of dig.
const QUESTIONS: [(&str, &str, &[&str]); 12] = [
    ("www.any.test", "A", &["+noedns"]),
    ("WwW.any.test", "A", &["+noedns"]),
    ("www.any.test", "A", &["+bufsize=1400", "+nocookie"]),
    ("www.any.test", "A", &["+tcp", "+nocookie"]),
    ("nx.any.test", "A", &["+noedns"]),
    ("www.any.test", "AAAA", &["+noedns", "+tcp"]),
    ("fails.any.test", "TXT", &["+noedns"]),
    ("a\\.b\\@\\010.any.test", "A", &["+noedns"]),
    ("x.quiet.any.test", "A", &["+noedns"]),
    ("nx.quiet.any.test", "A", &["+noedns"]),
    ("one.any.test", "A", &["+noedns"]),
    ("last.any.test", "A", &["+noedns"]),
];

/// The lines that the log has, once the last one is there; ports, ids and times masked, and `server`. Flags aa and ra are
/// left out: we are no authority and offer recursion, and so our answers differ in them, not the lines alone.
fn lines(process: &mut Process, server: SocketAddr) -> Vec<String> {
    process.wait_for("last.any.test.");
    let mask = |word: &str| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match word.split_once(':') {
            Some((address, port)) if digits(port) => format!("{address}:PORT"),
            _ if word.strip_suffix('s').is_some_and(|time| time.parse::<f64>().is_ok()) => "TIME".to_owned(),
            _ if word.starts_with("qr") => word.replace(",aa", "").replace(",ra", ""),
            _ => word.replace(&server.ip().to_string(), "SERVER"),
        }
    };
    let log = process.log();
    let lines = log.lines().filter(|line| line.starts_with("[INFO] ") && line.contains("qr"));
    let masked = lines.map(|line| {
        let mut words: Vec<String> = line.split(' ').map(mask).collect();
        let id = words.iter().position(|word| word == "-").unwrap() + 1;
        words[id].parse::<u16>().unwrap();
        "ID".clone_into(&mut words[id]);
        words.join(" ")
    });
    masked.collect()
}

#[test]
fn the_same_block_logs_the_same_lines() {
    let _turn = turn();
    let upstream = coredns(address(), &[("any.test", ZONE)], &[]);
    let block = block(upstream.address);
    let mut theirs = coredns(address(), &[("any.test", &block)], &[]);
    let ours = address();
    let directory = tempfile::tempdir().unwrap();
    let corefile = directory.path().join("Corefile");
    let text = format!("any.test:{} {{\n bind {}\n {block}\n}}\n", ours.port(), ours.ip());
    std::fs::write(&corefile, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    run.args(["run", "--config"]).arg(&corefile);
    let mut process = Process::start("sidestep", run, directory.path());
    process.wait_for("try: dig");
    let dig = program("dig", "SIDESTEP_DIG", "apt-get install dnsutils");
    for at in [theirs.address, ours] {
        for (name, rtype, more) in QUESTIONS {
            let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
            let fixed = [&server, "-p", &port, name, "-t", rtype, "+tries=1", "+noad"];
            output(command(&dig, fixed).args(more));
        }
    }
    let (left, right) = (lines(&mut process, ours), lines(&mut theirs.process, theirs.address));
    assert_eq!(left.len(), QUESTIONS.len() - 1, "one is not wanted: {left:#?}");
    assert_eq!(left, right, "left ours, right CoreDNS's");
}
