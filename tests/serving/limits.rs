//! TCP clients: answered as answers come, bounded in what they cost, never in each other's way.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::client::{Tcp, edns_query, frame, query};
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Query, Scripted};

/// Names that begin with "slow" take half a second.
fn upstream() -> Scripted {
    Scripted::start(Order::AtOnce, |query| {
        let wait = if query.name.starts_with("slow") { 500 } else { 0 };
        vec![Action::Wait(Duration::from_millis(wait)), Action::Answer]
    })
}

#[test]
fn pipelined_queries_are_answered_as_they_complete() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "", ""));
    let mut tcp = program.tcp();
    let queries = [query(1, "slow.test", 1), query(2, "fast.test", 1), query(3, "b.test", 28)];
    tcp.0.write_all(&queries.iter().flat_map(|q| frame(q)).collect::<Vec<_>>()).unwrap();
    let mut ids: Vec<_> = (0..3).map(|_| word(&tcp.receive().expect("an answer"), 0)).collect();
    assert_eq!(ids.pop(), Some(1), "the slow one comes last");
}

#[test]
fn a_query_may_come_byte_by_byte_and_the_client_may_shut_down_its_side() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "", ""));
    let mut tcp = program.tcp();
    for byte in frame(&query(5, "slow.test", 1)) {
        tcp.0.write_all(&[byte]).unwrap();
    }
    tcp.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(word(&tcp.receive().expect("an answer"), 0), 5);
    assert!(tcp.receive().is_none(), "and then it is closed");
}

#[test]
fn connections_are_limited_in_all_and_per_client() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_connections = 3\ntcp_per_client = 2", ""));
    let open = |own| {
        let mut tcp = Tcp::from(own, program.address);
        let _ = tcp.try_send(&query(1, "a.test", 1));
        let answered = tcp.receive().is_some();
        (tcp, answered)
    };
    let first = open([127, 0, 0, 1]);
    let second = open([127, 0, 0, 1]);
    assert!(first.1 && second.1);
    assert!(!open([127, 0, 0, 1]).1, "this client has two");
    let third = open([127, 0, 0, 2]);
    assert!(third.1, "another has none");
    assert!(!open([127, 0, 0, 3]).1, "three in all");
    assert_eq!(program.metric("tcp_closed_connections_total{reason=\"per_client_limit\"}"), 1.0);
    assert_eq!(program.metric("tcp_closed_connections_total{reason=\"connections_limit\"}"), 1.0);
    drop(first);
    wait_for("the place is given back", || program.metric("tcp_connections") == 2.0);
    assert!(open([127, 0, 0, 1]).1);
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 0);
}

#[test]
fn a_connection_ends_after_so_many_queries_and_all_of_them_are_answered() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_queries = 5", ""));
    let mut tcp = program.tcp();
    let queries: Vec<u8> = (0..8).flat_map(|i| frame(&query(i, &format!("slow{i}.test"), 1))).collect();
    let start = Instant::now();
    tcp.0.write_all(&queries).unwrap();
    let mut ids: Vec<_> = std::iter::from_fn(|| tcp.receive()).map(|m| word(&m, 0)).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    assert!(start.elapsed() < Duration::from_secs(5), "closed when it is done: {:?}", start.elapsed());
    wait_for("counted", || program.metric("tcp_closed_connections_total{reason=\"queries_limit\"}") == 1.0);
    // Hits take another way: all at once.
    let mut tcp = program.tcp();
    let start = Instant::now();
    let hits: Vec<u8> = (0..5).flat_map(|i| frame(&query(i, "slow1.test", 1))).collect();
    tcp.0.write_all(&hits).unwrap();
    assert_eq!(std::iter::from_fn(|| tcp.receive()).count(), 5);
    assert!(start.elapsed() < Duration::from_secs(5), "closed when it is done: {:?}", start.elapsed());
}

