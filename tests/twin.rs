//! The twin: generated replies answered by the wire path, and by a plain reference that decodes with
//! hickory-proto, changes what has to be changed, and compares. Both must mean the same; the data of unknown
//! types must be the same bytes. (hickory-proto refuses empty RDATA, so that is held at the level of bytes.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;
use sidestep::cache::{Entry, Rules};
use sidestep::clock::Now;
use sidestep::wire::answer::{self, Asker, Ttl};
use sidestep::wire::{header, query as wire_query};
use std::time::Duration;
use support::message::*;

/// A reply as an upstream may send it.
#[derive(Clone, Debug)]
struct Upstream {
    name: String,
    rtype: u16,
    flags: u16,
    sections: [Vec<Vec<u8>>; 3],
    opt: Option<Vec<u8>>,
    /// Encoded by hickory-proto, with compression, rather than by hand.
    compress: bool,
}

/// A client.
#[derive(Clone, Debug)]
struct Client {
    id: u16,
    flags: u16,
    case: u32,
    edns: Option<(u16, bool)>,
    tcp: bool,
    age: u32,
    turn: u32,
}

const TYPES: [u16; 14] = [1, 28, 5, 2, 6, 15, 16, 12, 33, 257, 65, 999, 65_280, 65_534];
const NAMES: [&str; 5] = ["www.example", "a.www.example", "example", "other.test", "."];

fn rdata(rtype: u16) -> BoxedStrategy<Vec<u8>> {
    let target = prop::sample::select(&NAMES[..]).prop_map(name);
    let bytes = |range: std::ops::RangeInclusive<usize>| prop::collection::vec(any::<u8>(), range);
    match rtype {
        1 => bytes(4..=4).boxed(),
        28 => bytes(16..=16).boxed(),
        2 | 5 | 12 => target.boxed(),
        15 => (bytes(2..=2), target).prop_map(|(n, t)| [n, t].concat()).boxed(),
        33 => (bytes(6..=6), target).prop_map(|(n, t)| [n, t].concat()).boxed(),
        6 => (target, bytes(16..=16), 0..4000u32)
            .prop_map(|(t, n, minimum)| [&t[..], &name("admin"), &n, &minimum.to_be_bytes()].concat())
            .boxed(),
        16 => bytes(0..=39).prop_map(|t| [&[t.len() as u8][..], &t].concat()).boxed(),
        257 => bytes(0..=8)
            .prop_map(|v| {
                [&[0, 5][..], b"issue", &v.iter().map(|b| b'a' + b % 26).collect::<Vec<_>>()].concat()
            })
            .boxed(),
        65 => Just(b"\0\x01\0\0\x01\0\x03\x02h2".to_vec()).boxed(),
        _ => bytes(1..=79).boxed(),
    }
}

fn ttl() -> impl Strategy<Value = u32> {
    prop_oneof![0..10u32, 10..5000u32, Just(86_400), Just(u32::MAX), Just(1 << 31)]
}

fn records_of(types: &'static [u16], most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let set = (prop::sample::select(types), any::<bool>(), prop::sample::select(&NAMES[..])).prop_flat_map(
        |(rtype, asked, owner)| {
            let owner = if asked { QNAME.to_vec() } else { name(owner) };
            prop::collection::vec((ttl(), rdata(rtype)), 1..5).prop_map(move |all| {
                all.iter().map(|(t, d)| record(&owner, rtype, *t, d)).collect::<Vec<_>>()
            })
        },
    );
    prop::collection::vec(set, 0..=most).prop_map(|sets| sets.concat())
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = (prop::sample::select(vec![3u16, 10, 15, 15, 100]), prop::collection::vec(any::<u8>(), 2..20));
    prop::collection::vec(one.prop_map(|(code, data)| option(code, &data)), 0..4).prop_map(|all| all.concat())
}

