//! A zone's own rules inside of one worker: what they answer, what is asked because of them, what is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use sidestep::cache::{Look, Rules};
use sidestep::clock::Now;
use sidestep::listen::front::Verdict;
use sidestep::local::{Dns64, Hosts, Local, Rewrite, Settings, Table, Zones};
use sidestep::resolve::ZoneCounters;
use support::message::*;
use support::road::Road;
use support::scripted::{Action, Order, Query, Scripted};

fn asks(name: &str, rtype: u16) -> Vec<u8> {
    query(7, 0x0100, &question(name, rtype), Some(opt(1232, 0, &[])))
}

/// What a client hears; `None` if it is a hit.
async fn miss(road: &Road, packet: &[u8]) -> Option<Vec<u8>> {
    let now = Now::read();
    match road.answer(packet, &road.round(now), &mut [0; 4096]) {
        Verdict::Miss(miss) => Some(road.resolve(*miss, now).first().await),
        _ => None,
    }
}

fn counters(road: &Road) -> Arc<ZoneCounters> {
    road.front.resolver.routes().snapshot.zones[0].counters.of(0, 0)
}

/// The reply that says that www.test has no AAAA.
fn no_aaaa(query: &Query) -> Vec<u8> {
    let mut reply = negative(&question("www.test", 28), 0, &[], &[soa("test", 300, 20)]);
    reply[..2].copy_from_slice(&query.message[..2]);
    reply
}

#[test]
fn hosts_answer_without_an_upstream_and_are_kept() {
    let upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
    let local = Local::new(Settings {
        hosts: Some(Hosts { inline: Table::parse("192.0.2.9 www.test"), ..Hosts::new(Zones::all()) }),
        ..Settings::default()
    });
    Road::run_with(upstream.address, Rules::default(), Some(local), |road| async move {
        let answer = miss(&road, &asks("www.test", 1)).await.unwrap();
        assert_eq!((rcode(&answer), records(&answer)), (0, vec![(1, 3600, vec![192, 0, 2, 9])]));
        assert_eq!(miss(&road, &asks("www.test", 1)).await, None, "it is a hit now");
        let failed = miss(&road, &asks("other.test", 1)).await.unwrap();
        assert_eq!(rcode(&failed), 2);
        let counters = counters(&road);
        assert_eq!((counters.local.get(), counters.misses.get(), counters.timeouts.get()), (2, 2, 0));
    });
    assert!(upstream.seen().is_empty());
}

#[test]
fn what_our_rules_refuse_is_not_answered_with_old_data() {
    let upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
    let local = Local::new(Settings { hosts: Some(Hosts::new(Zones::all())), ..Settings::default() });
    let file = Arc::clone(&local);
    Road::run_with(upstream.address, Rules::default(), Some(local), |road| async move {
        let packet = asks("www.test", 1);
        road.prime(
            &packet,
            &reply(&question("www.test", 1), &[a(10, 9)]),
            Now::read() - Duration::from_secs(11),
        );
        assert_eq!(rcode(&miss(&road, &packet).await.unwrap()), 2);
        file.set_hosts(Table::parse("192.0.2.7 www.test"));
        let answer = miss(&road, &packet).await.unwrap();
        assert_eq!(records(&answer), [(1, 3600, vec![192, 0, 2, 7])], "at once, no failure is remembered");
    });
}

#[test]
fn a_made_aaaa_takes_two_questions_and_is_kept_as_one_answer() {
    let upstream = Scripted::start(Order::AtOnce, |query| {
        vec![Action::Message(match query.rtype {
            28 => no_aaaa(query),
            _ => query.answer(),
        })]
    });
    let local = Local::new(Settings { dns64: Some(Dns64::default()), ..Settings::default() });
    Road::run_with(upstream.address, Rules::default(), Some(local), |road| async move {
        let answer = miss(&road, &asks("www.test", 28)).await.unwrap();
        let [(28, ttl, address)] = &records(&answer)[..] else { panic!("{:?}", records(&answer)) };
        assert!(*ttl <= 60 && address.starts_with(&[0, 0x64, 0xff, 0x9b]), "{ttl} {address:?}");
        assert_eq!(miss(&road, &asks("www.test", 28)).await, None, "it is a hit now");
        assert_eq!(counters(&road).local.get(), 0);
    });
    assert_eq!(upstream.asked("www.test"), 2);
}

#[test]
fn a_rewritten_question_is_kept_under_the_clients() {
    let upstream = Scripted::good();
    let rule = Rewrite::from_words(&["name", "old.test", "new.test"]).unwrap();
    let local = Local::new(Settings { rewrites: vec![rule], ..Settings::default() });
    Road::run_with(upstream.address, Rules::default(), Some(local), |road| async move {
        let packet = asks("Old.Test", 1);
        let answer = miss(&road, &packet).await.unwrap();
        assert_eq!(rcode(&answer), 0);
        assert_eq!(answer[12..26], question("Old.Test", 1), "the client's own question, as it came");
        assert_eq!(answer[26..28], [0xc0, 12], "the owner is who was asked for");
        let kept = road.front.resolver.cache.look(&road.key(&packet), &Rules::default(), Now::read());
        assert!(matches!(kept, Look::Fresh { .. }));
    });
    assert_eq!((upstream.asked("new.test"), upstream.asked("old.test")), (1, 0));
}

#[test]
fn all_questions_of_a_flight_share_its_deadline() {
    let upstream = Scripted::start(Order::AtOnce, |query| match query.rtype {
        28 => vec![Action::Wait(Duration::from_millis(1200)), Action::Message(no_aaaa(query))],
        _ => vec![Action::Silence],
    });
    let local = Local::new(Settings { dns64: Some(Dns64::default()), ..Settings::default() });
    Road::run_with(upstream.address, Rules::default(), Some(local), |road| async move {
        let start = std::time::Instant::now();
        let answer = miss(&road, &asks("www.test", 28)).await.unwrap();
        assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![22]));
        assert!(start.elapsed() < Duration::from_millis(4000), "{:?}", start.elapsed());
        assert_eq!(counters(&road).timeouts.get(), 1);
    });
}
