//! The upstreams and the cache against a well-behaved server: hickory-server with a zone in memory, over UDP and
//! TCP. What it says must come out of an entry unchanged in meaning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::Server as HickoryServer;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use sidestep::cache::{Entry, Kind, Rules};
use sidestep::clock::Now;
use sidestep::upstream::{Ask, Counters, Member, Policy, Server, Settings, Transport, Upstreams};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, timeout};

const TTL: u32 = 300;
const MINIMUM: u32 = 7;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn zone() -> InMemoryZoneHandler {
    let origin = name("example.test.");
    let mut zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(name("ns.example.test."), name("root.example.test."), 1, 2, 3, 4, MINIMUM);
    let mut add = |owner: &str, data| zone.upsert_mut(Record::from_rdata(name(owner), TTL, data), 0);
    add("example.test.", RData::SOA(soa));
    add("www.example.test.", RData::A(A::new(192, 0, 2, 1)));
    add("www.example.test.", RData::A(A::new(192, 0, 2, 2)));
    add("alias.example.test.", RData::CNAME(CNAME(name("www.example.test."))));
    add("long.example.test.", RData::TXT(TXT::new(vec!["x".repeat(250); 12])));
    zone
}

async fn hickory() -> (HickoryServer<Catalog>, SocketAddr) {
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::new(&name("example.test.")), vec![Arc::new(zone())]);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut server = HickoryServer::new(catalog);
    server.register_socket(UdpSocket::bind(address).await.unwrap());
    server.register_listener(tcp, Duration::from_secs(5), 16);
    (server, address)
}

fn ask(owner: &str, rtype: RecordType) -> Ask {
    let mut wire = Vec::new();
    for label in name(owner).iter() {
        wire.push(label.len() as u8);
        wire.extend(label);
    }
    wire.push(0);
    Ask { name: wire.into(), rtype: rtype.into(), class: 1, dnssec_ok: false, checking_disabled: false }
}

/// What an entry of the server's reply says, decoded by hickory-proto, and what kind it is.
async fn answer(transport: Transport, owner: &str, rtype: RecordType) -> (Message, Kind, u64) {
    let (mut server, address) = hickory().await;
    let counters = Arc::new(Counters::default());
    let upstreams = Upstreams::new(Settings::default());
    let members = [Member::new(Server { address, transport }, Arc::clone(&counters))];
    let group = upstreams.group(&members, &[], &Policy::default().into(), &Arc::default());
    let deadline = Instant::now() + Duration::from_secs(3);
    let reply = group.ask(&ask(owner, rtype), deadline).await.expect("an answer");
    let entry = Entry::from_reply(&reply, &Rules::default(), Now::read()).expect("a message");
    server.shutdown_gracefully().await.unwrap();
    (Message::from_vec(entry.stored().message).unwrap(), entry.kind(), counters.truncated.get())
}

fn on_a_worker(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { timeout(Duration::from_secs(20), body).await.expect("it takes too long") };
    tokio::task::LocalSet::new().block_on(&runtime, bounded);
}

fn over_both(test: impl AsyncFn(Transport)) {
    for transport in [Transport::Tcp, Transport::Udp] {
        on_a_worker(test(transport));
    }
}

#[test]
fn addresses_and_chains_come_through() {
    over_both(async |transport| {
        let (message, kind, _) = answer(transport, "alias.example.test.", RecordType::A).await;
        assert_eq!((message.response_code, kind), (ResponseCode::NoError, Kind::Positive));
        let mut found = BTreeMap::new();
        for record in &message.answers {
            assert_eq!(record.ttl, TTL);
            *found.entry(record.data.to_string()).or_insert(0) += 1;
        }
        let expected = ["192.0.2.1", "192.0.2.2", "www.example.test."].map(|d| (d.to_owned(), 1));
        assert_eq!(found, BTreeMap::from(expected));
    });
}

#[test]
fn negatives_carry_the_soa_minimum() {
    over_both(async |transport| {
        for (owner, rtype, code, expected) in [
            ("nope.example.test.", RecordType::A, ResponseCode::NXDomain, Kind::NxDomain),
            ("www.example.test.", RecordType::AAAA, ResponseCode::NoError, Kind::NoData),
        ] {
            let (message, kind, _) = answer(transport, owner, rtype).await;
            assert_eq!((message.response_code, kind), (code, expected), "{owner}");
            assert_eq!(message.authorities[0].ttl, MINIMUM, "{owner}");
        }
    });
}

#[test]
fn what_udp_truncates_comes_whole_over_tcp() {
    over_both(async |transport| {
        let (message, kind, truncated) = answer(transport, "long.example.test.", RecordType::TXT).await;
        assert_eq!(kind, Kind::Positive);
        let RData::TXT(text) = &message.answers[0].data else { panic!("{message}") };
        assert_eq!(text.txt_data.len(), 12);
        assert_eq!(truncated, u64::from(transport == Transport::Udp));
    });
}
