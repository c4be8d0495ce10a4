//! Tests that cannot be in a user namespace, where only one user exists, control groups are somebody else's, and
//! CAP_SYS_NICE has no say over the machine's processors. (`just test-userns` leaves these out, and these alone.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::deaths::{LITTLE, LOOKUPS, answers, during, ends_holding, few, fill, filled, kept};
use super::doctor::{expect, look};
use super::namespace::alone;
use super::program::{World, sidestep};

/// A large cache, in bytes. That the thread that holds the rules goes first, ahead of all that must be freed, takes
/// CAP_SYS_NICE.
const MUCH: u64 = 1 << 30;
/// How long it may take until memory is out.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn killed_with_a_large_memory() {
    ends_holding(MUCH, Signal::KILL);
}

#[test]
fn aborted_with_a_large_memory() {
    ends_holding(MUCH, Signal::ABORT);
}

#[test]
fn out_of_memory_with_a_small_one() {
    is_killed_for_anothers_memory(LITTLE);
    runs_out_of_memory(LITTLE);
}

#[test]
fn out_of_memory_with_a_large_one() {
    is_killed_for_anothers_memory(MUCH);
    runs_out_of_memory(MUCH);
}

/// Somebody else takes all there is, and the kernel chooses us.
fn is_killed_for_anothers_memory(bytes: u64) {
    let _turn = super::turn();
    let world = World::new();
    kept(few, || {
        let group = Cgroup::new();
        let mut program =
            filled(&world, World::within(&group.joining("echo 1000 >/proc/$$/oom_score_adj")), bytes);
        let (tally, lost) =
            during(&world, &format!("killed at {bytes} bytes for another's"), LOOKUPS, || {
                group.limit_to(group.used() + (8 << 20));
                // tail looks for the end of a line that has none.
                let mut hungry = Command::new("sh");
                hungry.args(["-ec", &group.joining(""), "sh", "tail", "/dev/zero"]).stdout(Stdio::null());
                let mut hungry = hungry.spawn().unwrap();
                let status = program.ended();
                hungry.kill().unwrap();
                hungry.wait().unwrap();
                assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{}", program.log());
            });
        assert!(group.kills() > 0, "it was something else that killed it");
        assert!(tally.by_cluster > 0, "{tally:?}");
        lost
    });
}

/// Its memory is limited to what it has, and it wants more. Before the kernel kills, it looks for memory, and a thread
/// of ours waits for that (10 to 100 ms with 1 GiB); what waits for this thread is lost with the process. So the promise
/// is of what is asked later.
fn runs_out_of_memory(bytes: u64) {
    let _turn = super::turn();
    let world = World::new();
    kept(few, || {
        let group = Cgroup::new();
        let mut program = filled(&world, World::within(&group.joining("")), bytes);
        let mut killed = None;
        let (tally, lost) = during(&world, &format!("out of memory at {bytes} bytes"), LOOKUPS, || {
            let limited = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while group.kills() == 0 && limited.elapsed() < PATIENCE {
                        sleep(Duration::from_micros(200));
                    }
                    killed = Some(limited.elapsed());
                });
                group.limit_to(group.used());
                // More answers, until there is nobody to give them.
                let more = answers(bytes).end..answers(3 << 30).end;
                assert_eq!(fill(&world.network.node, more), None, "it goes on with {} bytes", group.used());
            });
            assert_eq!(program.ended().signal(), Some(Signal::KILL.as_raw()), "{}", program.log());
        });
        assert_eq!(group.kills(), 1, "it was something else that killed it");
        assert!(tally.by_cluster > 0, "{tally:?}");
        let killed = i128::try_from(killed.unwrap().as_millis()).unwrap();
        println!("killed after {killed} ms");
        lost.into_iter().filter(|sent| *sent > killed).collect()
    });
}

/// A control group for memory, of either version. Dropped, it goes; the kernel wants it to be empty then.
struct Cgroup {
    path: PathBuf,
    files: Files,
}

/// What its files are called: how much it may have, how much it has, and where it says how many were killed.
struct Files {
    limit: &'static str,
    used: &'static str,
    kills: &'static str,
}

const V1: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", kills: "memory.oom_control" };
const V2: Files = Files { limit: "memory.max", used: "memory.current", kills: "memory.events" };

impl Cgroup {
    fn new() -> Self {
        let (root, files) = Self::hierarchy();
        let path = root.join(format!("sidestep-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("making the control group {}: {e}", path.display()));
        let group = Self { path, files };
        let limit = group.path.join(group.files.limit);
        assert!(limit.exists(), "{}: memory is not among cgroup.subtree_control", limit.display());
        group
    }

    /// Where groups for memory are made here.
    fn hierarchy() -> (PathBuf, Files) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut found = None;
        for mount in mounts.lines() {
            let fields: Vec<_> = mount.split(' ').collect();
            let path = Path::new(fields[1]);
            let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
            if fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "memory") {
                return (path.to_owned(), V1);
            }
            if fields[2] == "cgroup2" && controllers.split_whitespace().any(|name| name == "memory") {
                found = Some((path.to_owned(), V2));
            }
        }
        found.expect("no control groups for memory are mounted here, of version 1 or 2; see /proc/mounts")
    }

    /// A script that joins the group, does something, and becomes `"$@"`.
    fn joining(&self, and: &str) -> String {
        format!("echo $$ >{}/cgroup.procs; {and}\nexec \"$@\"", self.path.display())
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap()
    }

    fn used(&self) -> u64 {
        self.read(self.files.used).trim().parse().unwrap()
    }

    fn limit_to(&self, bytes: u64) {
        fs::write(self.path.join(self.files.limit), bytes.to_string()).unwrap();
    }

    /// Processes that the kernel has killed because the group had no memory left.
    fn kills(&self) -> u32 {
        let said = self.read(self.files.kills);
        let count = said.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // While a test fails, the program may still be there; its own failure is what is to be read then.
        let removed = fs::remove_dir(&self.path);
        assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", self.path.display());
    }
}

/// Being somebody else takes more than one user.
#[test]
fn without_root_the_doctor_says_what_it_could_not_look_at() {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = folder.path().join("sidestep");
        fs::copy(sidestep(), &program).unwrap();
        let mut nobody = Command::new(&program);
        nobody.uid(65534).gid(65534);
        let (code, checks) = look(nobody, &[]);
        assert!(expect(&checks, "firewall.rules", "unknown").contains("as root"));
        // What needs no rights is looked at all the same.
        expect(&checks, "kernel.race", "healthy");
        expect(&checks, "conntrack.losses", "healthy");
        assert_eq!(code, 2, "{checks:#?}");
    });
}
