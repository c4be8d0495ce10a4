//! From the start to the end of the program: addresses, pages, idleness, signals.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{Tcp, Udp, query};
use crate::program::{Program, config, free_port, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

/// A server that asks us in turn, as one does that forwards to the node, and knows nothing itself.
fn asking(us: &str) -> Scripted {
    let (us, socket) = (us.to_owned(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    Scripted::start(Order::AtOnce, move |query| {
        socket.send_to(&query.message, &us).unwrap();
        vec![Action::Wait(Duration::from_millis(100)), Action::Rcode(2)]
    })
}

#[test]
fn a_second_instance_names_the_first_and_ends() {
    let upstream = Scripted::good();
    let address = format!("127.0.0.1:{}", free_port());
    let config = config(&upstream, "", "").replacen("127.0.0.1:0", &address, 1);
    let first = Program::start(&config);
    let second = Command::new(env!("CARGO_BIN_EXE_sidestep"))
        .args(["--listen", &address, "--upstream", &upstream.address.to_string()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("process {}", first.pid())) && said.contains(&address), "{said}");
    assert_eq!(rcode(&first.udp().ask(&query(1, "a.test", 1))), 0, "the first goes on");
}

#[test]
fn a_server_that_asks_us_is_left_out_and_the_other_makes_us_ready() {
    let upstream = Scripted::good();
    let address = format!("127.0.0.1:{}", free_port());
    let looping = asking(&address);
    let both = format!("upstreams = [\"{}\", \"udp://{}\"]", upstream.address, looping.address);
    let config = config(&upstream, "", "").replacen("127.0.0.1:0", &address, 1);
    let lines: Vec<_> =
        config.lines().map(|l| if l.starts_with("upstreams") { both.as_str() } else { l }).collect();
    let program = Program::start(&lines.join("\n"));
    let told = format!("udp://{} sends our own questions back", looping.address);
    wait_for("the loop is found", || program.logged(&told) == 1);
    // Twice, where the good one had answered before the loop was found: the zone is answered for anew.
    assert!((1..=2).contains(&program.logged("ready: every zone")), "{:?}", program.log());
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 0);
}

#[test]
fn every_miss_is_a_line_at_debug_level() {
    let upstream = Scripted::good();
    let mut program = Program::start(&config(&upstream, "", "[log]\nlevel = \"debug\""));
    for _ in 0..2 {
        assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 0);
    }
    program.wait_for_log("name=a.test. rtype=A rcode=0");
    assert_eq!(program.logged("name=a.test."), 1, "hits are no lines");
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let upstream = Scripted::good();
    let wild = config(&upstream, "", "").replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    let program = Program::start(&wild);
    for ip in [[127, 0, 0, 1], [127, 0, 0, 5], [127, 9, 9, 9]] {
        let address = (ip, program.address.port()).into();
        let (udp, mut tcp) = (Udp::to(address), Tcp::to(address));
        for _ in 0..2 {
            let name = format!("n{}.test", ip[3]);
            assert_eq!(records(&udp.ask(&query(1, &name, 1))).len(), 1, "a miss, then a hit");
            assert_eq!(records(&tcp.ask(&query(1, &name, 1))).len(), 1);
        }
    }
}

#[test]
fn ipv6_is_served_alike() {
    let upstream = Scripted::good();
    for listen in ["[::1]:0", "[::]:0"] {
        let program = Program::start(&config(&upstream, "", "").replacen("127.0.0.1:0", listen, 1));
        let address = ([0, 0, 0, 0, 0, 0, 0, 1], program.address.port()).into();
        for _ in 0..2 {
            assert_eq!(records(&Udp::to(address).ask(&query(1, "a.test", 1))).len(), 1);
            assert_eq!(records(&Tcp::to(address).ask(&query(1, "a.test", 1))).len(), 1);
        }
    }
}

#[test]
fn two_workers_share_the_cache() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", "").replace("workers = 1", "workers = 2"));
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 0);
    for i in 0..40 {
        assert_eq!(rcode(&program.udp().ask(&query(i, "a.test", 1))), 0);
        assert_eq!(rcode(&program.tcp().ask(&query(i, "a.test", 1))), 0);
    }
    assert_eq!(upstream.asked("a.test"), 1, "each new port may meet another worker");
}

#[test]
fn health_is_there_at_once_and_ready_when_the_upstreams_have_answered() {
    let mut upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
    let program = Program::start_unready(&config(&upstream, "", ""));
    assert_eq!(program.get("/health").0, 200);
    let (status, why) = program.get("/ready");
    assert!(status == 503 && why.contains("zone ."), "{why}");
    assert_eq!(program.get("/nothing").0, 404);
    assert!(program.get("/metrics").1.contains("sidestep_workers 1"));
    upstream.kill();
    let refusing = Scripted::start_at(upstream.address, Order::AtOnce, |_| vec![Action::Rcode(5)]);
    wait_for("any response code will do", || program.get("/ready").0 == 200);
    drop(refusing);
    assert_eq!(program.get("/ready").0, 200, "once since the start is enough");
}