fn upstream() -> impl Strategy<Value = Upstream> {
    let sections = (records_of(&TYPES, 3), records_of(&[2, 6, 999], 2), records_of(&[1, 28, 65_280], 2));
    let opt_record = prop::option::of((any::<bool>(), options()));
    let flags = (prop::sample::select(vec![0u16, 0, 0, 2, 3]), any::<bool>(), any::<bool>());
    (prop::sample::select(&TYPES[..]), flags, sections, opt_record, any::<bool>()).prop_map(
        |(rtype, (rcode, ad, aa), (answer, authority, additional), opt_record, compress)| Upstream {
            name: "www.example".into(),
            rtype,
            flags: REPLY | rcode | u16::from(ad) << 5 | u16::from(aa) << 10,
            sections: [answer, authority, additional],
            opt: opt_record.map(|(dnssec_ok, options)| opt(4096, u32::from(dnssec_ok) << 15, &options)),
            compress,
        },
    )
}

fn client() -> impl Strategy<Value = Client> {
    let edns = prop::option::of((any::<u16>(), any::<bool>()));
    (any::<u16>(), any::<u16>(), any::<u32>(), edns, any::<bool>(), 0..4000u32, any::<u32>()).prop_map(
        |(id, flags, case, edns, tcp, age, turn)| Client {
            id,
            // QR and the opcode are not the client's to choose: such packets come no further than the parser.
            flags: flags & 0x07ff,
            case,
            edns,
            tcp,
            age,
            turn,
        },
    )
}

impl Upstream {
    fn bytes(&self) -> Vec<u8> {
        let [answer, authority, additional] = &self.sections;
        let additional: Vec<_> = additional.iter().chain(&self.opt).cloned().collect();
        let question = question(&self.name, self.rtype);
        let raw = message(99, self.flags, &question, [answer, authority, &additional]);
        if self.compress { Message::from_vec(&raw).unwrap().to_vec().unwrap() } else { raw }
    }
}

impl Client {
    fn question(&self, upstream: &Upstream) -> Vec<u8> {
        let upper =
            |(i, c): (usize, char)| if self.case >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c };
        question(&upstream.name.chars().enumerate().map(upper).collect::<String>(), upstream.rtype)
    }

    /// As it comes over the wire.
    fn packet(&self, upstream: &Upstream) -> Vec<u8> {
        let opt = self
            .edns
            .map(|(size, dnssec_ok)| opt(size, u32::from(dnssec_ok) << 15, &option(10, b"12345678")));
        query(self.id, self.flags, &self.question(upstream), opt)
    }
}

/// How old the entry is when the client asks: within its time, as a hit is.
fn age(entry: &Entry, client: &Client) -> u32 {
    client.age.min(entry.ttl())
}

/// The wire path.
fn by_wire(entry: &Entry, packet: &[u8], client: &Client) -> Vec<u8> {
    let query = wire_query::parse(packet).expect("a query");
    let limit = if client.tcp { 65_535 } else { answer::udp_limit(query.edns, 1232) };
    let asker =
        Asker { header: query.header, question: query.question, edns: query.edns, limit, our_size: 1232 };
    let mut out = vec![0xaa; 65_535];
    let ttl = Ttl::Aged(age(entry, client));
    let len = answer::write(&mut out, &entry.stored(), &asker, ttl, client.turn, None).expect("fits");
    assert!(len <= limit, "the limit holds");
    out.truncate(len);
    out
}

/// The reference: the upstream's reply, decoded, with what has to be changed. Written from the RFCs, not from
/// the wire path.
fn by_reference(reply: &[u8], packet: &[u8], client: &Client, age: u32) -> Message {
    let asked = Message::from_vec(packet).unwrap();
    let mut message = Message::from_vec(reply).unwrap();
    let negative = negative_ttl(&message);
    let cap = |ttl: u32, cap: u32| if ttl >= 1 << 31 { 0 } else { ttl.min(cap) };
    let kept = |record: &Record, authority: bool| match negative {
        Some(ttl) if authority && record.record_type() == RecordType::SOA => ttl,
        Some(ttl) if authority => cap(record.ttl, 1800).min(ttl),
        _ => cap(record.ttl, 3600),
    };
    let aged = |records: &mut Vec<Record>, authority| {
        records.iter_mut().for_each(|r| r.ttl = kept(r, authority).saturating_sub(age));
    };
    aged(&mut message.answers, false);
    aged(&mut message.authorities, true);
    aged(&mut message.additionals, false);
    rotate(&mut message.answers, client.turn as usize);
    message.queries = asked.queries.clone();
    let dnssec_ok = client.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok);
    let meta = &mut message.metadata;
    meta.id = client.id;
    meta.authoritative = false;
    meta.recursion_available = true;
    meta.recursion_desired = asked.metadata.recursion_desired;
    meta.checking_disabled = asked.metadata.checking_disabled;
    meta.authentic_data &= asked.metadata.authentic_data || dnssec_ok;
    message
}

