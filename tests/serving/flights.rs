//! Misses: one flight for all who ask, deadlines, stale data, failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::client::{Udp, edns_query, query};
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Query, Scripted};

/// Probes are answered, everything else is left to `script`.
fn scripted(script: impl Fn(&Query) -> Vec<Action> + Send + Sync + 'static) -> Scripted {
    Scripted::start(Order::AtOnce, move |query| {
        if query.name.ends_with("test") { script(query) } else { vec![Action::Answer] }
    })
}

/// Answers until it is told to fall silent.
fn falls_silent(answer: impl Fn(&Query) -> Vec<u8> + Send + Sync + 'static) -> (Scripted, Arc<AtomicBool>) {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let upstream = scripted(move |query| {
        vec![if is_silent.load(Relaxed) { Action::Silence } else { Action::Message(answer(query)) }]
    });
    (upstream, silent)
}

fn with_id(query: &Query, mut message: Vec<u8>) -> Vec<u8> {
    message[..2].copy_from_slice(&query.message[..2]);
    message
}

#[test]
fn a_hundred_clients_make_one_query_and_each_gets_its_own_answer() {
    let upstream = scripted(|_| vec![Action::Wait(Duration::from_millis(300)), Action::Answer]);
    let program = Program::start(&config(&upstream, "", ""));
    let mut tcp = program.tcp();
    let clients: Vec<_> = (0..100u16)
        .map(|i| {
            let name: String = "coalesce.test"
                .chars()
                .enumerate()
                .map(|(n, c)| if i >> (n % 7) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            let query = if i % 2 == 0 { query(i, &name, 1) } else { edns_query(i, &name, 1, 600 + i, &[]) };
            (program.udp(), query)
        })
        .collect();
    clients.iter().for_each(|(udp, query)| udp.send(query));
    tcp.send(&query(7, "coalesce.TEST", 1));
    for (udp, query) in &clients {
        let answer = udp.receive();
        assert_eq!(answer[..2], query[..2]);
        assert_eq!(answer[12..31], query[12..31], "its letter case");
        assert_eq!(opt_of(&answer).is_some(), opt_of(query).is_some());
        assert_eq!(records(&answer).len(), 1);
    }
    assert_eq!(word(&tcp.receive().expect("an answer"), 0), 7);
    assert_eq!(upstream.asked("coalesce.test"), 1);
    assert_eq!(program.metric("coalesced_misses_total{zone=\".\"}"), 100.0);
}

#[test]
fn silence_ends_in_servfail_with_a_reason_and_is_remembered() {
    let upstream = scripted(|_| vec![Action::Silence]);
    let program = Program::start(&config(&upstream, "", ""));
    let (udp, plain) = (program.udp(), program.udp());
    let start = Instant::now();
    plain.send(&query(2, "dead.test", 1));
    let answer = udp.ask(&edns_query(1, "dead.test", 1, 1232, &[]));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![22]));
    let answer = plain.receive();
    assert_eq!((rcode(&answer), opt_of(&answer)), (2, None));
    let (asked, start) = (upstream.asked("dead.test"), Instant::now());
    let answer = udp.ask(&edns_query(1, "dead.test", 1, 1232, &[]));
    assert!(is_prompt(start.elapsed()), "from memory (RFC 9520)");
    assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![13, 22]));
    assert_eq!(upstream.asked("dead.test"), asked);
}

#[test]
fn an_upstreams_failure_is_passed_on_with_its_reason() {
    let upstream = scripted(|query| {
        let mut message = query.answer_with_options(&option(15, b"\0\x06bogus"));
        message[3] |= 2;
        vec![Action::Message(message)]
    });
    let program = Program::start(&config(&upstream, "", ""));
    let answer = program.udp().ask(&edns_query(1, "bogus.test", 1, 1232, &[]));
    assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![6]));
}

fn timed(udp: &Udp, query: &[u8]) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    (udp.ask(query), start.elapsed())
}

