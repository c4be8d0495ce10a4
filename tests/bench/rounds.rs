//! Interleaved rounds: every server is measured once a round, so that a drift of the machine meets all of them.

use std::io;
use std::time::Duration;

use crate::contender::{Contender, Pacing, Sample};
use crate::load::{Load, Manner, Stop};
use crate::measure::{self, Rest, Usage};
use crate::pace::Pace;

/// The load runs this long before the clocks are read.
const RUN_UP: Duration = Duration::from_millis(300);

/// How a scenario is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// How often a run is tried, while other load spoils it, before the round goes without it.
    pub tries: usize,
    /// The share of a core (0 to 1) that other work may take from a run before the run is thrown away; 1 keeps all.
    pub spoiled: f64,
    /// How long each server is measured in each round.
    pub duration: Duration,
    /// How the load asks.
    pub manner: Manner,
    /// How queries follow each other.
    pub pacing: Pacing,
    /// The cores of the servers, the load and the upstream.
    pub cores: Vec<usize>,
}

/// Asks all contenders for every name once, so that the first round is like the others. Does nothing to those whose
/// names are warm.
pub fn warm_all(contenders: &mut [Contender], plan: &Plan) {
    for contender in contenders.iter_mut().filter(|contender| contender.questions.cold() > 0) {
        let warmed = warm(contender, plan);
        failed(contender, warmed);
    }
}

/// Measures all contenders, a round after the other. One that cannot be measured any more is left at what it has.
pub fn run(contenders: &mut [Contender], plan: &Plan) {
    warm_all(contenders, plan);
    for round in 0..plan.rounds {
        eprintln!("  round {} of {}", round + 1, plan.rounds);
        // There and back, so that nobody always goes first.
        let count = contenders.len();
        for turn in 0..count {
            let contender = &mut contenders[if round % 2 == 0 { turn } else { count - 1 - turn }];
            let mut sample = None;
            if contender.failed.is_none() {
                let measured = tries(contender, plan);
                sample = failed(contender, measured).flatten();
            }
            contender.samples.push(sample);
        }
    }
}

/// Takes note of a failure.
fn failed<T>(contender: &mut Contender, result: io::Result<T>) -> Option<T> {
    result.map_err(|error| contender.failed = Some(error.to_string())).ok()
}

/// Asks for every name once, in a closed loop over UDP.
fn warm(contender: &mut Contender, plan: &Plan) -> io::Result<()> {
    let cold = contender.questions.cold();
    let mut load = Load::new(contender.address, plan.manner.warming(), Pace::Closed)?;
    let outcome = load.run(&mut contender.questions, Stop::Asked(cold))?;
    contender.judge(&outcome);
    Ok(())
}

/// Measures it until a run is not spoiled, or all tries are used up.
fn tries(contender: &mut Contender, plan: &Plan) -> io::Result<Option<Sample>> {
    for _ in 0..plan.tries {
        let pace = pace(contender, plan)?;
        let (sample, others) = measure(contender, plan, pace)?;
        let kept = others <= plan.spoiled || plan.spoiled >= 1.0;
        eprintln!(
            "    {:<24} {:>7.0} queries/s, {:>6.2} us of CPU, {:>2.0} % of a core went elsewhere{}",
            contender.label,
            sample.rate,
            sample.cpu.unwrap_or_default().as_secs_f64() * 1e6,
            others * 100.0,
            if kept { "" } else { ": thrown away" },
        );
        if kept {
            return Ok(Some(sample));
        }
        contender.thrown_away += 1;
    }
    Ok(None)
}

/// The pace of this run: a share of what the server can do is found out first.
fn pace(contender: &mut Contender, plan: &Plan) -> io::Result<Pace> {
    match plan.pacing {
        Pacing::Fixed(pace) => Ok(pace),
        Pacing::OfSaturation(share) => {
            let mut load = Load::new(contender.address, plan.manner, Pace::Closed)?;
            load.run(&mut contender.questions, Stop::After(RUN_UP))?;
            let outcome = load.run(&mut contender.questions, Stop::After(plan.duration / 3))?;
            contender.judge(&outcome);
            Ok(Pace::PerSecond(share * outcome.answered as f64 / outcome.elapsed.as_secs_f64()))
        }
    }
}

/// One run. Returns also the share of a core that went elsewhere.
fn measure(contender: &mut Contender, plan: &Plan, pace: Pace) -> io::Result<(Sample, f64)> {
    let mut load = Load::new(contender.address, plan.manner, pace)?;
    let run_up = load.run(&mut contender.questions, Stop::After(RUN_UP))?;
    contender.judge(&run_up);
    let before = Reading::take(contender.pid(), &plan.cores)?;
    let outcome = load.run(&mut contender.questions, Stop::After(plan.duration))?;
    let after = Reading::take(contender.pid(), &plan.cores)?;
    contender.judge(&outcome);
    let (theirs, ours) = (after.server.since(before.server), after.load.since(before.load));
    let on_our_cores = after.cores.others(before.cores, theirs.cpu() + ours.cpu());
    // The one counts too much on some machines, the other on machines with more cores: so the smaller.
    let others = on_our_cores.min(after.rest.since(before.rest));
    Ok((Sample::new(&outcome, contender.pid().map(|_| theirs)), others))
}

/// All clocks, read at one moment.
struct Reading {
    server: Usage,
    load: Usage,
    cores: measure::Cores,
    rest: Rest,
}

impl Reading {
    fn take(server: Option<u32>, cores: &[usize]) -> io::Result<Self> {
        let own = std::process::id();
        Ok(Self {
            rest: Rest::besides([server.unwrap_or(own), own])?,
            server: server.map_or_else(|| Ok(Usage::default()), Usage::of)?,
            load: Usage::of(own)?,
            cores: measure::Cores::of(cores)?,
        })
    }
}
