//! `sidestep lab`: the problem and the cure, shown on this kernel.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use crate::lab::{self, Options};

/// 0: the cure is shown. 1: it is not. 2: the lab could not be built.
pub(super) fn lab(options: Options, json: bool) -> ExitCode {
    let watched = !json && io::stderr().is_terminal();
    let progress = |title: &str| {
        if watched {
            super::complain(&format!("... {title}"));
        }
    };
    match lab::run(options, progress) {
        Ok(report) => {
            let text = if json { report.json() + "\n" } else { report.to_string() };
            let printed = super::print(text.as_bytes());
            if report.cured() { printed } else { ExitCode::FAILURE }
        }
        Err(trouble) => {
            super::complain(&format!("sidestep lab: it cannot be built here: {trouble}"));
            ExitCode::from(2)
        }
    }
}
