//! What is shown, as data: each scenario is a row of the table, and `run` knows how to play any of them.

use std::time::Duration;

use super::client::{Order, Stream};
use super::responder::Delay;
use super::service::Spread;

/// Scenarios that belong together.
#[derive(Debug)]
pub(super) struct Group {
    /// What happens.
    pub title: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// How many are played side by side: as many as wait rather than work.
    pub parallel: usize,
    /// The rows.
    pub scenarios: &'static [Scenario],
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// What is different from the other rows of its group.
    pub name: &'static str,
    /// Whom clients ask.
    pub road: Road,
    /// How the Service spreads connections.
    pub spread: Spread,
    /// When the cluster DNS answers.
    pub delay: Delay,
    /// What clients do, and what is done to them.
    pub test: Test,
    /// What comes of it.
    pub expect: Expect,
}

/// Whom clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// The ClusterIP, which is translated.
    Service,
    /// A cache on the node whose packets are tracked like any others.
    TrackedCache,
    /// sidestep on a link-local address.
    Sidestep(Firewall),
}

/// Which rules sidestep puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firewall {
    /// nftables.
    Nftables,
    /// iptables, in the variant that is installed.
    Iptables,
}

/// What clients do, and what is done to them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// So many names are asked for, A and AAAA. A pair that lacks an answer is one lost lookup.
    Pairs(usize, Order),
    /// Lookups while the connection tracking table is full.
    FullTable(Stream),
    /// Lookups while something happens to sidestep.
    Outage(Stream, Event),
}

/// What happens [`BEFORE`] after the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGKILL; started again after [`AWAY`].
    Kill,
    /// SIGTERM; started again [`AWAY`] after it has ended.
    Terminate,
    /// SIGSTOP; SIGCONT after [`FROZEN`].
    Freeze,
    /// What `nft flush ruleset` does.
    FlushNftables,
    /// `iptables -t raw -F`.
    FlushIptables,
}

/// How long all is well at first.
pub(super) const BEFORE: Duration = Duration::from_millis(700);
/// How long there is no sidestep.
pub(super) const AWAY: Duration = Duration::from_millis(1000);
/// How long it is stopped.
pub(super) const FROZEN: Duration = Duration::from_secs(4);

/// What a row is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The problem. Where it does not show, this kernel is a lucky one, or has one processor only.
    Loss,
    /// What helps without sidestep.
    Relief,
    /// The cure: no more lost than this.
    AtMost(u32),
}

const NFTABLES: Road = Road::Sidestep(Firewall::Nftables);
const IPTABLES: Road = Road::Sidestep(Firewall::Iptables);

const fn race(name: &'static str, road: Road, delay: Delay, expect: Expect) -> Scenario {
    let pairs = match delay {
        Delay::None => 2000,
        Delay::Slow => 400,
    };
    Scenario { name, road, spread: Spread::Random, delay, test: Test::Pairs(pairs, Order::AtOnce), expect }
}

const fn other(scenario: Scenario, spread: Spread, order: Order) -> Scenario {
    let test = match scenario.test {
        Test::Pairs(count, _) => Test::Pairs(count, order),
        test => test,
    };
    Scenario { spread, test, ..scenario }
}

const fn full(name: &'static str, road: Road, expect: Expect) -> Scenario {
    // The names are in the caches before the table is full: what is shown is the way to the cache.
    let stream = Stream { count: 4000, spacing: Duration::from_micros(250), names: 100 };
    let test = Test::FullTable(stream);
    Scenario { name, road, spread: Spread::Random, delay: Delay::None, test, expect }
}

const fn outage(name: &'static str, road: Road, event: Event, count: usize, most: u32) -> Scenario {
    let stream = Stream { count, spacing: Duration::from_millis(1), names: count };
    let (test, expect) = (Test::Outage(stream, event), Expect::AtMost(most));
    Scenario { name, road, spread: Spread::Random, delay: Delay::None, test, expect }
}

const SERVICE: &str = "through DNAT, a random server";

