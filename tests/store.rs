//! The store against a plain model: lists of slots in the order of their use, one for each shard, and the rules written
//! down once more without any care for speed or memory. Any run of answers, failures and look-ups must be the same to
//! both: what is known, who had to make room, and what all of it weighs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use sidestep::cache::{Cache, Entry, FailureTimes, Key, Kind, Look, Prefetch, Rules, SHARDS, Seed, Share};
use sidestep::clock::Now;
use support::message::*;

const TIMES: FailureTimes = FailureTimes {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(8),
    with_stale: Duration::from_secs(4),
};
/// The smallest store: some entries of a few kilobytes fill it.
const SIZE: u64 = 1 << 20;
const NAMES: usize = 60;

/// What is done next.
#[derive(Clone, Debug)]
enum Step {
    /// An answer comes: its TTL, its kilobytes, and whether it is data.
    Store(Place, u32, usize, bool),
    Fail(Place),
    Look(Place),
    /// Half seconds go by.
    Wait(u64),
}

/// A question: the number of its name, its zone, and its DO bit.
type Place = (usize, u32, bool);

/// What is known of one question.
#[derive(Clone, Debug)]
struct Slot {
    place: Place,
    answer: Option<(Entry, u8)>,
    failed: Option<(Entry, Now, Duration)>,
    cost: usize,
}

struct Model {
    /// The least recently used come first.
    shards: Vec<Vec<Slot>>,
    evicted: [[u64; 2]; 2],
}

/// Zone 0 has a share: one answer and two denials in each shard.
fn rules(zone: u32) -> Rules {
    let shards = SHARDS as u32;
    let share = if zone == 0 {
        Share { positive: Some(shards), negative: Some(2 * shards) }
    } else {
        Share::default()
    };
    let prefetch = Prefetch { hits: 0, ..Prefetch::default() };
    Rules { share, prefetch, stale_for: Duration::from_secs(20), ..Rules::default() }
}

fn owner(number: usize) -> String {
    format!("n{number}.example")
}

fn key(cache: &Cache, (number, zone, dnssec_ok): Place) -> Key {
    let mut key = Key::of_name(&name(&owner(number)));
    key.complete(cache.seed(), zone, 16, 1, dnssec_ok, false);
    key
}

/// What is looked at of an entry.
type Seen = (u16, Kind, u32, Vec<u8>);

fn seen(entry: &Entry) -> Seen {
    (entry.rcode(), entry.kind(), entry.ttl(), entry.stored().message.to_vec())
}

/// What a look-up says.
fn said(look: Look) -> (u8, u32, Option<Seen>) {
    match look {
        Look::Fresh { entry, turn, refresh: _ } => (0, turn, Some(seen(&entry))),
        Look::Stale { entry, at_once } => (1, at_once.into(), Some(seen(&entry))),
        Look::Failed(entry) => (2, 0, Some(seen(&entry))),
        Look::Unknown => (3, 0, None),
    }
}

/// What these two weigh together, alone in a store of their own. That keeps copies, in a zone of its own: uses are
/// counted in an entry, which is kept in one place.
fn weigh((number, _, _): Place, answer: Option<&Entry>, failed: Option<&Entry>) -> usize {
    let cache = Cache::new(SIZE);
    let key = key(&cache, (number, 2, false));
    if let Some(answer) = answer {
        cache.store(&key, answer.clone(), &Rules::default());
    }
    if let Some(reply) = failed {
        let now = answer.map_or(Now::default(), Entry::came);
        cache.fail(&key, reply.clone(), &Rules::default(), TIMES, now);
    }
    assert_eq!(cache.figures().entries, 1);
    cache.figures().bytes as usize
}

impl Slot {
    fn new(place: Place, answer: Option<(Entry, u8)>, failed: Option<(Entry, Now, Duration)>) -> Self {
        let cost = weigh(place, answer.as_ref().map(|a| &a.0), failed.as_ref().map(|f| &f.0));
        Self { place, answer, failed, cost }
    }

