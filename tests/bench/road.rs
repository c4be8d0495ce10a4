//! The benchmark: this program, its ceiling and its peers side by side in one run.
//!
//! ```text
//! cargo bench --bench road -- [--scenario hits,misses,idle] [--only sidestep,echo] [--rounds 5] [--seconds 3]
//! cargo bench --bench road -- --help
//! ```
//!
//! The server under test has one core to itself, the load and the upstream have another. Servers take turns in
//! short rounds, and ratios are taken within a round, because the same program drifts by a third within an
//! hour on a shared machine. Runs that other work spoiled are thrown away and counted. Every answer is checked.
//!
//! | file | what it does |
//! |---|---|
//! | `arguments` | what can be asked of it, and the list of scenarios |
//! | `zone` | the rule from a name to its answer |
//! | `names`, `questions`, `random` | the names, in which order they are asked for, and what their answers must be |
//! | `upstream` | the scripted upstream |
//! | `echo` | the ceiling |
//! | `peers` | how each server is started; a new peer is one more entry there |
//! | `server` | starts, waits for and ends one |
//! | `load` | the load; `slots` checks its answers, `pace` says when it asks |
//! | `datagrams`, `batch`, `streams` | its ways over UDP and TCP |
//! | `measure` | times, memory and wake-ups from `/proc` |
//! | `scenarios` | what is asked of whom; a new scenario is one more function there |
//! | `contender`, `rounds` | who is measured, and the interleaved runs |
//! | `statistics`, `tables`, `report`, `charts`, `readme` | from samples to tables, charts and the README |
//! | `check` | whether the load notices wrong answers |

mod arguments;
mod batch;
mod charts;
mod check;
mod contender;
mod datagrams;
mod echo;
mod load;
mod measure;
mod names;
mod pace;
mod peers;
mod questions;
mod random;
mod readme;
mod report;
mod rounds;
mod scenarios;
mod server;
mod slots;
mod statistics;
mod streams;
mod tables;
mod upstream;
mod zone;

use std::error::Error;
use std::process::ExitCode;
use std::thread;

use clap::Parser;

use arguments::{Arguments, Part};
use upstream::Upstream;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Echo { listen, size, workers }) => {
            echo::serve(listen, size, workers).map(|()| true).map_err(Into::into)
        }
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

fn serve_upstream() -> Result<bool, Box<dyn Error>> {
    println!("{}", Upstream::start()?.address);
    loop {
        thread::park();
    }
}
