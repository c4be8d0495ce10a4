//! Whether a process is about to be gone: it has been killed, and the kernel is not done with it.
//!
//! A killed process keeps its sockets until the kernel has closed them, and closing may wait: for a system call that
//! cannot be interrupted, or for another program's change of the packet filter. In that time a start would take it for
//! a second instance.

use std::fs;

/// Whether the process is ending. One that is not there any more is; one that we cannot look at is not.
pub fn is_ending(process: i32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |stat| says_ending(&stat))
}

/// What a line of /proc/PID/stat says (proc_pid_stat(5)): a thread that has ended, is ending, or has SIGKILL before it
/// and sits in a system call. A killed process has one of these in its first thread.
fn says_ending(stat: &str) -> bool {
    const STATE: usize = 0; // counted from behind the name, which may hold anything
    const FLAGS: usize = 6;
    const PENDING: usize = 28;
    const PF_EXITING: u64 = 4;
    const SIGKILL: u64 = 1 << 8;
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let has = |field: usize, bit: u64| {
        fields.get(field).and_then(|text| text.parse::<u64>().ok()).is_some_and(|value| value & bit != 0)
    };
    matches!(fields.get(STATE), Some(&("Z" | "X"))) || has(FLAGS, PF_EXITING) || has(PENDING, SIGKILL)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    fn stat(state: char, flags: u64, pending: u64) -> String {
        format!(
            "12 (a) b) {state} 1 12 12 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 4 0 99 1 2 3 4 5 6 7 8 {pending} 0 0"
        )
    }

    #[test]
    fn each_way_of_ending_is_seen() {
        assert!(!says_ending(&stat('S', 0x40_0100, 0)));
        assert!(!says_ending(&stat('T', 0x40_0100, 1 << 14)), "SIGTERM may take its time");
        assert!(says_ending(&stat('Z', 0x40_0100, 0)), "its first thread has ended");
        assert!(says_ending(&stat('D', 0x40_0104, 0)), "its sockets are being closed");
        assert!(says_ending(&stat('D', 0x40_0100, 1 << 8)), "in a system call");
        assert!(!says_ending("12 (a"));
    }

    #[test]
    fn a_killed_process_is_ending_and_a_living_one_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        assert!(!is_ending(process));
        child.kill().unwrap();
        // Nobody has waited for it, so it stays as it is.
        let end = Instant::now() + Duration::from_secs(2);
        while !is_ending(process) {
            assert!(Instant::now() < end);
        }
        child.wait().unwrap();
        assert!(is_ending(process), "it is gone");
    }
}
