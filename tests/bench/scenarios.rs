//! What is asked of whom: each scenario starts its servers, has them measured, and keeps what came out.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::batch::Wait;
use crate::measure::{Memory, Usage};
use crate::names::Questions;
use crate::peers::{CEILING, OURS, PEERS, Peer};
use crate::report::{self, Idle};
use crate::rounds::{self, Contender, Plan};
use crate::server::{self, Server};
use crate::upstream;
use crate::{Arguments, Scenario};

/// How long a server is left alone before it counts as idle.
const SETTLING: Duration = Duration::from_secs(1);

/// What all scenarios share.
struct Bench<'a> {
    arguments: &'a Arguments,
    /// The servers that are installed, and their programs.
    found: Vec<(&'static Peer, PathBuf)>,
    dir: &'a Path,
    upstream: SocketAddr,
    /// Servers that are not measured, and why.
    left_out: Vec<String>,
}

/// Runs the scenarios, and prints the table of each as it ends. Returns whether we ran and all answers were
/// right.
pub fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    server::pin(arguments.load_core)?;
    let dir = tempfile::tempdir()?;
    let upstream = upstream::start()?;
    let mut bench = Bench { arguments, found: Vec::new(), dir: dir.path(), upstream, left_out: Vec::new() };
    bench.find();
    let mut right = true;
    for scenario in &arguments.scenario {
        right &= match scenario {
            Scenario::Hits => bench.hits()?,
            Scenario::Misses => bench.misses()?,
            Scenario::Idle => bench.idle()?,
        };
    }
    report::surroundings(&bench.versions(), &bench.left_out);
    Ok(right && !bench.left_out.iter().any(|left_out| left_out.starts_with(OURS)))
}

impl Bench<'_> {
    /// Finds out who is installed.
    fn find(&mut self) {
        for peer in &PEERS {
            let only = &self.arguments.only;
            if !only.is_empty() && !only.iter().any(|name| name == peer.name) {
                continue;
            }
            match peer.program(&self.arguments.sidestep) {
                Some(program) => self.found.push((peer, program)),
                None => self.leave_out(format!("{} (not installed)", peer.name)),
            }
        }
    }

    /// What the servers say about their versions.
    fn versions(&self) -> Vec<String> {
        let say = |(peer, program): &(&Peer, PathBuf)| match peer.version(program) {
            Some(version) => format!("{} {version}", peer.name),
            None => peer.name.to_owned(),
        };
        self.found.iter().map(say).collect()
    }

    /// Starts a server; one that does not start is left out.
    fn start(&mut self, peer: &Peer, program: &Path) -> Option<Server> {
        let started = Server::start(peer, program, self.dir, self.upstream, self.arguments.server_core);
        started.map_err(|error| self.leave_out(error.to_string())).ok()
    }

    fn leave_out(&mut self, why: String) {
        if !self.left_out.contains(&why) {
            eprintln!("  left out: {why}");
            self.left_out.push(why);
        }
    }

    /// Starts all servers but those that `leave` names, each with its questions.
    fn contenders(&mut self, leave: &str, questions: fn(&str) -> Questions) -> Vec<Contender> {
        let found = self.found.clone();
        let wanted = found.iter().filter(|(peer, _)| peer.name != leave);
        wanted
            .filter_map(|(peer, program)| self.start(peer, program))
            .map(|server| {
                let questions = questions(server.name);
                Contender::new(server, questions)
            })
            .collect()
    }

    fn plan(&self, wait: Wait) -> Plan {
        Plan {
            rounds: self.arguments.rounds,
            tries: self.arguments.tries,
            spoiled: self.arguments.spoiled / 100.0,
            duration: self.arguments.seconds,
            in_flight: self.arguments.in_flight,
            wait,
            cores: (self.arguments.server_core, self.arguments.load_core),
        }
    }

    /// Warm names. The load spins: the upstream is not asked.
    fn hits(&mut self) -> Result<bool, Box<dyn Error>> {
        let title = format!("Hits over UDP, 1,000 warm names, {} in flight", self.arguments.in_flight);
        let questions = |name: &str| if name == CEILING { Questions::echoed() } else { Questions::warm() };
        let contenders = self.contenders("", questions);
        measure(&title, contenders, &self.plan(Wait::Spin))
    }

    /// Names that were never asked before. The load sleeps: the upstream needs its core too.
    fn misses(&mut self) -> Result<bool, Box<dyn Error>> {
        let title = format!("Misses, upstream over TCP, {} in flight", self.arguments.in_flight);
        let contenders = self.contenders(CEILING, |_| Questions::unique());
        measure(&title, contenders, &self.plan(Wait::Sleep))
    }

    /// Looks at each server alone, after it has answered one question and then been left in peace.
    fn idle(&mut self) -> Result<bool, Box<dyn Error>> {
        eprintln!("Idle");
        let mut idle = Vec::new();
        for (peer, program) in self.found.clone() {
            let Some(server) = self.start(peer, &program) else { continue };
            thread::sleep(SETTLING);
            let before = Usage::of(server.pid())?;
            thread::sleep(self.arguments.seconds);
            let wakeups = Usage::of(server.pid())?.since(before).wakeups as f64;
            let wakeups = wakeups / self.arguments.seconds.as_secs_f64();
            idle.push(Idle { name: server.name, memory: Memory::of(server.pid())?, wakeups });
        }
        report::idle(&idle);
        Ok(true)
    }
}

/// Measures a scenario, prints its table, and ends its servers. Returns whether all answers were right.
fn measure(title: &str, mut contenders: Vec<Contender>, plan: &Plan) -> Result<bool, Box<dyn Error>> {
    eprintln!("{title}");
    rounds::run(&mut contenders, plan)?;
    report::scenario(title, &contenders);
    Ok(contenders.iter().all(|c| c.wrong == 0))
}