/// The table.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "A and AAAA at once, answers at once",
        shows: "The kernel resolves most clashes of the two packets (Linux 5.6 and newer), if answers are quick.",
        parallel: 1,
        scenarios: &[
            race(SERVICE, Road::Service, Delay::None, Expect::Loss),
            race("sidestep, nftables", NFTABLES, Delay::None, Expect::AtMost(0)),
            race("sidestep, iptables", IPTABLES, Delay::None, Expect::AtMost(0)),
        ],
    },
    Group {
        title: "A and AAAA at once, answers after 1.1 to 2.5 s",
        shows: "The loser of a clash is remembered for one second; a later answer goes nowhere.",
        parallel: 8,
        scenarios: &[
            race(SERVICE, Road::Service, Delay::Slow, Expect::Loss),
            other(
                race("through DNAT, single-request", Road::Service, Delay::Slow, Expect::Relief),
                Spread::Random,
                Order::OneByOne,
            ),
            other(
                race("through DNAT, hashed by source (IPVS sh)", Road::Service, Delay::Slow, Expect::Relief),
                Spread::BySource,
                Order::AtOnce,
            ),
            other(
                race("through DNAT, one server", Road::Service, Delay::Slow, Expect::Relief),
                Spread::One,
                Order::AtOnce,
            ),
            race("sidestep, nftables", NFTABLES, Delay::Slow, Expect::AtMost(0)),
            race("sidestep, iptables", IPTABLES, Delay::Slow, Expect::AtMost(0)),
        ],
    },
    Group {
        title: "Lookups every millisecond, while sidestep ends",
        shows: "Without it, the same packets go to the cluster DNS.",
        // A process that ends needs a processor for it.
        parallel: 1,
        scenarios: &[
            outage("nftables: SIGKILL, started after 1 s", NFTABLES, Event::Kill, 3000, 2),
            outage("nftables: SIGTERM, started after 1 s", NFTABLES, Event::Terminate, 3000, 2),
            // Here it is the listening sockets that must close, one after the other, which takes processor time (some 2 ms
            // of it); a table that the process owns goes first. Without `-m socket` all of the second would be lost.
            outage("iptables: SIGKILL, started after 1 s", IPTABLES, Event::Kill, 3000, 300),
        ],
    },
    Group {
        title: "Lookups every millisecond, while others meddle",
        shows: "Rules that go are put back; stopped, sidestep is passed by after 2 to 3 s.",
        parallel: 3,
        scenarios: &[
            outage("nftables: nft flush ruleset", NFTABLES, Event::FlushNftables, 3000, 2),
            outage("nftables: SIGSTOP for 4 s", NFTABLES, Event::Freeze, 6000, 3000),
            outage("iptables: iptables -t raw -F", IPTABLES, Event::FlushIptables, 3000, 2),
        ],
    },
    // The last, because the kernel is busy for a while with taking a full table down.
    Group {
        title: "A full connection tracking table",
        shows: "Packets that are to be tracked are dropped, also on their way to a cache on the node.",
        parallel: 2,
        scenarios: &[
            full(SERVICE, Road::Service, Expect::Loss),
            full("to a cache on the node, tracked", Road::TrackedCache, Expect::Loss),
            full("sidestep, nftables", NFTABLES, Expect::AtMost(0)),
            full("sidestep, iptables", IPTABLES, Expect::AtMost(0)),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_can_be_told_apart_and_each_group_has_a_cure() {
        for group in GROUPS {
            let mut names: Vec<_> = group.scenarios.iter().map(|scenario| scenario.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), group.scenarios.len(), "{}", group.title);
            let cures =
                group.scenarios.iter().filter(|scenario| matches!(scenario.expect, Expect::AtMost(_)));
            assert!(cures.count() >= 2, "{}", group.title);
            assert!(group.parallel > 0);
        }
    }

    #[test]
    fn promises_are_made_of_sidestep_alone() {
        for scenario in GROUPS.iter().flat_map(|group| group.scenarios) {
            let ours = matches!(scenario.road, Road::Sidestep(_));
            assert_eq!(matches!(scenario.expect, Expect::AtMost(_)), ours, "{}", scenario.name);
        }
    }

    #[test]
    fn what_happens_ends_before_the_stream() {
        for scenario in GROUPS.iter().flat_map(|group| group.scenarios) {
            let Test::Outage(stream, event) = scenario.test else { continue };
            let over = match event {
                Event::Kill | Event::Terminate => BEFORE + AWAY,
                Event::Freeze => BEFORE + FROZEN,
                Event::FlushNftables | Event::FlushIptables => BEFORE,
            };
            let length = stream.spacing * u32::try_from(stream.count).unwrap();
            assert!(over + Duration::from_secs(1) < length, "{}", scenario.name);
        }
    }
}
