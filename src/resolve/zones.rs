//! Zones: a name suffix with its upstreams and limits, and the snapshot that holds them all.
//!
//! A zone answers on every address that we listen on, or on some of them only; so each listener has a
//! [view](super::routes::View) of its own: the zones that it answers from. The same name may belong to different
//! zones in two views. Zones never share cached answers, the views of one zone do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::cache;
use crate::limit::Limit;
use crate::local::{Local, Zones};
use crate::resolve::{self, OwnTimes};
use crate::upstream::outage::Outage;
use crate::upstream::{self, Asking, Member, Places, Server};
use crate::wire::header::{self, Header};
use crate::wire::{name, rcode};

use super::counters::{Blocks, ServiceCounters};
use super::log::Log;
use super::loops::LoopProbe;

/// Zones in a configuration.
pub const ZONES: Limit<usize> = Limit::new(1, 1, 256);

/// One zone as the road sees it.
#[derive(Debug, Default)]
pub struct Zone {
    /// Its identity in cache keys. A zone keeps it across reloads as long as its name and upstreams stay
    /// (the addresses behind a service's name may change); otherwise it gets a new one, and so its old entries are not found again.
    pub id: u32,
    /// Its name: wire format, lower case.
    pub name: Box<[u8]>,
    /// Its name as people write it, with the last dot.
    pub display: String,
    /// The addresses that it answers on, as the configuration names them; none: all.
    pub listen: Vec<SocketAddr>,
    /// The same as indices into [`Snapshot::listeners`].
    pub listeners: Vec<usize>,
    /// Indices into [`Snapshot::servers`]: the servers that the configuration names.
    pub servers: Vec<usize>,
    /// Indices into [`Snapshot::servers`]: the addresses behind the names of its services, as last heard. Where
    /// there are any, they are asked, and `servers` are the reserve.
    pub pods: Vec<usize>,
    /// Whether it has services, whatever is known of their addresses.
    pub has_services: bool,
    /// Whom to ask next, in order, when those before had nothing.
    pub next: Vec<Next>,
    /// Whom to ask for names that its rules made; the first that takes one is meant.
    pub by_name: Vec<Named>,
    /// How they are asked.
    pub asking: Asking,
    /// The places of its questions, for all workers.
    pub places: Arc<Places>,
    /// How its answers are kept.
    pub rules: cache::Rules,
    /// Its own times.
    pub times: OwnTimes,
    /// Its counters.
    pub counters: Arc<Blocks>,
    /// Whether nobody answers for it, as all workers say it.
    pub outage: Arc<Outage>,
    /// What is counted about its services.
    pub services: Arc<ServiceCounters>,
    /// Its rules: what is answered without asking, or asked differently.
    pub local: Option<Arc<Local>>,
    /// Its log of queries.
    pub log: Option<Arc<Log>>,
}

impl Zone {
    /// Whether its own rules are all that answers for it.
    pub fn asks_nobody(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.settings().ends_here)
    }

    /// Its name for messages, with the addresses that it answers on where these are not all.
    pub fn title(&self) -> String {
        let addresses: Vec<_> = self.listen.iter().map(SocketAddr::to_string).collect();
        if addresses.is_empty() {
            self.display.clone()
        } else {
            format!("{} (on {})", self.display, addresses.join(", "))
        }
    }
}

/// Whom a zone asks when those before had nothing.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// The response codes that lead here; NOERROR stands for an answer without records.
    pub on: Vec<u8>,
    /// Indices into [`Snapshot::servers`].
    pub servers: Vec<usize>,
}

/// Whom a zone asks for some names.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Names at or below these.
    pub names: Zones,
    /// But not those at or below these.
    pub except: Zones,
    /// Indices into [`Snapshot::servers`]; `None` stands for the zone's own.
    pub servers: Option<Vec<usize>>,
}

impl Named {
    /// Whether a name (wire format, lower case) is one of them.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        self.names.hold(name) && !self.except.hold(name)
    }
}

impl Next {
    /// Whether a reply leads here.
    pub(super) fn follows(&self, reply: &[u8]) -> bool {
        let Some(header) = Header::read(reply) else { return false };
        let empty = header.counts[1] == 0 && header.flags & header::TC == 0;
        let code = header.rcode();
        self.on.iter().any(|&on| u16::from(on) == code) && (code != rcode::NOERROR || empty)
    }
}

