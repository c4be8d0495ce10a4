//! One of the two programs on its node, and all that can be seen of it from outside.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sidestep::node::iptables::Family;

use super::ask::{Answer, ask, questions};
use super::process::{Process, output};
use super::tools::{Folder, real, saved};
use super::world::{LOCAL, World, start};

/// How long a start may take, and the rules.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rules that have not changed for so long are all.
const QUIET: Duration = Duration::from_millis(500);

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NodeCache,
    Us,
}

/// It runs, and answers.
pub struct Running {
    pub world: World,
    pub process: Process,
}

impl Running {
    /// Without rules.
    pub fn new(kind: Kind) -> Self {
        Self::start(kind, &["-setupiptables=false"], None)
    }

    /// With the rules, put in by this variant of iptables.
    pub fn with_rules(kind: Kind, variant: &str) -> Self {
        let folder = Folder::empty().plain(variant);
        let asked_for: &[&str] = if kind == Kind::Us { &["-firewall=iptables"] } else { &[] };
        Self::start(kind, asked_for, Some(folder))
    }

    fn start(kind: Kind, more: &[&str], programs: Option<Folder>) -> Self {
        let world = World::new();
        let program = match kind {
            Kind::Us => env!("CARGO_BIN_EXE_sidestep").into(),
            Kind::NodeCache => PathBuf::from(
                std::env::var_os("SIDESTEP_NODE_CACHE").expect("SIDESTEP_NODE_CACHE names node-cache"),
            ),
        };
        let mut command = world.command(&program, more);
        if let Some(folder) = &programs {
            command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
        }
        let process = start(&world.node, "cache", command, world.directory.path());
        let mut running = Self { world, process };
        running.wait_for("an answer", || ask("www.corp.test NS")["rcode"] == "NOERROR");
        if programs.is_some() {
            running.wait_for_rules();
        }
        running
    }

    fn wait_for(&mut self, what: &str, done: impl Fn() -> bool + Clone + Send + 'static) {
        let start = Instant::now();
        while !self.world.node.run(done.clone()) {
            assert!(self.process.lives(), "it ended before there was {what}: {}", self.process.log());
            assert!(start.elapsed() < PATIENCE, "there is not {what}: {}", self.process.log());
            sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_rules(&mut self) {
        let count = || ["nft", "legacy"].map(|variant| saved(Family::V4, variant).len());
        self.wait_for("a rule", move || count() != [0, 0]);
        let start = Instant::now();
        let (mut last, mut since) = (self.world.node.run(count), Instant::now());
        while since.elapsed() < QUIET {
            assert!(start.elapsed() < PATIENCE, "the rules do not settle: {}", self.process.log());
            sleep(Duration::from_millis(50));
            let now = self.world.node.run(count);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// All questions, each twice.
    pub fn answers(&self) -> Vec<(&'static str, [Answer; 2])> {
        self.world.node.run(|| questions().map(|words| (words, [ask(words), ask(words)])).collect())
    }

    /// The rules with our addresses.
    pub fn rules(&self, variant: &'static str) -> BTreeSet<String> {
        self.world.node.run(move || saved(Family::V4, variant).into_iter().collect())
    }

    /// Where it listens, as `ss` shows it.
    pub fn ports(&self) -> BTreeSet<String> {
        let words = |line: String| -> Option<String> {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.nth(3)?))
        };
        self.all_ports().into_iter().filter_map(words).collect()
    }

    /// Where anybody on the node still listens, but for the servers behind the cache.
    pub fn all_ports(&self) -> BTreeSet<String> {
        let mut ss = std::process::Command::new(real("ss"));
        ss.args(["--listening", "--tcp", "--udp", "--numeric", "--processes", "--no-header"]);
        let text = self.world.node.run(move || output(&mut ss));
        text.lines().filter(|line| !line.contains("\"coredns\"")).map(str::to_owned).collect()
    }

    /// node-cache's own words about itself.
    pub fn version(&self) -> String {
        let log = self.process.log();
        let at = log.find("CoreDNS-").expect("it says which CoreDNS it is");
        let words: Vec<_> = log[at..].lines().take(2).map(|line| line.trim_end_matches([',', ' '])).collect();
        words.join(", ")
    }

    /// What is served at an HTTP address: the status, and the text.
    pub fn get(&self, server: &str, path: &'static str) -> (u16, String) {
        let server: SocketAddr = server.parse().unwrap();
        self.world.node.run(move || {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // By HTTP/1.0: a newer answer would come in chunks.
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
        })
    }

    /// The families of both pages of metrics: port, name, type, and labels.
    pub fn metrics(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for port in [9253, 9353] {
            let (status, page) = self.get(&format!("{}:{port}", LOCAL[1]), "/metrics");
            assert_eq!(status, 200);
            all.extend(families(&page).into_iter().map(|family| format!("{port} {family}")));
        }
        all
    }
}

/// What a page holds, by its comments and samples.
fn families(page: &str) -> Vec<String> {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds
        .map(|(name, kind)| {
            let is_of = |series: &str| {
                let rest = series.strip_prefix(name)?;
                ["", "_bucket", "_sum", "_count"].contains(&rest).then_some(())
            };
            let mut labels = BTreeSet::new();
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                let Some((series, rest)) = line.split_once('{') else { continue };
                if is_of(series).is_some() {
                    let keys = rest.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next());
                    labels
                        .extend(keys.filter(|key| !key.is_empty() && !key.contains('}')).map(str::to_owned));
                }
            }
            let labels: Vec<_> = labels.into_iter().collect();
            format!("{name} {kind} {}", labels.join(",")).trim_end().to_owned()
        })
        .collect()
}
