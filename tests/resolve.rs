//! Misses inside of one worker, where the clock can be set: refreshes, and who joins them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::time::{Duration, Instant};

use sidestep::cache::{Look, Rules};
use sidestep::clock::Now;
use sidestep::listen::front::Verdict;
use support::message::*;
use support::road::Road;
use support::scripted::{Action, Order, Scripted};

fn www() -> Vec<u8> {
    query(7, 0x0100, &question("www.test", 1), Some(opt(1232, 0, &[])))
}

fn old_answer() -> Vec<u8> {
    reply(&question("www.test", 1), &[a(10, 9)])
}

/// Puts an answer of 10 s into the cache that has 300 ms left, hits it twice, and starts its refresh.
fn start_refresh(road: &Road) {
    let now = Now::read();
    road.prime(&www(), &old_answer(), now - Duration::from_millis(9_700));
    let mut room = vec![0; 4096];
    assert!(matches!(road.answer(&www(), &road.round(now), &mut room), Verdict::Hit(..)));
    match road.answer(&www(), &road.round(now), &mut room) {
        Verdict::Refresh(_, _, miss) => road.front.resolver.refresh(*miss),
        _ => panic!("the second hit, in the last tenth"),
    }
}

#[test]
fn an_answer_is_refreshed_while_it_is_still_good() {
    let upstream = Scripted::good();
    Road::run(upstream.address, Rules::default(), |road| async move {
        start_refresh(&road);
        let key = road.key(&www());
        loop {
            match road.front.resolver.cache.look(&key, &Rules::default(), Now::read()) {
                Look::Fresh { entry, .. } if entry.ttl() == 60 => break,
                Look::Fresh { .. } => tokio::time::sleep(Duration::from_millis(2)).await,
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(upstream.asked("www.test"), 1);
}

#[test]
fn who_joins_a_slow_refresh_gets_stale_data_in_time() {
    let upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
    Road::run(upstream.address, Rules::default(), |road| async move {
        start_refresh(&road);
        tokio::time::sleep(Duration::from_millis(350)).await;
        let (now, start) = (Now::read(), Instant::now());
        let Verdict::Miss(miss) = road.answer(&www(), &road.round(now), &mut [0; 4096]) else {
            panic!("it has expired")
        };
        let answer = road.resolve(*miss, now).first().await;
        assert!(start.elapsed() < Duration::from_millis(1800), "{:?}", start.elapsed());
        assert_eq!((rcode(&answer), extended_errors(&answer)), (0, vec![3]));
        assert_eq!(records(&answer), [(1, 30, vec![192, 0, 2, 9])]);
    });
}

#[test]
fn who_joins_a_refresh_that_fails_gets_stale_data_at_once() {
    let upstream =
        Scripted::start(Order::AtOnce, |_| vec![Action::Wait(Duration::from_millis(700)), Action::Rcode(2)]);
    Road::run(upstream.address, Rules::default(), |road| async move {
        start_refresh(&road);
        tokio::time::sleep(Duration::from_millis(350)).await;
        let now = Now::read();
        let Verdict::Miss(miss) = road.answer(&www(), &road.round(now), &mut [0; 4096]) else {
            panic!("it has expired")
        };
        let answer = road.resolve(*miss, now).first().await;
        assert_eq!((rcode(&answer), extended_errors(&answer)), (0, vec![3]));
    });
}

#[test]
fn who_joins_a_refresh_where_stale_data_is_off_gets_none() {
    let upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
    let rules = Rules { stale_for: Duration::ZERO, ..Rules::default() };
    Road::run(upstream.address, rules, |road| async move {
        start_refresh(&road);
        tokio::time::sleep(Duration::from_millis(350)).await;
        let now = Now::read();
        let Verdict::Miss(miss) = road.answer(&www(), &road.round(now), &mut [0; 4096]) else {
            panic!("it has expired")
        };
        let answer = road.resolve(*miss, now).first().await;
        assert_eq!((rcode(&answer), extended_errors(&answer)), (2, vec![22]));
    });
}

#[test]
fn a_part_of_an_answer_does_not_drive_out_the_old_one() {
    let upstream = Scripted::start(Order::AtOnce, |_| vec![Action::Truncated]);
    Road::run(upstream.address, Rules::default(), |road| async move {
        let now = Now::read();
        road.prime(&www(), &old_answer(), now - Duration::from_secs(11));
        let Verdict::Miss(miss) = road.answer(&www(), &road.round(now), &mut [0; 4096]) else {
            panic!("expired")
        };
        let answer = road.resolve(*miss, now).first().await;
        assert_eq!(word(&answer, 1) & 0x0200, 0x0200, "TC is passed on");
        assert!(matches!(
            road.front.resolver.cache.look(&road.key(&www()), &Rules::default(), now),
            Look::Stale { .. }
        ));
    });
}
