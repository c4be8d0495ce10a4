//! Answers as they go out, and bytes that nobody sane would send.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::fs;
use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;
use sidestep::cache::entry::{self, Entry};
use sidestep::cache::{Cache, Key, Rules};
use sidestep::clock::Now;
use sidestep::resolve::flights::{Flights, Joined, Opened};
use sidestep::resolve::traffic::Protocol;
use sidestep::resolve::{ReplyTo, Waiter};
use sidestep::wire::answer::{self, Asker, Ttl};
use sidestep::wire::header::{self, Header};
use sidestep::wire::query::{self, Edns, Question};
use support::message::*;

const START: Now = Now::from_millis(1_000_000);

fn entry(message: &[u8]) -> Entry {
    Entry::from_reply(message, &Rules::default(), START).expect("a reply")
}

/// A client, and how its answer is to be.
struct Client {
    flags: u16,
    question: Vec<u8>,
    edns: Option<Edns>,
    limit: usize,
    ttl: Ttl,
    turn: u32,
    error: Option<u16>,
}

fn client(question: &[u8]) -> Client {
    let question = question.to_vec();
    Client { flags: header::RD, question, edns: None, limit: 512, ttl: Ttl::Aged(0), turn: 0, error: None }
}

fn edns(udp_size: u16, dnssec_ok: bool) -> Option<Edns> {
    Some(Edns { udp_size, dnssec_ok })
}

impl Client {
    fn answer(&self, entry: &Entry) -> Vec<u8> {
        let question = Question::read(&self.question).expect("a question");
        let header = Header { id: 0xabcd, flags: self.flags, counts: [1, 0, 0, 0] };
        let asker = Asker { header, question, edns: self.edns, limit: self.limit, our_size: 1232 };
        let mut out = vec![0xff; 65_535];
        let stored = entry.stored();
        let len = answer::write(&mut out, &stored, &asker, self.ttl, self.turn, self.error).expect("fits");
        out.truncate(len);
        out
    }
}

fn www() -> Vec<u8> {
    question("www.example", 1)
}

#[test]
fn id_case_and_flags_are_the_clients() {
    let stored = entry(&message(9, REPLY | header::AA | header::AD, &www(), [&[a(60, 1)], &[], &[]]));
    let mixed = question("wWw.ExAmPlE", 1);
    let flags = |flags, edns| {
        let answer = Client { flags, edns, ..client(&mixed) }.answer(&stored);
        assert_eq!(word(&answer, 0), 0xabcd);
        assert_eq!(&answer[12..12 + mixed.len()], mixed);
        word(&answer, 1)
    };
    let base = header::QR | header::RA;
    assert_eq!(flags(header::RD, None), base | header::RD);
    assert_eq!(flags(0, None), base, "RD=0 comes back as it was sent");
    assert_eq!(flags(header::CD, None), base | header::CD);
    assert_eq!(flags(header::AD, None), base | header::AD, "asked for by AD");
    assert_eq!(flags(0, edns(1232, true)), base | header::AD, "or by DO");
    assert_eq!(flags(0, edns(1232, false)), base);
    assert_eq!(flags(header::AA | header::TC | header::RA | 0x40, None), base, "nothing else is repeated");
    let unsigned = entry(&reply(&www(), &[a(60, 1)]));
    let answer = Client { flags: header::AD, ..client(&www()) }.answer(&unsigned);
    assert_eq!(word(&answer, 1), base, "AD only if the upstream says so");
}

#[test]
fn ttls_age_or_are_all_the_same() {
    let stored = entry(&reply(&www(), &[a(60, 1), cname(7, "x")]));
    let ttls = |ttl| {
        let answer = Client { ttl, ..client(&www()) }.answer(&stored);
        records(&answer).iter().map(|r| r.1).collect::<Vec<_>>()
    };
    assert_eq!(ttls(Ttl::Aged(5)), [55, 2]);
    assert_eq!(ttls(Ttl::Aged(8)), [52, 0], "never below zero");
    assert_eq!(ttls(Ttl::All(30)), [30, 30]);
}

