//! Hostile input, and the queries that RFC 8906 section 8 wants every server to survive.

use crate::client::{edns_query, query};
use crate::program::{Program, config};
use crate::support::message::*;
use crate::support::scripted::Scripted;

fn class(mut query: Vec<u8>, class: u16) -> Vec<u8> {
    let len = query.len();
    query[len - 2..].copy_from_slice(&class.to_be_bytes());
    query
}

fn flags(mut query: Vec<u8>, flags: u16) -> Vec<u8> {
    query[2..4].copy_from_slice(&flags.to_be_bytes());
    query
}

fn with_opt(opts: &[Vec<u8>]) -> Vec<u8> {
    message(1, 0x0100, &question("a.test", 1), [&[], &[], opts])
}

/// What must never be looked up: the query, and the whole response code of its answer.
fn refused() -> Vec<(&'static str, Vec<u8>, u16)> {
    let plain = || query(1, "a.test", 1);
    let counts = |n: u8, rest: &[u8]| [&[0, 1, 1, 0, 0, n, 0, 0, 0, 0, 0, 0], rest].concat();
    let two = [question("a.test", 1), question("b.test", 1)].concat();
    let long_name = [&[63; 1][..], &[b'a'; 63]].concat().repeat(4);
    vec![
        ("no question", counts(0, b""), 1),
        ("two questions", counts(2, &two), 1),
        ("a pointer in the question", counts(1, b"\xc0\x0c\0\x01\0\x01"), 1),
        ("a pointer behind a label", counts(1, b"\x01a\xc0\x0c\0\x01\0\x01"), 1),
        ("a label type of old", counts(1, b"\x41\x01\0\0\x01\0\x01"), 1),
        ("a name of more than 255 bytes", counts(1, &[&long_name[..], b"\0\0\x01\0\x01"].concat()), 1),
        ("a name without end", counts(1, b"\x05ab"), 1),
        ("a question cut off", plain()[..plain().len() - 1].to_vec(), 1),
        ("two OPTs", with_opt(&[opt(1232, 0, &[]), opt(1232, 0, &[])]), 1),
        ("options past their end", with_opt(&[opt(1232, 0, b"\0\x0a\0\xffab")]), 1),
        ("the type OPT", query(1, "a.test", 41), 1),
        (
            "records that are not there",
            {
                let mut q = plain();
                q[11] = 9;
                q
            },
            1,
        ),
        ("opcode IQUERY", flags(plain(), 1 << 11), 4),
        ("opcode STATUS", flags(plain(), 2 << 11), 4),
        ("opcode NOTIFY", flags(plain(), 4 << 11), 4),
        ("opcode UPDATE", flags(plain(), 5 << 11), 4),
        ("opcode 15", flags(plain(), 15 << 11), 4),
        ("AXFR", query(1, "a.test", 252), 5),
        ("IXFR", query(1, "a.test", 251), 5),
        ("class HS", class(plain(), 4), 5),
        ("class ANY", class(plain(), 255), 5),
        ("class NONE", class(plain(), 254), 5),
        ("class 0", class(plain(), 0), 5),
        ("CH that is not configured", class(query(1, "version.bind", 16), 3), 5),
        ("EDNS version 1", with_opt(&[opt(1232, 1 << 16, &[])]), 16),
        (
            "EDNS version 255 with an unknown option",
            with_opt(&[opt(1232, 255 << 16, &option(100, b"x"))]),
            16,
        ),
    ]
}

fn whole_rcode(answer: &[u8]) -> u16 {
    rcode(answer) | opt_of(answer).map_or(0, |(_, ttl, _)| (ttl >> 24) as u16) << 4
}

#[test]
fn hostile_queries_get_their_code_and_go_no_further() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    for (what, query, code) in refused() {
        for answer in [udp.ask(&query), tcp.ask(&query)] {
            assert_eq!(whole_rcode(&answer), code, "{what}: {answer:?}");
            let flags = word(&answer, 1);
            assert_eq!(flags & 0x8000, 0x8000, "{what}: QR");
            assert_eq!(flags & 0x7800, word(&query, 1) & 0x7800, "{what}: the opcode");
            assert_eq!(flags & 0x0640, 0, "{what}: AA, TC, Z");
            assert!(answer.len() <= query.len() + 11, "{what}: no amplification");
            if code == 16 {
                let (_, ttl, options) = opt_of(&answer).expect("OPT");
                assert_eq!((ttl >> 16 & 0xff, options.len()), (0, 0), "{what}: our version, no options");
            }
        }
    }
    let names: Vec<_> = upstream.seen().into_iter().map(|q| q.name).collect();
    assert!(names.iter().all(|n| n == "." || n.ends_with("sidestep-loop")), "{names:?}");
    assert!(program.metric("local_answers_total{rcode=\"FORMERR\"}") >= 24.0);
}

