//! A hit allocates nothing and frees nothing. The allocator of this binary counts.

#![allow(unsafe_code, reason = "an allocator is unsafe to write; this one only counts and hands on")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use sidestep::cache::{Cache, Entry, FailureTimes, Key, Rules};
use sidestep::clock::Now;
use sidestep::listen::front::Verdict;
use sidestep::resolve::zones::ZONES;
use sidestep::resolve::{Routes, Snapshot, Zone};
use sidestep::upstream::Upstreams;
use support::message::*;
use support::road::Road;

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// A call, after which so many bytes more (or fewer) are held.
fn count(bytes: isize) {
    // A thread that is ending has no counters any more, and does nothing that is measured.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes on to the system's allocator as it came; counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `body` allocated, grew or freed.
fn calls(body: impl FnOnce()) -> usize {
    let before = CALLS.get();
    body();
    CALLS.get() - before
}

/// How many bytes more are held after `body`, and what it made.
fn held<T>(body: impl FnOnce() -> T) -> (isize, T) {
    let before = HELD.get();
    let made = body();
    (HELD.get() - before, made)
}

#[test]
fn replies_that_pointers_do_not_shorten_are_looked_at_without_allocating() {
    let records: Vec<_> = (1..=8).map(|last| record(QNAME, 1, 300, &[192, 0, 2, last])).collect();
    let pointing = reply(&question("www.test", 1), &records);
    let root = reply(&question(".", 1), &[record(&name("."), 1, 300, &[192, 0, 2, 1])]);
    let none = negative(&question("www.test", 1), 3, &[], &[soa("test", 300, 300)]);
    for (what, reply) in [("pointers", pointing), ("the root", root), ("no answers", none)] {
        let mut short = None;
        assert_eq!(calls(|| short = sidestep::local::shorten(&reply)), 0, "{what}");
        assert_eq!(short, None, "{what}");
    }
}

const TIMES: FailureTimes = FailureTimes {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(30),
    with_stale: Duration::from_secs(30),
};

#[test]
fn the_counter_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
    assert_eq!(calls(|| ()), 0);
    assert_eq!(held(|| Vec::<u8>::with_capacity(100)).0, 100);
    assert_eq!(held(|| drop(std::hint::black_box(Box::new(1)))).0, 0);
}

#[test]
fn a_hit_neither_allocates_nor_frees() {
    let nobody = "127.0.0.1:9".parse().unwrap();
    Road::run(nobody, Rules::default(), |road| async move {
        let (came, now) = (Now::from_millis(1_000_000), Now::from_millis(1_061_000));
        let (round, mut room) = (road.round(now), vec![0; 4096]);
        // The first query of a zone makes its counters.
        road.answer(&query(7, 0x0100, &question("first.test", 1), None), &round, &mut room);
        for (what, edns) in
            [("plain", None), ("EDNS", Some(opt(1232, 0, &[]))), ("DO", Some(opt(4096, 0x8000, b"")))]
        {
            let ask = |name: &str| query(7, 0x0100, &question(name, 1), edns.clone());
            let addresses: Vec<_> = (1..=4).map(|i| a(300, i)).collect();
            let www = ask("www.test");
            road.prime(&www, &reply(&question("www.test", 1), &addresses), came);
            let gone = ask("gone.test");
            road.prime(&gone, &negative(&question("gone.test", 1), 3, &[], &[soa("test", 300, 300)]), came);
            let large = ask("large.test");
            road.prime(&large, &reply(&question("large.test", 1), &vec![a(300, 1); 100]), came);
            let stale = ask("stale.test");
            road.prime(&stale, &reply(&question("stale.test", 1), &[a(60, 1)]), came);
            let failed = ask("fails.test");
            for (name, query) in [("stale.test", &stale), ("fails.test", &failed)] {
                let failure = negative(&question(name, 1), 2, &[], &[]);
                let failure = Entry::from_reply(&failure, &Rules::default(), now).unwrap();
                road.front.resolver.cache.fail(&road.key(query), failure, &Rules::default(), TIMES, now);
            }
            let chaos = ask("refused.test");
            let mut transfer = chaos.clone();
            transfer[12 + question("refused.test", 1).len() - 3] = 252;
            for (kind, query, code, hit) in [
                ("addresses that rotate", &www, 0, true),
                ("NXDOMAIN", &gone, 3, true),
                ("truncated", &large, 0, true),
                ("stale at once", &stale, 0, true),
                ("a remembered failure", &failed, 2, true),
                ("refused", &transfer, 5, false),
            ] {
                // The first hit of a worker's life makes the places that all others use, and the first one after an answer
                // was replaced lets the old one go.
                road.answer(query, &round, &mut room);
                for _ in 0..3 {
                    let mut verdict = None;
                    let calls = calls(|| verdict = Some(road.answer(query, &round, &mut room)));
                    let is_hit = matches!(verdict, Some(Verdict::Hit(..)));
                    assert!(
                        is_hit == hit && (hit || matches!(verdict, Some(Verdict::Own(..)))),
                        "{what}, {kind}"
                    );
                    assert_eq!(rcode(&room), code, "{what}, {kind}");
                    assert_eq!(calls, 0, "{what}, {kind}");
                }
            }
        }
    });
}