#[test]
fn opt_is_there_iff_asked_for_with_our_size_and_the_clients_do() {
    let options = [option(10, b"cookie!!"), option(15, b"\0\x06")].concat();
    let stored = entry(&message(0, REPLY, &www(), [&[a(60, 1)], &[], &[opt(4096, 0x8000, &options)]]));
    let answer = client(&www()).answer(&stored);
    assert_eq!((opt_of(&answer), word(&answer, 5)), (None, 0));
    let answer = Client { edns: edns(600, true), ..client(&www()) }.answer(&stored);
    assert_eq!(opt_of(&answer), Some((1232, 0x8000, vec![(15, vec![0, 6])])));
    let answer = Client { edns: edns(600, false), error: Some(3), ..client(&www()) }.answer(&stored);
    assert_eq!(opt_of(&answer), Some((1232, 0, vec![(15, vec![0, 3]), (15, vec![0, 6])])));
    let answer = Client { error: Some(3), ..client(&www()) }.answer(&stored);
    assert_eq!(opt_of(&answer), None, "an extended error needs EDNS");
}

#[test]
fn an_answer_that_does_not_fit_goes_out_truncated_with_what_does() {
    let answers: Vec<_> = (0..30).map(|i| a(60, i)).collect();
    let stored = entry(&reply(&www(), &answers));
    let full = stored.stored().message.len();
    assert!(full > 500);
    for (limit, edns, fits) in [
        (full, None, true),
        (full - 1, None, false),
        (full + 11, edns(1232, false), true),
        (full + 10, edns(1232, false), false),
    ] {
        let answer = Client { limit, edns, error: Some(3), ..client(&www()) }.answer(&stored);
        assert!(answer.len() <= limit, "{limit}");
        assert_eq!(word(&answer, 1) & header::TC == 0, fits, "{limit}");
        assert_eq!(records(&answer).len(), if fits { 30 } else { 29 }, "{limit}");
        assert_eq!(opt_of(&answer).is_some(), edns.is_some(), "{limit}");
        assert_eq!(
            extended_errors(&answer).is_empty(),
            fits || edns.is_none(),
            "left out only where it does not fit"
        );
    }
    let mut gone = negative(&www(), 3, &answers, &[soa("example", 60, 60)]);
    gone[3] |= 0x20;
    let answer = client(&www()).answer(&entry(&gone));
    assert_eq!((rcode(&answer), word(&answer, 1) & header::TC), (3, header::TC), "the code is still right");
}

#[test]
fn the_udp_limit_is_the_smaller_of_the_clients_and_ours_and_at_least_512() {
    for (edns, limit) in [
        (None, 512),
        (edns(0, false), 512),
        (edns(511, false), 512),
        (edns(600, false), 600),
        (edns(1232, false), 1232),
        (edns(4096, false), 1232),
        (edns(65_535, false), 1232),
    ] {
        assert_eq!(answer::udp_limit(edns, 1232), limit, "{edns:?}");
    }
}

#[test]
fn what_came_truncated_goes_out_truncated() {
    let stored = entry(&message(0, REPLY | header::TC, &www(), [&[a(60, 1)], &[], &[]]));
    assert_ne!(word(&client(&www()).answer(&stored), 1) & header::TC, 0);
}

fn data(stored: &Entry, turn: u32) -> Vec<Vec<u8>> {
    let answer = Client { turn, limit: 1232, ..client(&www()) }.answer(stored);
    records(&answer).into_iter().map(|r| r.2).collect()
}

