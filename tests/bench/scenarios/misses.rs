//! New names: what the upstream has to be asked for, alone and among hits.

use std::time::Duration;

use super::{Bench, CLOSED, measure};
use crate::arguments::Scenario;
use crate::contender::{Contender, Pacing};
use crate::load::{Manner, Wait};
use crate::names;
use crate::pace::Pace;
use crate::peers::{CEILING, Peer, Size};
use crate::questions::{Questions, Set};
use crate::tables::{self, ADDED, MIXED, SPEED, cpu, micros};

/// Answers that a cache must hold: more come in a long run, and old ones go.
const SIZE: Size = Size { workers: 1, entries: 100_000, answer: 0 };
/// New names per second where latency is looked at: far from what any server can do.
const CALM: f64 = 1000.0;
/// Queries per second where misses come among hits.
const MIXED_RATE: f64 = 10_000.0;
/// The share of new names among them.
const NEW: f64 = 0.05;
/// What a slow upstream takes.
const SLOW: Duration = Duration::from_millis(500);
/// Of a hundred queries, how many an upstream that drops some drops.
const DROPPED: u64 = 5;
/// Resolver libraries give up after 5 seconds; so does the load where the upstream is in trouble.
const STUBBORN: Duration = Duration::from_secs(5);

/// The echo knows no upstream.
fn asks_upstream(peer: &Peer) -> bool {
    peer.name != CEILING
}

/// The upstream of a scenario, in a title.
fn upstream_of(scenario: Scenario) -> (Duration, &'static str) {
    match scenario {
        Scenario::Misses1ms | Scenario::Added1ms => (Duration::from_millis(1), "an upstream that takes 1 ms"),
        _ => (Duration::ZERO, "an upstream that answers at once"),
    }
}

impl Bench<'_> {
    /// New names as fast as they are answered. The load sleeps: the upstream needs its core too.
    pub fn misses(&mut self, scenario: Scenario) -> bool {
        let (delay, upstream) = upstream_of(scenario);
        let servers = self.servers(asks_upstream, SIZE);
        let mut contenders: Vec<_> =
            servers.iter().map(|s| Contender::new(s, Questions::all_new())).collect();
        self.upstream.set(delay, 0);
        let plan = self.plan(self.manner(Wait::Sleep), CLOSED);
        let right = measure(&mut contenders, &plan);
        let title = format!("Misses: {upstream}, over TCP, {} in flight", self.arguments.in_flight);
        self.report.table(&title, &SPEED, &tables::speed(&contenders), &tables::remarks(&contenders));
        let title = format!("Misses, {upstream}");
        self.chart(scenario.name(), &title, "CPU microseconds per query, less is better", &contenders, cpu);
        right && contenders.iter().all(|c| c.servfail == 0)
    }

    /// New names at a calm pace, through each server and from the upstream directly.
    pub fn added(&mut self, scenario: Scenario) -> bool {
        let (delay, upstream) = upstream_of(scenario);
        let servers = self.servers(asks_upstream, SIZE);
        let direct =
            Contender::without_server("the upstream itself", self.upstream.address, Questions::all_new());
        let through = servers.iter().map(|s| Contender::new(s, Questions::all_new()));
        let mut contenders: Vec<_> = std::iter::once(direct).chain(through).collect();
        self.upstream.set(delay, 0);
        let pacing = Pacing::Fixed(Pace::PerSecond(CALM));
        let right = measure(&mut contenders, &self.plan(self.manner(Wait::Sleep), pacing));
        let title = format!("Misses: what is added to {upstream}, {CALM} new names per second");
        self.report.table(&title, &ADDED, &tables::added(&contenders), &tables::remarks(&contenders));
        let title = format!("New names, {upstream}");
        self.chart(scenario.name(), &title, "p50 in microseconds, less is better", &contenders, |s| {
            micros(s.misses.p50)
        });
        right && contenders.iter().all(|c| c.servfail == 0)
    }

    /// Hits alone, and among misses that the upstream is slow with or drops. That these fail is no fault here.
    pub fn mixed(&mut self, scenario: Scenario) -> bool {
        let (delay, dropped, trouble) = match scenario {
            Scenario::MixedSlow => (SLOW, 0, "that take the upstream 500 ms"),
            _ => (Duration::ZERO, DROPPED, "of which the upstream drops 5 %"),
        };
        let set = Set::even(names::warm_set());
        let servers = self.servers(asks_upstream, SIZE);
        let both = servers.iter().flat_map(|server| {
            let alone = Contender::new(server, Questions::new(set.clone(), 0.0));
            let among = Contender::new(server, Questions::new(set.clone(), NEW));
            let [first, second] =
                ["hits alone", "with misses"].map(|what| format!("{}, {what}", server.name));
            [alone.labelled(first), among.labelled(second)]
        });
        let mut contenders: Vec<_> = both.collect();
        let pacing = Pacing::Fixed(Pace::PerSecond(MIXED_RATE));
        let manner = Manner { patience: STUBBORN, ..self.manner(Wait::Sleep) };
        let upstream = self.upstream.clone();
        let plan = self.plan(manner, pacing);
        crate::rounds::warm_all(&mut contenders, &plan);
        upstream.set(delay, dropped);
        let right = measure(&mut contenders, &plan);
        let title = format!("Mixed: {MIXED_RATE} queries per second, 5 % of them misses {trouble}");
        self.report.table(&title, &MIXED, &tables::mixed(&contenders), &tables::remarks(&contenders));
        let title = format!("Hits among misses {trouble}");
        self.chart(
            scenario.name(),
            &title,
            "p99 of the hits in microseconds, less is better",
            &contenders,
            |s| micros(s.hits.p99),
        );
        right
    }
}
