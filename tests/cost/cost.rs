//! What a query costs, apart from the kernel: instructions and allocations, which are the same on every machine, and
//! time, which is not.
//!
//! ```text
//! just cost            instructions and allocations of a hit and of a miss, beside what is recorded
//! just cost check      the same, and fails where a figure is more than 2 % above the recorded one
//! just cost-record     writes tests/cost/recorded.toml anew
//! just cost time       nanoseconds of a hit, stage by stage, and on two threads
//! ```
//!
//! Everything happens in this process, without sockets towards clients: packets lie in memory, and the functions
//! that the UDP listener calls for a batch are called for them. A miss asks its upstream over TCP, and that is another
//! process. valgrind counts the instructions of this process, not those of the kernel.
//!
//! The figures:
//!
//! | name | what |
//! |---|---|
//! | `hit-plain` | 1,000 warm names x A and AAAA, 64 in a batch, four zones |
//! | `hit-edns` | the same with an OPT record |
//! | `miss-busy` | names that were never asked before, 64 at once |
//! | `miss-alone` | the same one by one, each with a wake-up of its own |
//!
//! Hashes have a fixed seed here. Clocks are read, but no timer decides anything: the upstream answers at once.
//!
//! | file | what it does |
//! |---|---|
//! | `packets` | the queries |
//! | `worker` | a worker, and a batch of hits or misses |
//! | `upstream` | the upstream |
//! | `count` | the figures, counted by valgrind |
//! | `record` | the recorded figures, and how they are compared |
//! | `heap` | counts allocations |
//! | `time` | nanoseconds |
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

mod count;
mod heap;
mod packets;
mod record;
mod time;
mod upstream;
mod worker;

// The questions and answers of the benchmark with sockets.
#[path = "../bench/names.rs"]
#[allow(dead_code, reason = "that benchmark uses all of it")]
mod names;
#[path = "../bench/zone.rs"]
mod zone;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use count::Figure;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// What a hit and a miss cost, apart from the kernel.
#[derive(Parser)]
#[command(name = "cost")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// What `cargo bench` passes; without it (`cargo test --benches`) the figures are only tried.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Counts instructions and allocations.
    Count,
    /// Counts, and fails where a figure is above the recorded one.
    Check,
    /// Counts, and writes the record.
    Record,
    /// Takes the time of hits.
    Time {
        /// How often each is timed, in turns; the median counts.
        #[arg(long, default_value_t = 41)]
        rounds: usize,
    },
    /// One figure, to be counted from outside, by any tool.
    Run {
        /// Which.
        #[arg(value_enum)]
        figure: Figure,
        /// Who answers misses; without it, a thread of this process does.
        upstream: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let Arguments { part, bench } = Arguments::parse();
    let result = match part {
        None if !bench => count::try_out(),
        None | Some(Part::Count) => record::show(),
        Some(Part::Check) => record::check(),
        Some(Part::Record) => record::write(),
        Some(Part::Time { rounds }) => time::run(rounds),
        Some(Part::Run { figure, upstream }) => run(figure, upstream),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(figure: Figure, upstream: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let upstream = upstream.map_or_else(upstream::start, Ok)?;
    println!("{} allocations, {} queries", figure.run(upstream)?, figure.queries());
    Ok(())
}