#[test]
fn a_client_that_asks_far_too_much_still_reads_its_answers() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_queries = 500", ""));
    program.udp().ask(&query(1, "a.test", 1));
    let mut tcp = Tcp::narrow(program.address);
    let queries: Vec<u8> = (0..1500).flat_map(|i| frame(&query(i, "a.test", 1))).collect();
    tcp.0.write_all(&queries).unwrap();
    // What it has no room for waits in our kernel: a reset would take it away.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(std::iter::from_fn(|| tcp.receive()).count(), 500);
}

/// The answers that were under way when it stopped reading are some 8 MB.
#[test]
fn a_client_that_does_not_read_large_answers_is_sent_away() {
    let upstream = Scripted::start(Order::AtOnce, |q| match q.name.starts_with("large") {
        true => vec![Action::Wait(Duration::from_millis(500)), Action::Message(large(q))],
        false => vec![Action::Answer],
    });
    let program = Program::start(&config(&upstream, "tcp_idle = \"1h\"", ""));
    let mut tcp = Tcp::narrow(program.address);
    let queries: Vec<u8> = (0..128).flat_map(|i| frame(&query(i, &format!("large{i}.test"), 16))).collect();
    tcp.0.write_all(&queries).unwrap();
    wait_for("sent away", || program.metric("tcp_closed_connections_total{reason=\"timeout\"}") == 1.0);
    assert_eq!(program.metric("tcp_connections"), 0.0);
}

#[test]
fn a_client_that_asks_for_many_large_answers_at_once_gets_them_all() {
    let upstream = Scripted::start(Order::AtOnce, |q| vec![Action::Message(large(q))]);
    let program = Program::start(&config(&upstream, "", ""));
    let mut tcp = program.tcp();
    let ask = |id| frame(&query(id, "large.test", 16));
    tcp.0.write_all(&ask(0)).unwrap();
    assert!(tcp.receive().is_some(), "now it is cached");
    tcp.0.write_all(&(1..=20).flat_map(ask).collect::<Vec<_>>()).unwrap();
    tcp.0.shutdown(std::net::Shutdown::Write).unwrap();
    let ids: Vec<_> = std::iter::from_fn(|| tcp.receive()).map(|m| word(&m, 0)).collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
    wait_for("closed", || program.metric("tcp_connections") == 0.0);
    assert_eq!(program.metric("tcp_closed_connections_total{reason=\"broken\"}"), 0.0);
}

/// An answer of some 64 KB: one TXT record of many strings.
fn large(query: &Query) -> Vec<u8> {
    let text = [&[255][..], &[b'x'; 255]].concat().repeat(250);
    let mut message = query.rcode(0);
    message.truncate(12 + query.name.len() + 2 + 4);
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    message.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
    message.extend((text.len() as u16).to_be_bytes());
    message.extend(text);
    message
}

#[test]
fn idle_and_dribbling_clients_are_closed() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_idle = \"1s\"", ""));
    let (mut idle, mut half, mut dribbling) = (program.tcp(), program.tcp(), program.tcp());
    half.0.write_all(&frame(&query(1, "a.test", 1))[..7]).unwrap();
    let start = Instant::now();
    let whole = frame(&query(1, "a.test", 1));
    let mut sent = 0;
    while sent < whole.len() && dribbling.0.write_all(&whole[sent..=sent]).is_ok() {
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
        if start.elapsed() > Duration::from_millis(1500) {
            break;
        }
    }
    assert!(dribbling.receive().is_none() && half.receive().is_none() && idle.receive().is_none());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(program.metric("tcp_closed_connections_total{reason=\"timeout\"}"), 2.0, "idle is no failure");
    assert_eq!(program.metric("tcp_connections"), 0.0);
}

#[test]
fn a_message_that_is_too_long_or_cut_short_ends_the_connection() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "", ""));
    let mut long = program.tcp();
    long.0.write_all(&[0xff; 600]).unwrap();
    assert!(long.receive().is_none());
    let mut cut = program.tcp();
    cut.0.write_all(&[0, 50, 1, 2, 3]).unwrap();
    cut.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(cut.receive().is_none());
    assert_eq!(program.metric("tcp_closed_connections_total{reason=\"broken\"}"), 2.0);
}

