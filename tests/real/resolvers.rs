//! The resolvers that programs use: glibc's and musl's, in a namespace whose resolv.conf names us.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespace::Namespace;
use super::process::{command, output, program};
use super::servers::{Server, coredns_in, sidestep_in};
use super::turn;

/// A program that prints what getaddrinfo finds, an address a line.
const GETADDRINFO: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **arguments) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *one;
    int error = count == 2 ? getaddrinfo(arguments[1], 0, &hints, &found) : EAI_FAIL;
    if (error) {
        puts(gai_strerror(error));
        return error == EAI_NONAME ? 2 : 1;
    }
    for (one = found; one; one = one->ai_next) {
        char text[64];
        getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
        puts(text);
    }
    return 0;
}
"#;

/// Both address families, a name that is only IPv4, and NXDOMAIN for `missing`: `hosts` says SERVFAIL for what it
/// does not know, because it has no SOA to give.
const HOSTS: &str = "hosts {
    192.0.2.10 both.hosts.test
    2001:db8::10 both.hosts.test
    192.0.2.11 four.hosts.test
    ttl 300
    no_reverse
 }
 template ANY ANY {
    match ^missing
    fallthrough
    rcode NXDOMAIN
    authority \"hosts.test 60 IN SOA ns.hosts.test host.hosts.test 1 7200 3600 86400 60\"
 }";

/// Names, and the addresses that a resolver must find.
const CASES: [(&str, &[&str]); 2] =
    [("both.hosts.test", &["192.0.2.10", "2001:db8::10"]), ("four.hosts.test", &["192.0.2.11"])];

/// CoreDNS at 127.0.0.2 and us at 127.0.0.1, port 53, which is where resolvers look.
fn setup() -> (Namespace, Server, Server) {
    let space = Namespace::new("nameserver 127.0.0.1\nsearch hosts.test\noptions timeout:5 attempts:1\n");
    let at: SocketAddr = "127.0.0.2:53".parse().unwrap();
    let server =
        coredns_in(&space, at, &[("hosts.test", HOSTS), (".", "template ANY ANY {\n rcode NXDOMAIN\n }")]);
    let here: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let us = sidestep_in(&space, here, &["--listen", "127.0.0.1:53", "--upstream", "tcp://127.0.0.2"]);
    (space, server, us)
}

/// The first word of each line.
fn addresses(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn glibc_finds_addresses() {
    let _turn = turn();
    let (space, _server, _us) = setup();
    let getent = program("getent", "SIDESTEP_GETENT", "apt-get install libc-bin");
    finds_addresses(&space, &command(getent, ["ahosts"]));
    // getent has one exit code for "does not exist" and "try again"; getaddrinfo itself tells them apart.
    let directory = tempfile::tempdir().unwrap();
    let getaddrinfo = compile(program("cc", "CC", "apt-get install gcc libc6-dev"), &[], directory.path());
    let getaddrinfo = Command::new(getaddrinfo);
    finds_addresses(&space, &getaddrinfo);
    knows_what_is_missing(&space, &getaddrinfo);
}

#[test]
fn musl_finds_addresses() {
    let _turn = turn();
    let (space, _server, _us) = setup();
    let directory = tempfile::tempdir().unwrap();
    let compiler = program("musl-gcc", "SIDESTEP_MUSL_GCC", "apt-get install musl-tools");
    let getaddrinfo = Command::new(compile(compiler, &["-static"], directory.path()));
    finds_addresses(&space, &getaddrinfo);
    knows_what_is_missing(&space, &getaddrinfo);
}

/// By its whole name, by the search list, and again from the cache.
fn finds_addresses(space: &Namespace, lookup: &Command) {
    for (name, expected) in CASES {
        for asked in [name, name.trim_end_matches(".hosts.test"), name] {
            let text = output(space.run(lookup).arg(asked));
            assert_eq!(addresses(&text), expected.iter().copied().collect(), "{lookup:?} {asked}: {text}");
        }
    }
}

fn knows_what_is_missing(space: &Namespace, getaddrinfo: &Command) {
    for _ in ["from the server", "from the cache"] {
        let missing = space.run(getaddrinfo).arg("missing.hosts.test").output().unwrap();
        assert_eq!(missing.status.code(), Some(2), "EAI_NONAME, not {missing:?}");
    }
}

/// The program above, with this compiler's C library.
fn compile(compiler: PathBuf, flags: &[&str], directory: &Path) -> PathBuf {
    let (source, result) = (directory.join("getaddrinfo.c"), directory.join("getaddrinfo"));
    std::fs::write(&source, GETADDRINFO).unwrap();
    output(command(compiler, flags).arg("-o").arg(&result).arg(&source));
    result
}
