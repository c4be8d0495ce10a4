//! The lab: shows the problem and the cure on this machine's kernel, in networks of its own.
//!
//! It builds a small cluster (`world`) for each row of the table (`scenario`) out of network namespaces
//! (`place`) and cables (`wires`): a pod, its node with kube-proxy's rows for a thousand Services (`service`), and two
//! servers of the cluster DNS (`responder`). The pod's clients (`client`) ask, `run` counts what is lost, `report`
//! prints it. The sidestep under test is a process of its own (`program`), so that it can be killed.
//!
//! What sidestep promises, it promises on a node that has processor time to spare. Where a promise is not kept, the row
//! is played again, at most twice, and says so: a fault of sidestep shows every time, a busy machine does not.
//!
//! Nothing on the machine is touched: the namespaces have no names, no file is written, and the kernel removes all of
//! it with the last thread, however that ended. What is shared with the machine is processor time, memory for a full
//! connection tracking table (`crowd`), and the kernel's log, where "table full, dropping packet" may appear.
//!
//! No program is run but this one, and iptables where its rows are shown. Neither threads nor a runtime may exist
//! when it begins: a user namespace can only be entered by a program with one thread.

mod client;
mod crowd;
mod place;
mod program;
mod report;
mod responder;
mod run;
mod scenario;
mod service;
mod wires;
mod world;

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use client::Tally;
use place::Rights;
use scenario::Expect;

/// What is wanted of the lab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Fill the connection tracking table however large it may be.
    pub full_table: bool,
}

/// What the lab has shown.
#[derive(Debug)]
pub struct Report {
    kernel: String,
    processors: usize,
    rights: Rights,
    took: Duration,
    sections: Vec<Section>,
}

/// The rows of one group.
#[derive(Debug)]
struct Section {
    title: &'static str,
    shows: &'static str,
    rows: Vec<Row>,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    expect: Expect,
    outcome: Option<Outcome>,
    /// Lookups that were lost when it was played before, and more were than sidestep promises.
    before: Vec<u32>,
    verdict: Verdict,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    tally: Tally,
    /// Entries with the address that was asked that the lookups left in the node's connection tracking table, where
    /// that says something.
    entries: Option<usize>,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Lookups are lost, as expected without sidestep.
    Shown,
    /// No lookup is lost, though it might have been.
    NotShown,
    /// A remedy without sidestep works.
    Helps,
    /// It does not.
    HelpsNot,
    /// sidestep loses no more than it promises.
    Cured,
    /// It loses more.
    Failed,
    /// The row cannot be shown on this machine.
    LeftOut(String),
    /// The row could not be played.
    Broken(String),
}

impl Report {
    /// Whether sidestep keeps its promises: rows of its own were played, and all that were kept them.
    pub fn cured(&self) -> bool {
        let own = || {
            let rows = self.sections.iter().flat_map(|section| &section.rows);
            rows.filter(|row| matches!(row.expect, Expect::AtMost(_))).map(|row| &row.verdict)
        };
        own().any(|verdict| *verdict == Verdict::Cured)
            && own().all(|verdict| matches!(verdict, Verdict::Cured | Verdict::LeftOut(_)))
    }
}

/// Plays everything. `progress` hears the title of each group before it begins.
///
/// Must be called while the program has one thread. That thread is in an empty network afterwards.
///
/// # Errors
/// The lab could not be built here.
pub fn run(options: Options, mut progress: impl FnMut(&str)) -> Result<Report, Trouble> {
    let start = Instant::now();
    let rights = place::rights()?;
    raise_descriptor_limit();
    // What is wrong with the first world is wrong with all.
    drop(world::World::new(responder::Delay::None, service::Spread::Random)?);
    let mut sections = Vec::new();
    for group in scenario::GROUPS {
        progress(group.title);
        let rows = run::group(group, options);
        sections.push(Section { title: group.title, shows: group.shows, rows });
    }
    Ok(Report {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        rights,
        took: start.elapsed(),
        sections,
    })
}

/// A stream holds a thousand sockets, and several are played side by side.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be raised, a row that needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What could not be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Says what was being done when something went wrong.
trait Doing<T> {
    /// `what` with the error behind it.
    fn doing(self, what: &str) -> Result<T, Trouble>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Trouble> {
        self.map_err(|error| Trouble(format!("{what}: {error}")))
    }
}
