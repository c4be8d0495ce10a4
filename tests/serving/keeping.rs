//! What a zone says about how its answers are kept and given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::client::{edns_query, query};
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Query, Scripted};

/// Names that begin with "no" do not exist, "bad" fails, all others have three addresses with a TTL of 60 s.
fn answer(query: &Query) -> Vec<u8> {
    let question = question(&query.name, query.rtype);
    let mut message = match query.name.split('.').next().unwrap_or_default() {
        "no" => negative(&question, 3, &[], &[soa("test", 60, 60)]),
        "bad" => negative(&question, 2, &[], &[]),
        _ => reply(&question, &[a(60, 1), a(60, 2), a(60, 3)]),
    };
    message[..2].copy_from_slice(&query.message[..2]);
    message
}

fn upstream() -> Scripted {
    Scripted::start(Order::AtOnce, |query| vec![Action::Message(answer(query))])
}

fn ttl(message: &[u8]) -> u32 {
    records(message)[0].1
}

/// The last bytes of an answer's addresses.
fn addresses(message: &[u8]) -> Vec<u8> {
    records(message).iter().map(|(_, _, rdata)| rdata[3]).collect()
}

#[test]
fn ttls_age_or_stay_and_addresses_change_places_or_stay() {
    let upstream = upstream();
    for (keys, ttls, places) in [
        ("", [60, 59], [[1, 2, 3], [2, 3, 1]]),
        ("keep_ttl = true\nrotate = false", [60, 60], [[1, 2, 3]; 2]),
    ] {
        let program = Program::start(&config(&upstream, "", keys));
        let udp = program.udp();
        udp.ask(&query(1, "a.test", 1));
        let hits = [udp.ask(&query(2, "a.test", 1)), udp.ask(&query(3, "a.test", 1))];
        assert_eq!(hits.each_ref().map(|hit| addresses(hit)), places, "{keys}");
        std::thread::sleep(Duration::from_millis(1010));
        let later = udp.ask(&query(4, "a.test", 1));
        assert_eq!([ttl(&hits[0]), ttl(&later)], ttls, "{keys}");
        assert_eq!(program.metric("hits_total{zone=\".\",kind=\"positive\"}"), 3.0);
    }
}

#[test]
fn what_is_not_kept_is_asked_for_each_time_and_keeps_its_ttl() {
    for (keys, kept) in [("cache_positive = false", [false, true]), ("cache_negative = false", [true, false])]
    {
        let upstream = upstream();
        let program = Program::start(&config(&upstream, "", keys));
        let udp = program.udp();
        for (name, kept) in ["a.test", "no.test"].into_iter().zip(kept) {
            for _ in 0..3 {
                assert_eq!(ttl(&udp.ask(&query(1, name, 1))), 60, "{name}");
            }
            assert_eq!(upstream.asked(name), if kept { 1 } else { 3 }, "{keys}: {name}");
        }
    }
}

#[test]
fn where_nothing_is_kept_clients_share_a_question_that_is_under_way() {
    let slow = |query: &Query| {
        let wait = if query.name.ends_with("test") { 300 } else { 0 };
        vec![Action::Wait(Duration::from_millis(wait)), Action::Message(answer(query))]
    };
    let upstream = Scripted::start(Order::AtOnce, slow);
    let program = Program::start(&config(&upstream, "", "cache_positive = false\ncache_negative = false"));
    let clients: Vec<_> = (0..20).map(|_| program.udp()).collect();
    clients.iter().for_each(|udp| udp.send(&query(1, "a.test", 1)));
    for udp in &clients {
        let answer = udp.receive();
        assert_eq!((rcode(&answer), ttl(&answer)), (0, 60));
    }
    assert_eq!(upstream.asked("a.test"), 1);
}

/// Answers have a TTL of one second until it is told to do what `later` says.
fn until_told(later: fn(&Query) -> Vec<Action>) -> (Scripted, Arc<AtomicBool>) {
    let told = Arc::new(AtomicBool::new(false));
    let is_told = Arc::clone(&told);
    let upstream = Scripted::start(Order::AtOnce, move |query| {
        if is_told.load(Relaxed) {
            return later(query);
        }
        let mut message = reply(&question(&query.name, query.rtype), &[a(1, 1)]);
        message[..2].copy_from_slice(&query.message[..2]);
        vec![Action::Message(message)]
    });
    (upstream, told)
}

#[test]
fn a_zone_may_serve_stale_data_at_once_and_fetch_the_fresh_behind_the_clients_back() {
    let (upstream, told) =
        until_told(|query| vec![Action::Wait(Duration::from_millis(400)), Action::Message(answer(query))]);
    let keys = "stale_after = \"0s\"\nstale_ttl = \"7s\"";
    let program = Program::start(&config(&upstream, "", keys));
    let udp = program.udp();
    udp.ask(&query(1, "a.test", 1));
    told.store(true, Relaxed);
    std::thread::sleep(Duration::from_millis(1010));
    let start = Instant::now();
    let answer = udp.ask(&edns_query(2, "a.test", 1, 1232, &[]));
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!((ttl(&answer), extended_errors(&answer)), (7, vec![3]));
    wait_for("the fresh answer", || ttl(&udp.ask(&query(3, "a.test", 1))) == 60);
}

#[test]
fn a_zone_has_its_own_time_for_stale_data_after_a_failure() {
    let (upstream, told) = until_told(|_| vec![Action::Rcode(2)]);
    let program = Program::start(&config(&upstream, "", "stale_retry = \"1s\""));
    let udp = program.udp();
    let stale = |asked| {
        let answer = udp.ask(&edns_query(2, "a.test", 1, 1232, &[]));
        assert_eq!((ttl(&answer), extended_errors(&answer)), (30, vec![3]));
        assert_eq!(upstream.asked("a.test"), asked);
    };
    udp.ask(&query(1, "a.test", 1));
    told.store(true, Relaxed);
    for asked in [2, 3] {
        std::thread::sleep(Duration::from_millis(1010));
        stale(asked);
        stale(asked);
    }
}

#[test]
fn failures_are_remembered_as_long_as_the_zone_says_or_not_at_all() {
    let upstream = upstream();
    let asked = |keys: &str, wait| {
        let before = upstream.asked("bad.test");
        let program = Program::start(&config(&upstream, "", keys));
        let udp = program.udp();
        assert_eq!(rcode(&udp.ask(&query(1, "bad.test", 1))), 2);
        std::thread::sleep(Duration::from_millis(wait));
        assert_eq!(rcode(&udp.ask(&query(1, "bad.test", 1))), 2);
        upstream.asked("bad.test") - before
    };
    assert_eq!(asked("failure_ttl = \"0s\"", 0), 2);
    assert_eq!(asked("", 0), 1);
    assert_eq!(asked("", 1010), 2, "a second, where nothing is said");
    assert_eq!(asked("failure_ttl = \"40s\"", 1010), 1, "longer than the longest of everybody");
}
