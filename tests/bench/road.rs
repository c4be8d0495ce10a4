//! The benchmark: this program, its ceiling and its peers side by side in one run.
//!
//! ```text
//! cargo bench --bench road -- [--scenario hits,misses,idle] [--only sidestep,echo] [--rounds 5] [--seconds 3]
//! ```
//!
//! The server under test has one core to itself, the load and the upstream have another. Servers take turns in
//! short rounds, and ratios are taken within a round, because the same program drifts by a third within an
//! hour on a shared machine. Runs that other work spoiled are thrown away and counted. Every answer is checked.
//!
//! | file | what it does |
//! |---|---|
//! | `zone` | the rule from a name to its answer |
//! | `names` | the questions, and what their answers must be |
//! | `upstream` | the scripted upstream |
//! | `echo` | the ceiling |
//! | `peers` | how each server is started; a new peer is one more entry there |
//! | `server` | starts, waits for and ends one |
//! | `batch`, `load` | the load |
//! | `measure` | times, memory and wake-ups from `/proc` |
//! | `scenarios` | what is asked of whom |
//! | `rounds`, `report` | the interleaved runs, and the tables |
//! | `check` | whether the load notices wrong answers |

mod batch;
mod check;
mod echo;
mod load;
mod measure;
mod names;
mod peers;
mod report;
mod rounds;
mod scenarios;
mod server;
mod upstream;
mod zone;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use load::IN_FLIGHT_MAX;
use peers::PEERS;

/// Measures sidestep, an echo (the ceiling) and whatever peers are installed, side by side.
#[derive(Parser)]
#[command(name = "road", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hits,misses,idle")]
    scenario: Vec<Scenario>,
    /// Measure these servers only.
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = PEERS.map(|peer| peer.name))]
    only: Vec<String>,
    /// Rounds; every server is measured once in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often a run is tried while other load spoils it.
    #[arg(long, default_value_t = 5)]
    tries: usize,
    /// Per cent of a core that other work may take from a run before it is thrown away; 100 keeps all.
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    spoiled: f64,
    /// Seconds that each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Queries in flight.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u16).range(1..=i64::from(IN_FLIGHT_MAX)))]
    in_flight: u16,
    /// The program to measure; default: the one that cargo built for this benchmark.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_sidestep"))]
    sidestep: PathBuf,
    /// The core of the servers.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// The core of the load and the upstream.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// What `cargo bench` passes; without it (`cargo test --benches`) the benchmark checks itself.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// A part of the benchmark on its own.
#[derive(Subcommand)]
enum Part {
    /// The ceiling: answers every query with itself, QR set, padded to SIZE bytes.
    Echo {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        size: usize,
    },
    /// Whether the load notices wrong answers.
    Check,
    /// The scripted upstream, for a look at it with dig: says its address, answers until killed.
    Upstream,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// 1,000 warm names over UDP.
    Hits,
    /// Names that were never asked before, over a TCP upstream.
    Misses,
    /// Memory and wake-ups while nobody asks.
    Idle,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Echo { listen, size }) => echo::serve(listen, size).map(|()| true).map_err(Into::into),
        Some(Part::Upstream) => serve_upstream(),
        None if arguments.bench => scenarios::run(&arguments),
        Some(Part::Check) | None => check::run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("road: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A number of seconds, with or without a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| "not a number of seconds")?;
    let duration = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(duration) }
}

fn serve_upstream() -> Result<bool, Box<dyn Error>> {
    println!("{}", upstream::start()?);
    loop {
        thread::park();
    }
}
