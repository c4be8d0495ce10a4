//! The log of queries on standard output.

use std::fs::{File, read_to_string};
use std::process::Command;

use rustix::process::Signal;

use crate::client::{Tcp, Udp};
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

/// An address for every name but those that begin with `no`, which do not exist.
fn upstream() -> Scripted {
    Scripted::start(Order::AtOnce, |query| {
        let (id, question) = (word(&query.message, 0), question(&query.name, query.rtype));
        let answer = record(QNAME, 1, 300, &[192, 0, 2, 1]);
        vec![Action::Message(match query.name.starts_with("no") {
            true => message(id, REPLY | 3, &question, [&[], &[soa("test", 300, 300)], &[]]),
            false => message(id, REPLY, &question, [&[answer], &[], &[]]),
        })]
    })
}

/// A program and where its standard output goes.
fn start(text: &str) -> (Program, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sidestep.toml");
    std::fs::write(&path, text).unwrap();
    let out = directory.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    command.args(["run", "--config"]).arg(&path).stdout(File::create(&out).unwrap());
    (Program::spawn(&mut command, directory, path), out)
}

/// Lines with the client's port and the time masked.
fn masked(text: &str) -> Vec<String> {
    let mask = |line: &str| {
        let (before, rest) = line.split_once("127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
        let (port, rest) = rest.split_once(' ').unwrap();
        assert!(port.parse::<u16>().is_ok(), "{line}");
        let (rest, took) = rest.rsplit_once(' ').unwrap();
        let seconds: f64 = took.strip_suffix('s').unwrap().parse().unwrap();
        assert!(seconds < 5.0, "{line}");
        format!("{before}127.0.0.1:PORT {rest}")
    };
    text.lines().map(mask).collect()
}

#[test]
fn misses_hits_and_refusals_are_logged_in_their_order() {
    let upstream = upstream();
    let log = "log = [{}]\n[log]\nformat = \"json\"";
    let (mut program, out) = start(&config(&upstream, "", log));
    let udp = Udp::to(program.address);
    let ask = |id, name, rtype, edns| udp.ask(&query(id, 0x0100, &question(name, rtype), edns));
    ask(1, "WWW.test", 1, None);
    ask(2, "www.test", 1, Some(opt(1400, 0x8000, &[])));
    ask(3, "www.test", 1, Some(opt(1400, 0x8000, &[])));
    ask(4, "nobody.test", 1, None);
    ask(5, "www.test", 252, None);
    let mut tcp = Tcp::to(program.address);
    tcp.ask(&query(6, 0x0100, &question("www.test", 1), None));
    tcp.ask(&query(7, 0x0100, &question("tcp.test", 1), None));
    let wanted = [
        "1 \"A IN www.test. udp 26 false 512\" NOERROR qr,rd,ra 50",
        "2 \"A IN www.test. udp 37 true 1400\" NOERROR qr,rd,ra 50",
        "3 \"A IN www.test. udp 37 true 1400\" NOERROR qr,rd,ra 50",
        "4 \"A IN nobody.test. udp 29 false 512\" NXDOMAIN qr,rd,ra 76",
        "5 \"AXFR IN www.test. udp 26 false 512\" REFUSED qr,rd,ra 26",
        "6 \"A IN www.test. tcp 26 false 65535\" NOERROR qr,rd,ra 50",
        "7 \"A IN tcp.test. tcp 26 false 65535\" NOERROR qr,rd,ra 50",
    ]
    .map(|line| format!("[INFO] 127.0.0.1:PORT - {line}"));
    wait_for("the lines", || read_to_string(&out).unwrap().lines().count() >= wanted.len());
    assert_eq!(masked(&read_to_string(&out).unwrap()), wanted);
    assert_eq!(program.metric("query_log_lost_lines_total{zone=\".\"}"), 0.0);
    ask(8, "last.test", 1, None);
    program.signal(Signal::TERM);
    // Its directory stays until it is dropped.
    assert!(program.end().success());
    assert!(read_to_string(&out).unwrap().contains("last.test."));
}

/// The service manager, the kubelet and the watchdog have us ask ourselves all the time. Nobody else asks those questions.
#[test]
fn our_own_questions_are_no_clients_queries() {
    let upstream = upstream();
    let (program, out) = start(&config(&upstream, "", "log = [{}]"));
    for _ in 0..3 {
        assert_eq!(program.get("/health").0, 200);
    }
    let page = program.get("/metrics").1;
    let counted = |name: &str| {
        let values =
            page.lines().filter(|line| line.starts_with(name)).map(|line| line.rsplit_once(' ').unwrap().1);
        values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>()
    };
    for name in ["sidestep_queries_total", "coredns_dns_requests_total", "coredns_dns_responses_total"] {
        assert_eq!(counted(name), 0.0, "{name} in {page}");
    }
    // What a client asks of the kind is a client's query.
    let mut chaos = query(9, 0x0100, &question("id.server", 16), None);
    let end = chaos.len();
    chaos[end - 1] = 3; // CH
    assert_eq!(Udp::to(program.address).ask(&chaos)[3] & 15, 5);
    wait_for("the line", || !read_to_string(&out).unwrap().is_empty());
    let lines = read_to_string(&out).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains("\"TXT CH id.server. "), "{lines}");
    assert_eq!(
        program.metric("queries_total{zone=\".\",protocol=\"udp\",family=\"ipv4\",type=\"TXT\"}"),
        1.0
    );
}

#[test]
fn only_the_names_and_classes_that_are_wanted_are_logged_and_a_reload_changes_them() {
    let upstream = upstream();
    let text = |log: &str| config(&upstream, "", log);
    let rule = "log = [{ names = [\"a.test\"], format = \"{name}\", classes = [\"denial\"] }]";
    let (program, out) = start(&text(""));
    let udp = Udp::to(program.address);
    let ask = |name| udp.ask(&query(1, 0x0100, &question(name, 1), None));
    let lines = || read_to_string(&out).unwrap();
    ask("no0.a.test");
    program.rewrite(&text(rule));
    wait_for("the reload", || program.logged("configuration reloaded") > 0);
    for name in ["no1.a.test", "yes.a.test", "no.b.test", "No2.A.test"] {
        ask(name);
    }
    wait_for("the lines", || lines().contains("no2"));
    assert_eq!(lines(), "[INFO] no1.a.test.\n[INFO] no2.a.test.\n");
}
