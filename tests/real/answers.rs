//! What dig, kdig and a pipelining client get through us is what the server says itself: the same response
//! code and the same records in each section. TTLs may only have gone down, and addresses may have changed
//! places.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use super::client::query;
use super::process::{command, output, program};
use super::servers::{Server, address, coredns, sidestep, unbound};
use super::turn;

const ZONE: &str = r#"$ORIGIN example.test.
$TTL 300
@ IN SOA ns hostmaster 1 7200 3600 86400 60
@ IN NS ns
@ IN MX 10 mail
@ IN CAA 0 issue "ca.example"
ns IN A 192.0.2.1
mail IN A 192.0.2.25
www IN A 192.0.2.10
www IN A 192.0.2.11
www IN A 192.0.2.12
www IN AAAA 2001:db8::10
alias IN CNAME deep
deep IN CNAME www
outside IN CNAME www.elsewhere.test.
text IN TXT "one" "two words" "\"quoted\""
_dns._udp IN SRV 0 5 53 ns
*.wild IN A 192.0.2.77
odd IN TYPE65280 \# 4 0A000001
empty IN TYPE65281 \# 0
service IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.10
"#;

/// Names and types, each asked for at both servers.
const QUESTIONS: [(&str, &str); 19] = [
    ("www.example.test", "A"),
    ("www.example.test", "AAAA"),
    ("WwW.eXample.test", "A"),
    ("example.test", "SOA"),
    ("example.test", "NS"),
    ("example.test", "MX"),
    ("example.test", "CAA"),
    ("alias.example.test", "A"),
    ("outside.example.test", "A"),
    ("text.example.test", "TXT"),
    ("_dns._udp.example.test", "SRV"),
    ("any.wild.example.test", "A"),
    ("odd.example.test", "TYPE65280"),
    ("empty.example.test", "TYPE65281"),
    ("service.example.test", "HTTPS"),
    ("missing.example.test", "A"),
    ("www.example.test", "MX"),
    ("name.template.test", "A"),
    ("www.hosts.test", "A"),
];

/// What a tool shows of an answer. Of one that is cut short no records: how many are in it is each server's own affair.
#[derive(Debug, PartialEq)]
struct Shown {
    rcode: String,
    /// Answer, authority and additional section, each sorted, without TTLs.
    sections: [BTreeSet<String>; 3],
}

/// Asks with dig or kdig; both print sections alike. The largest TTL comes with it.
fn ask(tool: &Path, server: SocketAddr, name: &str, rtype: &str, more: &[&str]) -> (Shown, u32) {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let wait = if tool.ends_with("kdig") { ["+retry=0", "+time=5"] } else { ["+tries=1", "+time=5"] };
    let text = output(command(tool, [&at, "-p", &port, name, "-t", rtype]).args(wait).args(more));
    let mut shown = Shown { rcode: String::new(), sections: Default::default() };
    let (mut section, mut ttl, mut truncated) = (None, 0, false);
    for line in text.lines() {
        truncated |= line.to_ascii_lowercase().starts_with(";; flags:") && line.contains(" tc ");
        if let Some((_, after)) = line.split_once("status: ") {
            after.split([',', ';']).next().unwrap_or_default().clone_into(&mut shown.rcode);
        } else if let Some(title) = line.strip_prefix(";; ") {
            section = ["ANSWER SECTION:", "AUTHORITY SECTION:", "ADDITIONAL SECTION:"]
                .iter()
                .position(|known| *known == title)
                .or(section.filter(|_| !title.ends_with("SECTION:")));
        } else if let Some(section) = section.filter(|_| !line.is_empty() && !line.starts_with(';')) {
            let mut words: Vec<_> = line.split_whitespace().collect();
            ttl = ttl.max(words.remove(1).parse().unwrap_or_else(|e| panic!("{e}: {line}")));
            // A record of the question's name may point at the question, and that is in the client's letter case.
            let owner = words.remove(0).to_ascii_lowercase();
            shown.sections[section].insert(format!("{owner} {}", words.join(" ")));
        }
    }
    assert!(!shown.rcode.is_empty(), "no answer: {text}");
    if truncated {
        ttl = 0;
        shown = Shown { rcode: format!("{}, truncated", shown.rcode), sections: Default::default() };
    }
    (shown, ttl)
}