#[test]
fn clients_that_do_not_read_delay_nobody() {
    let upstream = Scripted::start(Order::AtOnce, |query| {
        let end = 12 + question(&query.name, query.rtype).len();
        let text = [&[200u8][..], &[b'x'; 200]].concat();
        let answers = vec![record(QNAME, 16, 600, &text); 200];
        let id = word(&query.message, 0);
        vec![Action::Message(message(id, REPLY, &query.message[12..end], [&answers, &[], &[]]))]
    });
    let program = Program::start(&config(&upstream, "tcp_idle = \"2s\"", ""));
    let large = query(1, "large.test", 16);
    assert!(program.tcp().ask(&large).len() > 40_000);
    let many: Vec<u8> = (0..2000).flat_map(|_| frame(&large)).collect();
    let deaf: Vec<_> = (0..10)
        .map(|_| {
            let tcp = program.tcp();
            tcp.0.set_nonblocking(true).unwrap();
            // As much as its kernel and ours take: 80 MB of answers each, if nothing was bounded.
            let _ = (&tcp.0).write(&many);
            tcp
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    for i in 0..50 {
        let start = Instant::now();
        udp.ask(&edns_query(i, "large.test", 16, 1232, &[]));
        tcp.ask(&large);
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }
    let resident = program.metric("resident_memory_bytes");
    assert!(resident < 64e6, "{resident} bytes");
    wait_for("they are closed", || {
        program.metric("tcp_closed_connections_total{reason=\"timeout\"}") == 10.0
    });
    drop(deaf);
}

#[test]
fn a_client_has_so_many_queries_under_way_and_all_are_answered() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_pipeline = 4", ""));
    let mut tcp = program.tcp();
    let queries: Vec<u8> = (0..12).flat_map(|i| frame(&query(i, &format!("slow{i}.test"), 1))).collect();
    tcp.0.write_all(&queries).unwrap();
    tcp.0.shutdown(std::net::Shutdown::Write).unwrap();
    let mut most = 0.0f64;
    wait_for("the last query", || {
        most = most.max(program.metric("flights"));
        upstream.asked("slow11.test") > 0
    });
    assert_eq!(most, 4.0);
    let mut ids: Vec<_> = std::iter::from_fn(|| tcp.receive()).map(|m| word(&m, 0)).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}

/// It writes and reads as fast as it can, on the thread that the others are on.
#[test]
fn a_client_that_asks_faster_than_we_answer_does_not_hold_up_others() {
    let upstream = upstream();
    let program = Program::start(&config(&upstream, "tcp_queries = 4294967295", ""));
    program.udp().ask(&query(1, "warm.test", 1));
    let greedy = program.tcp().0;
    let mut reader = greedy.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    let mut writer = greedy.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let many = frame(&query(2, "warm.test", 1)).repeat(1000);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && writer.write_all(&many).is_ok() {}
    });
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    for id in 0..20 {
        program.udp().ask(&query(id, "warm.test", 1));
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(!writing.is_finished(), "all the while it asks");
    greedy.shutdown(std::net::Shutdown::Both).unwrap();
    writing.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn no_descriptor_left_is_no_fault_of_the_upstream() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let upstream = upstream();
    let config = config(&upstream, "", "").replace("upstreams = [\"", "upstreams = [\"udp://");
    let program = Program::start(&config);
    let pid = Pid::from_raw(program.pid().try_into().unwrap());
    let before = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(3), ..before };
    prlimit(pid, Resource::Nofile, none).unwrap();
    for id in 0..5 {
        let answer = program.udp().ask(&query(id, &format!("{id}.test"), 1));
        assert_eq!(answer[3] & 15, 2, "SERVFAIL: there is no socket to ask with");
    }
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert_eq!(program.logged("taken out"), 0);
    assert_eq!(program.udp().ask(&query(9, "0.test", 1))[3] & 15, 0, "and nothing is remembered of it");
}
