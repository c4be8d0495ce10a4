//! The command line, its command, its exit code; no logic.

fn main() {}
