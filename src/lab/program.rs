//! sidestep itself, as a process on the node: this same program with the command `run`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::world::World;
use super::{Doing, Trouble, client};

/// How long it may take until the first answer, and until the process has ended after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running sidestep. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    complaint: Arc<Mutex<String>>,
}

impl Program {
    /// Starts it on the node, and does not wait for it.
    pub fn start(world: &World, arguments: &[&str]) -> Result<Self, Trouble> {
        let mut command = Command::new("/proc/self/exe");
        // iptables locks a file that only root may write, and that would be the machine's; here nobody else is near.
        command.arg("run").args(arguments).env("XTABLES_LOCKFILE", "/dev/null");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = world.node.spawn(command)?;
        let complaint = Arc::new(Mutex::new(String::new()));
        if let Some(lines) = child.stderr.take() {
            let last = Arc::clone(&complaint);
            // Read all the time, or the process would wait for us when the pipe is full.
            thread::spawn(move || {
                for line in BufReader::new(lines).lines().map_while(Result::ok).filter(|l| !l.is_empty()) {
                    let Ok(mut last) = last.lock() else { return };
                    if !is_complaint(&last) || is_complaint(&line) {
                        *last = line;
                    }
                }
            });
        }
        Ok(Self { child, complaint })
    }

    /// Starts it, and waits until the pod has an answer from `address`.
    pub fn ready(world: &World, arguments: &[&str], address: SocketAddr) -> Result<Self, Trouble> {
        const TRY: Duration = Duration::from_millis(100);
        let mut program = Self::start(world, arguments)?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            program.lives()?;
            let answered = world.pod.run(move || client::reaches(address, 1, TRY))?;
            if answered {
                return Ok(program);
            }
        }
        Err(Trouble(format!("sidestep does not answer: {}", program.words())))
    }

    /// An error if the process has ended.
    pub fn lives(&mut self) -> Result<(), Trouble> {
        match self.child.try_wait().doing("looking after sidestep")? {
            None => Ok(()),
            Some(status) => {
                // What it wrote last is still on its way to us.
                thread::sleep(Duration::from_millis(50));
                Err(Trouble(format!("sidestep has ended ({status}): {}", self.words())))
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        kill_process(Pid::from_child(&self.child), signal).doing("signalling sidestep")
    }

    /// Sends it a signal, and waits until it has ended.
    pub fn end(&mut self, signal: Signal) -> Result<(), Trouble> {
        self.signal(signal)?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.child.try_wait().doing("waiting for sidestep")?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(Trouble(format!("sidestep has not ended {} s after {signal:?}", PATIENCE.as_secs())))
    }

    fn words(&self) -> String {
        self.complaint.lock().map(|line| line.clone()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line says what is wrong, rather than what else could be done.
fn is_complaint(line: &str) -> bool {
    line.to_ascii_lowercase().contains("error")
}
