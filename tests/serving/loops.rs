//! Servers that come to ask us in turn while we run, or for some names only.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::query;
use crate::program::{Program, free_port, wait_for};
use crate::support::message::*;

/// Longer than it takes to look again, for loops and for servers that were left out.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that knows an address for every name, or asks somebody else, as its configuration is now.
struct Forwarder {
    address: SocketAddr,
    /// Names that end with this are asked elsewhere (wire format, lower case); `None`: no names are.
    forwards: Arc<Mutex<Option<&'static [u8]>>>,
    /// Milliseconds that it waits for others, before it says SERVFAIL.
    patience: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Forwarder {
    fn to(upstream: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let (forwards, ends) = (Arc::<Mutex<Option<&'static [u8]>>>::default(), Arc::<AtomicBool>::default());
        let (wanted, over) = (Arc::clone(&forwards), Arc::clone(&ends));
        let patience = Arc::new(AtomicU64::new(5000));
        let waits = Arc::clone(&patience);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !over.load(Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let query = buffer[..length].to_vec();
                if wanted.lock().unwrap().is_some_and(|end| question_name(&query).ends_with(end)) {
                    let socket = socket.try_clone().unwrap();
                    let patience = Duration::from_millis(waits.load(Relaxed));
                    thread::spawn(move || forward(&socket, client, &query, upstream, patience));
                } else {
                    socket.send_to(&answer(&query), client).unwrap();
                }
            }
        });
        Self { address, forwards, patience, ends }
    }

    fn forward(&self, names: Option<&'static [u8]>) {
        *self.forwards.lock().unwrap() = names;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
    }
}

/// The name of a query's question.
fn question_name(query: &[u8]) -> &[u8] {
    let length = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    &query[12..12 + length]
}

/// An address, if one is asked for, for a minute.
fn answer(query: &[u8]) -> Vec<u8> {
    let question = &query[12..12 + question_name(query).len() + 4];
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let header = [&query[..2], &[0x80, 0, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]].concat();
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    [&header[..], question, if is_a { &record } else { &[] }].concat()
}

fn forward(socket: &UdpSocket, client: SocketAddr, query: &[u8], upstream: SocketAddr, patience: Duration) {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.set_read_timeout(Some(patience)).unwrap();
    ours.send_to(query, upstream).unwrap();
    let mut buffer = [0; 4096];
    let reply = match ours.recv(&mut buffer) {
        Ok(length) => buffer[..length].to_vec(),
        Err(_) => {
            let mut failure = answer(query);
            failure.truncate(12 + question_name(query).len() + 4);
            (failure[3], failure[7]) = (2, 0);
            failure
        }
    };
    socket.send_to(&reply, client).unwrap();
}

/// A program that asks a forwarder for all names, and of which the forwarder knows.
fn pair(zones: &[&str]) -> (Forwarder, String) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let forwarder = Forwarder::to(address);
    let mut config = format!(
        "[listen]\naddresses = [\"{address}\"]\nworkers = 1\n[http]\nserve = [{{ address = \"127.0.0.1:0\" }}]\n"
    );
    for zone in zones {
        config.push_str(&format!(
            "[[zone]]\nname = \"{zone}\"\nupstreams = [\"udp://{}\"]\n",
            forwarder.address
        ));
    }
    (forwarder, config)
}

fn soon(program: &Program, text: &str) {
    let end = Instant::now() + PATIENCE;
    while program.logged(text) == 0 {
        assert!(Instant::now() < end, "not logged: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_loop_that_begins_later_is_found_and_one_that_ends_is_forgotten() {
    let (forwarder, config) = pair(&["."]);
    let program = Program::start(&config);
    let ask = |name: &str| rcode(&program.udp().ask(&query(1, name, 1)));
    assert_eq!(ask("kept.test"), 0);
    forwarder.forward(Some(b"\0"));
    // It takes the longest that a lookup may, and is what the loop is found by.
    assert_eq!(ask("first.test"), 2);
    soon(&program, "sends our own questions back to us and is left out");
    let begin = Instant::now();
    assert_eq!(ask("second.test"), 2);
    assert!(begin.elapsed() < Duration::from_secs(1), "nobody is waited for: {:?}", begin.elapsed());
    assert_eq!(ask("kept.test"), 0, "what is known stays known");
    let log = program.log();
    let told = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (told("answers again"), told("answer again"), told("of the zone are out")),
        (0, 0, 1),
        "{log:?}"
    );
    let (status, why) = program.get("/ready");
    assert!(status == 503 && why.contains("sends our own questions back"), "{why}");
    forwarder.forward(None);
    soon(&program, "does not send our questions back any more");
    wait_for("it is asked again", || ask("third.test") == 0);
    wait_for("ready", || program.get("/ready").0 == 200);
    assert_eq!(program.logged("is left out"), 1);
}

#[test]
fn a_loop_is_found_when_the_server_gives_up_before_we_do() {
    let (forwarder, config) = pair(&["."]);
    // As CoreDNS does after two seconds.
    forwarder.patience.store(500, Relaxed);
    let program = Program::start(&config);
    assert_eq!(rcode(&program.udp().ask(&query(1, "kept.test", 1))), 0);
    forwarder.forward(Some(b"\0"));
    assert_eq!(rcode(&program.udp().ask(&query(1, "first.test", 1))), 2);
    soon(&program, "sends our own questions back to us and is left out");
}

#[test]
fn a_server_that_loops_for_some_names_is_left_out_for_these() {
    let (forwarder, config) = pair(&["cluster.local", "in-addr.arpa"]);
    forwarder.forward(Some(b"\x07in-addr\x04arpa\0"));
    let program = Program::start_unready(&config);
    soon(&program, "sends our own questions back to us and is left out");
    assert_eq!(program.logged("zones=\"in-addr.arpa.\""), 1, "{:?}", program.log());
    assert_eq!(rcode(&program.udp().ask(&query(1, "a.cluster.local", 1))), 0);
    let begin = Instant::now();
    assert_eq!(rcode(&program.udp().ask(&query(1, "1.2.0.192.in-addr.arpa", 12))), 2);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