#[test]
fn what_answers_weigh_is_what_they_take() {
    let make = |cache: &Cache, i: usize| {
        let owner = format!("svc-{i}.ns-{}.svc.cluster.local", i % 7);
        let mut key = Key::of_name(&name(&owner));
        key.complete(cache.seed(), 1, 1, 1, false, false);
        let reply = match i % 2 {
            0 => reply(&question(&owner, 1), &[a(300, 1)]),
            _ => negative(&question(&owner, 1), 3, &[], &[soa("cluster.local", 300, 300)]),
        };
        (key, Entry::from_reply(&reply, &Rules::default(), Now::from_millis(1)).unwrap(), reply.len())
    };
    // Tables that are nearly full, and such that have just grown.
    for count in [50_000, 62_000, 100_000] {
        let cache = Cache::new(1 << 30);
        let mut wire = 0;
        let (bytes, ()) = held(|| {
            for i in 0..count {
                let (key, entry, len) = make(&cache, i);
                wire += len;
                cache.store(&key, entry, &Rules::default());
            }
        });
        let (held, weigh) = (bytes.cast_unsigned() / count, cache.figures().bytes as usize / count);
        // The counter does not see what the allocator adds, 8 bytes or so for each of two pieces.
        assert!((held..held + 40).contains(&weigh), "{count}: {held} bytes are held, they weigh {weigh}");
        let beyond = held - wire / count;
        assert!(beyond <= 105, "{count}: {beyond} bytes beyond the answer itself");
    }
}

#[test]
fn a_zone_takes_little_where_nobody_asks_it() {
    const WORKERS: usize = 4;
    const LISTENERS: usize = 64;
    let name = |i: usize| [b"\x03", format!("{i:03}").as_bytes(), b"\x04test\0"].concat();
    let zone = |i| Zone { name: name(i).into(), listeners: (0..LISTENERS).collect(), ..Zone::default() };
    let snapshot = Arc::new(Snapshot {
        zones: (0..ZONES.max).map(zone).collect(),
        listeners: (0..LISTENERS).map(|i| ([127, 0, 0, i as u8], 53).into()).collect(),
        ..Snapshot::default()
    });
    let upstreams = Upstreams::new(snapshot.upstream);
    let made = |worker| Routes::new(Arc::clone(&snapshot), worker, &upstreams);
    let (bytes, routes) = held(|| (0..WORKERS).map(made).collect::<Vec<_>>());
    let each = bytes / (WORKERS * LISTENERS * ZONES.max).cast_signed();
    assert!(each <= 48, "{each} bytes a zone, listener and worker, {bytes} in all");
    // Counters, and what else goes with them, are there since the first query, and then for good.
    let name = name(7);
    let ask = |worker: usize| routes[worker].view(5).of(&name).unwrap().1.counters.misses.bump();
    let first = held(|| ask(2)).0;
    assert!((1000..4000).contains(&first), "{first} bytes");
    assert_eq!(calls(|| ask(2)), 0);
    ask(3);
    let blocks = snapshot.zones[7].counters.at(5);
    assert_eq!(blocks.iter().map(|block| block.misses.get()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(snapshot.zones.iter().map(|zone| zone.counters.all().len()).sum::<usize>(), 2);
    // A reload makes new routes, which go on counting where the old ones did.
    let after = made(2);
    assert_eq!(after.view(5).of(&name).unwrap().1.counters.misses.get(), 2);
}
