//! Processes that end with the test that started them.
//!
//! What a process writes goes into a file, so that it never waits for us to read; the file is shown when the
//! test fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to start, or a log line to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process of ours. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; it writes into a file in `directory`.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let both = (file.try_clone().unwrap(), file);
        let child = command.stdin(Stdio::null()).stdout(both.0).stderr(both.1).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { name: name.to_owned(), child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the process has written `text`.
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it wrote {text:?}:\n{}", self.name, self.log());
            }
            assert!(start.elapsed() < PATIENCE, "{} has not written {text:?}:\n{}", self.name, self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// Stops it without closing anything: what it had open stays open and silent.
    pub fn pause(&mut self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Ends [`Process::pause`].
    pub fn resume(&mut self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Asks it to end, and waits until it has.
    #[allow(dead_code, reason = "not all test binaries that share this file use it")]
    pub fn end(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end:\n{}", self.name, self.log());
            sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} wrote:\n{}", self.name, self.log());
        }
    }
}

/// The path of a program. The environment variable `variable` names another one.
///
/// # Panics
/// Says how to install the program when it is not there.
pub fn program(name: &str, variable: &str, install: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: {install} (or name it with {variable})"))
}

/// What a command that ends by itself wrote to standard output.
///
/// # Panics
/// When it fails or cannot be started.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{complaint}", output.status);
    text
}

/// A command with arguments.
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
