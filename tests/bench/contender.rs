//! Who is measured in a scenario, and what was measured of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::measure::{Histogram, Usage};
use crate::pace::Pace;
use crate::questions::Questions;
use crate::server::Server;
use crate::slots::Outcome;

/// How queries follow each other in a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// In the same way for all servers.
    Fixed(Pace),
    /// At this share (0 to 1) of what each server answers in a closed loop.
    OfSaturation(f64),
}

/// The latencies that some share of the answers do not exceed.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// 50 %.
    pub p50: Duration,
    /// 99 %.
    pub p99: Duration,
    /// 99.9 %.
    pub p999: Duration,
}

/// One server in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Queries per second.
    pub rate: f64,
    /// The server's CPU time per query; `None` where no server was measured.
    pub cpu: Option<Duration>,
    /// The share of it in user space, 0 to 1.
    pub user_share: f64,
    /// The share of one core that the server used: well below its number of workers, the load was the limit.
    pub busy: f64,
    /// The latency of questions that a cache is to know.
    pub hits: Latency,
    /// The latency of questions that nobody asked before.
    pub misses: Latency,
}

/// A server, its questions, and what was measured of it.
pub struct Contender {
    /// Its name in the tables.
    pub label: String,
    /// Whom the ratios compare: the server's name.
    pub name: &'static str,
    /// Where it answers.
    pub address: SocketAddr,
    /// The server; none where the upstream itself is asked.
    server: Option<Rc<Server>>,
    /// What it is asked.
    pub questions: Questions,
    /// A sample a round; `None` where other load spoiled all tries.
    pub samples: Vec<Option<Sample>>,
    /// Runs that other load spoiled.
    pub thrown_away: usize,
    /// Queries without an answer, in all runs.
    pub lost: u64,
    /// Answers that said SERVFAIL to new questions, in all runs.
    pub servfail: u64,
    /// Answers that were not as they must be, in all runs.
    pub wrong: u64,
    /// The first of those.
    pub first_wrong: Option<String>,
    /// Why it could not be measured any more.
    pub failed: Option<String>,
}

impl Sample {
    /// What came of a run; `used`: what the server used meanwhile.
    pub fn new(outcome: &Outcome, used: Option<Usage>) -> Self {
        let elapsed = outcome.elapsed.as_secs_f64();
        let answered = outcome.answered.max(1) as f64;
        Self {
            rate: outcome.answered as f64 / elapsed,
            cpu: used.map(|used| Duration::from_secs_f64(used.cpu().as_secs_f64() / answered)),
            user_share: used.map_or(0.0, Usage::user_share),
            busy: used.map_or(0.0, |used| used.cpu().as_secs_f64() / elapsed),
            hits: Latency::of(&outcome.hits),
            misses: Latency::of(&outcome.misses),
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram) -> Self {
        let [p50, p99, p999] = [0.50, 0.99, 0.999].map(|share| histogram.percentile(share));
        Self { p50, p99, p999 }
    }
}

impl Contender {
    /// A server that was not measured yet.
    pub fn new(server: &Rc<Server>, questions: Questions) -> Self {
        let (name, address) = (server.name, server.address);
        Self { server: Some(Rc::clone(server)), ..Self::without_server(name, address, questions) }
    }

    /// Somebody who answers at `address` and belongs to the benchmark itself.
    pub fn without_server(name: &'static str, address: SocketAddr, questions: Questions) -> Self {
        Self {
            label: name.to_owned(),
            name,
            address,
            server: None,
            questions,
            samples: Vec::new(),
            thrown_away: 0,
            lost: 0,
            servfail: 0,
            wrong: 0,
            first_wrong: None,
            failed: None,
        }
    }

    /// The same under another label.
    pub fn labelled(mut self, label: String) -> Self {
        self.label = label;
        self
    }

    /// Takes a run's faults into account.
    pub fn judge(&mut self, outcome: &Outcome) {
        self.lost += outcome.lost;
        self.servfail += outcome.failed;
        self.wrong += outcome.wrong;
        if self.first_wrong.is_none() {
            self.first_wrong.clone_from(&outcome.first_wrong);
        }
    }

    /// The server's process.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.pid())
    }
}
