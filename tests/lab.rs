//! `sidestep lab` as scripts see it, as root and as nobody in particular; and that it leaves nothing behind.
//!
//! Not part of `cargo test`: `just test-real` runs it. It needs root, to compare what the machine has before and after
//! and to become somebody without rights; iproute2, nftables, iptables and util-linux; user namespaces for anybody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const NOBODY: u32 = 65_534;

/// One lab at a time: two would share the processors, and each counts lookups.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy of the program under a path of its own, which anybody may run.
struct Program {
    path: PathBuf,
    _directory: TempDir,
}

impl Program {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("sidestep");
        fs::copy(env!("CARGO_BIN_EXE_sidestep"), &path).unwrap();
        Self { path, _directory: directory }
    }

    fn lab(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["lab", "--json"]).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// Processes that run it.
    fn processes(&self) -> Vec<String> {
        let exe = |id: &String| fs::read_link(format!("/proc/{id}/exe")).ok();
        processes().into_iter().filter(|id| exe(id).as_ref() == Some(&self.path)).collect()
    }
}

fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect()
}

/// What the machine has that a lab could touch.
fn machine() -> [String; 5] {
    assert!(rustix::process::geteuid().is_root(), "run `just test-real` as root");
    let say = |program: &str, arguments: &[&str]| {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let output = Command::new(program).args(arguments).env("PATH", path).output();
        let output = output.unwrap_or_else(|e| panic!("{program} is not installed: {e}"));
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let namespaces: BTreeSet<_> =
        processes().iter().filter_map(|id| fs::read_link(format!("/proc/{id}/ns/net")).ok()).collect();
    [
        say("ip", &["-o", "link"]),
        // Lifetimes of addresses count down by themselves.
        say("ip", &["-o", "-brief", "address"]),
        say("ip", &["route", "show", "table", "all"]),
        say("nft", &["--stateless", "list", "ruleset"]),
        format!("{} network namespaces, names of them: {}", namespaces.len(), say("ip", &["netns"])),
    ]
}

/// A field of a row, as it stands in JSON.
fn field<'a>(row: &'a str, name: &str) -> &'a str {
    let (_, rest) = row.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {row}"));
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next().unwrap(),
        None => rest.split([',', '}']).next().unwrap(),
    }
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// All rows of the table are there, and say what they should.
fn shows_problem_and_cure(output: &Output, rights: &str) {
    let (code, json, complaints) = text(output);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{json}");
    assert_eq!((field(&json, "rights"), field(&json, "cured")), (rights, "true"), "{json}");
    println!("it took {} s, and more where rows were played again: {json}", field(&json, "seconds"));
    let (_, rows) = json.split_once("\"rows\":[").unwrap();
    let rows: Vec<_> = rows.split("},{").collect();
    let large = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
    let large = large.trim().parse::<u32>().unwrap() > 262_144;
    let processors = std::thread::available_parallelism().unwrap().get();
    let mut cures = 0;
    for row in &rows {
        let full = field(row, "group").contains("full connection tracking table");
        if full && large {
            assert_eq!(field(row, "verdict"), "left-out", "{row}");
            continue;
        }
        let number = |name| field(row, name).parse::<u32>().unwrap_or_else(|_| panic!("{name} in {row}"));
        let (asked, lost) = (number("asked"), number("lost"));
        match field(row, "at_most") {
            // A few get in where an entry was not assured, and could be thrown out.
            "null" if full => assert!(lost > asked / 2, "{row}"),
            "null" => assert!(matches!(field(row, "verdict"), "shown" | "not-shown" | "helps"), "{row}"),
            _ => {
                cures += 1;
                assert!(field(row, "verdict") == "ok" && lost <= number("at_most"), "{row}");
            }
        }
        // Packets need two processors to race.
        if processors > 1
            && field(row, "name") == "through DNAT, a random server"
            && row.contains("1.1 to 2.5")
        {
            assert_eq!(field(row, "verdict"), "shown", "{row}");
        }
        if field(row, "tracked") != "null" && field(row, "at_most") != "null" {
            assert_eq!(number("tracked"), 0, "lookups were tracked: {row}");
        }
    }
    assert!(cures >= if large { 8 } else { 10 }, "{cures} of our rows were played:\n{json}");
}

#[test]
fn as_root_it_shows_problem_and_cure_and_touches_nothing() {
    let _alone = alone();
    let (program, before) = (Program::new(), machine());
    let output = program.lab().output().unwrap();
    shows_problem_and_cure(&output, "root");
    assert_eq!(program.processes(), [""; 0]);
    assert_eq!(machine(), before);
}

#[test]
fn as_nobody_it_shows_problem_and_cure_and_touches_nothing() {
    let _alone = alone();
    let (program, before) = (Program::new(), machine());
    let output = program.lab().uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    shows_problem_and_cure(&output, "user-namespace");
    assert_eq!(program.processes(), [""; 0]);
    assert_eq!(machine(), before);
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what} did not come");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    let _alone = alone();
    let (program, before) = (Program::new(), machine());
    for moment in [1, 2, 5] {
        let mut lab: Child = program.lab().spawn().unwrap();
        wait_until("a sidestep on its node", || program.processes().len() > 1);
        sleep(Duration::from_millis(100 * moment as u64));
        lab.kill().unwrap();
        lab.wait().unwrap();
        wait_until("the end of what it started", || program.processes().is_empty());
    }
    wait_until("the end of its networks", || machine() == before);
}

#[test]
fn where_it_cannot_be_built_it_says_why() {
    let _alone = alone();
    let program = Program::new();
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all \"$0\" lab";
    let output = run_in_user_namespace(script, &program.path);
    let (code, out, complaint) = text(&output);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{complaint}");
    assert!(
        complaint.starts_with("sidestep lab: it cannot be built here: making a user namespace"),
        "{complaint}"
    );
    assert!(complaint.contains("it needs root"), "{complaint}");
}

fn run_in_user_namespace(script: &str, argument: &Path) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(argument);
    command.output().expect("unshare is not installed: apt-get install util-linux")
}
