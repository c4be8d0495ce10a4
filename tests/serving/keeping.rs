//! What a zone says about how its answers are kept and given out.

use std::time::Duration;

use crate::client::query;
use crate::program::{Program, config};
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
        assert_eq!(program.metric("hits_total{zone=\".\"}"), 3.0);
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
