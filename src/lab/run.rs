//! Plays scenarios: builds a world, starts what the scenario asks for, lets clients ask, counts.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{self, Order, Stream, Tally};
use super::program::Program;
use super::responder::Delay;
use super::scenario::{AWAY, BEFORE, Event, Expect, FROZEN, Firewall, Group, Road, Scenario, Test};
use super::world::{self, World};
use super::{Doing, Options, Outcome, Row, Trouble, Verdict, crowd, service};
use crate::node::conntrack::{Conntrack, Entry};

/// How long a pair is waited for: longer than the slowest answer.
const PATIENCE: Duration = Duration::from_millis(2700);
/// The same where the answer comes from a cache, which may ask a second server before it gives up.
const PATIENCE_CACHE: Duration = Duration::from_secs(4);
/// The same where nothing is slow.
const PATIENCE_QUICK: Duration = Duration::from_secs(1);

/// Plays the scenarios of a group, as many side by side as it says.
pub(super) fn group(group: &Group, options: Options) -> Vec<Row> {
    let mut rows = Vec::with_capacity(group.scenarios.len());
    for some in group.scenarios.chunks(group.parallel) {
        thread::scope(|scope| {
            let played: Vec<_> =
                some.iter().map(|scenario| (scenario, scope.spawn(|| row(scenario, options)))).collect();
            for (scenario, row) in played {
                let fault = |_| judge(scenario, Err(Trouble("the lab has a fault".to_owned())));
                rows.push(row.join().unwrap_or_else(fault));
            }
        });
    }
    rows
}

/// How often a row is played, at most.
const TRIES: usize = 3;

/// Plays a scenario, and again where sidestep's promise was not kept.
fn row(scenario: &Scenario, options: Options) -> Row {
    let mut before = Vec::new();
    loop {
        let row = Row { before, ..judge(scenario, play(scenario, options)) };
        match (&row.verdict, row.outcome) {
            (Verdict::Failed, Some(outcome)) if row.before.len() + 1 < TRIES => {
                before = row.before;
                before.push(outcome.tally.lost);
            }
            _ => return row,
        }
    }
}

/// What came of a scenario, or why it was left out on purpose.
type Played = Result<Result<Outcome, String>, Trouble>;

fn play(scenario: &Scenario, options: Options) -> Played {
    if let Some(reason) = left_out(scenario, options)? {
        return Ok(Err(reason));
    }
    let world = World::new(scenario.delay, scenario.spread)?;
    let mut program = match arguments(scenario.road) {
        None => None,
        Some(arguments) => Some(Program::ready(&world, &arguments, address(scenario.road))?),
    };
    if let Road::Sidestep(_) = scenario.road {
        settled(&world, scenario.road)?;
    }
    let outcome = match (scenario.test, &mut program) {
        (Test::Pairs(count, order), _) => pairs(&world, scenario, count, order)?,
        (Test::FullTable(stream), _) => full_table(&world, scenario.road, stream)?,
        (Test::Outage(stream, event), Some(program)) => {
            outage(&world, program, scenario.road, stream, event)?
        }
        (Test::Outage(..), None) => return Err(Trouble("there is no sidestep on this road".to_owned())),
    };
    program.as_mut().map_or(Ok(()), Program::lives)?;
    Ok(Ok(outcome))
}

/// Why a scenario cannot be shown here, though nothing is wrong.
fn left_out(scenario: &Scenario, options: Options) -> Result<Option<String>, Trouble> {
    if scenario.road == Road::Sidestep(Firewall::Iptables) && program("iptables").is_none() {
        return Ok(Some("iptables is not installed".to_owned()));
    }
    if matches!(scenario.test, Test::FullTable(_)) {
        let (limit, usual) = (crowd::limit()?, crowd::ENTRIES.default);
        if limit > usual && !options.full_table {
            return Ok(Some(format!("nf_conntrack_max is {limit}, above {usual}: see --full-table")));
        }
        if limit > crowd::ENTRIES.max {
            return Ok(Some(format!("nf_conntrack_max is {limit}, above {}", crowd::ENTRIES.max)));
        }
    }
    Ok(None)
}

fn address(road: Road) -> SocketAddr {
    match road {
        Road::Service => world::SERVICE,
        Road::TrackedCache => world::NODE,
        Road::Sidestep(_) => world::LOCAL,
    }
}

/// What sidestep is told, where there is one.
fn arguments(road: Road) -> Option<Vec<&'static str>> {
    const UPSTREAMS: [&str; 6] =
        ["--workers", "1", "--upstream", "tcp://10.244.1.10", "--upstream", "tcp://10.244.1.11"];
    let own: &[&str] = match road {
        Road::Service => return None,
        Road::TrackedCache => &["--listen", "10.244.0.1:53"],
        Road::Sidestep(Firewall::Nftables) => &["--node-address", "169.254.20.10", "--firewall", "nftables"],
        Road::Sidestep(Firewall::Iptables) => &["--node-address", "169.254.20.10", "--firewall", "iptables"],
    };
    Some([&UPSTREAMS, own].concat())
}

