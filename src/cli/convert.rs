//! `sidestep convert`: a Corefile as the configuration file that says the same.

use std::process::ExitCode;

use super::args::ConvertArgs;
use crate::config::{Config, Flags, Source};

/// Prints what differs from the defaults, and above it, as comments, where the meaning is not the Corefile's.
pub(super) fn convert(args: ConvertArgs) -> ExitCode {
    let source = Source::Corefile { path: args.file, lenient: args.lenient };
    print(&Flags { source, ..Flags::default() })
}

/// The same of whatever these flags name.
pub(super) fn print(flags: &Flags) -> ExitCode {
    match Config::load(flags) {
        Ok(config) => super::print(config.to_short_toml().as_bytes()),
        Err(problem) => super::refused(&problem),
    }
}