/// Nobody was waited for: a server would be for 1.8 s.
fn is_prompt(time: Duration) -> bool {
    time < Duration::from_millis(1500)
}

#[test]
fn stale_data_comes_in_time_and_then_at_once() {
    let (upstream, silent) = falls_silent(|query| {
        let end = 12 + question(&query.name, query.rtype).len();
        with_id(query, reply(&query.message[12..end], &[a(1, 1)]))
    });
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    let query = edns_query(1, "stale.test", 1, 1232, &[]);
    assert!(extended_errors(&udp.ask(&query)).is_empty());
    silent.store(true, Relaxed);
    std::thread::sleep(Duration::from_millis(1050));
    let (answer, took) = timed(&udp, &query);
    assert!((1700..3500).contains(&took.as_millis()), "{took:?}");
    assert_eq!((records(&answer)[0].1, extended_errors(&answer)), (30, vec![3]));
    let (answer, took) = timed(&udp, &query);
    assert!(is_prompt(took), "the flight is overdue: {took:?}");
    assert_eq!(extended_errors(&answer), [3]);
    std::thread::sleep(Duration::from_millis(2200));
    let asked = upstream.asked("stale.test");
    let (answer, took) = timed(&udp, &query);
    assert!(is_prompt(took), "the refresh has failed: {took:?}");
    assert_eq!((records(&answer)[0].1, extended_errors(&answer)), (30, vec![3]));
    assert_eq!(upstream.asked("stale.test"), asked, "and nobody is asked again so soon");
}

#[test]
fn a_refused_refresh_brings_stale_data_at_once_and_nxdomain_has_its_own_reason() {
    let failing = Arc::new(AtomicBool::new(false));
    let is_failing = Arc::clone(&failing);
    let upstream = scripted(move |query| {
        if is_failing.load(Relaxed) {
            return vec![Action::Rcode(2)];
        }
        let end = 12 + question(&query.name, query.rtype).len();
        let message = negative(&query.message[12..end], 3, &[], &[soa("test", 1, 1)]);
        vec![Action::Message(with_id(query, message))]
    });
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    let query = edns_query(1, "gone.test", 1, 1232, &[]);
    assert_eq!(rcode(&udp.ask(&query)), 3);
    failing.store(true, Relaxed);
    std::thread::sleep(Duration::from_millis(1050));
    for _ in 0..2 {
        let (answer, took) = timed(&udp, &query);
        assert!(is_prompt(took), "{took:?}");
        assert_eq!((rcode(&answer), extended_errors(&answer)), (3, vec![19]));
    }
    assert_eq!(upstream.asked("gone.test"), 2);
}

#[test]
fn zones_that_serve_nothing_stale_say_servfail() {
    let (upstream, silent) = falls_silent(|query| {
        let end = 12 + question(&query.name, query.rtype).len();
        with_id(query, reply(&query.message[12..end], &[a(1, 1)]))
    });
    let short = "stale_for = \"0s\"\n[upstream]\ndeadline = \"1s\"\n[cache]\nstale_after = \"500ms\"";
    let program = Program::start(&config(&upstream, "", short));
    let udp = program.udp();
    let query = edns_query(1, "stale.test", 1, 1232, &[]);
    assert_eq!(rcode(&udp.ask(&query)), 0);
    silent.store(true, Relaxed);
    std::thread::sleep(Duration::from_millis(1050));
    let (answer, took) = timed(&udp, &query);
    assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![22]));
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