#[test]
fn addresses_change_places_and_records_stay() {
    let ip = |last: u8| vec![192, 0, 2, last];
    let rrsig = record(QNAME, 46, 60, &[7; 20]);
    let chain = cname(60, "c.example");
    let owner = [0xc0, (12 + www().len() + 12) as u8];
    let set: Vec<_> = (1..=3).map(|i| record(&owner, 1, 60 + u32::from(i), &ip(i))).collect();
    let stored = entry(&reply(&www(), &[vec![chain], set, vec![rrsig.clone()]].concat()));
    for turn in 0..7 {
        let answer = Client { turn, limit: 1232, ..client(&www()) }.answer(&stored);
        let got = records(&answer);
        let addresses: Vec<_> = got[1..4].iter().map(|r| r.2[3]).collect();
        let expected: Vec<_> = (0..3).map(|i| ((i + turn) % 3 + 1) as u8).collect();
        assert_eq!(addresses, expected);
        let rest: Vec<_> = got.iter().map(|r| (r.0, r.1)).collect();
        assert_eq!(rest, [(5, 60), (1, 61), (1, 62), (1, 63), (46, 60)], "types and TTLs stay in place");
        assert_eq!((&got[0].2, &got[4].2), (&name("c.example"), &vec![7; 20]));
        assert_eq!(hickory_proto::op::Message::from_vec(&answer).unwrap().answers.len(), 5);
    }
}

#[test]
fn only_one_owners_addresses_change_places() {
    let six = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    let aaaa: Vec<_> = (1..=2).map(|i| record(QNAME, 28, 60, &six(i))).collect();
    assert_eq!(data(&entry(&reply(&question("www.example", 28), &aaaa)), 1), [six(2), six(1)]);
    let one = entry(&reply(&www(), &[a(60, 1)]));
    assert_eq!(data(&one, 5), [vec![192, 0, 2, 1]]);
    let other = record(&name("other"), 1, 60, &[9, 9, 9, 9]);
    let mixed = entry(&reply(&www(), &[a(60, 1), other]));
    assert_eq!(data(&mixed, 1), [vec![192, 0, 2, 1], vec![9, 9, 9, 9]], "different owners");
    let upper = record(&name("WWW.Example"), 1, 60, &[9, 9, 9, 9]);
    let same = entry(&reply(&www(), &[a(60, 1), upper]));
    assert_eq!(data(&same, 1), [vec![9, 9, 9, 9], vec![192, 0, 2, 1]], "spelled differently, but the same");
    let text = |t: &[u8]| record(QNAME, 16, 60, t);
    let texts = entry(&reply(&question("www.example", 16), &[text(b"\x01a"), text(b"\x01b")]));
    assert_eq!(data(&texts, 1), [b"\x01a", b"\x01b"], "not addresses");
    let odd = entry(&reply(&www(), &[record(QNAME, 1, 60, &[1]), record(QNAME, 1, 60, &[2])]));
    assert_eq!(data(&odd, 1), [[1], [2]], "not addresses either");
    let glue = message(0, REPLY, &www(), [&[a(60, 1)], &[], &[a(60, 2), a(60, 3)]]);
    assert_eq!(data(&entry(&glue), 1).last(), Some(&vec![192, 0, 2, 3]), "not in other sections");
}

struct Nowhere;

impl ReplyTo for Nowhere {
    fn send(&self, _: &[u8]) {}
}

fn waiter(id: u16) -> Waiter {
    Waiter {
        header: Header { id, flags: 0, counts: [1, 0, 0, 0] },
        question: www().into(),
        edns: None,
        limit: 512,
        our_size: 1232,
        protocol: Protocol::Udp,
        since: START,
        counters: Default::default(),
        noted: None,
        reply_to: Box::new(Nowhere),
    }
}

fn key(cache: &Cache, text: &str) -> Rc<Key> {
    let mut key = Key::of_name(&name(text));
    key.complete(cache.seed(), 0, 1, 1, false, false);
    Rc::new(key)
}