/// RFC 2308 section 5.
fn negative_ttl(message: &Message) -> Option<u32> {
    let asked = message.queries[0].query_type();
    let found = message.answers.iter().any(|r| r.record_type() == asked);
    let is_negative = match message.metadata.response_code {
        ResponseCode::NXDomain => true,
        ResponseCode::NoError => !found,
        _ => false,
    };
    let soa =
        message.authorities.iter().find(|r| r.record_type() == RecordType::SOA).filter(|_| is_negative)?;
    let RData::SOA(data) = &soa.data else { return None };
    let ttl = if soa.ttl >= 1 << 31 { 0 } else { soa.ttl };
    Some(ttl.min(data.minimum).min(1800))
}

/// The data of the first run of addresses of one owner changes places; names, TTLs and places of records stay.
fn rotate(answers: &mut [Record], turn: usize) {
    let alike = |a: &Record, b: &Record| {
        matches!(a.record_type(), RecordType::A | RecordType::AAAA)
            && a.record_type() == b.record_type()
            && a.name == b.name
    };
    let Some(run) = answers.chunk_by_mut(alike).find(|run| run.len() > 1) else { return };
    let mut data: Vec<_> = run.iter().map(|r| r.data.clone()).collect();
    data.rotate_left(turn % run.len());
    run.iter_mut().zip(data).for_each(|(record, data)| record.data = data);
}

/// Owner, class, type, TTL and data. Names are the same in any letter case, as a name that is compressed onto the
/// question has the client's.
fn tell(records: &[Record]) -> Vec<(String, RData)> {
    let head =
        |r: &Record| format!("{} {:?} {:?} {}", r.name.to_lowercase(), r.dns_class, r.record_type(), r.ttl);
    records.iter().map(|r| (head(r), r.data.clone())).collect()
}

fn compare(got: &Message, wanted: &Message) {
    assert_eq!(got.metadata.message_type, MessageType::Response);
    assert_eq!(got.metadata.id, wanted.metadata.id);
    assert_eq!(got.metadata.response_code, wanted.metadata.response_code);
    let flags = |m: &Message| {
        let m = &m.metadata;
        let hop = [m.authoritative, m.recursion_available, m.recursion_desired];
        (hop, m.checking_disabled, m.authentic_data)
    };
    assert_eq!(flags(got), flags(wanted), "AA, RA, RD, CD, AD");
    assert_eq!(got.queries.len(), 1);
    assert!(got.queries[0].name().eq_case(wanted.queries[0].name()), "the client's letter case");
    assert_eq!(got.queries[0].query_type(), wanted.queries[0].query_type());
}