#[test]
fn what_is_no_query_is_not_answered() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let udp = program.udp();
    let response = flags(query(1, "a.test", 1), 0x8100);
    for noise in [&b""[..], b"\0", &[0; 11], &[0xff; 12], &[0xff; 1500], &response] {
        udp.send(noise);
    }
    let probe = query(99, "a.test", 1);
    assert_eq!(word(&udp.ask(&probe), 0), 99, "the first answer is that to the first query");
    let mut tcp = program.tcp();
    tcp.send(b"");
    tcp.send(&response);
    tcp.ask(&probe);
    assert_eq!(program.metric("dropped_packets_total{reason=\"short\"}"), 4.0);
    assert_eq!(program.metric("dropped_packets_total{reason=\"response\"}"), 4.0);
}

#[test]
fn any_is_short_over_udp_and_looked_up_over_tcp() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let answer = program.udp().ask(&query(1, "Any.Test", 255));
    assert_eq!(records(&answer), [(13, 3600, b"\x07RFC8482\0".to_vec())]);
    assert_eq!(upstream.asked("any.test"), 0);
    program.tcp().ask(&query(1, "any.test", 255));
    assert_eq!(upstream.asked("any.test"), 1);
}

#[test]
fn chaos_names_are_answered_by_configuration() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "identity = \"node7\"\nversion = \"v1\"", ""));
    let udp = program.udp();
    for (name, text) in [("Version.Bind", "v1"), ("id.server", "node7")] {
        let answer = udp.ask(&class(query(1, name, 16), 3));
        let data = [&[text.len() as u8][..], text.as_bytes()].concat();
        assert_eq!((rcode(&answer), records(&answer)), (0, vec![(16, 0, data)]));
        let message = hickory_proto::op::Message::from_vec(&answer).unwrap();
        assert_eq!(message.answers[0].dns_class, hickory_proto::rr::DNSClass::CH);
    }
    assert_eq!(rcode(&udp.ask(&class(query(1, "version.bind", 1), 3))), 5);
    assert_eq!(rcode(&udp.ask(&class(query(1, "other.bind", 16), 3))), 5);
}

#[test]
fn the_rfc_8906_matrix_is_answered() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    let plain = query(1, "a.test", 1);
    let unknown_flags = with_opt(&[opt(1232, 0x7fff, &[])]);
    let wants_dnssec = with_opt(&[opt(1232, 0x8000, &[])]);
    let matrix = [
        ("8.1.1 a plain query", plain.clone(), 1),
        ("8.1.2 an unknown type", query(1, "a.test", 1000), 0),
        ("8.1.3 Z", flags(plain.clone(), 0x0140), 1),
        ("8.1.3 AD", flags(plain.clone(), 0x0120), 1),
        ("8.1.3 CD", flags(plain.clone(), 0x0110), 1),
        ("8.1.3 RD=0", flags(plain.clone(), 0), 1),
        ("8.2.1 EDNS", edns_query(1, "a.test", 1, 1232, &[]), 1),
        ("8.2.4 an unknown option", edns_query(1, "a.test", 1, 1232, &option(100, b"")), 1),
        ("8.2.5 unknown flags", unknown_flags, 1),
        ("8.2.7 DO", wants_dnssec, 1),
        ("8.2.8 EDNS and an unknown type", edns_query(1, "a.test", 1000, 1232, &[]), 0),
    ];
    for (what, query, answers) in matrix {
        for answer in [udp.ask(&query), tcp.ask(&query)] {
            assert_eq!((rcode(&answer), records(&answer).len()), (0, answers), "{what}");
            let end = query.len().min(12 + question("a.test", 1).len());
            assert_eq!(answer[12..end], query[12..end], "{what}: the question");
            assert_eq!(word(&answer, 1) & 0x0640, 0, "{what}: AA, TC, Z");
            assert_eq!(word(&answer, 1) & 0x0110, word(&query, 1) & 0x0110, "{what}: RD, CD");
            assert_eq!(opt_of(&answer).is_some(), opt_of(&query).is_some(), "{what}: OPT");
            if let (Some((_, ours, options)), Some((_, theirs, _))) = (opt_of(&answer), opt_of(&query)) {
                assert_eq!((ours, options.len()), (theirs & 0x8000, 0), "{what}: DO alone, no options");
            }
        }
    }
}

#[test]
fn the_clients_letter_case_comes_back() {
    let upstream = Scripted::good();
    let program = Program::start(&config(&upstream, "", ""));
    let (udp, mut tcp) = (program.udp(), program.tcp());
    for name in ["cASe.TeST", "CasE.tESt", "case.test"] {
        let query = query(1, name, 1);
        for answer in [udp.ask(&query), tcp.ask(&query)] {
            assert_eq!(answer[12..query.len()], query[12..]);
            assert_eq!(records(&answer).len(), 1);
        }
    }
    assert_eq!(upstream.asked("case.test"), 1, "one name in the cache");
}
