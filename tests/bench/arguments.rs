//! What can be asked of the benchmark.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use crate::peers::PEERS;
use crate::slots::SLOTS_MAX;

/// Measures sidestep, an echo (the ceiling) and whatever peers are installed, side by side.
#[derive(Parser)]
#[command(name = "road", args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub part: Option<Part>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::USUAL)]
    pub scenario: Vec<Scenario>,
    /// Which servers are measured, if they are installed.
    #[arg(long, value_enum, default_value = "usual")]
    pub peers: Peers,
    /// Measure these servers only, whichever they are.
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = PEERS.map(|peer| peer.name))]
    pub only: Vec<String>,
    /// Rounds; every server is measured once in each (`pairs`: six times).
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How often a run is tried while other load spoils it.
    #[arg(long, default_value_t = 5)]
    pub tries: usize,
    /// Per cent of a core that other work may take from a run before it is thrown away; 100 keeps all.
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    pub spoiled: f64,
    /// Seconds that each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub seconds: Duration,
    /// Queries in flight in closed loops.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u16).range(1..=i64::from(SLOTS_MAX)))]
    pub in_flight: u16,
    /// `size` also fills caches with 1,000,000 answers.
    #[arg(long)]
    pub big: bool,
    /// Draws what was measured: an SVG file for each scenario, under docs/charts.
    #[arg(long)]
    pub charts: bool,
    /// Writes the tables into README.md, between its marks.
    #[arg(long)]
    pub readme: bool,
    /// The program to measure; default: the one that cargo built for this benchmark.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_sidestep"))]
    pub sidestep: PathBuf,
    /// The cores of the servers: the first for one worker; for two workers the load's joins if only one is named.
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "CORES")]
    pub server_core: Vec<usize>,
    /// The core of the load and the upstream.
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    pub load_core: usize,
    /// What `cargo bench` passes; without it (`cargo test --benches`) the benchmark checks itself.
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
}

/// A part of the benchmark on its own.
#[derive(Subcommand)]
pub enum Part {
    /// The ceiling: answers every query with itself, QR set, padded to SIZE bytes.
    Echo {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        size: usize,
        /// Threads that answer.
        #[arg(long, default_value_t = 1)]
        workers: usize,
    },
    /// Whether the load notices wrong answers.
    Check,
    /// The scripted upstream, for a look at it with dig: says its address, answers until killed.
    Upstream,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peers {
    /// echo, sidestep, unbound, dnsdist, coredns, node-cache.
    Usual,
    /// Also pdns-recursor, knot-resolver, dnsmasq, hickory-dns.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 1,000 warm names over UDP, closed loop.
    Hits,
    /// One hot name.
    HitsHot,
    /// 100,000 warm names, Zipf popularity.
    HitsZipf,
    /// 1,000 warm names, queries with EDNS.
    HitsEdns,
    /// 1,000 warm names, two workers.
    HitsTwo,
    /// One hot name, two workers.
    HitsHotTwo,
    /// 1,000 warm names over TCP, pipelined.
    HitsTcp,
    /// 1,000 warm names, a TCP connection for each query.
    HitsTcpEach,
    /// 1,000 warm names, open loop, 2,000 queries per second.
    #[value(name = "rate-2k")]
    Rate2k,
    /// 1,000 warm names, open loop, 20,000 queries per second.
    #[value(name = "rate-20k")]
    Rate20k,
    /// 1,000 warm names, open loop, 80 % of what each server can do.
    #[value(name = "rate-80")]
    Rate80,
    /// CPU per hit at 2,000 queries per second against the echo's, in pairs, with a confidence interval.
    Pairs,
    /// New names over a TCP upstream that answers at once, closed loop.
    Misses,
    /// The same with an upstream that takes 1 ms.
    #[value(name = "misses-1ms")]
    Misses1ms,
    /// What a miss takes longer than asking the upstream directly.
    Added,
    /// The same with an upstream that takes 1 ms.
    #[value(name = "added-1ms")]
    Added1ms,
    /// 95 % hits, 5 % misses that take the upstream 500 ms: what the hits notice.
    MixedSlow,
    /// 95 % hits, 5 % misses, of which the upstream drops 5 %: what the hits notice.
    MixedDrops,
    /// Program size, start to first answer, memory and wake-ups while nobody asks.
    Idle,
    /// Bytes of memory per cached answer, at 10,000 and 100,000 of them.
    Size,
    /// All of them: takes hours, unless --rounds and --seconds are small.
    All,
}

impl Scenario {
    /// What a run that names none measures.
    const USUAL: [Self; 7] =
        [Self::Hits, Self::HitsZipf, Self::Pairs, Self::Misses, Self::Added, Self::Idle, Self::Size];

    /// `chosen`, with all of them in place of [`Scenario::All`].
    pub fn resolve(chosen: &[Self]) -> Vec<Self> {
        if chosen.contains(&Self::All) {
            Self::value_variants().iter().copied().filter(|&scenario| scenario != Self::All).collect()
        } else {
            chosen.to_vec()
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A number of seconds, with or without a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| "not a number of seconds")?;
    let duration = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(duration) }
}
