//! CoreDNS and we ask the same servers, from the same blocks: for names that rules make, and for aliases.

use std::net::SocketAddr;
use std::process::Command;

use super::process::{Process, command, output, program};
use super::servers::{Server, address, coredns};
use super::turn;

/// A server all of whose names have this address.
fn answering(last: u8) -> Server {
    let template = format!("template IN A {{\n answer \"{{{{ .Name }}}} 300 IN A 192.0.2.{last}\"\n }}");
    coredns(address(), &[(".", &template)], &[])
}

/// The blocks of both.
fn blocks(servers: [SocketAddr; 3]) -> [(&'static str, String); 4] {
    let [all, new, inside] = servers;
    let rules = "rewrite name suffix .old.test .new.test answer auto\n rewrite name exact one.test a.new.test answer auto";
    let alias =
        "template IN A alias.test {\n answer \"{{ .Name }} 60 IN CNAME www.other.test.\"\n fallthrough\n }";
    [
        (
            ".",
            format!(
                "{rules}\n {alias}\n forward new.test {new}\n forward . {all} {{\n except x.new.test\n }}"
            ),
        ),
        ("other.test", "template IN A {\n answer \"{{ .Name }} 30 IN A 192.0.2.77\"\n }".to_owned()),
        ("y.new.test", "template IN A {\n answer \"{{ .Name }} 30 IN A 192.0.2.78\"\n }".to_owned()),
        (
            "only.test",
            format!("rewrite name suffix .only.test .inside.test answer auto\n forward inside.test {inside}"),
        ),
    ]
}

const NAMES: [&str; 9] = [
    "a.old.test",
    "a.x.old.test",
    "a.y.old.test",
    "a.y.new.test",
    "one.test",
    "plain.test",
    "alias.test",
    "a.only.test",
    "only.test",
];

#[test]
fn the_same_blocks_ask_the_same_servers() {
    let _turn = turn();
    let servers = [1, 2, 3].map(answering);
    let blocks = blocks([0, 1, 2].map(|i: usize| servers[i].address));
    let blocks: Vec<_> = blocks.iter().map(|(zone, lines)| (*zone, lines.as_str())).collect();
    let theirs = coredns(address(), &blocks, &[]);
    let ours = address();
    let directory = tempfile::tempdir().unwrap();
    let corefile = directory.path().join("Corefile");
    let block = |(zone, lines): &(&str, &str)| {
        format!("{zone}:{} {{\n bind {}\n {lines}\n}}\n", ours.port(), ours.ip())
    };
    std::fs::write(&corefile, blocks.iter().map(block).collect::<String>()).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    run.args(["run", "--config"]).arg(&corefile);
    let mut process = Process::start("sidestep", run, directory.path());
    process.wait_for("try: dig");
    let dig = program("dig", "SIDESTEP_DIG", "apt-get install dnsutils");
    let ask = |at: SocketAddr, name: &str| {
        let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
        let fixed = [&server, "-p", &port, name, "-t", "A", "+tries=1", "+noall", "+answer", "+comments"];
        let text = output(&mut command(&dig, fixed));
        let lines = text.lines().filter(|line| line.contains("status: ") || line.contains("\tIN\t"));
        lines.map(|line| line.split(", id:").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for name in NAMES {
        assert_eq!(ask(ours, name), ask(theirs.address, name), "{name}: left ours, right CoreDNS's");
    }
}
