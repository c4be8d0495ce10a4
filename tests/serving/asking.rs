//! What a zone says about how its upstreams are asked, as clients hear it.

use std::time::{Duration, Instant};

use crate::client::{edns_query, query};
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

#[test]
fn a_zone_with_all_its_places_taken_refuses_and_remembers_nothing() {
    let upstream = Scripted::start(Order::AtOnce, |query| {
        let wait = if query.name.starts_with("slow") { 500 } else { 0 };
        vec![Action::Wait(Duration::from_millis(wait)), Action::Answer]
    });
    // Two workers: the places are for both together.
    let config = config(&upstream, "", "max_concurrent = 4").replace("workers = 1", "workers = 2");
    let program = Program::start(&config);
    let slow: Vec<_> = (0..4).map(|_| program.udp()).collect();
    slow.iter().enumerate().for_each(|(i, udp)| udp.send(&query(1, &format!("slow{i}.test"), 1)));
    wait_for("all on their way", || program.metric("flights") == 4.0);
    for i in 0..8 {
        let answer = program.udp().ask(&edns_query(1, &format!("n{i}.test"), 1, 1232, &[]));
        assert_eq!((rcode(&answer), extended_errors(&answer)), (5, vec![0]));
    }
    assert_eq!(program.metric("max_concurrent_rejects_total{zone=\".\"}"), 8.0);
    slow.iter().for_each(|udp| assert_eq!(rcode(&udp.receive()), 0));
    wait_for("the places are given back", || program.metric("flights") == 0.0);
    assert_eq!(rcode(&program.udp().ask(&query(1, "n0.test", 1))), 0, "and nothing is remembered of it");
}

#[test]
fn while_all_upstreams_are_out_clients_may_hear_so_at_once() {
    let mut upstream = Scripted::good();
    let program =
        Program::start(&config(&upstream, "", "fail_fast = true\nmax_fails = 1\nprobe_every = \"1s\""));
    upstream.kill();
    let ask = |name: &str| {
        let start = Instant::now();
        let answer = program.udp().ask(&edns_query(1, name, 1, 1232, &[]));
        ((rcode(&answer), extended_errors(&answer)), start.elapsed())
    };
    assert_eq!(ask("first.test").0, (2, vec![23]), "the connection was refused");
    let (heard, took) = ask("second.test");
    assert_eq!(heard, (2, vec![22]), "nobody was asked");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(program.metric("all_out_total") >= 1.0);
    let _back = Scripted::start_at(upstream.address, Order::AtOnce, |_| vec![Action::Answer]);
    let mut tries = 0;
    wait_for("a probe", || {
        tries += 1;
        ask(&format!("n{tries}.test")).0.0 == 0
    });
}

#[test]
fn an_error_is_for_the_client_where_the_zone_says_so() {
    let upstream = Scripted::start(Order::AtOnce, |query| match query.name.ends_with("test") {
        true => vec![Action::Rcode(2)],
        false => vec![Action::Answer],
    });
    let good = Scripted::good();
    for (failover, heard) in [("[]", 2), ("[\"SERVFAIL\"]", 0)] {
        let both = format!("\"{}\", \"{}\"", upstream.address, good.address);
        let keys = format!("policy = \"ordered\"\nfailover = {failover}");
        let config = config(&upstream, "", &keys).replace(&format!("\"{}\"", upstream.address), &both);
        assert_eq!(rcode(&Program::start(&config).udp().ask(&query(1, "a.test", 1))), heard, "{failover}");
    }
}

/// A server that says so of every name in `test`, and answers all else.
fn saying(rcode: u8) -> Scripted {
    Scripted::start(Order::AtOnce, move |query| match query.name.ends_with("test") {
        true => vec![Action::Rcode(rcode)],
        false => vec![Action::Answer],
    })
}

#[test]
fn others_are_asked_next_for_what_the_first_do_not_have() {
    let (nxdomain, empty, good) = (saying(3), saying(0), Scripted::good());
    let [to_empty, to_good] = [("NXDOMAIN", &empty), ("NODATA", &good)]
        .map(|(on, server)| format!("{{ on = [\"{on}\"], upstreams = [\"{}\"] }}", server.address));
    for (next, heard, records_heard) in [
        (String::new(), 3, 0),
        (to_empty.clone(), 0, 0),
        (format!("{to_empty}, {to_good}"), 0, 1),
        (to_good.clone(), 3, 0),
    ] {
        let program = Program::start(&config(&nxdomain, "", &format!("next = [{next}]")));
        let answer = program.udp().ask(&query(1, "a.test", 1));
        assert_eq!((rcode(&answer), records(&answer).len()), (heard, records_heard), "{next}");
        program.udp().ask(&query(1, "a.example", 1));
        let asks = format!("zone . asks tcp://{}", nxdomain.address);
        let chain = [&to_empty, &to_good].iter().filter(|entry| next.contains(entry.as_str())).count();
        assert_eq!(program.logged(&asks), 1);
        assert_eq!(program.logged("; next tcp://"), usize::from(chain > 0), "in one line: {next}");
    }
    assert_eq!(good.asked("a.test"), 1);
    assert_eq!(
        [&empty, &good].map(|server| server.asked("a.example")),
        [0, 0],
        "what the first have is theirs"
    );
}

#[test]
fn whoever_cannot_be_reached_leads_nowhere_and_all_share_the_time() {
    let (mut dead, good) = (Scripted::good(), Scripted::good());
    let next =
        format!("next = [{{ on = [\"NXDOMAIN\", \"SERVFAIL\"], upstreams = [\"{}\"] }}]", good.address);
    let program = Program::start(&config(&dead, "", &next));
    dead.kill();
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 2);
    assert_eq!(good.asked("a.test"), 0);
    let nxdomain = Scripted::start(Order::AtOnce, |query| match query.name.ends_with("test") {
        true => vec![Action::Wait(Duration::from_millis(700)), Action::Rcode(3)],
        false => vec![Action::Answer],
    });
    let silent = Scripted::start(Order::AtOnce, |query| match query.name.ends_with("test") {
        true => vec![Action::Silence],
        false => vec![Action::Answer],
    });
    let next = format!("next = [{{ on = [\"NXDOMAIN\"], upstreams = [\"{}\"] }}]", silent.address);
    let times = "[upstream]\ndeadline = \"1500ms\"\n[cache]\nstale_after = \"1s\"";
    let program = Program::start(&config(&nxdomain, "", &format!("{next}\n{times}")));
    let start = Instant::now();
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 2);
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
}