    fn class(&self) -> usize {
        usize::from(!self.answer.as_ref().is_some_and(|(entry, _)| entry.kind() == Kind::Positive))
    }

    fn is_of_use(&self, now: Now) -> bool {
        self.answer.as_ref().is_some_and(|(entry, _)| entry.is_usable(now))
            || self.failed.as_ref().is_some_and(|failed| now < failed.1)
    }
}

impl Model {
    fn of(&mut self, key: &Key) -> &mut Vec<Slot> {
        &mut self.shards[(key.hash() >> 32) as usize % SHARDS]
    }

    fn take(&mut self, key: &Key, place: Place) -> Option<Slot> {
        let shard = self.of(key);
        let at = shard.iter().position(|slot| slot.place == place)?;
        Some(shard.remove(at))
    }

    fn put(&mut self, key: &Key, slot: Slot, now: Now) {
        let count = |shard: &[Slot], zone, class| {
            shard.iter().filter(|slot| (slot.place.1, slot.class()) == (zone, class)).count()
        };
        let has = [[1, 2], [0, 0]];
        let (limit, mut passed, mut evicted) = (SIZE as usize / SHARDS, 0, Vec::new());
        let shard = self.of(key);
        while shard.iter().map(|slot| slot.cost).sum::<usize>() + slot.cost > limit {
            let all = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let beyond = all.iter().any(|&(z, class)| count(shard, z as u32, class) > has[z][class]);
            let victim = shard.remove(0);
            let (zone, class) = (victim.place.1, victim.class());
            let within = count(shard, zone, class) < has[zone as usize][class];
            if beyond && within && passed < 64 && victim.is_of_use(now) {
                passed += 1;
                shard.push(victim);
            } else {
                evicted.push((zone as usize, class));
            }
        }
        shard.push(slot);
        evicted.iter().for_each(|&(zone, class)| self.evicted[zone][class] += 1);
    }

    fn store(&mut self, key: &Key, place: Place, entry: &Entry) {
        self.take(key, place);
        if entry.cacheable() {
            self.put(key, Slot::new(place, Some((entry.clone(), 0)), None), entry.came());
        }
    }

    fn fail(&mut self, key: &Key, place: Place, reply: &Entry, now: Now) {
        let before = self.take(key, place);
        let (answer, failed) = before.map_or((None, None), |slot| (slot.answer, slot.failed));
        let answer = answer.filter(|(entry, _)| entry.is_usable(now));
        let lasts = match (&answer, failed) {
            (Some(_), _) => TIMES.with_stale,
            (None, Some((_, until, lasted))) if now < until + lasted => (lasted * 2).min(TIMES.longest),
            _ => TIMES.first,
        };
        self.put(key, Slot::new(place, answer, Some((reply.clone(), now + lasts, lasts))), now);
    }

    fn look(&mut self, key: &Key, place: Place, now: Now) -> Look {
        let Some(mut slot) = self.take(key, place) else { return Look::Unknown };
        let failed = slot.failed.as_ref().filter(|failed| now < failed.1);
        let look = match &mut slot.answer {
            Some((entry, turn)) if entry.is_fresh(now) => {
                *turn = turn.wrapping_add(1);
                Look::Fresh { entry: entry.clone(), turn: turn.wrapping_sub(1).into(), refresh: false }
            }
            Some((entry, _)) if entry.is_usable(now) => {
                Look::Stale { entry: entry.clone(), at_once: failed.is_some() }
            }
            _ => failed.map_or(Look::Unknown, |failed| Look::Failed(failed.0.clone())),
        };
        self.of(key).push(slot);
        look
    }
}

/// An answer of so many kilobytes, or that there is none, with as many beside it.
fn answer(number: usize, ttl: u32, kilobytes: usize, data: bool, data_is: u8) -> Vec<u8> {
    let owner = owner(number);
    let q = question(&owner, 16);
    let mut text = vec![b'x'; 255];
    text[0] = 254;
    text[1] = data_is;
    let texts = vec![record(QNAME, 16, ttl, &text); 4 * kilobytes];
    if data {
        reply(&q, &[vec![record(QNAME, 16, ttl, b"\x01y")], texts].concat())
    } else {
        negative(&q, 3, &[], &[vec![soa("example", ttl, ttl)], texts].concat())
    }
}

