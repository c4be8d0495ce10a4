//! `svc://` upstreams: the pods behind a name, found out through the zone's other server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::query;
use crate::program::{Program, free_port, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

const NAME: &str = "dns.svc.test";

/// What the server says about [`NAME`]: the last bytes of addresses in 127.0.0.0/8, or a response code.
type Says = Arc<Mutex<Result<Vec<u8>, u8>>>;

/// A server in front of pods. Addresses live for a second, which is shorter than they are asked for again.
fn bootstrap(says: &Says) -> Scripted {
    let says = Arc::clone(says);
    Scripted::start(Order::AtOnce, move |query| {
        if query.name != NAME {
            return vec![Action::Answer];
        }
        let lasts = match &*says.lock().unwrap() {
            Ok(lasts) if query.rtype == 1 => lasts.clone(),
            Ok(_) => Vec::new(),
            Err(code) => return vec![Action::Rcode(*code)],
        };
        let end = 12 + question(&query.name, query.rtype).len();
        let answers: Vec<_> = lasts.iter().map(|&last| record(QNAME, 1, 1, &[127, 0, 0, last])).collect();
        let id = word(&query.message, 0);
        vec![Action::Message(message(id, REPLY, &query.message[12..end], [&answers, &[], &[]]))]
    })
}

fn says(lasts: &[u8]) -> Says {
    Arc::new(Mutex::new(Ok(lasts.to_vec())))
}

fn pod(last: u8, port: u16) -> Scripted {
    Scripted::start_at(SocketAddr::from(([127, 0, 0, last], port)), Order::AtOnce, |_| vec![Action::Answer])
}

fn config(bootstrap: &Scripted, port: u16) -> String {
    let server = format!("\"{}\"", bootstrap.address);
    let both = format!("{server}, \"svc://{NAME}:{port}\"");
    // Who is asked is counted: no question goes to a second one because the first is slow.
    crate::program::config(bootstrap, "", "[upstream]\nhedge_percent = 0\n").replacen(&server, &both, 1)
}

/// Asks for `names` of this kind, none of which is in the cache yet.
fn ask(program: &Program, kind: &str, names: usize) {
    let udp = program.udp();
    for n in 0..names {
        assert_eq!(rcode(&udp.ask(&query(1, &format!("n{n}.{kind}.test"), 1))), 0);
    }
}

/// How many names of this kind it was asked for.
fn asked(server: &Scripted, kind: &str) -> usize {
    server.seen().iter().filter(|q| q.name.ends_with(&format!(".{kind}.test"))).count()
}

fn asks(program: &mut Program, bootstrap: &Scripted, pods: &[&Scripted]) {
    let pods: Vec<_> = pods.iter().map(|pod| format!("tcp://{}", pod.address)).collect();
    program.wait_for_log(&format!("zone . asks {}; in reserve tcp://{}", pods.join(", "), bootstrap.address));
}

#[test]
fn questions_are_spread_over_the_pods_and_the_other_server_is_left_alone() {
    let (port, says) = (free_port(), says(&[3, 2, 3]));
    let (bootstrap, two, three) = (bootstrap(&says), pod(2, port), pod(3, port));
    let mut program = Program::start(&config(&bootstrap, port));
    asks(&mut program, &bootstrap, &[&two, &three]);
    ask(&program, "spread", 40);
    let (two, three) = (asked(&two, "spread"), asked(&three, "spread"));
    assert_eq!((two + three, asked(&bootstrap, "spread")), (40, 0));
    assert!(two >= 10 && three >= 10, "{two} and {three}");
    assert_eq!(program.metric("service_addresses{zone=\".\"}"), 2.0);
    assert_eq!(program.metric("service_refreshes_total{zone=\".\",result=\"ok\"}"), 1.0);
}

#[test]
fn the_start_does_not_wait_for_the_pods() {
    let says: Says = Arc::new(Mutex::new(Err(2)));
    let bootstrap = bootstrap(&says);
    let port = free_port();
    let mut program = Program::start(&config(&bootstrap, port));
    program.wait_for_log("no addresses for svc://");
    ask(&program, "early", 5);
    assert_eq!(asked(&bootstrap, "early"), 5);
    let two = pod(2, port);
    *says.lock().unwrap() = Ok(vec![2]);
    asks(&mut program, &bootstrap, &[&two]);
    program.wait_for_log("there are addresses for svc://");
    ask(&program, "late", 5);
    assert_eq!((asked(&bootstrap, "late"), asked(&two, "late")), (0, 5));
    assert_eq!(program.get("/ready").0, 200);
}

#[test]
fn pods_come_and_go_with_the_ttl_and_what_was_cached_stays() {
    let (port, says) = (free_port(), says(&[2]));
    let (bootstrap, two, three) = (bootstrap(&says), pod(2, port), pod(3, port));
    let mut program = Program::start(&config(&bootstrap, port));
    asks(&mut program, &bootstrap, &[&two]);
    ask(&program, "before", 5);
    *says.lock().unwrap() = Ok(vec![3]);
    let start = Instant::now();
    asks(&mut program, &bootstrap, &[&three]);
    assert!(start.elapsed() > Duration::from_secs(2), "a TTL of a second is taken for five");
    ask(&program, "before", 5);
    assert_eq!((asked(&two, "before"), asked(&three, "before")), (5, 0), "these are hits");
    ask(&program, "after", 5);
    assert_eq!((asked(&two, "after"), asked(&three, "after")), (0, 5));
    wait_for("the old connections close", || two.open_connections() == 0);
}

#[test]
fn a_refresh_that_fails_changes_nothing_and_is_told_once() {
    let (port, says) = (free_port(), says(&[2]));
    let (bootstrap, two) = (bootstrap(&says), pod(2, port));
    let mut program = Program::start(&config(&bootstrap, port));
    asks(&mut program, &bootstrap, &[&two]);
    // No such name; then there is one, without addresses.
    *says.lock().unwrap() = Err(3);
    let failed = "service_refreshes_total{zone=\".\",result=\"failed\"}";
    wait_for("a failure", || program.metric(failed) >= 1.0);
    *says.lock().unwrap() = Ok(vec![]);
    wait_for("one more", || program.metric(failed) >= 2.0);
    ask(&program, "failing", 5);
    assert_eq!((asked(&bootstrap, "failing"), asked(&two, "failing")), (0, 5));
    assert_eq!(program.logged("no addresses for svc://"), 1);
    *says.lock().unwrap() = Ok(vec![2]);
    program.wait_for_log("there are addresses for svc://");
    assert_eq!(program.logged("zone . asks"), 2, "at the start, and with the pod: {:?}", program.log());
}

#[test]
fn when_all_pods_are_dead_the_other_server_answers() {
    let (port, says) = (free_port(), says(&[2, 3]));
    let (bootstrap, mut two, mut three) = (bootstrap(&says), pod(2, port), pod(3, port));
    let mut program = Program::start(&config(&bootstrap, port));
    asks(&mut program, &bootstrap, &[&two, &three]);
    ask(&program, "alive", 5);
    two.kill();
    ask(&program, "half", 10);
    assert_eq!((asked(&three, "half"), asked(&bootstrap, "half")), (10, 0));
    three.kill();
    ask(&program, "dead", 20);
    assert_eq!(asked(&bootstrap, "dead"), 20);
    assert_eq!(program.logged("all upstreams of the zone are out"), 0);
    let two = pod(2, port);
    let mut n = 0;
    wait_for("the pod is asked again", || {
        n += 1;
        ask(&program, &format!("back{n}"), 1);
        !two.seen().is_empty()
    });
}

#[test]
fn a_reload_takes_services_in_and_out() {
    let (port, says) = (free_port(), says(&[2]));
    let (bootstrap, two) = (bootstrap(&says), pod(2, port));
    let (plain, with) = (crate::program::config(&bootstrap, "", ""), config(&bootstrap, port));
    let mut program = Program::start(&plain);
    ask(&program, "plain", 5);
    assert_eq!((asked(&bootstrap, "plain"), bootstrap.asked(NAME)), (5, 0));
    program.rewrite(&with);
    asks(&mut program, &bootstrap, &[&two]);
    ask(&program, "with", 5);
    assert_eq!((asked(&bootstrap, "with"), asked(&two, "with")), (0, 5));
    // The pods stay in use across a reload, and are asked for at once.
    let before = bootstrap.asked(NAME);
    program.signal(Signal::HUP);
    wait_for("the reload", || program.logged("configuration reloaded") == 2);
    wait_for("a refresh", || bootstrap.asked(NAME) > before);
    ask(&program, "again", 5);
    assert_eq!((asked(&bootstrap, "again"), asked(&two, "again")), (0, 5));
    program.rewrite(&plain);
    wait_for("the third reload", || program.logged("configuration reloaded") == 3);
    ask(&program, "without", 5);
    assert_eq!((asked(&bootstrap, "without"), asked(&two, "without")), (5, 0));
    assert_eq!(program.metric("service_addresses{zone=\".\"}"), 0.0);
}