#[test]
fn too_many_flights_or_waiters_are_turned_away_at_once() {
    let upstream = scripted(|_| vec![Action::Silence]);
    let few = "[upstream]\nflights = 16\nwaiters = 2\ndeadline = \"2s\"\n[cache]\nstale_after = \"1s\"";
    let program = Program::start(&config(&upstream, "", few));
    let udp = program.udp();
    (0..16).for_each(|i| udp.send(&query(i, &format!("n{i}.test"), 1)));
    wait_for("all on their way", || program.metric("flights") == 16.0);
    let other = program.udp();
    let (answer, took) = timed(&other, &edns_query(1, "other.test", 1, 1232, &[]));
    assert!(is_prompt(took) && rcode(&answer) == 2, "no flight left: {took:?}");
    assert_eq!(extended_errors(&answer), [0]);
    other.send(&query(2, "n0.test", 1));
    let (answer, took) = timed(&program.udp(), &query(3, "n0.test", 1));
    assert!(is_prompt(took) && rcode(&answer) == 2, "no seat left: {took:?}");
    assert_eq!(program.metric("limit_reached_total{limit=\"flights\"}"), 1.0);
    assert_eq!(program.metric("limit_reached_total{limit=\"waiters\"}"), 1.0);
    for _ in 0..16 {
        assert_eq!(rcode(&udp.receive()), 2, "and all who wait hear in the end");
    }
}

#[test]
fn replies_that_make_no_sense_become_servfail_and_the_next_is_fine() {
    let upstream = scripted(|query| {
        let id = word(&query.message, 0);
        let asked = question(&query.name, query.rtype);
        let empty_opt = || opt(512, 0, &[]);
        let message = match query.name.as_str() {
            "cut.test" => {
                let mut message = message(id, REPLY, &asked, [&[a(60, 1)], &[], &[]]);
                message.truncate(message.len() - 3);
                message
            }
            "counts.test" => {
                let mut message = message(id, REPLY, &asked, [&[a(60, 1)], &[], &[]]);
                message[7] = 200;
                message
            }
            "opts.test" => message(id, REPLY, &asked, [&[a(60, 1)], &[], &[empty_opt(), empty_opt()]]),
            "loop.test" => {
                message(id, REPLY, &asked, [&[record(b"\xc0\x1b", 1, 60, &[1, 2, 3, 4])], &[], &[]])
            }
            "bare.test" => message(id, REPLY | 5, &[], [&[], &[], &[]]),
            _ => query.answer(),
        };
        vec![Action::Message(message)]
    });
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    for name in ["cut.test", "counts.test", "opts.test", "loop.test", "bare.test"] {
        let (answer, took) = timed(&udp, &edns_query(1, name, 1, 1232, &[]));
        assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![0]), "{name}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        let answer = udp.ask(&query(2, "fine.test", 1));
        assert_eq!((rcode(&answer), records(&answer).len()), (0, 1), "after {name}");
    }
}

/// While hits come one after the other, a worker keeps its thread for up to 5 ms and does not hear of what happens to its
/// connections. A miss in such a while must not be written to one that the server has closed meanwhile.
#[test]
fn a_miss_among_hits_is_not_sent_to_a_server_that_has_just_hung_up() {
    let upstream = scripted(|query| match query.name.as_str() {
        "hit.test" => vec![Action::Answer],
        _ => vec![Action::Answer, Action::Wait(Duration::from_millis(3)), Action::Close],
    });
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    udp.ask(&query(0, "hit.test", 1));
    for round in 0..40 {
        // It is answered, and its connection closed soon after.
        let connections = upstream.connections().len();
        let name = format!("miss{round}.test");
        assert_eq!(rcode(&udp.ask(&query(1, &name, 1))), 0);
        assert_eq!(upstream.asked(&name), 1);
        let last = upstream.seen().last().map(|query| query.connection);
        let hung_up = || last.is_some_and(|last| upstream.connections()[last].closed.is_some());
        let start = Instant::now();
        while !hung_up() {
            assert!(start.elapsed() < Duration::from_secs(5), "{connections} connections");
            udp.ask(&query(2, "hit.test", 1));
        }
    }
    let handed_over =
        format!("upstream_handed_over_queries_total{{upstream=\"tcp://{}\"}}", upstream.address);
    assert_eq!(program.metric(&handed_over), 0.0);
}