fn pairs(world: &World, scenario: &Scenario, count: usize, order: Order) -> Result<Outcome, Trouble> {
    let patience = match (scenario.delay, scenario.road) {
        (Delay::None, _) => PATIENCE_QUICK,
        (Delay::Slow, Road::Service) => PATIENCE,
        (Delay::Slow, _) => PATIENCE_CACHE,
    };
    let server = address(scenario.road);
    let before = tracked(world, server)?;
    let tally = world.pod.run(move || client::pairs(server, count, order, patience))?;
    let new = tracked(world, server)?.difference(&before).count();
    Ok(Outcome { tally, entries: Some(new) })
}

fn full_table(world: &World, road: Road, stream: Stream) -> Result<Outcome, Trouble> {
    let server = address(road);
    if !world.pod.run(move || client::reaches(server, stream.names, PATIENCE))? {
        return Err(Trouble("lookups were lost before anything happened".to_owned()));
    }
    crowd::fill(&world.node)?;
    let tally = world.pod.run(move || client::stream(server, stream))?;
    Ok(Outcome { tally, entries: None })
}

fn outage(
    world: &World,
    program: &mut Program,
    road: Road,
    stream: Stream,
    event: Event,
) -> Result<Outcome, Trouble> {
    let server = address(road);
    let tally = thread::scope(|scope| {
        let asking = scope.spawn(move || world.pod.run(move || client::stream(server, stream)));
        thread::sleep(BEFORE);
        let happened = happen(world, program, road, event);
        let tally = asking.join().unwrap_or_else(|_| Err(Trouble("the lab has a fault".to_owned())))?;
        happened.map(|()| tally)
    })?;
    settled(world, road)?;
    Ok(Outcome { tally, entries: None })
}

/// Lets it happen. `program` is the sidestep that runs afterwards.
fn happen(world: &World, program: &mut Program, road: Road, event: Event) -> Result<(), Trouble> {
    let restart = |program: &mut Program, signal| {
        program.end(signal)?;
        thread::sleep(AWAY);
        *program = Program::start(world, &arguments(road).unwrap_or_default())?;
        Ok(())
    };
    match event {
        Event::Kill => restart(program, Signal::KILL),
        Event::Terminate => restart(program, Signal::TERM),
        Event::Freeze => {
            program.signal(Signal::STOP)?;
            thread::sleep(FROZEN);
            program.signal(Signal::CONT)
        }
        Event::FlushNftables => service::flush_ruleset(&world.node),
        Event::FlushIptables => flush_iptables(world),
    }
}

fn flush_iptables(world: &World) -> Result<(), Trouble> {
    let iptables = program("iptables").ok_or_else(|| Trouble("iptables is not installed".to_owned()))?;
    let mut command = Command::new(iptables);
    command.args(["-w", "5", "-t", "raw", "-F"]).env("XTABLES_LOCKFILE", "/dev/null");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = world.node.spawn(command)?.wait().doing("running iptables")?;
    if status.success() { Ok(()) } else { Err(Trouble(format!("iptables -t raw -F: {status}"))) }
}

/// Waits until lookups leave no trace in the connection tracking table: sidestep answers them, and its rules are up.
fn settled(world: &World, road: Road) -> Result<(), Trouble> {
    const PATIENCE: Duration = Duration::from_secs(20);
    const LOOKUPS: Stream = Stream { count: 50, spacing: Duration::from_micros(200), names: 50 };
    let (server, end) = (address(road), Instant::now() + PATIENCE);
    loop {
        let before = tracked(world, server)?;
        let tally = world.pod.run(move || client::stream(server, LOOKUPS))?;
        if tally.lost == 0 && tracked(world, server)?.is_subset(&before) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Trouble("lookups do not go to sidestep, or are tracked".to_owned()));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Connections to and from this address that the node tracks.
fn tracked(world: &World, server: SocketAddr) -> Result<HashSet<Entry>, Trouble> {
    world.node.run(move || {
        let mut table = Conntrack::open().doing("opening ctnetlink")?;
        let entries = table.entries_of(server.ip()).doing("reading the connection tracking table")?;
        Ok(entries.into_iter().collect())
    })
}

/// The path of a program that is installed.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn judge(scenario: &Scenario, played: Played) -> Row {
    let (outcome, verdict) = match played {
        Err(Trouble(why)) => (None, Verdict::Broken(why)),
        Ok(Err(reason)) => (None, Verdict::LeftOut(reason)),
        Ok(Ok(outcome)) => (Some(outcome), weigh(scenario.expect, outcome.tally)),
    };
    Row { name: scenario.name, expect: scenario.expect, outcome, before: Vec::new(), verdict }
}

fn weigh(expect: Expect, tally: Tally) -> Verdict {
    match expect {
        Expect::Loss if tally.lost > 0 => Verdict::Shown,
        Expect::Loss => Verdict::NotShown,
        Expect::Relief if tally.lost == 0 => Verdict::Helps,
        Expect::Relief => Verdict::HelpsNot,
        Expect::AtMost(most) if tally.lost <= most => Verdict::Cured,
        Expect::AtMost(_) => Verdict::Failed,
    }
}
