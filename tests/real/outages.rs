//! Servers die, come back, get slow and lose queries under load; we count what the clients saw.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use super::client::{Client, load_while};
use super::servers::{Server, address, coredns, sidestep};
use super::turn;

/// Any name, each time a miss: the load asks for another name with every question.
const ANY: (&str, &str) = ("any.test", "template IN A {\n answer \"{{ .Name }} 300 IN A 192.0.2.1\"\n }");

fn any_at(address: SocketAddr) -> Server {
    coredns(address, &[ANY], &[])
}

/// sidestep in front of these servers.
fn in_front_of(servers: &[SocketAddr], more: &[&str]) -> Server {
    let targets: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let upstreams = targets.iter().flat_map(|target| ["--upstream", target.as_str()]);
    let arguments: Vec<_> = upstreams.chain(more.iter().copied()).collect();
    sidestep(&arguments)
}

fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds));
}

fn fresh(n: u64) -> String {
    format!("n{n}.any.test.")
}

#[test]
fn one_of_two_dies_and_comes_back() {
    let _turn = turn();
    let (one, two) = (address(), address());
    let (first, second) = (any_at(one), any_at(two));
    let us = in_front_of(&[one, two], &[]);
    let mut kept = None;
    let tally = load_while(us.address, fresh, || {
        seconds(0.5);
        drop(first);
        seconds(1.5);
        let first = any_at(one);
        seconds(1.5);
        drop(second);
        seconds(1.5);
        // Not dropped before the load ends: one of two lives, always.
        let second = any_at(two);
        seconds(0.5);
        kept = Some((first, second));
    });
    drop(kept);
    tally.assert_clean("each of two servers killed and restarted");
}

#[test]
fn one_of_two_stops_without_closing() {
    let _turn = turn();
    let (one, two) = (address(), address());
    let (mut first, _second) = (any_at(one), any_at(two));
    let us = in_front_of(&[one, two], &[]);
    let tally = load_while(us.address, fresh, || {
        seconds(0.5);
        first.process.pause();
        seconds(4.0);
        first.process.resume();
        seconds(1.0);
    });
    tally.assert_clean("one of two servers frozen for 4 s");
}

#[test]
fn one_of_two_is_slow() {
    let _turn = turn();
    let (one, two) = (address(), address());
    let _first = coredns(one, &[("any.test", "erratic {\n delay 5 300ms\n }")], &[]);
    let _second = any_at(two);
    let us = in_front_of(&[one, two], &[]);
    load_while(us.address, fresh, || seconds(4.0))
        .assert_clean("every fifth answer of one server 300 ms late");
}

#[test]
fn one_of_two_drops_queries() {
    let _turn = turn();
    let (one, two) = (address(), address());
    let _first = coredns(one, &[("any.test", "erratic {\n drop 3\n }")], &[]);
    let _second = any_at(two);
    let us = in_front_of(&[one, two], &[]);
    load_while(us.address, fresh, || seconds(6.0)).assert_clean("one server drops every third query");
}

/// What was asked for once is answered while every server is dead, in time and long after.
#[test]
fn cached_names_outlive_all_servers() {
    let _turn = turn();
    let one = address();
    let short = ("short.test", "template IN A {\n answer \"{{ .Name }} 1 IN A 192.0.2.2\"\n }");
    let server = coredns(one, &[ANY, short], &[]);
    let us = in_front_of(&[one], &[]);
    let names: Vec<_> = (0..50).flat_map(|n| [fresh(n), format!("n{n}.short.test.")]).collect();
    let mut client = Client::new(us.address);
    for name in &names {
        client.resolve(name).unwrap();
    }
    drop(server);
    // Past the TTL of the short ones.
    seconds(1.2);
    let name = |n: u64| names[usize::try_from(n).unwrap() % names.len()].clone();
    let tally = load_while(us.address, name, || seconds(3.0));
    tally.assert_clean("all servers dead, half of the names fresh, half expired");
    assert!(tally.slowest < Duration::from_millis(3500), "a stale answer took {:?}", tally.slowest);
    // What nobody knows fails, in time, and comes back with the server.
    let start = Instant::now();
    let failed = client.ask("unknown.any.test.", RecordType::A).unwrap();
    assert_eq!(failed.metadata.response_code.to_string(), "Server Failure");
    assert!(start.elapsed() < Duration::from_millis(5000), "SERVFAIL took {:?}", start.elapsed());
    let _server = any_at(one);
    let start = Instant::now();
    while client.resolve("another.any.test.").is_err() {
        assert!(start.elapsed() < Duration::from_secs(15), "the server is back, and we do not use it");
        seconds(0.1);
    }
    println!("used again {:?} after the restart", start.elapsed());
}
