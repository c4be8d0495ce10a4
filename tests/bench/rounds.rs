//! Interleaved rounds: every server is measured once a round, so that a drift of the machine meets all of them.

use std::io;
use std::time::Duration;

use crate::batch::Wait;
use crate::load::{Load, Outcome};
use crate::measure::{Core, Rest, Usage};
use crate::names::Questions;
use crate::server::Server;

/// The load runs this long before the clocks are read.
const RUN_UP: Duration = Duration::from_millis(300);

/// How a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// How often a run is tried, while other load spoils it, before the round goes without it.
    pub tries: usize,
    /// The share of a core (0 to 1) that other work may take from a run before the run is thrown away.
    pub spoiled: f64,
    /// How long each server is measured in each round.
    pub duration: Duration,
    /// Queries in flight.
    pub in_flight: u16,
    /// How the load waits.
    pub wait: Wait,
    /// The core of the servers, the core of the load and the upstream.
    pub cores: (usize, usize),
}

/// One server in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Queries per second.
    pub rate: f64,
    /// The server's CPU time per query.
    pub cpu: Duration,
    /// The share of it in user space, 0 to 1.
    pub user_share: f64,
    /// The share of its core that the server used, 0 to 1: well below 1, the load was the limit.
    pub busy: f64,
    /// The median latency.
    pub p50: Duration,
    /// The latency that 99 % do not exceed.
    pub p99: Duration,
}

/// A server, its questions, and what was measured of it.
pub struct Contender {
    /// The server.
    pub server: Server,
    /// What it is asked.
    pub questions: Questions,
    /// A sample a round; `None` where other load spoiled all tries.
    pub samples: Vec<Option<Sample>>,
    /// Runs that other load spoiled.
    pub thrown_away: usize,
    /// Queries without an answer, in all runs.
    pub lost: u64,
    /// Answers that were not as they must be, in all runs.
    pub wrong: u64,
    /// The first of those.
    pub first_wrong: Option<String>,
}

impl Contender {
    /// A server that was not measured yet.
    pub fn new(server: Server, questions: Questions) -> Self {
        Self { server, questions, samples: Vec::new(), thrown_away: 0, lost: 0, wrong: 0, first_wrong: None }
    }

    /// Measures it for one round.
    fn round(&mut self, plan: &Plan) -> io::Result<()> {
        let mut sample = None;
        for _ in 0..plan.tries {
            let (run, others) = self.measure(plan)?;
            let kept = others <= plan.spoiled;
            eprintln!(
                "    {:<10} {:>7.0} queries/s, {:>6.2} us of CPU, {:>2.0} % of a core went elsewhere{}",
                self.server.name,
                run.rate,
                run.cpu.as_secs_f64() * 1e6,
                others * 100.0,
                if kept { "" } else { ": thrown away" },
            );
            if kept {
                sample = Some(run);
                break;
            }
            self.thrown_away += 1;
        }
        self.samples.push(sample);
        Ok(())
    }

    /// One run. Returns also the larger share of a core that went elsewhere.
    fn measure(&mut self, plan: &Plan) -> io::Result<(Sample, f64)> {
        let mut load = Load::new(self.server.address, plan.in_flight, plan.wait)?;
        let run_up = load.run(&mut self.questions, RUN_UP)?;
        self.judge(&run_up);
        let before = Reading::take(self.server.pid(), plan.cores)?;
        let outcome = load.run(&mut self.questions, plan.duration)?;
        let after = Reading::take(self.server.pid(), plan.cores)?;
        self.judge(&outcome);
        let (theirs, ours) = (after.server.since(before.server), after.load.since(before.load));
        let on_server_core = after.server_core.others(before.server_core, theirs.cpu());
        let on_load_core = after.load_core.others(before.load_core, ours.cpu());
        // The one counts too much on some machines, the other on machines with more cores: so the smaller.
        let others = on_server_core.max(on_load_core).min(after.rest.since(before.rest));
        let answered = outcome.answered.max(1);
        let sample = Sample {
            rate: outcome.answered as f64 / outcome.elapsed.as_secs_f64(),
            cpu: Duration::from_secs_f64(theirs.cpu().as_secs_f64() / answered as f64),
            user_share: theirs.user_share(),
            busy: theirs.cpu().as_secs_f64() / outcome.elapsed.as_secs_f64(),
            p50: outcome.latency.percentile(0.50),
            p99: outcome.latency.percentile(0.99),
        };
        Ok((sample, others))
    }

    fn judge(&mut self, outcome: &Outcome) {
        self.lost += outcome.lost;
        self.wrong += outcome.wrong;
        if self.first_wrong.is_none() {
            self.first_wrong.clone_from(&outcome.first_wrong);
        }
    }
}

/// All clocks, read at one moment.
struct Reading {
    server: Usage,
    load: Usage,
    server_core: Core,
    load_core: Core,
    rest: Rest,
}

impl Reading {
    fn take(pid: u32, cores: (usize, usize)) -> io::Result<Self> {
        let own = std::process::id();
        Ok(Self {
            rest: Rest::besides([pid, own])?,
            server: Usage::of(pid)?,
            load: Usage::of(own)?,
            server_core: Core::of(cores.0)?,
            load_core: Core::of(cores.1)?,
        })
    }
}

/// Measures all contenders, a round after the other.
pub fn run(contenders: &mut [Contender], plan: &Plan) -> io::Result<()> {
    for round in 1..=plan.rounds {
        eprintln!("  round {round} of {}", plan.rounds);
        for contender in &mut *contenders {
            contender.round(plan)?;
        }
    }
    Ok(())
}