#[test]
fn one_flight_a_question_within_limits() {
    let cache = Cache::new(1 << 20);
    let (one, two, three) = (key(&cache, "one"), key(&cache, "two"), key(&cache, "three"));
    let mut flights = Flights::default();
    assert!(matches!(flights.join(&one, waiter(1), 2, 2, START), Joined::First));
    assert!(matches!(flights.join(&one, waiter(2), 2, 2, START), Joined::Waits));
    assert!(matches!(flights.join(&one, waiter(3), 2, 2, START), Joined::NoSeat(w) if w.header.id == 3));
    assert!(matches!(flights.join(&two, waiter(4), 2, 2, START), Joined::First));
    assert!(matches!(flights.join(&three, waiter(5), 2, 2, START), Joined::NoFlight(w) if w.header.id == 5));
    assert_eq!(flights.len(), 2);
    let landed: Vec<_> = flights.land(&one).iter().map(|w| w.header.id).collect();
    assert_eq!(landed, [1, 2], "in the order in which they came");
    assert!(flights.land(&one).is_empty());
    assert!(matches!(flights.join(&three, waiter(6), 2, 2, START), Joined::First), "there is room again");
}

#[test]
fn an_overdue_flight_gives_stale_data_while_it_may_be_served() {
    let cache = Cache::new(1 << 20);
    let one = key(&cache, "one");
    let rules = Rules { stale_for: std::time::Duration::from_secs(10), ..Rules::default() };
    let stale = Entry::from_reply(&reply(&www(), &[a(1, 1)]), &rules, START).unwrap();
    let after = |s| START + std::time::Duration::from_secs(s);
    let mut flights = Flights::default();
    assert!(matches!(flights.join(&one, waiter(1), 2, 2, after(2)), Joined::First));
    assert_eq!(flights.overdue(&one, &stale).len(), 1);
    assert!(matches!(flights.join(&one, waiter(2), 2, 2, after(3)), Joined::Overdue(..)));
    assert!(matches!(flights.join(&one, waiter(3), 2, 2, after(11)), Joined::Waits), "too old now");
    assert_eq!(flights.land(&one).len(), 1);
    assert!(flights.overdue(&one, &stale).is_empty(), "landed already");
}

#[test]
fn prefetches_are_bounded_and_can_be_joined() {
    let cache = Cache::new(1 << 20);
    let (one, two) = (key(&cache, "one"), key(&cache, "two"));
    let mut flights = Flights::default();
    assert_eq!(flights.open_prefetch(&one, 1, 9), Opened::New);
    assert_eq!(flights.open_prefetch(&one, 1, 9), Opened::UnderWay);
    assert_eq!(flights.open_prefetch(&two, 1, 9), Opened::Full);
    assert!(matches!(flights.join(&one, waiter(1), 9, 9, START), Joined::Waits));
    assert_eq!(flights.land(&one).len(), 1);
    assert_eq!(flights.open_prefetch(&two, 1, 9), Opened::New, "its place is given back");
    assert_eq!(flights.open_prefetch(&one, 9, 1), Opened::Full, "as many flights as may be");
}

/// The body of a fuzz target.
type Body = fn(&[u8]);

/// The fuzz targets of the road, by the name of their corpus.
const TARGETS: [(&str, Body); 3] =
    [("query", query::fuzz), ("entry", entry::fuzz), ("answer", entry::fuzz_answer)];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let files: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!files.is_empty(), "{}", directory.display());
    files
}

#[test]
fn the_corpus_and_all_its_beginnings_are_survived() {
    for (target, body) in TARGETS {
        for bytes in corpus(target) {
            for end in 0..=bytes.len() {
                body(&bytes[..end]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for (_, body) in TARGETS {
            body(&bytes);
        }
    }

    #[test]
    fn damaged_messages_are_survived(
        pick in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (target, body) in TARGETS {
            let corpus = corpus(target);
            let mut bytes = pick.get(&corpus).clone();
            if bytes.is_empty() {
                continue;
            }
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            body(&bytes);
        }
    }
}