/// Types without compression and their data, as they stand.
fn opaque(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    records(message).into_iter().filter(|r| r.0 > 256).map(|(rtype, _, data)| (rtype, data)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wire_path_and_the_reference_agree(upstream in upstream(), client in client()) {
        let reply = upstream.bytes();
        let came = Now::from_millis(1_000_000);
        let entry = Entry::from_reply(&reply, &Rules::default(), came).expect("a reply");
        let packet = client.packet(&upstream);
        let bytes = by_wire(&entry, &packet, &client);
        let got = Message::from_vec(&bytes).expect("hickory-proto reads it");
        let wanted = by_reference(&reply, &packet, &client, age(&entry, &client));
        compare(&got, &wanted);
        prop_assert_eq!(got.edns.is_some(), client.edns.is_some(), "OPT iff the client had one");
        if let (Some(edns), Some((_, dnssec_ok))) = (&got.edns, client.edns) {
            prop_assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, dnssec_ok));
            prop_assert!(opt_of(&bytes).unwrap().2.iter().all(|(code, _)| *code == 15));
        }
        if got.metadata.truncation {
            let opt = if client.edns.is_some() { 11 } else { 0 };
            let limit = answer::udp_limit(wire_query::parse(&packet).unwrap().edns, 1232);
            prop_assert!(!client.tcp && entry.stored().message.len() + opt > limit, "only if it must");
            prop_assert!(tell(&wanted.answers).starts_with(&tell(&got.answers)), "the records that fit");
            prop_assert!(got.authorities.is_empty() && got.additionals.is_empty());
            return Ok(());
        }
        prop_assert_eq!(tell(&got.answers), tell(&wanted.answers));
        prop_assert_eq!(tell(&got.authorities), tell(&wanted.authorities));
        prop_assert_eq!(tell(&got.additionals), tell(&wanted.additionals));
        prop_assert_eq!(opaque(&bytes), opaque(&reply), "byte for byte");
        let errors = |m: &[u8]| opt_of(m).map_or_else(Vec::new, |o| o.2.into_iter().filter(|o| o.0 == 15).collect::<Vec<_>>());
        if client.edns.is_some() && client.tcp {
            prop_assert_eq!(errors(&bytes), errors(&reply), "extended errors");
        }
    }

    #[test]
    fn data_passes_byte_for_byte_even_none_at_all(
        upstream in upstream(),
        client in client(),
        empty in prop::collection::vec((prop::sample::select(&TYPES[..]), 0..3usize), 1..4),
    ) {
        let mut upstream = Upstream { compress: false, ..upstream };
        for (rtype, section) in empty {
            upstream.sections[section].push(record(QNAME, rtype, 60, &[]));
        }
        let reply = upstream.bytes();
        let entry = Entry::from_reply(&reply, &Rules::default(), Now::from_millis(1)).expect("a reply");
        let client = Client { turn: 0, tcp: true, ..client };
        let bytes = by_wire(&entry, &client.packet(&upstream), &client);
        let data = |m: &[u8]| records(m).into_iter().map(|(rtype, _, data)| (rtype, data)).collect::<Vec<_>>();
        prop_assert_eq!(data(&bytes), data(&reply));
        prop_assert_eq!(&bytes[6..10], &reply[6..10], "as many as there were, where they were");
    }

    #[test]
    fn the_parser_and_hickory_proto_read_the_same_query(upstream in upstream(), client in client()) {
        let packet = client.packet(&upstream);
        let ours = wire_query::parse(&packet).expect("a query");
        let theirs = Message::from_vec(&packet).expect("a query");
        prop_assert_eq!(ours.header.id, theirs.metadata.id);
        prop_assert_eq!(ours.header.flags & header::CD != 0, theirs.metadata.checking_disabled);
        prop_assert_eq!(ours.question.rtype, u16::from(theirs.queries[0].query_type()));
        let edns = theirs.edns.as_ref().map(|e| (e.max_payload(), e.flags().dnssec_ok));
        prop_assert_eq!(ours.edns.map(|e| (e.udp_size.max(512), e.dnssec_ok)), edns.map(|(s, d)| (s.max(512), d)));
    }

    #[test]
    fn what_is_kept_lives_as_long_as_its_shortest_record(upstream in upstream()) {
        let came = Now::from_millis(1_000_000);
        let entry = Entry::from_reply(&upstream.bytes(), &Rules::default(), came).expect("a reply");
        if entry.cacheable() {
            let shortest = records(entry.stored().message).iter().map(|r| r.1).min();
            prop_assert_eq!(Some(entry.ttl()), shortest);
            prop_assert!(entry.is_fresh(came) && !entry.is_fresh(came + Duration::from_secs(entry.ttl().into())));
        }
    }
}
