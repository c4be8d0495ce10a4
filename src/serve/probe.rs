//! Questions of our own to upstreams, from the supervisor's thread: is somebody there, and do we ask ourselves?
//!
//! **Ready**: each zone's upstreams are asked for the zone's SOA until one answers, with any response code.
//!
//! **Loops**: each server is asked for a random name once. If that very question comes to our own listeners,
//! the server asks us in turn (127.0.0.53 does, when it was told to use this program): it is left out, with
//! one error that names the remedy, until the next reload.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::Supervisor;
use crate::resolve::zones::{LoopProbe, ServerEntry};
use crate::resolve::{Snapshot, Zone};
use crate::upstream::{Ask, Group, Policy, Server, Upstreams};
use crate::wire::{class, rtype};

/// How long an upstream may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The pause before a zone is asked for again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(500);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The supervisor's own upstreams.
#[derive(Default)]
pub struct Probes {
    upstreams: RefCell<Option<Rc<Upstreams>>>,
}

impl Probes {
    /// Asks until every zone has been answered for and every server has been tried for a loop.
    pub async fn run(&self, supervisor: &Rc<Supervisor>) {
        let snapshot = supervisor.published.load_full();
        let upstreams = Rc::clone(
            self.upstreams.borrow_mut().get_or_insert_with(|| Rc::new(Upstreams::new(snapshot.upstream))),
        );
        upstreams.configure(snapshot.upstream);
        let loops = snapshot.probes.iter().map(|probe| find_loop(&upstreams, &snapshot, probe));
        let unanswered: Vec<u32> = supervisor.readiness.borrow().unanswered().collect();
        let zones = snapshot.zones.iter().filter(|zone| unanswered.contains(&zone.id));
        let zones = zones.map(|zone| wait_for(&upstreams, &snapshot, zone, supervisor));
        join(leave_out(join_all(loops), supervisor), join_all(zones)).await;
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

/// Asks a server the probe's question; says whether it came to ourselves.
async fn find_loop(upstreams: &Upstreams, snapshot: &Snapshot, probe: &LoopProbe) -> Option<Server> {
    let group = group(upstreams, snapshot.servers.iter().filter(|entry| entry.server == probe.server));
    // What it answers does not matter, and neither does that it may not answer at all.
    let _ = group.ask(&ask(&probe.name, rtype::TXT), Instant::now() + PATIENCE).await;
    probe.seen.load(Relaxed).then_some(probe.server)
}

/// Publishes a snapshot without the servers that loop.
async fn leave_out(loops: impl Future<Output = Vec<Option<Server>>>, supervisor: &Rc<Supervisor>) {
    let looping: Vec<Server> = loops.await.into_iter().flatten().collect();
    if looping.is_empty() {
        return;
    }
    let mut registry = supervisor.registry.borrow_mut();
    for server in looping {
        error!(
            "upstream {server} sends our own questions back to us and is left out: name the servers that it asks \
             in its stead, as --upstream or in `forward` (systemd-resolved lists its own in \
             /run/systemd/resolve/resolv.conf)"
        );
        registry.leave_out(server);
    }
    match registry.snapshot(&supervisor.config.borrow()) {
        Ok(snapshot) => {
            for line in supervisor.publish(snapshot) {
                info!("{line}");
            }
            // The zones have other servers now, which are to answer before we are ready.
            supervisor.probe_upstreams();
        }
        Err(problem) => error!("the looping upstream stays in use: {problem}"),
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