fn place() -> impl Strategy<Value = Place> {
    // Few names are asked for often, as they are.
    let number = prop_oneof![0..NAMES, 0..4_usize];
    (number, 0..2_u32, prop::bool::weighted(0.2))
}

fn step() -> impl Strategy<Value = Step> {
    let kilobytes = prop_oneof![3 => Just(0_usize), 4 => 1..40_usize];
    prop_oneof![
        6 => (place(), 0..30_u32, kilobytes, prop::bool::weighted(0.7))
            .prop_map(|(place, ttl, kilobytes, data)| Step::Store(place, ttl, kilobytes, data)),
        3 => place().prop_map(Step::Fail),
        6 => place().prop_map(Step::Look),
        1 => (1..10_u64).prop_map(Step::Wait),
    ]
}

/// Runs both; says how much was evicted.
fn run(steps: &[Step]) -> u64 {
    // The same keys meet in every run.
    let cache = Cache::with_seed(SIZE, Seed::fixed());
    let mut model = Model { shards: vec![Vec::new(); SHARDS], evicted: [[0; 2]; 2] };
    let mut now = Now::from_millis(1_000_000);
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Store(place, ttl, kilobytes, data) => {
                let (key, rules) = (key(&cache, place), rules(place.1));
                let message = answer(place.0, ttl, kilobytes, data, number as u8);
                let entry = Entry::from_reply(&message, &rules, now).expect("a reply");
                cache.store(&key, entry.clone(), &rules);
                model.store(&key, place, &entry);
            }
            Step::Fail(place) => {
                let (key, rules) = (key(&cache, place), rules(place.1));
                let message = negative(&question(&owner(place.0), 16), 2, &[], &[]);
                let reply = Entry::from_reply(&message, &rules, now).expect("a reply");
                cache.fail(&key, reply.clone(), &rules, TIMES, now);
                model.fail(&key, place, &reply, now);
            }
            Step::Look(place) => {
                let key = key(&cache, place);
                let (found, expected) =
                    (cache.look(&key, &rules(place.1), now), model.look(&key, place, now));
                assert_eq!(said(found), said(expected), "step {number}, {step:?}");
            }
            Step::Wait(halves) => now = now + Duration::from_millis(500 * halves),
        }
        let slots = || model.shards.iter().flatten();
        let (figures, zones) = (cache.figures(), cache.by_zone(&[0, 1]));
        assert_eq!(figures.entries, slots().count() as u64, "step {number}, {step:?}");
        assert_eq!(
            figures.bytes,
            slots().map(|slot| slot.cost as u64).sum::<u64>(),
            "step {number}, {step:?}"
        );
        for (zone, of) in zones.iter().enumerate() {
            let count = |class| {
                slots().filter(|slot| (slot.place.1 as usize, slot.class()) == (zone, class)).count() as u64
            };
            assert_eq!(
                (of.entries, of.evictions),
                ([count(0), count(1)], model.evicted[zone]),
                "step {number}"
            );
        }
    }
    model.evicted.iter().flatten().sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_is_what_the_model_says(steps in prop::collection::vec(step(), 1..600)) {
        run(&steps);
    }
}

#[test]
fn a_long_run_has_all_kinds_of_victims() {
    // One answer after the other, failures between them: the store is full many times over.
    let steps: Vec<Step> = (0..2000_usize)
        .map(|i| {
            let place = (i * 7 % NAMES, (i % 3 == 0).into(), i % 5 == 0);
            match i % 4 {
                0 | 1 => Step::Store(place, 5 + (i % 20) as u32, i * 13 % 40, i % 8 > 1),
                2 => Step::Fail(place),
                _ if i % 16 == 3 => Step::Wait(3),
                _ => Step::Look(place),
            }
        })
        .collect();
    assert!(run(&steps) > 300);
}
