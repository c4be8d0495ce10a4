//! Signals that come while the program starts.

use std::process::Command;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::query;
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::Scripted;

/// Starts as often as are wanted to meet the time between the reading of the configuration and the first answer, which is
/// a few milliseconds.
const ROUNDS: usize = 50;

/// A start whose configuration is being read: nothing has been bound.
struct Start {
    directory: tempfile::TempDir,
    reading: Inotify,
}

impl Start {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sidestep.toml"), config).unwrap();
        let reading = Inotify::init().unwrap();
        reading.watches().add(directory.path().join("sidestep.toml"), WatchMask::OPEN).unwrap();
        Self { directory, reading }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
        command.args(["run", "--config"]).arg(self.directory.path().join("sidestep.toml"));
        command
    }

    /// Waits until the file is opened, without a pause: the time that is to be met is short.
    fn is_reading(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut buffer = [0; 1024];
        while self.reading.read_events(&mut buffer).map_or(0, Iterator::count) == 0 {
            assert!(Instant::now() < end, "nobody reads the configuration");
        }
    }
}

fn send(to: u32, signal: Signal) {
    kill_process(Pid::from_raw(to.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn reloads_that_are_asked_for_while_it_starts_do_not_end_it() {
    let upstream = Scripted::good();
    let config = config(&upstream, "", "");
    for _ in 0..ROUNDS {
        let mut start = Start::new(&config);
        let mut command = start.command();
        let path = start.directory.path().join("sidestep.toml");
        let signalled = |child: u32| {
            start.is_reading();
            send(child, Signal::HUP);
            send(child, Signal::USR1);
            start.directory
        };
        let program = Program::spawn_and(&mut command, signalled, path);
        wait_for("reloads", || program.logged("configuration reloaded") == 2);
        assert_eq!(rcode(&program.udp().ask(&query(1, "a.test", 1))), 0);
    }
}

#[test]
fn a_stop_that_is_asked_for_while_it_starts_is_an_orderly_one() {
    let upstream = Scripted::good();
    let config = config(&upstream, "", "");
    for _ in 0..ROUNDS {
        let mut start = Start::new(&config);
        let mut child = start.command().stderr(std::process::Stdio::null()).spawn().unwrap();
        start.is_reading();
        send(child.id(), Signal::TERM);
        let mut status = None;
        wait_for("the end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0));
    }
}
