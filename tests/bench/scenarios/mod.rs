//! What is asked of whom: each scenario starts its servers, has them measured, and reports what came out.

mod hits;
mod misses;
mod pairs;
mod size;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::arguments::{Arguments, Peers, Scenario};
use crate::charts::{self, Bar, Chart, Role};
use crate::contender::{Contender, Pacing, Sample};
use crate::load::{Manner, Wait, Way};
use crate::pace::Pace;
use crate::peers::{CEILING, OURS, PEERS, Peer, Size};
use crate::questions::{Questions, Set};
use crate::report::{self, Report};
use crate::rounds::{self, Plan};
use crate::server::{self, Place, Server};
use crate::tables;
use crate::upstream::Upstream;

/// A query without an answer after this long is lost, where the upstream answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all scenarios share.
struct Bench<'a> {
    arguments: &'a Arguments,
    /// The servers that are installed, and their programs.
    found: Vec<(&'static Peer, PathBuf)>,
    dir: &'a Path,
    upstream: Upstream,
    report: Report,
}

/// Runs the scenarios, and prints the table of each as it ends. Returns whether we ran and all answers were
/// right.
pub fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    server::pin(&[arguments.load_core])?;
    let dir = tempfile::tempdir()?;
    let upstream = Upstream::start()?;
    let report = Report::default();
    let mut bench = Bench { arguments, found: Vec::new(), dir: dir.path(), upstream, report };
    bench.find();
    let mut right = true;
    for scenario in Scenario::resolve(&arguments.scenario) {
        eprintln!("{}", scenario.name());
        bench.upstream.set(Duration::ZERO, 0);
        right &= match scenario {
            Scenario::Idle => {
                bench.idle();
                true
            }
            Scenario::Size => {
                bench.size();
                true
            }
            Scenario::Misses | Scenario::Misses1ms => bench.misses(scenario),
            Scenario::Added | Scenario::Added1ms => bench.added(scenario),
            Scenario::MixedSlow | Scenario::MixedDrops => bench.mixed(scenario),
            Scenario::Pairs => bench.pairs(),
            _ => bench.hits(scenario),
        };
    }
    bench.report.surroundings(&conditions(arguments), &bench.versions());
    if arguments.charts {
        bench.report.draw(&report::commit())?;
    }
    if arguments.readme {
        bench.report.write_readme()?;
    }
    Ok(right && !bench.report.left_out(OURS))
}

/// How it was measured.
fn conditions(arguments: &Arguments) -> String {
    let (cores, load) = (&arguments.server_core, arguments.load_core);
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
    format!(
        "Rounds: {}, {} s for each server. The servers in turn on core {cores}, the load and the upstream on core {load}; medians over \
         the rounds, ratios taken within a round.",
        arguments.rounds,
        arguments.seconds.as_secs_f64()
    )
}

impl Bench<'_> {
    /// Finds out who is installed.
    fn find(&mut self) {
        for peer in &PEERS {
            let only = &self.arguments.only;
            let wanted = match only.is_empty() {
                true => peer.usual || self.arguments.peers == Peers::All,
                false => only.iter().any(|name| name == peer.name),
            };
            match peer.program(&self.arguments.sidestep) {
                _ if !wanted => {}
                Some(program) => {
                    if !peer.note.is_empty() {
                        self.report.note(format!("{} {}", peer.name, peer.note));
                    }
                    self.found.push((peer, program));
                }
                None => self.report.leave_out(format!("{} (not installed)", peer.name)),
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

    /// Starts a server.
    fn try_start(&self, peer: &Peer, program: &Path, size: Size) -> io::Result<Server> {
        let cores = self.server_cores(size.workers);
        let place = Place { dir: self.dir, upstream: self.upstream.address, cores: &cores };
        Server::start(peer, program, place, size)
    }

    /// Starts a server; one that does not start is left out.
    fn start(&mut self, peer: &Peer, program: &Path, size: Size) -> Option<Server> {
        self.try_start(peer, program, size).map_err(|error| self.report.leave_out(error.to_string())).ok()
    }

    /// Starts those who are `able`, each on its own.
    fn servers(&mut self, able: impl Fn(&Peer) -> bool, size: Size) -> Vec<Rc<Server>> {
        let found = self.found.clone();
        let wanted = found.iter().filter(|(peer, _)| able(peer));
        wanted.filter_map(|(peer, program)| self.start(peer, program, size)).map(Rc::new).collect()
    }

    /// The cores for `workers` threads: those that were named, and the load's if they are too few.
    fn server_cores(&self, workers: usize) -> Vec<usize> {
        let named = self.arguments.server_core.iter().copied();
        named.chain([self.arguments.load_core]).take(workers).collect()
    }

    /// How the load asks, if nothing else is said: over UDP, without EDNS.
    fn manner(&self, wait: Wait) -> Manner {
        Manner { way: Way::Udp, wait, edns: false, in_flight: self.arguments.in_flight, patience: PATIENCE }
    }

    fn plan(&self, manner: Manner, pacing: Pacing) -> Plan {
        let mut cores = self.arguments.server_core.clone();
        cores.push(self.arguments.load_core);
        cores.sort_unstable();
        cores.dedup();
        Plan {
            rounds: self.arguments.rounds,
            tries: self.arguments.tries,
            spoiled: self.arguments.spoiled / 100.0,
            duration: self.arguments.seconds,
            manner,
            pacing,
            cores,
        }
    }

    /// A chart of the medians of `figure`, a bar for each contender.
    fn chart(
        &mut self,
        file: String,
        title: &str,
        what: &str,
        contenders: &[Contender],
        figure: fn(&Sample) -> f64,
    ) {
        let bars = contenders.iter().filter_map(|c| {
            let value = tables::of(c, figure)?;
            Some(Bar { label: c.label.clone(), value, text: charts::figure(value), role: role(c.name) })
        });
        let bars = bars.collect();
        self.report.chart(Chart { file, title: title.to_owned(), what: what.to_owned(), bars });
    }
}

/// How a server's bar stands out.
fn role(name: &str) -> Role {
    match name {
        OURS => Role::Ours,
        CEILING => Role::Bound,
        _ => Role::Peer,
    }
}

/// What a server is asked of `set`: the echo answers with nothing.
fn questions(set: &Set, server: &str) -> Questions {
    Questions::new(if server == CEILING { set.echoed() } else { set.clone() }, 0.0)
}

/// A closed loop.
const CLOSED: Pacing = Pacing::Fixed(Pace::Closed);

/// Measures a scenario. Returns whether all answers were right.
fn measure(contenders: &mut [Contender], plan: &Plan) -> bool {
    rounds::run(contenders, plan);
    contenders.iter().all(|c| c.wrong == 0 && (c.failed.is_none() || c.name != OURS))
}
