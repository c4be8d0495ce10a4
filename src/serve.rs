//! Start, reload and stop: not there yet.

/// Serves until told to stop.
pub fn run(_config: crate::config::Config, _flags: crate::config::Flags) -> std::process::ExitCode {
    eprintln!("sidestep: cannot serve yet");
    std::process::ExitCode::FAILURE
}
