//! `sidestep completions`: a script that completes our arguments in a shell.

use clap::CommandFactory;
use clap_complete::Shell;

/// The script for `shell`.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::args::Args::command(), "sidestep", &mut script);
    script
}
