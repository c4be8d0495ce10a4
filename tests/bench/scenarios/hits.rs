//! Warm names: what a cache answers by itself.

use super::{Bench, CLOSED, measure, questions};
use crate::arguments::Scenario;
use crate::contender::{Contender, Pacing};
use crate::load::{Manner, Wait, Way};
use crate::names;
use crate::pace::Pace;
use crate::peers::{Peer, Size};
use crate::questions::Set;
use crate::tables::{self, SPEED, latency, micros};

/// Names in the large set.
const LARGE: u64 = 100_000;
/// Answers that a cache must hold, apart from the large set.
const ENTRIES: usize = 10_000;

/// What makes one of these scenarios differ from `hits`.
struct Case {
    title: &'static str,
    set: fn() -> Set,
    pacing: Pacing,
    way: Way,
    edns: bool,
    workers: usize,
}

const HITS: Case = Case {
    title: "1,000 warm names over UDP",
    set: warm,
    pacing: CLOSED,
    way: Way::Udp,
    edns: false,
    workers: 1,
};

fn warm() -> Set {
    Set::even(names::warm_set())
}

fn hot() -> Set {
    Set::even(names::hot_set())
}

fn large() -> Set {
    Set::zipf(names::large_set(LARGE))
}

/// The table of scenarios.
fn case(scenario: Scenario) -> Case {
    let at = |rate| Pacing::Fixed(Pace::PerSecond(rate));
    match scenario {
        Scenario::HitsHot => Case { title: "One hot name over UDP", set: hot, ..HITS },
        Scenario::HitsZipf => Case { title: "100,000 warm names, Zipf, over UDP", set: large, ..HITS },
        Scenario::HitsEdns => Case { title: "1,000 warm names over UDP, with EDNS", edns: true, ..HITS },
        Scenario::HitsTwo => {
            Case { title: "1,000 warm names over UDP, two workers", way: Way::UdpSpread, workers: 2, ..HITS }
        }
        Scenario::HitsHotTwo => Case {
            title: "One hot name over UDP, two workers",
            set: hot,
            way: Way::UdpSpread,
            workers: 2,
            ..HITS
        },
        Scenario::HitsTcp => Case { title: "1,000 warm names over 8 TCP connections", way: Way::Tcp, ..HITS },
        Scenario::HitsTcpEach => {
            Case { title: "1,000 warm names, a TCP connection for each query", way: Way::TcpSingle, ..HITS }
        }
        Scenario::Rate2k => {
            Case { title: "2,000 queries per second, 1,000 warm names", pacing: at(2e3), ..HITS }
        }
        Scenario::Rate20k => {
            Case { title: "20,000 queries per second, 1,000 warm names", pacing: at(2e4), ..HITS }
        }
        Scenario::Rate80 => Case {
            title: "80 % of what each can do, 1,000 warm names",
            pacing: Pacing::OfSaturation(0.8),
            ..HITS
        },
        _ => HITS,
    }
}

impl Bench<'_> {
    /// The load spins: the upstream is not asked. It sleeps where it shares a core with a server.
    pub fn hits(&mut self, scenario: Scenario) -> bool {
        let case = case(scenario);
        let set = (case.set)();
        let answer = names::mean_answer_size(set.questions(), case.edns);
        let size = Size { workers: case.workers, entries: set.questions().len().max(ENTRIES), answer };
        let shared = self.server_cores(case.workers).contains(&self.arguments.load_core);
        let wait = if shared { Wait::Sleep } else { Wait::Spin };
        let manner = Manner { way: case.way, edns: case.edns, ..self.manner(wait) };
        let able = |peer: &Peer| {
            (peer.tcp || matches!(case.way, Way::Udp | Way::UdpSpread)) && (peer.threads || case.workers == 1)
        };
        let servers = self.servers(able, size);
        let mut contenders: Vec<_> =
            servers.iter().map(|server| Contender::new(server, questions(&set, server.name))).collect();
        let right = measure(&mut contenders, &self.plan(manner, case.pacing));
        let in_flight = match case.pacing {
            CLOSED => format!(", {} in flight", self.arguments.in_flight),
            _ => String::new(),
        };
        let shared = if shared { " (on two cores, one of them shared with the load)" } else { "" };
        let title = format!("Hits: {}{in_flight}{shared}", case.title);
        let rows = tables::speed(&contenders);
        self.report.table(&title, &SPEED, &rows, &tables::remarks(&contenders));
        let file = scenario.name();
        match case.pacing {
            CLOSED => {
                self.chart(file, case.title, "queries per second, more is better", &contenders, |s| s.rate)
            }
            _ => self.chart(file, case.title, "p99 in microseconds, less is better", &contenders, |s| {
                micros(latency(s).p99)
            }),
        }
        right
    }
}
