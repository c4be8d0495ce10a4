//! The cache by its rules: how long an answer is kept, what becomes of it afterwards, what failures do, who goes
//! first. Time is handed in, so a day passes at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::time::Duration;

use sidestep::cache::{Cache, Entry, FailureTimes, Key, Kind, Look, Prefetch, Rules, Share};
use sidestep::clock::Now;
use support::message::*;

const TIMES: FailureTimes = FailureTimes {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
    with_stale: Duration::from_secs(30),
};

fn at(seconds: u64) -> Now {
    Now::from_millis(1_000_000 + seconds * 1000)
}

fn rules() -> Rules {
    Rules::default()
}

fn entry_by(message: &[u8], rules: &Rules) -> Entry {
    Entry::from_reply(message, rules, at(0)).expect("a reply")
}

fn entry(message: &[u8]) -> Entry {
    entry_by(message, &rules())
}

fn ttls(entry: &Entry) -> Vec<u32> {
    records(entry.stored().message).iter().map(|(_, ttl, _)| *ttl).collect()
}

fn q(rtype: u16) -> Vec<u8> {
    question("www.example", rtype)
}

fn key(cache: &Cache, text: &str) -> Key {
    let mut key = Key::of_name(&name(text));
    key.complete(cache.seed(), 0, 1, 1, false, false);
    key
}

/// A cache with one answer of this TTL, stored at `at(0)`.
fn cache_with(message: &[u8], rules: &Rules) -> (Cache, Key) {
    let cache = Cache::new(1 << 20);
    let key = key(&cache, "www.example");
    cache.store(&key, entry_by(message, rules), rules);
    (cache, key)
}

fn failure() -> Entry {
    entry(&negative(&q(1), 2, &[], &[]))
}

fn is_fresh(look: &Look) -> bool {
    matches!(look, Look::Fresh { .. })
}

#[test]
fn an_answer_lives_as_long_as_its_shortest_record() {
    let e = entry(&reply(&q(1), &[a(300, 1), a(60, 2)]));
    assert_eq!((e.ttl(), e.kind(), ttls(&e)), (60, Kind::Positive, vec![300, 60]));
    let glue = message(0, REPLY, &q(1), [&[a(300, 1)], &[], &[record(&name("ns"), 1, 5, &[1, 2, 3, 4])]]);
    assert_eq!(entry(&glue).ttl(), 5, "of any section");
}

#[test]
fn ttls_are_capped_and_floored_per_zone_when_stored() {
    let secs = Duration::from_secs;
    assert_eq!(ttls(&entry(&reply(&q(1), &[a(86_400, 1)]))), [3600]);
    let short = Rules { ttl_max: secs(30), ttl_min: secs(5), ..rules() };
    assert_eq!(ttls(&entry_by(&reply(&q(1), &[a(86_400, 1), a(0, 2)]), &short)), [30, 5]);
    assert_eq!(ttls(&entry(&reply(&q(1), &[a(0x8000_0001, 1)]))), [0], "RFC 2181 section 8");
    assert!(!entry(&reply(&q(1), &[a(0, 1)])).cacheable(), "zero is for this client only");
}

#[test]
fn a_negative_answer_lives_for_the_smaller_of_soa_ttl_and_minimum() {
    for (ttl, minimum, kept) in
        [(300, 60, 60), (60, 300, 60), (9000, 9000, 1800), (0, 300, 0), (0x8000_0001, 300, 0)]
    {
        let message = negative(&q(1), 3, &[], &[soa("example", ttl, minimum)]);
        let e = entry(&message);
        assert_eq!((e.ttl(), e.kind(), ttls(&e)), (kept, Kind::NxDomain, vec![kept]), "{ttl} {minimum}");
        let e = entry(&negative(&q(28), 0, &[], &[soa("example", ttl, minimum)]));
        assert_eq!((e.ttl(), e.kind()), (kept, Kind::NoData), "{ttl} {minimum}");
    }
    let five = Rules { negative_ttl_max: Duration::from_secs(5), ..rules() };
    assert_eq!(entry_by(&negative(&q(1), 3, &[], &[soa("example", 60, 60)]), &five).ttl(), 5);
    let ten = Rules { negative_ttl_min: Duration::from_secs(10), ..rules() };
    assert_eq!(entry_by(&negative(&q(1), 3, &[], &[soa("example", 1, 1)]), &ten).ttl(), 10);
}

#[test]
fn proofs_beside_an_soa_are_not_kept_past_their_own_time() {
    let nsec = record(&name("example"), 47, 20, &[0]);
    let e = entry(&negative(&q(1), 3, &[], &[soa("example", 300, 60), nsec]));
    assert_eq!((ttls(&e), e.ttl()), (vec![60, 20], 20));
}

#[test]
fn a_chain_that_ends_in_nothing_is_no_data() {
    let e = entry(&negative(&q(1), 0, &[cname(30, "a.example")], &[soa("example", 300, 60)]));
    assert_eq!((e.kind(), e.ttl(), ttls(&e)), (Kind::NoData, 30, vec![30, 60]));
    let e = entry(&negative(&q(1), 3, &[cname(300, "a.example")], &[soa("example", 300, 60)]));
    assert_eq!((e.kind(), e.ttl()), (Kind::NxDomain, 60));
    let e =
        entry(&reply(&q(1), &[cname(300, "a.example"), record(&name("a.example"), 1, 200, &[1, 2, 3, 4])]));
    assert_eq!((e.kind(), e.ttl()), (Kind::Positive, 200));
    assert_eq!(entry(&reply(&q(5), &[cname(300, "a.example")])).kind(), Kind::Positive, "asked for itself");
}

