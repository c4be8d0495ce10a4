//! Running iptables' programs, with an end to every wait, and what they say put into words that help.
//!
//! The crate `iptables` (0.6, MIT) was looked at for this. It runs `iptables` by that name, rule by rule and without
//! a limit on time; what we need is `iptables-save` and `iptables-restore` of a variant that we have chosen, with an
//! input, and it has none of that.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::line::{self, Line};
use super::rule::{PLACES, chain, table};
use super::variant::Variant;
use crate::node::{Fault, FaultKind};

/// Seconds that we wait for another program's lock: `-w`.
pub const LOCK_SECONDS: &str = "5";
/// How long a program may run, the wait for the lock included. Then it is killed.
pub const RUN: Duration = Duration::from_secs(8);
/// The longest output that is read, bytes: a hundred thousand rules.
const OUTPUT: u64 = 64 << 20;

/// The programs of one family and variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Which variant they are of.
    pub variant: Variant,
    /// `iptables`.
    pub list: PathBuf,
    /// `iptables-save`.
    pub save: PathBuf,
    /// `iptables-restore`.
    pub restore: PathBuf,
}

impl Programs {
    /// Our lines, with their counters. It creates no table and takes no lock.
    ///
    /// nf_tables hands out single chains, in milliseconds; all of it takes seconds on a node with ten thousand rules
    /// of kube-proxy's. The legacy tables come whole or not at all; there it is `iptables` that would create a table
    /// and wait for the lock, and `iptables-save` that does not.
    ///
    /// # Errors
    /// A program cannot be run, or says that it failed.
    pub fn lines(&self) -> Result<Vec<Line>, Fault> {
        if self.variant == Variant::Legacy {
            return self.saved().map(|output| line::parse(&output));
        }
        let mut output = String::new();
        for place in PLACES {
            output.push_str(&format!("*{}\n", table(place)));
            output.push_str(&read(&self.list, &["-t", table(place), "-v", "-S", chain(place)])?);
        }
        Ok(line::parse(&output))
    }

    /// All rules of all tables that exist.
    ///
    /// # Errors
    /// As [`Programs::lines`].
    pub fn saved(&self) -> Result<String, Fault> {
        read(&self.save, &["-c"])
    }

    /// The mangle table, and perhaps others.
    ///
    /// # Errors
    /// As [`Programs::lines`].
    pub fn mangle(&self) -> Result<String, Fault> {
        match self.variant {
            Variant::Nft => read(&self.save, &["-t", "mangle"]),
            // It would create the table.
            Variant::Legacy => self.saved(),
        }
    }

    /// Carries out a script. A table's lines are carried out together or not at all.
    ///
    /// # Errors
    /// As [`Programs::lines`]; kind [`FaultKind::Lock`] where another program held the lock for too long.
    pub fn restore(&self, script: &str) -> Result<(), Fault> {
        let ended = run(&self.restore, &["--noflush", "-w", LOCK_SECONDS], script, RUN)?;
        if ended.success { Ok(()) } else { Err(fault(&self.restore, &ended, script)) }
    }
}

/// What a program prints, if it says that it went well.
fn read(program: &Path, arguments: &[&str]) -> Result<String, Fault> {
    let ended = run(program, arguments, "", RUN)?;
    if ended.success { Ok(ended.output) } else { Err(fault(program, &ended, "")) }
}

/// A program that has ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Whether it says that it went well.
    pub success: bool,
    /// Its exit code, where it has one.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs a program with `input`, for `limit` at most.
///
/// # Errors
/// It could not be started, or did not end in time.
pub fn run(program: &Path, arguments: &[&str], input: &str, limit: Duration) -> Result<Ended, Fault> {
    let until = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| other(format!("{} could not be run: {error}", program.display())))?;
    match talk(&mut child, input, until) {
        // Both its outputs are closed: it ends now.
        Ok((output, errors)) => {
            let status = child.wait().map_err(|error| other(format!("{}: {error}", program.display())))?;
            Ok(Ended { success: status.success(), code: status.code(), output, errors })
        }
        Err(Unheard::Slow) => {
            stop(child);
            Err(other(format!("{} did not end within {limit:?} and was stopped", program.display())))
        }
        Err(Unheard::NoThread(error)) => {
            stop(child);
            Err(other(format!("{} could not be run: no thread to listen to it: {error}", program.display())))
        }
    }
}

