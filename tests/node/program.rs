//! The program as a process on the node, beside a pod, the cluster DNS and a kube-proxy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::dns::{ClusterDns, PODS};
use super::namespace::{Namespace, ip};
use super::network::{Network, V4, V6, sh};

/// The program under test, or a copy of it that `SIDESTEP_PROGRAM` names, for those who may not look into the folder
/// where it was built.
pub fn sidestep() -> PathBuf {
    std::env::var_os("SIDESTEP_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_sidestep").into(), PathBuf::from)
}

/// The link that it makes.
pub const LINK: &str = "nodelocaldns";
/// How long a start, an end or a log line may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is written once everything is up, and known where clients go without us.
pub const UP: &str = "without us clients go to";

/// A node on which nothing of ours is yet, and what stands around it.
pub struct World {
    pub network: Network,
    pub dns: ClusterDns,
    pub directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        let network = Network::new();
        let dns = ClusterDns::start(&network.cluster);
        network.node.run(|| {
            // It is the program that brings the addresses.
            ip(&format!("addr del {V4}/32 dev lo"));
            ip(&format!("addr del {V6}/128 dev lo"));
            // kube-proxy. It also makes the kernel track what passes.
            sh("nft -f - <<'END'
table inet service {
    chain prerouting { type nat hook prerouting priority -100; jump translate; }
    chain output { type nat hook output priority -100; jump translate; }
    chain translate {
        meta l4proto { tcp, udp } th dport 53 ip daddr 10.96.0.10 dnat ip to numgen random mod 2 map { 0 : 10.2.0.2, 1 : 10.2.0.3 }
        meta l4proto { tcp, udp } th dport 53 ip6 daddr fd96::10 dnat ip6 to numgen random mod 2 map { 0 : fd02::2, 1 : fd02::3 }
    }
}
END");
            for route in ["route add 10.96.0.0/16 dev cluster", "-6 route add fd96::/64 dev cluster"] {
                ip(route);
            }
        });
        Self { network, dns, directory: tempfile::tempdir().unwrap() }
    }

    /// Our addresses, and the cluster DNS' own to ask.
    pub fn flags() -> Vec<String> {
        let mut flags: Vec<String> = [V4, V6].iter().map(|a| format!("--node-address={a}")).collect();
        for pod in PODS {
            let pod = if pod.contains(':') { format!("[{pod}]") } else { pod.to_owned() };
            flags.push(format!("--upstream=tcp://{pod}:53"));
        }
        flags
    }

    /// The program with these flags.
    pub fn command(flags: &[String]) -> Command {
        let mut command = Command::new(sidestep());
        command.arg("run").args(flags);
        command
    }

    /// Another program, which ends up as ours with the usual flags: `"$@"` in the script.
    pub fn within(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh"]).arg(sidestep()).arg("run").args(Self::flags());
        command
    }

    /// Starts a command on the node; what it writes goes to a file.
    pub fn spawn(&self, command: Command) -> Program {
        Program::start(&self.network.node, command, self.directory.path())
    }

    /// Starts it, and waits until everything is up.
    pub fn run(&self) -> Program {
        self.up(Self::command(&Self::flags()))
    }

    /// Starts a command, and waits until everything is up.
    pub fn up(&self, command: Command) -> Program {
        let mut program = self.spawn(command);
        program.wait_for(UP);
        program
    }

    /// Starts it with a file for its configuration: our addresses, and this.
    pub fn configured(&self, node: &str, upstreams: &[&str]) -> Command {
        let file = self.directory.path().join("sidestep.toml");
        let text = format!(
            "[node]\naddresses = [\"{V4}\", \"{V6}\"]\n{node}\n[[zone]]\nname = \".\"\nupstreams = {upstreams:?}\n"
        );
        fs::write(&file, text).unwrap();
        Self::command(&["--config".to_owned(), file.display().to_string()])
    }

    /// `sidestep teardown`: whether it went well, and what it said.
    pub fn teardown(&self) -> (bool, String) {
        self.teardown_of(LINK)
    }

    /// `sidestep teardown` of this link.
    pub fn teardown_of(&self, link: &str) -> (bool, String) {
        let mut command = Command::new(sidestep());
        command.args(["teardown", "--interface", link]);
        let output = self.network.node.run(move || command.output().unwrap());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// What is on the node: addresses and rules, without what counts, runs down, or is learned from answers.
    pub fn state(&self) -> String {
        self.network.node.run(|| {
            // Without the link's number, which changes when it is made anew.
            let address = |line: &str| {
                let line = line.split('\\').next().unwrap();
                format!("{}\n", line.split_once(' ').unwrap().1)
            };
            let addresses: Vec<String> = ip("-o addr").lines().map(address).collect();
            let tables = "nft list tables | sort | while read table; do nft -s list $table; done | \
                          sed -E 's/ expires [0-9a-z]+//g' | \
                          awk '/set live/ {skip = 1} !skip {print} /^\t}/ {skip = 0}'";
            let legacy = "export XTABLES_LOCKFILE=/dev/null; for f in iptables ip6tables; do \
                          $f-legacy-save | sed -n 's/^-A/&/p'; done";
            format!("{}{}{}", addresses.concat(), sh(tables), sh(legacy))
        })
    }
}

/// A process. Dropping it kills it.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(at: &Namespace, mut command: Command, directory: &Path) -> Self {
        let log = (0..).map(|i| directory.join(format!("{i}.log"))).find(|log| !log.exists()).unwrap();
        let file = File::create(&log).unwrap();
        // iptables' lock is the machine's, and need not be.
        command.env("XTABLES_LOCKFILE", directory.join("xtables.lock"));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = at.run(move || command.spawn().unwrap());
        Self { child, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?} before it wrote {text:?}:\n{}", self.log());
            assert!(Instant::now() < end, "it has not written {text:?}:\n{}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it has not ended:\n{}", self.log());
            sleep(Duration::from_millis(1));
        }
    }

    /// A signal, and the end that it brings.
    #[track_caller]
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- process {} wrote:\n{}", self.child.id(), self.log());
        }
    }
}