#[test]
fn what_says_nothing_is_not_kept() {
    let ns = record(&name("example"), 2, 300, &name("ns.example"));
    let truncated = message(0, REPLY | 0x0200, &q(1), [&[a(300, 1)], &[], &[]]);
    let short_soa = record(&name("example"), 6, 300, b"\0\0\0\0\x01");
    for (what, message) in [
        ("NXDOMAIN without SOA", negative(&q(1), 3, &[], &[])),
        ("an empty answer without SOA", negative(&q(1), 0, &[], &[])),
        ("a chain to nothing without SOA", reply(&q(1), &[cname(300, "a.example")])),
        ("an SOA too short to hold a MINIMUM", negative(&q(1), 3, &[], &[short_soa])),
        ("a referral", negative(&q(1), 0, &[], &[ns])),
        ("a truncated answer", truncated.clone()),
        ("SERVFAIL", negative(&q(1), 2, &[], &[soa("example", 60, 60)])),
        ("REFUSED with an answer", negative(&q(1), 5, &[a(60, 1)], &[])),
    ] {
        assert!(!entry(&message).cacheable(), "{what}");
    }
    let floor =
        Rules { ttl_min: Duration::from_secs(60), negative_ttl_min: Duration::from_secs(60), ..rules() };
    assert!(!entry_by(&truncated, &floor).cacheable(), "a floor does not change that");
    assert!(!entry_by(&negative(&q(1), 3, &[], &[]), &floor).cacheable());
}

#[test]
fn a_reply_that_cannot_be_kept_whole_is_refused() {
    let no_question = message(0, REPLY | 2, &[], [&[], &[], &[]]);
    let two_opts = message(0, REPLY, &q(1), [&[], &[], &[opt(512, 0, &[]), opt(512, 0, &[])]]);
    let opt_in_answer = message(0, REPLY, &q(1), [&[opt(512, 0, &[])], &[], &[]]);
    let mut cut = reply(&q(1), &[a(60, 1)]);
    cut.pop();
    for (what, message) in [
        ("no question", no_question),
        ("two OPTs", two_opts),
        ("OPT in the answer section", opt_in_answer),
        ("cut off", cut),
        ("a header alone", vec![0; 12]),
        ("nothing", vec![]),
    ] {
        assert!(Entry::from_reply(&message, &rules(), at(0)).is_err(), "{what}");
    }
}

#[test]
fn an_extended_response_code_is_a_failure_and_not_kept() {
    let badvers = message(0, REPLY, &q(1), [&[a(60, 1)], &[], &[opt(512, 1 << 24, &[])]]);
    let entry = entry_by(&badvers, &rules());
    assert_eq!((entry.rcode(), entry.kind(), entry.cacheable()), (2, Kind::Nothing, false));
}

#[test]
fn an_answer_counts_down_and_ends() {
    let (cache, key) =
        cache_with(&reply(&q(1), &[a(60, 1)]), &Rules { stale_for: Duration::ZERO, ..rules() });
    let Look::Fresh { entry, .. } = cache.look(&key, &rules(), at(59)) else { panic!("59 s") };
    assert_eq!(entry.age(at(59)), 59);
    assert_eq!(entry.age(Now::from_millis(1_059_999)), 59, "rounded down");
    assert!(is_fresh(&cache.look(&key, &rules(), Now::from_millis(1_059_999))));
    assert!(matches!(cache.look(&key, &rules(), at(60)), Look::Unknown), "stale data is off");
}

#[test]
fn nothing_is_ever_served_as_younger_than_it_is() {
    for came in (0..1000).step_by(37) {
        let came = Now::from_millis(1_000_000 + came);
        let entry = Entry::from_reply(&reply(&q(1), &[a(3, 1)]), &rules(), came).expect("a reply");
        for after in (0..3000).step_by(29) {
            let (now, age) = (came + Duration::from_millis(after), (after / 1000) as u32);
            assert!(entry.age(now) == age || entry.age(now) == age + 1, "{came:?} {after}");
            assert!(
                entry.is_fresh(now) || after > 2875,
                "its time is over an eighth of a second early at most"
            );
            assert!(!entry.is_fresh(now) || entry.age(now) < 3, "what is served has some of its time left");
        }
        assert!(!entry.is_fresh(came + Duration::from_secs(3)));
    }
}