#[test]
fn the_pages_count_what_was_asked() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    (0..3).for_each(|_| drop(udp.ask(&query(1, "a.test", 1))));
    program.tcp().ask(&query(1, "a.test", 28));
    for (metric, value) in [
        ("queries_total{zone=\".\",protocol=\"udp\",family=\"ipv4\",type=\"A\"}", 3.0),
        ("queries_total{zone=\".\",protocol=\"tcp\",family=\"ipv4\",type=\"AAAA\"}", 1.0),
        ("hits_total{zone=\".\",kind=\"positive\"}", 2.0),
        ("misses_total{zone=\".\"}", 2.0),
        ("answers_total{zone=\".\",rcode=\"NOERROR\"}", 4.0),
        ("hit_duration_seconds_count{zone=\".\"}", 2.0),
        ("miss_duration_seconds_count{zone=\".\"}", 2.0),
        ("cache_entries", 2.0),
        ("flights", 0.0),
    ] {
        assert_eq!(program.metric(metric), value, "{metric}");
    }
}

#[test]
fn what_is_under_way_is_finished_before_the_end() {
    let upstream = Scripted::start(Order::AtOnce, |query| {
        let wait = if query.name.ends_with("test") { 700 } else { 0 };
        vec![Action::Wait(Duration::from_millis(wait)), Action::Answer]
    });
    let mut program = Program::start(&config(&upstream, "", ""));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    udp.send(&query(1, "a.test", 1));
    tcp.send(&query(2, "b.test", 1));
    wait_for("both are under way", || program.metric("flights") == 2.0);
    let start = Instant::now();
    program.signal(Signal::TERM);
    assert_eq!(records(&udp.receive()).len(), 1);
    assert_eq!(records(&tcp.receive().expect("an answer")).len(), 1);
    assert_eq!(program.end().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(program.logged("stopped"), 1);
}

/// Clock ticks of processor time (10 ms each) and how often its threads went to sleep.
fn used(pid: u32) -> (u64, u64) {
    let mut used = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let stat = std::fs::read_to_string(task.join("stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        used.0 += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        used.1 += line.unwrap().trim().parse::<u64>().unwrap();
    }
    used
}

#[test]
fn an_idle_process_uses_no_processor_time() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let mut tcp = program.tcp();
    tcp.ask(&query(1, "a.test", 1));
    program.udp().ask(&query(1, "b.test", 1));
    // Timers that are due (a connection's idle time) may fall into one window, hardly into all of them.
    let window = || {
        let before = used(program.pid());
        std::thread::sleep(Duration::from_secs(2));
        let after = used(program.pid());
        (after.0 - before.0, after.1 - before.1)
    };
    let windows: Vec<_> = (0..4).map(|_| window()).collect();
    assert!(windows.iter().any(|&(ticks, sleeps)| ticks == 0 && sleeps <= 1), "{windows:?}");
    assert!(windows.iter().all(|&(ticks, sleeps)| ticks <= 1 && sleeps <= 30), "{windows:?}");
}

#[test]
fn an_upstream_that_asks_us_is_left_out_over_both_transports() {
    let address = format!("127.0.0.1:{}", free_port());
    let (upstream, looping) = (Scripted::good(), asking(&address));
    for transport in ["tcp://", "udp://"] {
        let config = config(&upstream, "", "").replacen("127.0.0.1:0", &address, 1);
        let config = config.replace(
            &format!("\"{}\"", upstream.address),
            &format!("\"{transport}{}\", \"{}\"", looping.address, upstream.address),
        );
        let mut program = Program::start_unready(&config);
        program.wait_for_log("sends our own questions back to us and is left out");
        for i in 0..10 {
            let answer = program.udp().ask(&query(i, &format!("n{i}.test"), 1));
            assert_eq!((rcode(&answer), records(&answer).len()), (0, 1), "the other is asked");
        }
        assert_eq!(program.logged("left out"), 1, "said once");
    }
}

#[test]
fn without_any_upstream_left_clients_hear_at_once() {
    let address = format!("127.0.0.1:{}", free_port());
    let looping = asking(&address);
    let config = config(&looping, "", "").replacen("127.0.0.1:0", &address, 1);
    let mut program = Program::start_unready(&config);
    program.wait_for_log("left out");
    let start = Instant::now();
    let answer = program.udp().ask(&crate::client::edns_query(1, "a.test", 1, 1232, &[]));
    assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![23]));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Each worker finds out for itself, but people read it once: per server, and per zone.
#[test]
fn an_outage_is_told_once_however_many_workers_there_are() {
    let mut upstream = Scripted::good();
    let text = config(&upstream, "", "").replacen("workers = 1", "workers = 2", 1);
    let program = Program::start(&text);
    let mut number = 0;
    // A socket each: the kernel spreads clients over the workers by their ports.
    let mut ask = |program: &Program| {
        number += 1;
        rcode(&program.udp().ask(&query(1, &format!("n{number}.test"), 1)))
    };
    assert_eq!(ask(&program), 0);
    let out = format!("upstream_out_workers{{upstream=\"tcp://{}\"}}", upstream.address);
    upstream.kill();
    wait_for("both workers find out", || {
        assert_eq!(ask(&program), 2);
        program.metric(&out) == 2.0
    });
    assert_eq!(ask(&program), 2);
    assert_eq!(program.logged("upstream taken out"), 1);
    assert_eq!(program.logged("all upstreams of the zone are out"), 1);
    let _back = Scripted::start_at(upstream.address, Order::AtOnce, |_| vec![Action::Answer]);
    wait_for("both workers find it again", || {
        ask(&program);
        program.metric(&out) == 0.0
    });
    assert_eq!(program.logged("upstream answers again"), 1);
    assert_eq!(program.logged("upstreams of the zone answer again"), 1);
}
