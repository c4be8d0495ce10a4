//! What lies at a worker's hand is looked for before a packet is parsed. Whatever lies there, each packet is treated as if
//! nothing did.
#![allow(clippy::unwrap_used, reason = "tests may stop")]

mod support;

use sidestep::cache::Rules;
use sidestep::clock::Now;
use sidestep::listen::front::{Client, Protocol, Verdict};

use support::message::{a, opt, option, query, question, reply};
use support::road::{Road, UDP};

const CAME: Now = Now::from_millis(1_000_000);
const NOW: Now = Now::from_millis(1_001_000);
const TCP: Client = Client { protocol: Protocol::Tcp, ..UDP };
const NAME: &str = "www.test";

/// What becomes of a packet: the kind of verdict, and the answer.
fn outcome(road: &Road, packet: &[u8], client: Client) -> (&'static str, Vec<u8>) {
    let mut room = vec![0; 4096];
    let (kind, len) = match road.front.answer(packet, client, &road.round(NOW), &mut room) {
        Verdict::Silence => ("silence", 0),
        Verdict::Own(len, _) => ("own", len),
        Verdict::Hit(len, _) => ("hit", len),
        Verdict::Refresh(len, ..) => ("refresh", len),
        Verdict::Miss(_) => ("miss", 0),
    };
    (kind, room[..len].to_vec())
}

/// One address, so that nothing rotates from one use to the next.
fn answer(rtype: u16) -> Vec<u8> {
    reply(&question(NAME, rtype), &[a(300, 1)])
}

/// Roads whose store has the answer for plain queries, for those with EDNS, with DO, and with CD.
fn road() -> Road {
    let road = Road::new("127.0.0.1:9".parse().unwrap(), Rules::default());
    for query in usual() {
        road.prime(&query, &answer(1), CAME);
    }
    road.prime(&query(1, 0x0100, &question(NAME, 255), None), &answer(255), CAME);
    road
}

fn usual() -> Vec<Vec<u8>> {
    let with = |flags, opt| query(7, flags, &question(NAME, 1), opt);
    let dnssec_ok = opt(1232, 0x8000, &[]);
    vec![
        with(0x0100, None),
        with(0x0100, Some(opt(1232, 0, &[]))),
        with(0x0100, Some(dnssec_ok)),
        with(0x0110, None),
    ]
}

/// Packets that look like the usual ones.
fn alike() -> Vec<Vec<u8>> {
    let stored = answer(1);
    let mut packets = usual();
    for usual in usual() {
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = usual.clone();
            change(&mut packet);
            packet
        };
        // The name in capitals; another id; each bit of the flags.
        packets.push(changed(&|p| p[13..16].make_ascii_uppercase()));
        packets.push(changed(&|p| p[0] ^= 0xff));
        packets.extend((16..32).map(|bit| changed(&|p| p[bit / 8] ^= 1 << (bit % 8))));
        // One more or less in each of the counts.
        packets.extend([5, 7, 9, 11].map(|at| changed(&|p| p[at] ^= 1)));
        packets.extend([5, 7, 9, 11].map(|at| changed(&|p| p[at] ^= 2)));
        // Something behind it: nothing in particular, and what follows the question in the stored answer.
        packets.push(changed(&|p| p.push(0)));
        packets.extend((1..stored.len() - 30).map(|n| changed(&|p| p.extend(&stored[26..26 + n]))));
        // Cut off, and each byte behind the header another one.
        packets.extend((0..usual.len()).map(|len| changed(&|p| p.truncate(len))));
        packets.extend((12..usual.len()).map(|at| changed(&|p| p[at] ^= 0x20)));
        packets.extend((12..usual.len()).map(|at| changed(&|p| p[at] ^= 1)));
    }
    let options = option(10, b"12345678");
    packets.push(query(7, 0x0100, &question(NAME, 1), Some(opt(1232, 0, &options))));
    packets.extend([255, 252, 251, 41, 28].map(|rtype| query(7, 0x0100, &question(NAME, rtype), None)));
    packets
}

fn on_a_runtime(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async { test() });
}

#[test]
fn no_packet_is_treated_otherwise_for_what_is_at_hand() {
    on_a_runtime(|| {
        let (mut hits, mut others) = (0, 0);
        for packet in alike() {
            for client in [UDP, TCP] {
                let (warm, cold) = (road(), road());
                for usual in usual() {
                    assert_eq!(outcome(&warm, &usual, UDP).0, "hit");
                    assert_eq!(outcome(&warm, &usual, UDP).0, "hit");
                }
                let expected = outcome(&cold, &packet, client);
                assert_eq!(outcome(&warm, &packet, client), expected, "{packet:?}");
                assert_eq!(outcome(&warm, &packet, client), expected, "again: {packet:?}");
                *(if expected.0 == "hit" { &mut hits } else { &mut others }) += 1;
            }
        }
        assert!(hits > 20 && others > 200, "{hits} {others}");
    });
}

#[test]
fn what_was_asked_for_by_tcp_is_no_answer_to_any_by_udp() {
    on_a_runtime(|| {
        let (road, any) = (road(), query(7, 0x0100, &question(NAME, 255), None));
        for _ in 0..3 {
            assert_eq!(outcome(&road, &any, TCP).0, "hit");
            assert_eq!(outcome(&road, &any, UDP).0, "own", "RFC 8482");
        }
    });
}
