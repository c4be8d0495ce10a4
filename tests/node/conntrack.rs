//! Connection tracking as we read it, beside what `conntrack` of the same kernel says.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use sidestep::node::conntrack::{Conntrack, Entry, Protocol};

use crate::namespace::{alone, ip};

fn shell(program: &str, arguments: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments.split(' ')).env("PATH", path).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; apt-get install nftables conntrack"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lookup(from: &UdpSocket, to: SocketAddr) -> Option<Entry> {
    Conntrack::open().unwrap().lookup(Protocol::Udp, from.local_addr().unwrap(), to).unwrap()
}

/// Two servers; what goes to 127.0.0.7:53 is translated to one at 127.0.0.8.
fn translated() -> (UdpSocket, SocketAddr) {
    let server = UdpSocket::bind("127.0.0.8:53").unwrap();
    shell("nft", "add table ip t");
    shell("nft", "add chain ip t out { type nat hook output priority -100; }");
    shell("nft", "add rule ip t out ip daddr 127.0.0.7 udp dport 53 dnat to 127.0.0.8");
    (server, "127.0.0.7:53".parse().unwrap())
}

#[test]
fn an_entry_is_found_by_its_tuple_and_tells_where_packets_went() {
    alone(|| {
        let (server, to) = translated();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(lookup(&client, to), None);
        assert_eq!(Conntrack::open().unwrap().count().unwrap(), Some(0));
        client.send_to(b"query", to).unwrap();
        assert_eq!(Conntrack::open().unwrap().count().unwrap(), Some(1));
        let entry = lookup(&client, to).unwrap();
        assert_eq!(entry.original.dst, to);
        assert_eq!(entry.original.src, client.local_addr().unwrap());
        assert_eq!(entry.translated_to(), Some(server.local_addr().unwrap()));
        let said = shell("conntrack", "-L -p udp");
        assert!(said.contains("src=127.0.0.8 dst=127.0.0.1"), "{said}");
        // Untranslated, it tells so.
        client.send_to(b"query", server.local_addr().unwrap()).unwrap();
        assert_eq!(lookup(&client, server.local_addr().unwrap()).unwrap().translated_to(), None);
    });
}

#[test]
fn all_entries_of_an_address_are_found_at_either_end_in_both_families() {
    alone(|| {
        let (server, to) = translated();
        let clients: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for client in &clients {
            client.send_to(b"query", to).unwrap();
        }
        ip("addr add fd00::53/128 dev lo nodad");
        // The kernel tracks a family only where a rule asks for it.
        shell("nft", "add table ip6 t");
        shell("nft", "add chain ip6 t out { type filter hook output priority 0; }");
        shell("nft", "add rule ip6 t out ct state new counter");
        let v6 = UdpSocket::bind("[fd00::53]:0").unwrap();
        v6.send_to(b"query", v6.local_addr().unwrap()).unwrap();
        let mut conntrack = Conntrack::open().unwrap();
        let mut count = |address: &str| conntrack.entries_of(address.parse().unwrap()).unwrap().len();
        // Before translation, after it, the clients' end, and who has nothing to do with it.
        assert_eq!(count("127.0.0.7"), 200);
        assert_eq!(count(&server.local_addr().unwrap().ip().to_string()), 200);
        assert_eq!(count("127.0.0.1"), 200);
        assert_eq!(count("127.0.0.9"), 0);
        assert_eq!(count("fd00::53"), 1);
    });
}

#[test]
fn what_is_not_tracked_has_no_entry() {
    alone(|| {
        let (_server, to) = translated();
        shell("nft", "add chain ip t raw { type filter hook output priority -300; }");
        shell("nft", "add rule ip t raw udp dport 53 notrack");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"query", to).unwrap();
        assert_eq!(lookup(&client, to), None);
    });
}

#[test]
fn the_counts_are_those_that_conntrack_shows() {
    alone(|| {
        let _server = translated();
        let totals = Conntrack::open().unwrap().totals().unwrap();
        let said = shell("conntrack", "-S");
        let sum = |name: &str| -> u64 {
            let words = said.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            words.map(|n| n.parse::<u64>().unwrap()).sum()
        };
        assert_eq!(totals.drop, sum("drop"), "{said}");
        assert_eq!(totals.insert_failed, sum("insert_failed"));
        assert_eq!(totals.early_drop, sum("early_drop"));
        assert_eq!(totals.clash_resolve, said.contains("clash_resolve=").then(|| sum("clash_resolve")));
    });
}