/// Why a program was not heard to the end.
enum Unheard {
    Slow,
    NoThread(io::Error),
}

/// A program that cannot even be killed (it waits within the kernel) is left to init.
fn stop(mut child: Child) {
    let _ = child.kill();
    let _ = child.try_wait();
}

/// Hands over the input and hears both outputs, each on a thread of its own: a program that waits for a lock reads
/// later, and one that prints may fill either pipe.
fn talk(child: &mut Child, input: &str, until: Instant) -> Result<(String, String), Unheard> {
    let output = drain(child.stdout.take()).map_err(Unheard::NoThread)?;
    let errors = drain(child.stderr.take()).map_err(Unheard::NoThread)?;
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_owned();
        // A program that has failed reads no more; its status says so.
        let feed = move || drop(pipe.write_all(input.as_bytes()));
        thread::Builder::new().spawn(feed).map_err(Unheard::NoThread)?;
    }
    let left = || until.saturating_duration_since(Instant::now());
    let heard = |pipe: mpsc::Receiver<String>| pipe.recv_timeout(left()).map_err(|_| Unheard::Slow);
    Ok((heard(output)?, heard(errors)?))
}

/// Everything that comes out of a pipe, when it is closed.
fn drain(pipe: Option<impl Read + Send + 'static>) -> io::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(OUTPUT).read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    };
    thread::Builder::new().spawn(read)?;
    Ok(receiver)
}

fn other(what: String) -> Fault {
    Fault { kind: FaultKind::Rules, what }
}

/// Whether the kernel has no such packet filter or family at all, so that nothing can stand in it.
pub fn absent(fault: &Fault) -> bool {
    ["Protocol not supported", "Address family not supported", "Table does not exist"]
        .iter()
        .any(|text| fault.what.contains(text))
}

/// What was tried, what the program said, and what helps.
fn fault(program: &Path, ended: &Ended, script: &str) -> Fault {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let said = said(&ended.errors);
    let code = ended.code.map_or("killed by a signal".to_owned(), |code| format!("exit code {code}"));
    let said = if said.is_empty() { code } else { format!("{said} ({code})") };
    let row = row(&ended.errors, script).map(|row| format!(", at: {row}")).unwrap_or_default();
    let lock =
        ["xtables lock", "Resource temporarily unavailable"].iter().any(|text| ended.errors.contains(text));
    let kind = if lock && ended.code == Some(4) { FaultKind::Lock } else { FaultKind::Rules };
    let advice = advice(kind, &ended.errors).map(|advice| format!("; {advice}")).unwrap_or_default();
    Fault { kind, what: format!("{name}: {said}{row}{advice}") }
}

/// The first two lines that say something.
fn said(errors: &str) -> String {
    let worth =
        |line: &&str| !line.is_empty() && !line.starts_with("Try `") && !line.starts_with("# Warning");
    // Before what is wrong stands the program's name and version, which the caller has said already.
    let bare = |line: &'_ str| match line.split_once("): ") {
        Some((before, rest)) if before.contains(" v1.") || before.contains(" v2.") => rest.trim().to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = errors
        .lines()
        .map(str::trim)
        .filter(worth)
        .map(bare)
        .filter(|line| !(line.is_empty() || line.contains(" v1.") && line.ends_with("):")))
        .take(2)
        .collect();
    lines.join(" / ")
}

/// The line of the script that the program names, if it does.
fn row<'a>(errors: &str, script: &'a str) -> Option<&'a str> {
    let digits = |after: &str| -> Option<usize> {
        let text = errors.split_once(after)?.1.trim_start();
        text.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    let number = digits("at line:").or_else(|| digits("line "))?;
    script.lines().nth(number.checked_sub(1)?)
}