#[test]
fn what_answers_another_question_is_not_kept() {
    let cache = Cache::new(1 << 20);
    let (asked, other) = (key(&cache, "asked.example"), key(&cache, "www.example"));
    cache.store(&other, entry(&reply(&q(1), &[a(60, 1)])), &rules());
    for _ in 0..2 {
        cache.store(&asked, entry(&reply(&q(1), &[a(60, 2)])), &rules());
        assert!(matches!(cache.look(&asked, &rules(), at(1)), Look::Unknown));
        let Look::Fresh { entry: kept, .. } = cache.look(&other, &rules(), at(1)) else { panic!("it stays") };
        assert_eq!(kept, entry(&reply(&q(1), &[a(60, 1)])));
        cache.fail(&asked, failure(), &rules(), TIMES, at(1));
        assert!(matches!(cache.look(&asked, &rules(), at(1)), Look::Unknown));
        assert_eq!(cache.figures().entries, 1);
    }
}

#[test]
fn stale_data_stays_for_its_window() {
    let rules = Rules { stale_for: Duration::from_secs(3600), ..rules() };
    let (cache, key) = cache_with(&reply(&q(1), &[a(60, 1)]), &rules);
    assert!(matches!(cache.look(&key, &rules, at(60)), Look::Stale { at_once: false, .. }));
    assert!(matches!(cache.look(&key, &rules, at(3659)), Look::Stale { at_once: false, .. }));
    assert!(matches!(cache.look(&key, &rules, at(3660)), Look::Unknown));
}

#[test]
fn negatives_are_stale_only_where_that_is_wanted() {
    let message = negative(&q(1), 3, &[], &[soa("example", 60, 60)]);
    let (cache, key) = cache_with(&message, &rules());
    assert!(matches!(cache.look(&key, &rules(), at(61)), Look::Stale { .. }));
    let (cache, key) = cache_with(&message, &Rules { stale_negative: false, ..rules() });
    assert!(is_fresh(&cache.look(&key, &rules(), at(59))));
    assert!(matches!(cache.look(&key, &rules(), at(61)), Look::Unknown));
}

#[test]
fn after_a_failed_refresh_stale_data_is_served_at_once_for_a_while() {
    let (cache, key) = cache_with(&reply(&q(1), &[a(60, 1)]), &rules());
    cache.fail(&key, failure(), &rules(), TIMES, at(70));
    assert!(matches!(cache.look(&key, &rules(), at(70)), Look::Stale { at_once: true, .. }));
    assert!(matches!(cache.look(&key, &rules(), at(99)), Look::Stale { at_once: true, .. }));
    assert!(
        matches!(cache.look(&key, &rules(), at(100)), Look::Stale { at_once: false, .. }),
        "asked again after 30 s"
    );
}

#[test]
fn a_failure_never_hides_data() {
    let (cache, key) = cache_with(&reply(&q(1), &[a(60, 1)]), &rules());
    cache.fail(&key, failure(), &rules(), TIMES, at(55));
    assert!(is_fresh(&cache.look(&key, &rules(), at(56))), "a failed refresh ahead of expiry");
    assert!(matches!(cache.look(&key, &rules(), at(61)), Look::Stale { at_once: true, .. }));
    let day = 60 + 86_400;
    assert!(matches!(cache.look(&key, &rules(), at(day - 1)), Look::Stale { .. }));
    assert!(matches!(cache.look(&key, &rules(), at(day)), Look::Unknown));
}

#[test]
fn a_failure_is_one_also_for_a_batch_that_came_before_it() {
    let cache = Cache::new(1 << 20);
    let key = key(&cache, "www.example");
    cache.fail(&key, failure(), &rules(), TIMES, at(0));
    let before = at(0) - Duration::from_millis(1);
    assert!(matches!(cache.look(&key, &rules(), before), Look::Failed(_)));
}

#[test]
fn failures_in_a_row_last_twice_as_long_up_to_the_longest() {
    let cache = Cache::new(1 << 20);
    let key = key(&cache, "www.example");
    let mut now = 0;
    for lasts in [1, 2, 4, 8, 16, 30, 30] {
        cache.fail(&key, failure(), &rules(), TIMES, at(now));
        assert!(matches!(cache.look(&key, &rules(), at(now + lasts - 1)), Look::Failed(_)), "{lasts}");
        now += lasts;
        assert!(matches!(cache.look(&key, &rules(), at(now)), Look::Unknown), "{lasts}");
    }
    now += 60;
    cache.fail(&key, failure(), &rules(), TIMES, at(now));
    assert!(
        matches!(cache.look(&key, &rules(), at(now + 1)), Look::Unknown),
        "not in a row: one second again"
    );
}

#[test]
fn an_answer_ends_a_row_of_failures() {
    let cache = Cache::new(1 << 20);
    let key = key(&cache, "www.example");
    cache.fail(&key, failure(), &rules(), TIMES, at(0));
    cache.fail(&key, failure(), &rules(), TIMES, at(1));
    let no_stale = Rules { stale_for: Duration::ZERO, ..rules() };
    let answer = Entry::from_reply(&reply(&q(1), &[a(1, 1)]), &no_stale, at(3)).unwrap();
    cache.store(&key, answer, &rules());
    assert!(is_fresh(&cache.look(&key, &rules(), at(3))));
    cache.fail(&key, failure(), &rules(), TIMES, at(4));
    assert!(matches!(cache.look(&key, &rules(), at(5)), Look::Unknown), "one second again");
}

