//! Questions of our own to upstreams, from the supervisor's thread: is somebody there, and do we ask ourselves?
//!
//! **Ready**: each zone's upstreams are asked for the zone's SOA until one answers, with any response code.
//!
//! **Loops** ([`loops`](crate::resolve::loops)): each server is asked for a random name of each zone that it serves, at
//! the start, after a reload, and when questions of the zone have found no answer, since servers are reconfigured, too.
//! If that very question comes to our own listeners, the server asks us in turn (127.0.0.53 does, when it was told to use
//! this program): the zone leaves it out, with one error that names the remedy, until it answers such questions itself
//! or a reload gives it another chance.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, join3};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::Supervisor;
use crate::resolve::loops::LoopProbe;
use crate::resolve::zones::ServerEntry;
use crate::resolve::{Snapshot, Zone};
use crate::upstream::{Ask, Group, Member, Policy, Server, Upstreams};
use crate::wire::{class, rtype};

/// How long an upstream may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The pause before a zone is asked for again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(500);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The shortest time between two looks for loops, however many questions fail. It doubles up to [`LOOK_AGAIN_MAX`] while
/// they go on to: some names always do, and a cluster has a thousand nodes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// See [`LOOK_AGAIN`].
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(80);
/// How often it is looked whether a server that was left out still loops.
const SECOND_CHANCE: Duration = Duration::from_secs(10);
/// Questions that it has to answer in a row by then: it may ask us and others in turns.
const GOOD_ANSWERS: usize = 3;

/// The supervisor's own upstreams.
#[derive(Default)]
pub struct Probes {
    upstreams: RefCell<Option<Rc<Upstreams>>>,
}

impl Probes {
    /// Asks until every zone has been answered for, and looks for loops for ever.
    pub async fn run(&self, supervisor: &Rc<Supervisor>) {
        let snapshot = supervisor.published.load_full();
        let upstreams = Rc::clone(
            self.upstreams.borrow_mut().get_or_insert_with(|| Rc::new(Upstreams::new(snapshot.upstream))),
        );
        upstreams.configure(snapshot.upstream);
        let unanswered: Vec<u32> = supervisor.readiness.borrow().unanswered().collect();
        let zones = snapshot.zones.iter().filter(|zone| unanswered.contains(&zone.id));
        let zones = zones.map(|zone| wait_for(&upstreams, &snapshot, zone, supervisor));
        let (loops, chances) = (look_for_loops(&upstreams, supervisor), give_chances(&upstreams, supervisor));
        join3(loops, chances, join_all(zones)).await;
    }
}

