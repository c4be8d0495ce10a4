//! The command line: arguments to a command, a command to its exit code.
//!
//! A contract that scripts rely on: 0 is success, 1 a configuration or a start that failed, 2 a command line
//! that makes no sense; `doctor` has its own: 1 is a problem found, 2 something that it could not look at; and so has `lab`:
//! 1 is a cure that was not shown, 2 a lab that could not be built. What was asked for goes to standard output, complaints to standard error.

mod args;
mod check;
mod completions;
mod convert;
mod doctor;
mod lab;
mod man;
mod node_cache;
mod status;
mod teardown;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, Flags, Problem};
use crate::serve::{self, Ears};
use args::{Args, Command};

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let all: Vec<_> = std::env::args_os().collect();
    // Before anything that takes time: see there.
    let ears = if may_serve(&all) { Ears::open().map(Some) } else { Ok(None) };
    let ears = match ears {
        Ok(ears) => ears,
        Err(error) => return failed(&error),
    };
    if let Some(arguments) = node_cache::arguments(&all) {
        return node_cache::node_cache(arguments, ears);
    }
    let args = match Args::try_parse_from(node_cache::behind_doctor(all)) {
        Ok(args) => args,
        Err(e) => {
            // Help and version come this way too. If nobody reads them, there is nobody to tell.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    match args.command {
        None => run(args.flags.into(), ears),
        Some(Command::Run(flags)) => run(flags.into(), ears),
        Some(Command::Check(check)) => check::check(check.into()),
        Some(Command::Convert(args)) => convert::convert(args),
        Some(Command::Doctor(args)) => doctor::doctor(args),
        Some(Command::Lab(args)) => lab::lab(args.options(), args.json),
        Some(Command::Status(args)) => status::status(&args.interface),
        Some(Command::Teardown(args)) => teardown::teardown(&args.interface, &args.node_address),
        Some(Command::Completions { shell }) => print(&completions::completions(shell)),
        Some(Command::NodeCache { arguments }) => node_cache::node_cache(arguments, ears),
        Some(Command::Man) => man::man().map_or_else(|e| failed(&e), |page| print(&page)),
    }
}

/// Whether it may be that these arguments ask us to serve. The other commands end by signals as every program does.
fn may_serve(all: &[OsString]) -> bool {
    all.get(1).is_none_or(|first| first == "run" || first.to_string_lossy().starts_with('-'))
        || node_cache::arguments(all).is_some()
}

fn run(flags: Flags, ears: Option<Ears>) -> ExitCode {
    let ears = match ears.map_or_else(Ears::open, Ok) {
        Ok(ears) => ears,
        Err(error) => return failed(&error),
    };
    match Config::load(&flags) {
        Ok(config) => serve::run(config, flags, ears),
        Err(problem) => refused(&problem),
    }
}

fn refused(problem: &Problem) -> ExitCode {
    complain(&problem.to_string());
    ExitCode::FAILURE
}

fn failed(error: &io::Error) -> ExitCode {
    complain(&format!("sidestep: {error}"));
    ExitCode::FAILURE
}

/// Writes to standard error; if it is closed, there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes what was asked for. A reader that has seen enough (`| head`) is no failure.
fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => failed(&e),
        _ => ExitCode::SUCCESS,
    }
}