/// What to do about it.
fn advice(kind: FaultKind, errors: &str) -> Option<&'static str> {
    let says = |texts: &[&str]| texts.iter().any(|text| errors.contains(text));
    if kind == FaultKind::Lock {
        return Some("another program holds the lock of iptables; it is tried again");
    }
    if says(&["lock file"]) {
        return Some(
            "mount the host's /run/xtables.lock (a hostPath of type FileOrCreate, as kube-proxy has it), or name another \
             lock in XTABLES_LOCKFILE if nobody else uses iptables here",
        );
    }
    if says(&["Permission denied", "Operation not permitted"]) {
        return Some("the capabilities NET_ADMIN and NET_RAW are needed");
    }
    if says(&[
        "Couldn't load",
        "No chain/target/match",
        "missing kernel module",
        "does not exist",
        "not supported",
    ]) {
        return Some(
            "the kernel or the image lacks a part of iptables: load iptable_raw, iptable_nat, xt_CT, xt_comment and \
             xt_mark on the host, or use --firewall nftables",
        );
    }
    if says(&["unrecognized option", "invalid option"]) {
        return Some("iptables 1.6.2 or newer is needed, or use --firewall nftables");
    }
    if says(&["incompatible", "CHAIN_ADD failed"]) {
        return Some("a chain of that name was made with nft; use --firewall nftables");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, errors: &str, script: &str) -> Fault {
        let ended = Ended { code: Some(code), errors: errors.to_owned(), ..Ended::default() };
        fault(Path::new("/usr/sbin/iptables-legacy-restore"), &ended, script)
    }

    #[test]
    fn a_held_lock_is_its_own_kind() {
        let said = "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 5s.\n";
        let fault = failed(4, said, "");
        assert_eq!(fault.kind, FaultKind::Lock);
        assert!(fault.what.contains("Stopped waiting after 5s"), "{}", fault.what);
    }

    #[test]
    fn a_lock_file_that_cannot_be_made_is_not_a_held_lock() {
        let fault = failed(4, "Fatal: can't open lock file /run/xtables.lock: Read-only file system\n", "");
        assert_eq!(fault.kind, FaultKind::Rules);
        assert!(fault.what.contains("hostPath"), "{}", fault.what);
    }

    #[test]
    fn the_row_is_named() {
        let script = "*raw\n-I OUTPUT one\n-I OUTPUT two\nCOMMIT\n";
        let nft = "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain OUTPUT\n";
        assert!(failed(4, nft, script).what.contains("at: -I OUTPUT two"), "{}", failed(4, nft, script).what);
        let legacy = "iptables-restore v1.8.9 (legacy): Couldn't load match `nosuch':No such file or directory\n\nError occurred at line: 2\nTry `iptables-restore -h'\n";
        let fault = failed(2, legacy, script);
        assert!(fault.what.contains("at: -I OUTPUT one"), "{}", fault.what);
        assert!(fault.what.contains("load iptable_raw"), "{}", fault.what);
        assert!(failed(1, "iptables-restore: line 9 failed\n", script).what.contains("line 9 failed"));
    }

    #[test]
    fn no_capability() {
        let said = "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n";
        let fault = failed(4, said, "");
        assert_eq!(fault.kind, FaultKind::Rules);
        assert!(fault.what.contains("NET_ADMIN"), "{}", fault.what);
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let before = Instant::now();
        let limit = Duration::from_millis(100);
        let fault = run(Path::new("sleep"), &["60"], "", limit).unwrap_err();
        assert!(fault.what.contains("did not end"), "{}", fault.what);
        assert!(before.elapsed() < RUN, "{:?}", before.elapsed());
    }

    #[test]
    fn more_input_and_output_than_a_pipe_holds() {
        let input = "x".repeat(1 << 20);
        assert_eq!(run(Path::new("cat"), &[], &input, RUN).unwrap().output.len(), 1 << 20);
    }
}
