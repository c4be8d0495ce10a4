//! The start without arguments, and a resolv.conf that names ourselves.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::process::{output, program};
use super::servers::{coredns_in, sidestep_in};
use super::turn;

const HOSTS: (&str, &str) = ("hosts.test", "hosts {\n 192.0.2.10 www.hosts.test\n }");

fn dig(space: &Namespace, server: SocketAddr, name: &str) -> String {
    let dig = program("dig", "SIDESTEP_DIG", "apt-get install dnsutils");
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    output(space.command(dig).args([&at, "-p", &port, name, "A", "+short", "+tries=1", "+time=5"]))
}

/// `sidestep`, then what it says to try: a newcomer's first minute.
#[test]
fn without_arguments_it_asks_the_servers_of_resolv_conf() {
    let _turn = turn();
    let space = Namespace::new("nameserver 127.0.0.1\n");
    let _server = coredns_in(&space, "127.0.0.1:53".parse().unwrap(), &[HOSTS]);
    let here = "127.0.0.1:5300".parse().unwrap();
    let us = sidestep_in(&space, here, &[]);
    assert!(us.process.log().contains("listening on 127.0.0.1:5300"), "{}", us.process.log());
    assert_eq!(dig(&space, here, "www.hosts.test"), "192.0.2.10\n");
}

/// The file names us first, as 127.0.0.53 would when it was told to ask us, then a server that answers.
#[test]
fn a_server_that_asks_us_is_left_out() {
    let _turn = turn();
    let space = Namespace::new("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
    let _server = coredns_in(&space, "127.0.0.2:53".parse().unwrap(), &[HOSTS]);
    let here = "127.0.0.1:53".parse().unwrap();
    let mut us = sidestep_in(&space, here, &["--listen", "127.0.0.1:53"]);
    us.process.wait_for("sends our own questions back to us and is left out");
    assert!(us.process.log().contains("127.0.0.1:53"), "the message names the server: {}", us.process.log());
    assert_eq!(dig(&space, here, "www.hosts.test"), "192.0.2.10\n");
    assert!(us.process.lives());
}

/// The same behind another server that forwards to us: only the probe can find out.
#[test]
fn a_server_that_forwards_to_us_is_left_out() {
    let _turn = turn();
    let space = Namespace::new("nameserver 127.0.0.53\nnameserver 127.0.0.2\n");
    let _loop = coredns_in(&space, "127.0.0.53:53".parse().unwrap(), &[(".", "forward . 127.0.0.1")]);
    let _server = coredns_in(&space, "127.0.0.2:53".parse().unwrap(), &[HOSTS]);
    let here = "127.0.0.1:53".parse().unwrap();
    let mut us = sidestep_in(&space, here, &["--listen", "127.0.0.1:53"]);
    us.process.wait_for("127.0.0.53:53 sends our own questions back to us and is left out");
    assert_eq!(dig(&space, here, "www.hosts.test"), "192.0.2.10\n");
}

/// A route without an address of ours (a node where IPv6 is half set up): the server is out, as without a route.
#[test]
fn a_server_for_which_we_have_no_address_is_out() {
    let _turn = turn();
    let space = Namespace::new("nameserver 127.0.0.1\n");
    let route = "ip link add br0 type bridge && ip link set br0 addrgenmode none up && \
                 ip addr del ::1/128 dev lo && ip -6 route add 2001:db8::/64 dev br0";
    output(space.command("sh").args(["-c", route]));
    let here = "127.0.0.1:5300".parse().unwrap();
    let mut us = sidestep_in(&space, here, &["--workers", "1", "--upstream", "tcp://[2001:db8::1]"]);
    for n in 0..3 {
        assert_eq!(dig(&space, here, &format!("n{n}.hosts.test")), "", "nobody can answer this");
    }
    us.process.wait_for("it cannot be connected to: Cannot assign requested address");
}

/// Nobody but ourselves: no crash, SERVFAIL in time; and the next resolv.conf is taken up.
#[test]
fn only_ourselves_is_survived() {
    let _turn = turn();
    let space = Namespace::new("nameserver 127.0.0.1\n");
    let here = "127.0.0.1:53".parse().unwrap();
    let mut us = sidestep_in(&space, here, &["--listen", "127.0.0.1:53"]);
    us.process.wait_for("sends our own questions back to us and is left out");
    let start = Instant::now();
    assert_eq!(dig(&space, here, "www.hosts.test"), "", "nobody can answer this");
    assert!(start.elapsed() < Duration::from_millis(5000), "SERVFAIL took {:?}", start.elapsed());
    let _server = coredns_in(&space, "127.0.0.2:53".parse().unwrap(), &[HOSTS]);
    space.write_resolv_conf("nameserver 127.0.0.2\n");
    let start = Instant::now();
    while dig(&space, here, "www.hosts.test") != "192.0.2.10\n" {
        assert!(start.elapsed() < Duration::from_secs(10), "the new resolv.conf is not used");
        sleep(Duration::from_millis(100));
    }
    assert!(us.process.lives());
}