/// Each question with each tool over UDP and TCP: straight, then twice through us, a miss and a hit.
fn compare(server: SocketAddr, us: SocketAddr, questions: &[(&str, &str)]) {
    let dig = program("dig", "SIDESTEP_DIG", "apt-get install dnsutils");
    let kdig = program("kdig", "SIDESTEP_KDIG", "apt-get install knot-dnsutils");
    for (name, rtype) in questions {
        for tool in [&dig, &kdig] {
            for more in [&["+notcp"], &["+tcp"]] {
                let (straight, ttl) = ask(tool, server, name, rtype, more);
                for turn in ["first", "second"] {
                    let (through, aged) = ask(tool, us, name, rtype, more);
                    let what = format!("{} {name} {rtype} {more:?}, {turn} time", tool.display());
                    assert_eq!(through, straight, "{what}: left through us, right straight");
                    assert!(aged <= ttl, "{what}: TTL {ttl} has become {aged}");
                }
            }
        }
    }
}

fn example_test() -> Server {
    let template = "template IN A {\n answer \"{{ .Name }} 60 IN A 192.0.2.7\"\n }";
    let hosts = "hosts {\n 192.0.2.10 www.hosts.test\n 192.0.2.20 www.hosts.test\n }";
    coredns(
        address(),
        &[("example.test", "file example.zone"), ("template.test", template), ("hosts.test", hosts)],
        &[("example.zone", ZONE)],
    )
}

#[test]
fn through_us_coredns_says_what_it_says_itself() {
    let _turn = turn();
    let server = example_test();
    let us = sidestep(&["--upstream", &format!("tcp://{}", server.address)]);
    compare(server.address, us.address, &QUESTIONS);
}

/// Local data of unbound, one set of it larger than a UDP answer may be.
const UNBOUND: &str = " local-zone: \"unbound.test.\" static
 local-data: \"unbound.test. 300 IN SOA ns.unbound.test. host.unbound.test. 1 7200 3600 86400 60\"
 local-data: \"www.unbound.test. 300 IN A 192.0.2.30\"
 local-data: \"www.unbound.test. 300 IN A 192.0.2.31\"
 local-data: \"www.unbound.test. 300 IN AAAA 2001:db8::30\"
 local-data: \"mail.unbound.test. 300 IN MX 10 www.unbound.test.\"
 local-data: 'text.unbound.test. 300 IN TXT \"one\" \"two words\"'
";

#[test]
fn through_us_unbound_says_what_it_says_itself() {
    let _turn = turn();
    let large: String =
        (0..120).map(|n| format!(" local-data: \"large.unbound.test. 300 IN A 192.0.2.{n}\"\n")).collect();
    let server = unbound(&format!("{UNBOUND}{large}"));
    let questions = [
        ("www.unbound.test", "A"),
        ("www.unbound.test", "AAAA"),
        ("mail.unbound.test", "MX"),
        ("text.unbound.test", "TXT"),
        ("missing.unbound.test", "A"),
        ("www.unbound.test", "SRV"),
        ("large.unbound.test", "A"),
    ];
    for scheme in ["tcp", "udp"] {
        let us = sidestep(&["--upstream", &format!("{scheme}://{}", server.address)]);
        compare(server.address, us.address, &questions);
    }
}

/// All questions in one write, the answers as they come, by their ids.
#[test]
fn a_pipelining_client_gets_every_answer() {
    let _turn = turn();
    let server = example_test();
    let us = sidestep(&["--upstream", &format!("tcp://{}", server.address)]);
    let mut stream = TcpStream::connect(us.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut queries = Vec::new();
    for id in 0..100u16 {
        let query = query(id, &format!("n{id}.template.test."), RecordType::A);
        queries.extend(u16::try_from(query.len()).unwrap().to_be_bytes());
        queries.extend(query);
    }
    stream.write_all(&queries).unwrap();
    let mut open: BTreeSet<u16> = (0..100).collect();
    while !open.is_empty() {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        let id = answer.metadata.id;
        assert!(open.remove(&id), "id {id} was not asked, or answered twice");
        assert_eq!(answer.queries[0].name().to_string(), format!("n{id}.template.test."));
        assert_eq!(answer.answers[0].data.to_string(), "192.0.2.7");
    }
}