#[test]
fn a_fresh_negative_replaces_stale_data_even_if_it_cannot_be_kept() {
    for message in [
        negative(&q(1), 3, &[], &[soa("example", 60, 60)]),
        negative(&q(1), 0, &[], &[soa("example", 60, 60)]),
        negative(&q(1), 3, &[], &[]),
        negative(&q(1), 0, &[], &[]),
    ] {
        let (cache, key) = cache_with(&reply(&q(1), &[a(60, 1)]), &rules());
        let fresh = Entry::from_reply(&message, &rules(), at(61)).unwrap();
        cache.store(&key, fresh, &rules());
        match cache.look(&key, &rules(), at(61)) {
            Look::Fresh { entry, .. } => assert_ne!(entry.kind(), Kind::Positive),
            Look::Unknown => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_popular_answer_is_refreshed_once_in_its_last_tenth() {
    let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
    let wants = |s| match cache.look(&key, &rules(), at(s)) {
        Look::Fresh { refresh, .. } => refresh,
        other => panic!("{other:?}"),
    };
    assert!(!wants(1));
    assert!(!wants(89), "two hits, but too early");
    assert!(wants(90));
    assert!(!wants(91), "asked for already");
    assert!(!wants(94));
    assert!(wants(95), "again after the interval");
}

/// Looks at these seconds; which of the looks ask for a refresh.
fn refreshes(prefetch: Prefetch, seconds: &[u64]) -> Vec<bool> {
    let rules = Rules { prefetch, ..rules() };
    let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules);
    let looks = seconds.iter().map(|&s| cache.look(&key, &rules, at(s)));
    looks.map(|look| matches!(look, Look::Fresh { refresh: true, .. })).collect()
}

#[test]
fn a_zone_says_how_many_uses_and_how_much_of_its_time_make_a_refresh() {
    let prefetch = Prefetch { hits: 3, gap: None, percent: 50 };
    assert_eq!(refreshes(prefetch.clone(), &[1, 49, 49, 50]), [false, false, false, true]);
    assert_eq!(refreshes(prefetch, &[60, 60, 60]), [false, false, true]);
    assert_eq!(refreshes(Prefetch { hits: 0, ..Prefetch::default() }, &[95, 96, 97]), [false; 3]);
    assert_eq!(refreshes(Prefetch { hits: 1, ..Prefetch::default() }, &[89, 90]), [false, true]);
}

#[test]
fn uses_that_are_too_far_apart_do_not_count_together() {
    let gap = |seconds| Prefetch { hits: 3, gap: Some(Duration::from_secs(seconds)), percent: 90 };
    assert_eq!(refreshes(gap(10), &[20, 30, 40]), [false, false, true]);
    assert_eq!(refreshes(gap(10), &[20, 30, 41, 51, 61]), [false, false, false, false, true]);
}

#[test]
fn with_a_gap_the_count_goes_on_when_the_answer_is_refreshed() {
    for (gap, refresh) in [(Some(Duration::from_secs(60)), true), (None, false)] {
        let rules = Rules { prefetch: Prefetch { hits: 3, gap, percent: 90 }, ..rules() };
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules);
        cache.look(&key, &rules, at(1));
        cache.look(&key, &rules, at(2));
        cache.store(&key, entry_by(&reply(&q(1), &[a(100, 1)]), &rules), &rules);
        let Look::Fresh { refresh: wanted, .. } = cache.look(&key, &rules, at(20)) else { panic!("fresh") };
        assert_eq!(wanted, refresh, "{gap:?}");
    }
}

#[test]
fn an_answer_hit_once_or_short_lived_is_not_refreshed() {
    let wants = |message: &[u8], s| {
        let (cache, key) = cache_with(message, &rules());
        let hits = [cache.look(&key, &rules(), at(s)), cache.look(&key, &rules(), at(s))];
        hits.map(|hit| matches!(hit, Look::Fresh { refresh: true, .. }))
    };
    assert_eq!(wants(&reply(&q(1), &[a(100, 1)]), 99), [false, true], "the second hit");
    assert_eq!(wants(&reply(&q(1), &[a(10, 1)]), 9), [false, true]);
    assert_eq!(wants(&reply(&q(1), &[a(9, 1)]), 8), [false, false]);
    let gone = |ttl| negative(&q(1), 3, &[], &[soa("example", ttl, ttl)]);
    assert_eq!(wants(&gone(60), 59), [false, true]);
    assert_eq!(wants(&gone(59), 58), [false, false]);
}

#[test]
fn a_full_cache_stays_within_its_bytes_and_forgets_the_least_recently_used() {
    let cache = Cache::new(1 << 20);
    let first = key(&cache, "first.example");
    let second = key(&cache, "second.example");
    let answer = |owner: &str| entry(&reply(&question(owner, 1), &[a(600, 1)]));
    cache.store(&first, answer("first.example"), &rules());
    cache.store(&second, answer("second.example"), &rules());
    for i in 0..20_000 {
        assert!(is_fresh(&cache.look(&first, &rules(), at(1))), "in use, and so kept: {i}");
        let owner = format!("n{i}.example");
        let key = key(&cache, &owner);
        cache.store(&key, answer(&owner), &rules());
        assert!(is_fresh(&cache.look(&key, &rules(), at(1))), "the newest is there");
    }
    assert!(matches!(cache.look(&second, &rules(), at(1)), Look::Unknown), "the least recently used went");
    let figures = cache.figures();
    assert!(figures.bytes <= figures.limit && figures.limit <= 1 << 20, "{figures:?}");
    assert!(figures.bytes > figures.limit * 9 / 10, "and the room is used: {figures:?}");
    assert_eq!(figures.entries + figures.evictions, 20_002);
}

#[test]
fn what_is_kept_is_counted_by_zone_and_by_what_it_says() {
    let cache = Cache::new(1 << 20);
    let of_zone = |zone: u32, text: &str| {
        let mut key = Key::of_name(&name(text));
        key.complete(cache.seed(), zone, 1, 1, false, false);
        key
    };
    let data = |owner: &str| entry(&reply(&question(owner, 1), &[a(600, 1)]));
    let nothing = entry(&negative(&question("b.example", 1), 3, &[], &[soa("example", 600, 600)]));
    cache.store(&of_zone(1, "a.example"), data("a.example"), &rules());
    cache.store(&of_zone(1, "b.example"), data("b.example"), &rules());
    cache.store(&of_zone(1, "b.example"), nothing, &rules());
    let failure = entry(&negative(&question("a.example", 1), 2, &[], &[]));
    cache.fail(&of_zone(2, "a.example"), failure, &rules(), TIMES, at(1));
    let entries = |cache: &Cache| cache.by_zone(&[1, 2, 3]).iter().map(|t| t.entries).collect::<Vec<_>>();
    assert_eq!(entries(&cache), [[1, 1], [0, 1], [0, 0]]);
    for i in 0..20_000 {
        let owner = format!("n{i}.example");
        cache.store(&of_zone(3, &owner), data(&owner), &rules());
    }
    let tallies = cache.by_zone(&[1, 2, 3]);
    assert_eq!(entries(&cache)[..2], [[0, 0], [0, 0]], "they were used least recently");
    assert_eq!((tallies[0].evictions, tallies[1].evictions), ([1, 1], [0, 1]));
    assert_eq!(tallies[2].entries[0] + tallies[2].evictions[0], 20_000);
    let evictions = cache.figures().evictions;
    assert_eq!(cache.by_zone(&[3])[0], tallies[2], "zones that are gone");
    assert_eq!(cache.figures().evictions, evictions, "what went of them stays counted");
}

#[test]
fn bytes_are_given_back_to_the_last_one() {
    let cache = Cache::new(1 << 20);
    let key = key(&cache, "www.example");
    let sizes: Vec<_> = (0..3)
        .map(|_| {
            cache.store(&key, entry(&reply(&q(1), &[a(60, 1)])), &rules());
            cache.fail(&key, failure(), &rules(), TIMES, at(61));
            cache.figures().bytes
        })
        .collect();
    assert_eq!(sizes[0], sizes[2], "the same slot costs the same");
    cache.store(&key, entry(&negative(&q(1), 3, &[], &[])), &rules());
    assert_eq!((cache.figures().bytes, cache.figures().entries), (0, 0), "nothing kept, nothing charged");
}

#[test]
fn the_largest_message_fits_the_smallest_cache() {
    let cache = Cache::new(sidestep::cache::SIZE.min);
    let mut key = Key::of_name(&name("www.example"));
    key.complete(cache.seed(), 0, 16, 1, false, false);
    let record = record(QNAME, 16, 60, &[b'x'; 255]);
    let most = (65_535 - 12 - q(16).len()) / record.len();
    let message = reply(&q(16), &vec![record; most]);
    cache.store(&key, entry(&message), &rules());
    assert!(is_fresh(&cache.look(&key, &rules(), at(1))));
}

#[test]
fn opt_is_taken_off_wherever_it_stands() {
    let glue = record(&name("ns.example"), 1, 60, &[1, 2, 3, 4]);
    let pointing_back = record(QNAME, 1, 50, &[5, 6, 7, 8]);
    let the_opt = opt(1232, 0x8000, &option(10, b"cookie!!"));
    let with = message(
        7,
        REPLY | 0x0400,
        &q(1),
        [&[a(60, 1)], &[], &[glue.clone(), the_opt, pointing_back.clone()]],
    );
    let without = message(0, 0, &q(1), [&[a(60, 1)], &[], &[glue, pointing_back]]);
    let entry = entry(&with);
    assert_eq!(entry.stored().message, without, "id, AA, RA, RD and OPT are gone, the rest moved up");
    assert_eq!(ttls(&entry), [60, 60, 50]);
    let places: Vec<u16> =
        entry.stored().ttls.as_chunks::<2>().0.iter().map(|t| u16::from_ne_bytes(*t)).collect();
    let expected: Vec<u16> =
        sidestep::wire::records::walk(&without).unwrap().map(|r| r.unwrap().ttl_at as u16).collect();
    assert_eq!(places, expected);
}

#[test]
fn a_record_behind_opt_that_may_point_past_it_is_left_out() {
    let head = reply(&q(1), &[a(60, 1)]);
    let the_opt = opt(1232, 0, &[]);
    let behind = (head.len() + the_opt.len()) as u16 | 0xc000;
    let owned = record(&name("late.example"), 1, 60, &[1, 1, 1, 1]);
    let pointing = record(&behind.to_be_bytes(), 1, 60, &[2, 2, 2, 2]);
    let mail = record(QNAME, 15, 60, b"\0\x0a\xc0\x0c");
    let kept = |additional: &[Vec<u8>]| {
        let entry = entry(&message(0, REPLY, &q(1), [&[a(60, 1)], &[], additional]));
        records(entry.stored().message).len()
    };
    assert_eq!(kept(&[the_opt.clone(), owned.clone()]), 2);
    assert_eq!(kept(&[the_opt.clone(), owned, pointing]), 2);
    assert_eq!(kept(&[the_opt, mail]), 1, "its data may be compressed");
}

#[test]
fn extended_errors_are_kept_and_other_options_are_not() {
    let error = option(15, b"\0\x06bogus");
    let options = [option(10, b"cookie!!"), error.clone(), option(3, b"ns1"), option(12, &[0; 9])].concat();
    let e = entry(&message(0, REPLY | 2, &q(1), [&[], &[], &[opt(512, 0, &options)]]));
    assert_eq!(e.stored().options, error);
    let long = option(15, &[0; 200]);
    let two = [long.clone(), long.clone()].concat();
    let e = entry(&message(0, REPLY | 2, &q(1), [&[], &[], &[opt(512, 0, &two)]]));
    assert_eq!(e.stored().options, long, "they only explain: bounded, and whole");
}

#[test]
fn keys_of_other_zones_flags_and_types_are_not_found() {
    let (cache, _) = cache_with(&reply(&q(1), &[a(60, 1)]), &rules());
    for (zone, rtype, class, dnssec_ok, checking_disabled, found) in [
        (0, 1, 1, false, false, true),
        (1, 1, 1, false, false, false),
        (0, 28, 1, false, false, false),
        (0, 1, 3, false, false, false),
        (0, 1, 1, true, false, false),
        (0, 1, 1, false, true, false),
    ] {
        let mut key = Key::of_name(&name("WWW.Example"));
        key.complete(cache.seed(), zone, rtype, class, dnssec_ok, checking_disabled);
        assert_eq!(is_fresh(&cache.look(&key, &rules(), at(1))), found);
    }
}

/// What a zone has of a full cache.
mod shares {
    use super::*;

    fn sharing(positive: Option<u32>, negative: Option<u32>) -> Rules {
        Rules { share: Share { positive, negative }, ..rules() }
    }

    fn key_in(cache: &Cache, zone: u32, text: &str, rtype: u16) -> Key {
        let mut key = Key::of_name(&name(text));
        key.complete(cache.seed(), zone, rtype, 1, false, false);
        key
    }

    /// Stores `count` answers of a zone, and as many NXDOMAINs, which come at `at(came)` and live for 60 s.
    fn fill(cache: &Cache, zone: u32, count: usize, rules: &Rules, came: u64) {
        for i in 0..count {
            let owner = format!("n{i}.example");
            for (rtype, message) in [
                (1, reply(&question(&owner, 1), &[a(60, 1)])),
                (2, negative(&question(&owner, 2), 3, &[], &[soa("example", 60, 60)])),
            ] {
                let entry = Entry::from_reply(&message, rules, at(came)).expect("a reply");
                cache.store(&key_in(cache, zone, &owner, rtype), entry, rules);
            }
        }
    }

    /// Zone 0 with so many entries of each kind by these rules, then a flood in zone 1 by those.
    fn flooded(count: usize, zone: &Rules, flood: &Rules, came: u64) -> Cache {
        let cache = Cache::new(1 << 20);
        fill(&cache, 0, count, zone, 0);
        assert_eq!(cache.by_zone(&[0])[0].entries, [count as u64; 2], "there is room for all");
        fill(&cache, 1, 10_000, flood, came);
        let figures = cache.figures();
        assert!(figures.bytes <= figures.limit && figures.bytes > figures.limit * 9 / 10, "{figures:?}");
        let [zero, one] =
            [cache.by_zone(&[0])[0].entries, cache.by_zone(&[1])[0].entries].map(|e| e[0] + e[1]);
        assert_eq!(zero + one, figures.entries);
        cache
    }

    #[test]
    fn a_flood_in_one_zone_leaves_another_its_share() {
        assert_eq!(flooded(100, &rules(), &rules(), 1).by_zone(&[0])[0].entries, [0, 0], "without a share");
        let share = sharing(Some(400), Some(400));
        assert_eq!(flooded(100, &share, &rules(), 1).by_zone(&[0])[0].entries, [100, 100]);
        assert_eq!(
            flooded(100, &share, &sharing(Some(80), Some(80)), 1).by_zone(&[0])[0].entries,
            [100, 100]
        );
        assert_eq!(flooded(100, &sharing(Some(400), None), &rules(), 1).by_zone(&[0])[0].entries, [100, 0]);
        assert_eq!(flooded(100, &sharing(None, Some(400)), &rules(), 1).by_zone(&[0])[0].entries, [0, 100]);
    }

    #[test]
    fn what_is_beyond_the_share_goes_like_all_else() {
        let [answers, others] =
            flooded(600, &sharing(Some(80), Some(160)), &rules(), 1).by_zone(&[0])[0].entries;
        assert_eq!((answers, others), (80, 160));
    }

    #[test]
    fn what_can_no_longer_be_served_has_no_share() {
        let share = Rules { stale_for: Duration::ZERO, ..sharing(Some(400), Some(400)) };
        assert_eq!(flooded(100, &share, &rules(), 59).by_zone(&[0])[0].entries, [100, 100]);
        assert_eq!(flooded(100, &share, &rules(), 61).by_zone(&[0])[0].entries, [0, 0]);
    }

    #[test]
    fn shares_that_no_cache_has_room_for_are_all_cut() {
        let all = sharing(Some(1_000_000), Some(1_000_000));
        let cache = flooded(600, &all, &all, 1);
        assert!(
            cache.by_zone(&[1])[0].entries[0] > 600,
            "who asks now has room: {:?}",
            cache.by_zone(&[1])[0].entries
        );
    }
}

/// What a worker has at its hand.
mod near {
    use super::*;
    use sidestep::cache::Near;

    /// Where an answer was found.
    #[derive(Debug)]
    enum Found {
        /// At hand: how often it was served before.
        Near(u32),
        Far(Look),
    }

    /// What a client of the only listener hears, whose question belongs to the only zone.
    fn look(near: &mut Near, cache: &Cache, key: &Key, rules: &Rules, now: Now) -> Found {
        let spot = near.spot(key.question(), 0, false, false);
        if let Some(found) = near.find(cache, &spot, now) {
            assert_eq!((found.zone.place, found.zone.id), (0, key.zone()));
            return Found::Near(found.turn);
        }
        Found::Far(near.look(cache, (&spot, key), (0, rules), now))
    }

    /// How often it was served before, if it was found at hand.
    fn turn(found: &Found) -> Option<u32> {
        if let Found::Near(turn) = found { Some(*turn) } else { None }
    }

    #[test]
    fn a_second_look_finds_it_at_hand_for_a_second() {
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
        let mut near = Near::new(&cache);
        let mut look =
            |ms: u64| turn(&look(&mut near, &cache, &key, &rules(), Now::from_millis(1_000_000 + ms)));
        assert_eq!(
            [look(0), look(0), look(999), look(1000), look(1999)],
            [None, Some(1), Some(2), None, Some(4)]
        );
    }

    #[test]
    fn it_is_not_at_hand_once_it_was_replaced_by_whomever() {
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
        let mut near = Near::new(&cache);
        for data in 2..5 {
            assert!(turn(&look(&mut near, &cache, &key, &rules(), at(1))).is_none());
            assert!(turn(&look(&mut near, &cache, &key, &rules(), at(1))).is_some());
            cache.store(&key, entry(&reply(&q(1), &[a(100, data)])), &rules());
            let Found::Far(Look::Fresh { entry: found, .. }) = look(&mut near, &cache, &key, &rules(), at(1))
            else {
                panic!("the new one is served");
            };
            assert_eq!(found, entry(&reply(&q(1), &[a(100, data)])));
            cache.fail(&key, failure(), &rules(), TIMES, at(1));
        }
    }

    #[test]
    fn it_is_not_at_hand_beyond_its_time() {
        let short = reply(&q(1), &[a(1, 1)]);
        let still = Rules { prefetch: Prefetch { hits: 0, ..Prefetch::default() }, ..rules() };
        for rules in [rules(), still] {
            let (cache, key) = cache_with(&short, &rules);
            let mut near = Near::new(&cache);
            let mut look =
                |ms: u64| turn(&look(&mut near, &cache, &key, &rules, Now::from_millis(1_000_000 + ms)));
            assert_eq!([look(500), look(600)], [None, Some(1)]);
            assert_eq!(look(1000), None);
        }
    }

    #[test]
    fn what_is_used_here_counts_in_the_store_when_a_refresh_is_due() {
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
        let mut near = Near::new(&cache);
        let mut refreshes = |s| {
            let found = look(&mut near, &cache, &key, &rules(), at(s));
            matches!(found, Found::Far(Look::Fresh { refresh: true, .. }))
        };
        assert!(!refreshes(89) && !refreshes(89), "one of them is served from here");
        assert!(refreshes(90), "all three are known");
        assert!(!refreshes(90), "once");
    }

    #[test]
    fn what_was_used_of_an_answer_does_not_count_for_the_next_one() {
        for (gap, wanted) in [(None, false), (Some(Duration::from_secs(60)), true)] {
            let rules = Rules { prefetch: Prefetch { hits: 3, gap, percent: 90 }, ..rules() };
            let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules);
            let mut near = Near::new(&cache);
            for _ in 0..3 {
                look(&mut near, &cache, &key, &rules, at(1));
            }
            cache.store(&key, entry_by(&reply(&q(1), &[a(100, 2)]), &rules), &rules);
            let found = look(&mut near, &cache, &key, &rules, at(20));
            let Found::Far(Look::Fresh { refresh, .. }) = found else { panic!("{found:?}") };
            assert_eq!(refresh, wanted, "{gap:?}");
        }
    }

    #[test]
    fn uses_here_that_are_too_far_from_the_next_do_not_count_together() {
        let prefetch = Prefetch { hits: 4, gap: Some(Duration::from_secs(10)), percent: 50 };
        let rules = Rules { prefetch, ..rules() };
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules);
        let mut near = Near::new(&cache);
        for _ in 0..4 {
            look(&mut near, &cache, &key, &rules, at(20));
        }
        let found = look(&mut near, &cache, &key, &rules, at(50));
        assert!(matches!(found, Found::Far(Look::Fresh { refresh: false, .. })), "{found:?}");
        // And those that are near enough do, although the store hears of them only now and then.
        let rules =
            Rules { prefetch: Prefetch { gap: Some(Duration::from_secs(1)), ..rules.prefetch }, ..rules };
        let (cache, key) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules);
        let mut near = Near::new(&cache);
        let refreshes = |ms: u64| {
            let found = look(&mut near, &cache, &key, &rules, Now::from_millis(1_000_000 + ms));
            matches!(found, Found::Far(Look::Fresh { refresh: true, .. }))
        };
        assert_eq!([47_990, 48_980, 49_900, 50_800].map(refreshes), [false, false, false, true]);
    }

    #[test]
    fn who_cannot_be_served_from_here_takes_nobodys_place() {
        let cache = Cache::new(1 << 20);
        let answer = |owner: &str, ttl| entry(&reply(&question(owner, 1), &[a(ttl, 1)]));
        let mut near = Near::new(&cache);
        let keys: Vec<_> = (0..256).map(|i| format!("n{i}.example")).collect();
        for owner in &keys {
            cache.store(&key(&cache, owner), answer(owner, 100), &rules());
        }
        // All places are taken, and those who have one keep it.
        let at_hand = |near: &mut Near| {
            let looks = keys
                .iter()
                .map(|owner| turn(&look(near, &cache, &key(&cache, owner), &rules(), at(1))).is_some());
            looks.filter(|found| *found).count()
        };
        at_hand(&mut near);
        at_hand(&mut near);
        let before = at_hand(&mut near);
        for i in 0..256 {
            let owner = format!("old{i}.example");
            // Its last tenth has begun.
            let old = Entry::from_reply(&reply(&question(&owner, 1), &[a(1, 1)]), &rules(), at(0)).unwrap();
            cache.store(&key(&cache, &owner), old, &rules());
            look(&mut near, &cache, &key(&cache, &owner), &rules(), Now::from_millis(1_000_950));
        }
        assert!(before > 0 && at_hand(&mut near) >= before);
    }

    #[test]
    fn what_is_in_use_here_is_in_use_in_the_store() {
        let cache = Cache::new(1 << 20);
        let answer = |owner: &str| entry(&reply(&question(owner, 1), &[a(3600, 1)]));
        let key = key(&cache, "www.example");
        cache.store(&key, answer("www.example"), &rules());
        let mut near = Near::new(&cache);
        for second in 0..100 {
            assert!(!matches!(
                look(&mut near, &cache, &key, &rules(), at(second)),
                Found::Far(Look::Unknown)
            ));
            for i in 0..200 {
                let owner = format!("n{i}.s{second}.example");
                cache.store(&super::key(&cache, &owner), answer(&owner), &rules());
            }
        }
        assert!(cache.figures().evictions > 10_000);
    }

    #[test]
    fn large_answers_and_others_questions_are_not_at_hand() {
        let (cache, www) = cache_with(&reply(&q(1), &vec![a(100, 1); 30]), &rules());
        let mut near = Near::new(&cache);
        for _ in 0..3 {
            assert!(turn(&look(&mut near, &cache, &www, &rules(), at(1))).is_none(), "too large");
        }
        let (cache, www) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
        let mut near = Near::new(&cache);
        // Another DO bit, another listener, another name: the same bits of the hash or not, they are not those.
        for (text, listener, dnssec_ok) in
            [("www.example", 0, true), ("www.example", 1, false), ("xww.example", 0, false)]
        {
            for _ in 0..2 {
                look(&mut near, &cache, &www, &rules(), at(1));
            }
            let other = [&name(text)[..], &[0, 1, 0, 1]].concat();
            let spot = near.spot(&other, listener, dnssec_ok, false);
            assert!(near.find(&cache, &spot, at(1)).is_none(), "{text} {listener} {dnssec_ok}");
            let mut key = Key::of_name(&name(text));
            key.complete(cache.seed(), listener as u32, 1, 1, dnssec_ok, false);
            assert!(matches!(near.look(&cache, (&spot, &key), (0, &rules()), at(1)), Look::Unknown));
        }
    }

    #[test]
    fn letter_case_does_not_matter_and_what_is_forgotten_is_gone() {
        let (cache, www) = cache_with(&reply(&q(1), &[a(100, 1)]), &rules());
        let mut near = Near::new(&cache);
        look(&mut near, &cache, &www, &rules(), at(1));
        let upper = [&name("WwW.EXAMPLE")[..], &[0, 1, 0, 1]].concat();
        let spot = near.spot(&upper, 0, false, false);
        assert!(near.find(&cache, &spot, at(1)).is_some());
        near.forget();
        assert!(near.find(&cache, &spot, at(1)).is_none());
        assert_eq!(turn(&look(&mut near, &cache, &www, &rules(), at(1))), None);
    }
}
