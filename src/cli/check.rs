//! `sidestep check`: says whether a configuration is right, and what holds with it.

use std::process::ExitCode;

use crate::config::{Config, Flags};

/// Prints the effective configuration and, as complaints, what is to be told of it; or what is wrong with it.
pub(super) fn check(flags: Flags) -> ExitCode {
    match Config::load(&flags) {
        Ok(config) => {
            for note in &config.notes {
                super::complain(&note.to_string());
            }
            super::print(config.to_toml().as_bytes())
        }
        Err(problem) => super::refused(&problem),
    }
}
