//! EDNS is between neighbours: options stay where they are, sizes are each client's own, truncated answers are
//! asked for again.

use crate::client::{edns_query, query};
use crate::program::{Program, config};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

/// COOKIE, client subnet, keepalive, NSID, padding: with data, as a client or a server may send them.
fn neighbours() -> Vec<u8> {
    let cookie = option(10, b"abcdefgh");
    let subnet = option(8, &[0, 1, 24, 0, 192, 0, 2]);
    [cookie, subnet, option(11, &[1, 0]), option(3, b"ns7"), option(12, &[0; 40])].concat()
}

#[test]
fn options_reach_neither_the_upstream_nor_the_client() {
    let upstream = Scripted::start(Order::AtOnce, |query| {
        let error = option(15, b"\0\x1dsynthesized");
        vec![Action::Message(query.answer_with_options(&[neighbours(), error].concat()))]
    });
    let program = Program::start(&config(&upstream, "", ""));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    let query_with = edns_query(1, "a.test", 1, 1232, &neighbours());
    for _ in 0..2 {
        for answer in [udp.ask(&query_with), tcp.ask(&query_with)] {
            let (size, flags, options) = opt_of(&answer).expect("OPT");
            assert_eq!((size, flags), (1232, 0));
            assert_eq!(options, [(15, b"\0\x1dsynthesized".to_vec())], "extended errors alone");
        }
        assert_eq!(opt_of(&udp.ask(&query(1, "a.test", 1))), None);
    }
    let seen: Vec<_> = upstream.seen().into_iter().filter(|q| q.name == "a.test").collect();
    assert_eq!(seen.len(), 1);
    let (_, _, options) = opt_of(&seen[0].message).expect("ours");
    assert!(options.iter().all(|(code, data)| *code == 11 && data.is_empty()), "our keepalive: {options:?}");
}

#[test]
fn do_and_cd_have_answers_of_their_own() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    for (flags, ttl) in [(0x0100, 0), (0x0100, 0x8000), (0x0110, 0), (0x0110, 0x8000)] {
        for _ in 0..2 {
            udp.ask(&crate::support::message::query(
                1,
                flags,
                &question("a.test", 1),
                Some(opt(1232, ttl, &[])),
            ));
        }
    }
    let sent: Vec<_> = upstream.seen().into_iter().filter(|q| q.name == "a.test").collect();
    let bits = |m: &[u8]| (word(m, 1) & 0x0130, opt_of(m).map(|o| o.1 & 0x8000));
    let sent: Vec<_> = sent.iter().map(|q| bits(&q.message)).collect();
    let (no, yes) = (Some(0), Some(0x8000));
    assert_eq!(sent, [(0x120, no), (0x120, yes), (0x130, no), (0x130, yes)], "AD always set");
}

/// Thirty-three addresses: 512 bytes do not hold them, 600 do.
fn large() -> Scripted {
    Scripted::start(Order::AtOnce, |query| {
        let end = 12 + question(&query.name, query.rtype).len();
        let answers: Vec<_> = (0..33).map(|i| a(60, i)).collect();
        vec![Action::Message(message(
            word(&query.message, 0),
            REPLY,
            &query.message[12..end],
            [&answers, &[], &[]],
        ))]
    })
}

#[test]
fn each_client_gets_what_it_can_take() {
    let upstream = large();
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    for name in ["miss.test", "miss.test"] {
        let answer = udp.ask(&query(1, name, 1));
        assert_eq!((word(&answer, 1) & 0x0200, records(&answer).len()), (0x0200, 30), "TC, and what fits");
        let answer = udp.ask(&edns_query(1, name, 1, 512, &[]));
        assert_eq!((word(&answer, 1) & 0x0200, records(&answer).len()), (0x0200, 29));
        assert!(answer.len() <= 512 && opt_of(&answer).is_some());
        let answer = udp.ask(&edns_query(1, name, 1, 600, &[]));
        assert_eq!((word(&answer, 1) & 0x0200, records(&answer).len()), (0, 33));
        let answer = program.tcp().ask(&query(1, name, 1));
        assert_eq!((word(&answer, 1) & 0x0200, records(&answer).len()), (0, 33));
    }
    assert_eq!(upstream.asked("miss.test"), 1);
    assert!(program.metric("udp_truncated_answers_total") >= 2.0);
}

#[test]
fn a_truncated_answer_of_a_udp_upstream_is_asked_for_over_tcp() {
    let upstream =
        Scripted::start(Order::AtOnce, |q| vec![if q.tcp { Action::Answer } else { Action::Truncated }]);
    let config = config(&upstream, "", "").replace("upstreams = [\"", "upstreams = [\"udp://");
    let program = Program::start(&config);
    let answer = program.udp().ask(&query(1, "a.test", 1));
    assert_eq!((word(&answer, 1) & 0x0200, records(&answer).len()), (0, 1));
    let asked: Vec<_> = upstream.seen().into_iter().filter(|q| q.name == "a.test").map(|q| q.tcp).collect();
    assert_eq!(asked, [false, true]);
}