/// An upstream server as the road sees it.
#[derive(Debug)]
pub struct ServerEntry {
    /// Where it is and how it is spoken to.
    pub server: Server,
    /// Its counters, one block per worker.
    pub counters: Vec<Arc<upstream::Counters>>,
    /// Whether it is out, as all workers say it.
    pub outage: Arc<Outage>,
    /// What sockets to it are marked with.
    pub mark: Option<u32>,
}

impl ServerEntry {
    /// It, for a group of worker number `worker`.
    pub(super) fn member(&self, worker: usize) -> Member {
        let outage = Some(Arc::clone(&self.outage));
        Member { outage, ..self.silent_member(Arc::clone(&self.counters[worker])) }
    }

    /// It, for a group of somebody who is no worker: outages are not told.
    pub fn silent_member(&self, counters: Arc<upstream::Counters>) -> Member {
        Member { mark: self.mark, ..Member::new(self.server, counters) }
    }
}

/// Whom a zone asks; see [`Snapshot::asked_for`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The addresses behind the names of its services (`svc://`): pods, reached without DNAT.
    pub pods: Vec<SocketAddr>,
    /// The addresses that the configuration or a resolv.conf names: whatever they are.
    pub servers: Vec<SocketAddr>,
    /// Whether there are services, so that `pods` may be yet to be heard of.
    pub has_services: bool,
}

/// The checked configuration as the workers use it: immutable, replaced as a whole at a reload.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Zones, longest name first; of one name, those that answer on some addresses only before the one that answers
    /// on all.
    pub zones: Vec<Zone>,
    /// The addresses that we listen on, as the configuration names them.
    pub listeners: Vec<SocketAddr>,
    /// Every server of every zone, once.
    pub servers: Vec<ServerEntry>,
    /// How misses are handled.
    pub resolve: resolve::Settings,
    /// How upstreams are handled.
    pub upstream: upstream::Settings,
    /// Questions that must not come back to us.
    pub probes: Vec<LoopProbe>,
    /// Told when questions found no answer; the same in all snapshots.
    pub failed: Arc<Notify>,
}

impl Snapshot {
    /// Whom the zone of a name (wire format, lower case) asks for clients of a listener, each address once, in order.
    /// Nobody, if that is the root zone and what it asks need not know the name: it has no services, and another zone
    /// asks somebody else. That one may well have been meant for the name, and have been misspelt.
    pub fn asked_for(&self, listener: usize, name: &[u8]) -> Asked {
        let view = || self.zones.iter().filter(|zone| zone.listeners.contains(&listener));
        let Some(zone) = view().find(|zone| name::within(name, &zone.name)) else { return Asked::default() };
        let asks_no_other = |other: &Zone| {
            !other.has_services && other.servers.iter().all(|server| zone.servers.contains(server))
        };
        if zone.name.len() == 1 && !zone.has_services && !view().all(asks_no_other) {
            return Asked::default();
        }
        let addresses = |servers: &[usize]| {
            let all = servers.iter().filter_map(|&i| self.servers.get(i)).map(|entry| entry.server.address);
            all.collect::<BTreeSet<_>>().into_iter().collect()
        };
        Asked {
            pods: addresses(&zone.pods),
            servers: addresses(&zone.servers),
            has_services: zone.has_services,
        }
    }

    /// Who of a zone is asked, and who is the reserve.
    pub fn ranks<'s>(&'s self, zone: &'s Zone) -> [Vec<&'s ServerEntry>; 2] {
        let ranks =
            if zone.pods.is_empty() { [&zone.servers, &zone.pods] } else { [&zone.pods, &zone.servers] };
        ranks.map(|rank| self.entries(rank).collect())
    }

    /// A question of the zone with this name found no answer, or SERVFAIL. One reason is that its servers ask us in turn.
    pub(super) fn suspect(&self, zone: &[u8]) {
        self.probes.iter().filter(|probe| *probe.zone == *zone).for_each(LoopProbe::suspect);
        self.failed.notify_one();
    }

    /// The servers with these numbers.
    pub fn entries(&self, servers: &[usize]) -> impl Iterator<Item = &ServerEntry> {
        servers.iter().filter_map(|&i| self.servers.get(i))
    }
}
