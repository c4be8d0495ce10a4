//! The command line, its command, its exit code; no logic.

fn main() -> std::process::ExitCode {
    sidestep::cli::main()
}
