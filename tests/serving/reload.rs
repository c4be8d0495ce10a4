//! Reloads: what changes, what stays, and that nobody notices.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::Signal;

use crate::client::query;
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

/// Answers with this address for an hour.
fn says(last: u8) -> Scripted {
    Scripted::start(Order::AtOnce, move |query| {
        let end = 12 + question(&query.name, query.rtype).len();
        let id = word(&query.message, 0);
        vec![Action::Message(message(id, REPLY, &query.message[12..end], [&[a(3600, last)], &[], &[]]))]
    })
}

fn two_zones(rest: &Scripted, zone: &Scripted) -> String {
    let zone = format!("[[zone]]\nname = \"zone.test\"\nupstreams = [\"{}\"]", zone.address);
    config(rest, "", &zone)
}

fn address(program: &Program, name: &str) -> u8 {
    records(&program.udp().ask(&query(1, name, 1)))[0].2[3]
}

#[test]
fn entries_of_a_zone_whose_upstreams_changed_are_not_found_and_others_stay() {
    let (rest, old, new) = (says(1), says(2), says(3));
    let mut program = Program::start(&two_zones(&rest, &old));
    assert_eq!((address(&program, "www.zone.test"), address(&program, "www.test")), (2, 1));
    program.rewrite(&two_zones(&rest, &new));
    program.wait_for_log("configuration reloaded");
    assert_eq!((address(&program, "www.zone.test"), address(&program, "www.test")), (3, 1));
    assert_eq!((rest.asked("www.test"), new.asked("www.zone.test")), (1, 1));
    program.rewrite(&two_zones(&rest, &old));
    wait_for("the second reload", || program.logged("configuration reloaded") == 2);
    assert_eq!(address(&program, "www.zone.test"), 2);
    assert_eq!(old.asked("www.zone.test"), 2, "what was forgotten stays forgotten");
    assert_eq!(program.metric("reloads_total{result=\"ok\"}"), 2.0);
}

#[test]
fn a_zone_can_come_and_go() {
    let (rest, zone) = (says(1), says(2));
    let mut program = Program::start(&config(&rest, "", ""));
    assert_eq!(address(&program, "www.zone.test"), 1);
    program.rewrite(&two_zones(&rest, &zone));
    program.wait_for_log("configuration reloaded");
    assert_eq!(address(&program, "www.zone.test"), 2);
    wait_for("ready for it too", || program.get("/ready").0 == 200);
    program.rewrite(&config(&rest, "", ""));
    wait_for("the second reload", || program.logged("configuration reloaded") == 2);
    assert_eq!(address(&program, "www.zone.test"), 1);
    assert_eq!(rest.asked("www.zone.test"), 1, "its entry is still there");
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let upstream = says(1);
    let good = config(&upstream, "", "");
    let mut program = Program::start(&good);
    assert_eq!(address(&program, "www.test"), 1);
    program.rewrite(&good.replace("workers", "wrokers"));
    program.wait_for_log("not reloaded");
    assert_eq!(address(&program, "www.test"), 1);
    assert_eq!(upstream.asked("www.test"), 1);
    let log = program.log();
    let line = log.iter().find(|line| line.contains("not reloaded")).unwrap();
    assert!(line.contains("wrokers") && line.contains("a file has changed"), "one line has it all: {line}");
    assert_eq!(program.metric("reloads_total{result=\"failed\"}"), 1.0);
    program.rewrite(&good);
    program.wait_for_log("configuration reloaded");
    assert_eq!(program.metric("reloads_total{result=\"ok\"}"), 1.0);
}

#[test]
fn an_emptied_file_changes_nothing() {
    let upstream = says(1);
    let mut program = Program::start(&config(&upstream, "", ""));
    program.rewrite("");
    program.wait_for_log("the file is empty");
    assert_eq!(address(&program, "www.test"), 1);
    assert_eq!(program.metric("reloads_total{result=\"failed\"}"), 1.0);
}

#[test]
fn what_needs_a_restart_is_said() {
    let upstream = says(1);
    let good = config(&upstream, "", "");
    let mut program = Program::start(&good);
    program.rewrite(&good.replace("workers = 1", "workers = 2"));
    program.wait_for_log("configuration reloaded");
    assert_eq!(program.logged("takes effect at the next start"), 1, "{:?}", program.log());
    assert_eq!(program.logged("listen.workers"), 1);
}

#[test]
fn no_query_is_dropped_during_reloads() {
    let upstream = says(1);
    let program = Program::start(&config(&upstream, "", ""));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|client| {
                let (program, done) = (&program, &done);
                scope.spawn(move || {
                    let (udp, mut tcp) = (program.udp(), program.tcp());
                    let mut asked = 0u16;
                    while !done.load(Relaxed) {
                        // Hits and misses in turn; an answer that does not come is a panic.
                        let name = format!("{client}n{}.test", asked / 2);
                        assert_eq!(rcode(&udp.ask(&query(asked, &name, 1))), 0);
                        assert_eq!(rcode(&tcp.ask(&query(asked, &name, 1))), 0);
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for n in 1..=20 {
            program.signal(Signal::HUP);
            wait_for("a reload", || program.logged("configuration reloaded") >= n);
        }
        done.store(true, Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 20);
        }
    });
}
