//! `sidestep check`: says whether a configuration is right, and what holds with it.

use std::process::ExitCode;

use crate::config::{Config, Flags};

/// Prints the effective configuration, or what is wrong with it.
pub(super) fn check(flags: Flags) -> ExitCode {
    match Config::load(&flags) {
        Ok(config) => super::print(config.to_toml().as_bytes()),
        Err(problem) => super::refused(&problem),
    }
}
