//! Prometheus' own checker reads what we serve, and the pages tell the truth about real servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Client;
use super::process::{command, program};
use super::servers::{address, coredns, sidestep};
use super::turn;

const NAMES: (&str, &str) = ("any.test", "template IN A {\n answer \"{{ .Name }} 300 IN A 192.0.2.1\"\n }");

/// The status line and the body of a page.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn promtool_accepts_the_metrics() {
    let _turn = turn();
    let (at, http) = (address(), address());
    let _server = coredns(at, &[NAMES], &[]);
    let us = sidestep(&["--upstream", &at.to_string(), "--http", &http.to_string()]);
    let mut client = Client::new(us.address);
    for name in ["a.any.test.", "b.any.test.", "a.any.test."] {
        client.resolve(name).unwrap();
    }
    let (status, metrics) = get(http, "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    let promtool = program("promtool", "SIDESTEP_PROMTOOL", "apt-get install prometheus");
    let mut promtool = command(promtool, ["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Ready is who has servers that answered; healthy is who answers, with or without servers.
#[test]
fn ready_waits_for_the_server_and_health_does_not() {
    let _turn = turn();
    let (at, http) = (address(), address());
    let _us = sidestep(&["--upstream", &at.to_string(), "--http", &http.to_string()]);
    let (status, reason) = get(http, "/ready");
    assert!(status.contains(" 503 ") && !reason.is_empty(), "{status}: {reason}");
    let (status, _) = get(http, "/health");
    assert!(status.contains(" 200 "), "{status}");
    let _server = coredns(at, &[NAMES], &[]);
    let start = Instant::now();
    while !get(http, "/ready").0.contains(" 200 ") {
        assert!(start.elapsed() < Duration::from_secs(20), "the server is there, and we are not ready");
        sleep(Duration::from_millis(100));
    }
}
