//! The benchmark: this program, its ceiling and its peers side by side in one run.
//!
//! ```text
//! cargo bench --bench road -- [--scenario hits,misses,idle] [--only sidestep,echo] [--rounds 5] [--seconds 3]
//! ```
//!
//! The server under test has one core to itself, the load and the upstream have another. Servers take turns in
//! short rounds, and ratios are taken within a round, because the same program drifts by a third within an
//! hour on a shared machine. Runs that other work spoiled are thrown away and counted. Every answer is checked.
//!
//! | file | what it does |
//! |---|---|
//! | `zone` | the rule from a name to its answer |
//! | `names` | the questions, and what their answers must be |
//! | `upstream` | the scripted upstream |
//! | `echo` | the ceiling |
//! | `peers` | how each server is started; a new peer is one more entry there |
//! | `server` | starts, waits for and ends one |
//! | `batch`, `load` | the load |
//! | `measure` | times, memory and wake-ups from `/proc` |
//! | `rounds`, `report` | the interleaved runs, and the tables |
//! | `check` | whether the load notices wrong answers |

mod batch;
mod check;
mod echo;
mod load;
mod measure;
mod names;
mod peers;
mod report;
mod rounds;
mod server;
mod upstream;
mod zone;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use batch::Wait;
use measure::{Memory, Usage};
use names::Questions;
use peers::{CEILING, OURS, PEERS, Peer};
use report::Idle;
use rounds::{Contender, Plan};
use server::Server;

/// Measures sidestep, an echo (the ceiling) and whatever peers are installed, side by side.
#[derive(Parser)]
#[command(name = "road", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hits,misses,idle")]
    scenario: Vec<Scenario>,
    /// Measure these servers only.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Rounds; every server is measured once in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often a run is tried while other load spoils it.
    #[arg(long, default_value_t = 5)]
    tries: usize,
    /// Per cent of a core that other work may take from a run before it is thrown away; 100 keeps all.
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    spoiled: f64,
    /// Seconds that each server is measured in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Queries in flight, at most 1024.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// The program to measure; default: the one that cargo built for this benchmark.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_sidestep"))]
    sidestep: PathBuf,
    /// The core of the servers.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// The core of the load and the upstream.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// What `cargo bench` passes; without it (`cargo test --benches`) the benchmark checks itself.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// A part of the benchmark on its own.
#[derive(Subcommand)]
enum Part {
    /// The ceiling: answers every query with itself, QR set, padded to SIZE bytes.
    Echo {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        size: usize,
    },
    /// Whether the load notices wrong answers.
    Check,
    /// The scripted upstream, for a look at it with dig: says its address, answers until killed.
    Upstream,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// 1,000 warm names over UDP.
    Hits,
    /// Names that were never asked before, over a TCP upstream.
    Misses,
    /// Memory and wake-ups while nobody asks.
    Idle,
}

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Echo { listen, size }) => echo::serve(listen, size).map(|()| true).map_err(Into::into),
        Some(Part::Upstream) => serve_upstream(),
        None if arguments.bench => run(&arguments),
        Some(Part::Check) | None => check::run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("road: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_upstream() -> Result<bool, Box<dyn Error>> {
    println!("{}", upstream::start()?);
    loop {
        thread::park();
    }
}

/// Runs the scenarios and prints their tables. Returns whether we ran and all answers were right.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    server::pin(arguments.load_core)?;
    let dir = tempfile::tempdir()?;
    let upstream = upstream::start()?;
    let mut bench = Bench { arguments, found: Vec::new(), dir: dir.path(), upstream, left_out: Vec::new() };
    bench.find();
    let versions: Vec<_> = bench
        .found
        .iter()
        .map(|(peer, program)| match peer.version(program) {
            Some(version) => format!("{} {version}", peer.name),
            None => peer.name.to_owned(),
        })
        .collect();
    let wants = |scenario| arguments.scenario.contains(&scenario);
    let idle = if wants(Scenario::Idle) { bench.idle()? } else { Vec::new() };
    let hits = if wants(Scenario::Hits) { bench.hits()? } else { Vec::new() };
    let misses = if wants(Scenario::Misses) { bench.misses()? } else { Vec::new() };
    report::surroundings(&versions, &bench.left_out);
    let in_flight = arguments.in_flight;
    if !hits.is_empty() {
        report::scenario(&format!("Hits over UDP, 1,000 warm names, {in_flight} in flight"), &hits);
    }
    if !misses.is_empty() {
        report::scenario(&format!("Misses, upstream over TCP, {in_flight} in flight"), &misses);
    }
    if !idle.is_empty() {
        report::idle(&idle);
    }
    Ok(hits.iter().chain(&misses).all(|c| c.wrong == 0)
        && !bench.left_out.iter().any(|l| l.starts_with(OURS)))
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
            duration: Duration::from_secs_f64(self.arguments.seconds),
            in_flight: self.arguments.in_flight,
            wait,
            cores: (self.arguments.server_core, self.arguments.load_core),
        }
    }

    fn hits(&mut self) -> Result<Vec<Contender>, Box<dyn Error>> {
        eprintln!("hits");
        let questions = |name: &str| if name == CEILING { Questions::echoed() } else { Questions::warm() };
        let mut contenders = self.contenders("", questions);
        rounds::run(&mut contenders, &self.plan(Wait::Spin))?;
        Ok(contenders)
    }

    fn misses(&mut self) -> Result<Vec<Contender>, Box<dyn Error>> {
        eprintln!("misses");
        let mut contenders = self.contenders(CEILING, |_| Questions::unique());
        // The upstream needs the load's core too.
        rounds::run(&mut contenders, &self.plan(Wait::Sleep))?;
        Ok(contenders)
    }

    /// Looks at each server alone, after it has answered one question and then been left in peace.
    fn idle(&mut self) -> Result<Vec<Idle>, Box<dyn Error>> {
        eprintln!("idle");
        let mut idle = Vec::new();
        for (peer, program) in self.found.clone() {
            let Some(server) = self.start(peer, &program) else { continue };
            thread::sleep(Duration::from_secs(1));
            let before = Usage::of(server.pid())?;
            thread::sleep(Duration::from_secs_f64(self.arguments.seconds));
            let wakeups = Usage::of(server.pid())?.since(before).wakeups as f64 / self.arguments.seconds;
            idle.push(Idle { name: server.name, memory: Memory::of(server.pid())?, wakeups });
        }
        Ok(idle)
    }
}