/// Asks for a zone's SOA until somebody answers.
async fn wait_for(upstreams: &Upstreams, snapshot: &Snapshot, zone: &Zone, supervisor: &Supervisor) {
    let group = group(upstreams, snapshot.ranks(zone).into_iter().flatten());
    let ask = ask(&zone.name, rtype::SOA);
    let mut pause = PAUSE;
    while let Err(failure) = group.ask(&ask, Instant::now() + PATIENCE).await {
        if pause == PAUSE {
            warn!(zone = zone.display, ?failure, "no upstream has answered yet; we go on asking");
        } else {
            debug!(zone = zone.display, ?failure, "no upstream has answered yet");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    let mut readiness = supervisor.readiness.borrow_mut();
    readiness.answered(zone.id);
    if readiness.status().is_ok() {
        info!("ready: every zone's upstreams have answered");
    }
}

/// Asks at once, and again whenever questions have found no answer.
async fn look_for_loops(upstreams: &Upstreams, supervisor: &Rc<Supervisor>) {
    let mut pause = LOOK_AGAIN;
    loop {
        let snapshot = supervisor.published.load_full();
        let probes: Vec<&LoopProbe> =
            snapshot.probes.iter().filter(|probe| !probe.is_left_out && probe.take_due()).collect();
        join_all(probes.iter().map(|probe| {
            let entry = snapshot.servers.iter().filter(|entry| entry.server == probe.server);
            comes_back(group(upstreams, entry), probe)
        }))
        .await;
        leave_out(probes.into_iter().filter(|probe| probe.has_come_back()), &snapshot, supervisor);
        sleep(pause).await;
        let over = Instant::now();
        snapshot.failed.notified().await;
        pause = if over.elapsed() < pause { (pause * 2).min(LOOK_AGAIN_MAX) } else { LOOK_AGAIN };
    }
}

/// Asks a server a question of the probe; whether it came to ourselves, or was answered, or neither.
async fn comes_back(group: Group, probe: &LoopProbe) -> Option<bool> {
    let reply = group.ask(&ask(&probe.name(), rtype::TXT), Instant::now() + PATIENCE).await;
    // What it answers does not matter.
    if probe.has_come_back() { Some(true) } else { reply.ok().map(|_| false) }
}

/// Publishes a snapshot without the servers that loop.
fn leave_out<'p>(
    found: impl Iterator<Item = &'p LoopProbe>,
    snapshot: &Snapshot,
    supervisor: &Rc<Supervisor>,
) {
    let mut looping: BTreeMap<Server, Vec<&str>> = BTreeMap::new();
    for probe in found {
        // An answer that was heard from such a server was our own.
        let mut readiness = supervisor.readiness.borrow_mut();
        snapshot
            .zones
            .iter()
            .filter(|zone| zone.name == probe.zone)
            .for_each(|zone| readiness.forget(zone.id));
        supervisor.registry.borrow_mut().leave_out(&probe.zone, probe.server);
        looping.entry(probe.server).or_default().push(display(snapshot, probe));
    }
    if looping.is_empty() {
        return;
    }
    for (server, zones) in looping {
        error!(
            zones = zones.join(" "),
            "upstream {server} sends our own questions back to us and is left out: name the servers that it asks \
             in its stead, as --upstream or in `forward` (systemd-resolved lists its own in \
             /run/systemd/resolve/resolv.conf)"
        );
    }
    publish(supervisor, "the looping upstream stays in use");
}

/// Asks servers that were left out, for as long as there are any, and takes back those that answer. It counts for
/// nobody and is no reason to be ready.
async fn give_chances(upstreams: &Upstreams, supervisor: &Rc<Supervisor>) {
    while supervisor.published.load().probes.iter().any(|probe| probe.is_left_out) {
        sleep(SECOND_CHANCE).await;
        let snapshot = supervisor.published.load_full();
        let left_out = snapshot.probes.iter().filter(|probe| probe.is_left_out);
        let well =
            join_all(left_out.map(async |probe| is_well(upstreams, probe).await.then_some(probe))).await;
        let well: Vec<&LoopProbe> = well.into_iter().flatten().collect();
        for probe in &well {
            let zone = display(&snapshot, probe);
            info!(
                zone,
                "upstream {} does not send our questions back any more: it is asked again", probe.server
            );
            supervisor.registry.borrow_mut().take_back(&probe.zone, probe.server);
        }
        if !well.is_empty() {
            publish(supervisor, "the upstream stays left out");
        }
    }
}

/// Whether a server that was left out answers on its own.
async fn is_well(upstreams: &Upstreams, probe: &LoopProbe) -> bool {
    probe.forget();
    for _ in 0..GOOD_ANSWERS {
        let member = [Member::new(probe.server, Arc::default())];
        let group = upstreams.group(&member, &[], &Policy::Ordered.into(), &Arc::default());
        if comes_back(group, probe).await != Some(false) {
            return false;
        }
    }
    true
}

/// The name of a probe's zone, as people write it.
fn display<'s>(snapshot: &'s Snapshot, probe: &LoopProbe) -> &'s str {
    let zone = snapshot.zones.iter().find(|zone| zone.name == probe.zone);
    zone.map_or("", |zone| &zone.display)
}

/// Publishes what the registry knows now; `or_else` is what comes of it if that cannot be had.
fn publish(supervisor: &Rc<Supervisor>, or_else: &str) {
    let snapshot = supervisor.registry.borrow_mut().snapshot(&supervisor.config.borrow());
    match snapshot {
        Ok(snapshot) => {
            for line in supervisor.publish(snapshot) {
                info!("{line}");
            }
            // The zones have other servers now, which are to answer before we are ready.
            supervisor.probe_upstreams();
        }
        Err(problem) => error!("{or_else}: {}", problem.summary()),
    }
}

/// These servers in their order. What is asked here counts for no worker.
pub(super) fn group<'s>(upstreams: &Upstreams, servers: impl Iterator<Item = &'s ServerEntry>) -> Group {
    let members: Vec<_> = servers.map(|entry| entry.silent_member(Arc::default())).collect();
    upstreams.group(&members, &[], &Policy::Ordered.into(), &Arc::default())
}

/// A question of our own.
pub(super) fn ask(name: &[u8], rtype: u16) -> Ask {
    Ask { name: name.into(), rtype, class: class::IN, dnssec_ok: false, checking_disabled: false }
}
