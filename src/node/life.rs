//! The node's life: up, check, down. What is counted on the way, telemetry reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::iptables::Iptables;
use super::link::Link;
use super::nftables::Nftables;
use super::{Drift, FALLBACKS, Fault, Firewall, FirewallKind, LinkKind, Plan, Settings};
use crate::count::{Counter, Gauge};

/// What has happened to link and rules. Written by the thread that holds the [`Node`].
#[derive(Debug, Default)]
pub struct Counters {
    /// What could not be done, by [`FaultKind`](super::FaultKind).
    pub faults: [Counter; 4],
    /// What could not be taken over of node-cache's ConfigMaps. Written by the supervisor's thread.
    pub config_map: Counter,
    /// What others had undone and was put right, by [`DriftKind`](super::DriftKind).
    pub repairs: [Counter; 4],
    /// Times that link and rules were looked at.
    pub checks: Counter,
    /// 1 while the rules are there, as far as we know.
    pub rules: Gauge,
    /// Servers that clients fall back to.
    pub fallbacks: Gauge,
}

/// What is known of the servers that clients can go to without us: addresses of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// These; none if the configuration names none.
    Known(Vec<SocketAddr>),
    /// Whether clients can go to any of these is to be seen.
    InDoubt(Vec<SocketAddr>),
    /// They stand behind the name of a Service, which has not been found out yet.
    Unheard,
}

/// What an earlier run has left, and clients may live by: a start that fails does not take it away.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    /// The link, which then is not of this process' making.
    link: bool,
    /// Sleeping rows, which are worth nothing without their link.
    rows: bool,
}

/// What this process holds of the node.
pub struct Node {
    settings: Settings,
    link: Link,
    firewall: Option<Box<dyn Firewall>>,
    plan: Plan,
    earlier: Earlier,
    /// The rules have been taken away for good: what is still on its way here does not put them back.
    over: bool,
    counters: Arc<Counters>,
    /// What others have left in another packet filter was looked for.
    superseded: bool,
    /// What the packet filter cannot do, as it was told and counted once.
    lacks: Vec<Fault>,
    /// What the last check found, so that the same is not told every minute.
    told: Vec<String>,
}

impl Node {
    /// Chooses the means, and touches nothing yet. `listening` and `http` are the addresses that DNS and HTTP are
    /// served at, ours among them; `upstream_idle` is how long a connection of ours to an upstream may be silent.
    ///
    /// # Errors
    /// No packet filter of the kind that is wanted can be had.
    pub fn new(
        settings: &Settings,
        listening: &[SocketAddr],
        http: &[SocketAddr],
        upstream_idle: Duration,
    ) -> Result<Self, Fault> {
        let ours = |a: &&SocketAddr| settings.addresses.contains(&a.ip());
        let mut http_ports: Vec<u16> = http.iter().filter(ours).map(SocketAddr::port).collect();
        http_ports.sort_unstable();
        http_ports.dedup();
        let mut firewall = choose(settings.firewall, settings.notrack_upstream)?;
        firewall.as_mut().map_or(Ok(()), |firewall| firewall.vacant())?;
        let asleep = firewall.as_ref().map(|firewall| firewall.asleep()).unwrap_or_default();
        let link = Link::new(&settings.interface, settings.link, &settings.addresses);
        let earlier = Earlier { link: link.is_there(), rows: !asleep.is_empty() };
        let plan = Plan {
            addresses: settings.addresses.clone(),
            dns_port: listening.iter().find(ours).map_or(53, SocketAddr::port),
            http_ports,
            fallbacks: if settings.fail_open { asleep } else { Vec::new() },
            notrack_upstream: settings.notrack_upstream,
            upstream_idle,
        };
        Ok(Self {
            settings: settings.clone(),
            link,
            firewall,
            plan,
            earlier,
            over: false,
            counters: Arc::default(),
            superseded: false,
            lacks: Vec::new(),
            told: Vec::new(),
        })
    }

    /// Where it counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether there are rules to hold.
    pub fn has_rules(&self) -> bool {
        self.firewall.is_some()
    }

    /// As [`Firewall::outlives_us`], where there are rules.
    pub fn rules_outlive_us(&self) -> bool {
        self.firewall.as_ref().is_some_and(|firewall| firewall.outlives_us())
    }

    /// Puts the link up.
    ///
    /// # Errors
    /// As [`Link::up`].
    pub fn link_up(&mut self) -> Result<(), Fault> {
        let up = self.link.up().inspect_err(|fault| self.count(fault))?;
        for done in &up.done {
            info!("{done}");
        }
        if up.kind != LinkKind::None {
            info!("link {} ({:?}) carries {}", self.settings.interface, up.kind, list(&self.plan.addresses));
        }
        Ok(())
    }

    /// As [`Firewall::port`], where there are rules.
    pub fn rules_port(&self) -> Option<u32> {
        self.firewall.as_ref()?.port()
    }

    /// Puts the rules up, or brings them in line with what has changed.
    ///
    /// # Errors
    /// As [`Firewall::up`].
    pub fn rules_up(&mut self) -> Result<(), Fault> {
        let Some(firewall) = self.firewall.as_mut().filter(|_| !self.over) else { return Ok(()) };
        self.counters.fallbacks.set(self.plan.fallbacks.len() as u64);
        let result = firewall.up(&self.plan);
        self.counters.rules.set(u64::from(result.is_ok()));
        let lacks: Vec<Fault> = firewall.lacks().to_vec();
        let news: Vec<Fault> = lacks.into_iter().filter(|lack| !self.lacks.contains(lack)).collect();
        self.complain(&news);
        self.lacks.extend(news);
        result.inspect_err(|fault| self.count(fault))?;
        self.supersede();
        Ok(())
    }

    /// Once, when our rules are there: takes away what a killed process has left in another packet filter.
    fn supersede(&mut self) {
        let Some(firewall) = self.firewall.as_mut().filter(|_| !self.superseded) else { return };
        self.superseded = true;
        match firewall.supersede(&self.plan) {
            Ok(0) => {}
            Ok(rules) => info!(
                "took away {rules} rules of iptables for our addresses, which another process has left: they would \
                 keep clients from the cluster DNS when we are gone"
            ),
            // It is no part of the set-up: without the rights of iptables (CAP_NET_RAW) all else is there.
            Err(faults) => faults.iter().for_each(|fault| {
                info!("rules of iptables that another process may have left were not looked for: {fault}");
            }),
        }
    }

    /// What clients can count on, in one line.
    pub fn promise(&self) -> String {
        let Some(firewall) = &self.firewall else {
            return "no rules: whether packets pass connection tracking is for somebody else to say"
                .to_owned();
        };
        let rules =
            format!("port {} of {} goes past conntrack", self.plan.dns_port, list(&self.plan.addresses));
        let without_us = match (&self.plan.fallbacks[..], self.settings.fail_open) {
            (_, false) => "fail_open is off".to_owned(),
            ([], true) => {
                "nobody is known to fall back to yet: no upstream of the cluster's zone is seen to be a pod \
                           (name the headless Service with svc://)"
                    .to_owned()
            }
            (servers, true) => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                format!("without us clients go to {}", servers.join(", "))
            }
        };
        format!("rules ({}): {rules}; {without_us}", firewall.name())
    }

    /// Takes other servers to fall back to. Those of before, which may be an earlier run's, stay for as long as the
    /// configuration may mean them: the cluster DNS may be away for a moment, or its name not found out yet. What it no
    /// longer names goes, or clients would be sent to whoever has that address by then. Whether they are others than
    /// before.
    pub fn fall_back_to(&mut self, fallback: Fallback) -> bool {
        if !self.settings.fail_open {
            return false;
        }
        let mut servers = match fallback {
            Fallback::Known(servers) => servers,
            Fallback::InDoubt(named) => {
                self.plan.fallbacks.iter().copied().filter(|server| named.contains(server)).collect()
            }
            Fallback::Unheard => return false,
        };
        servers.sort_unstable();
        servers.dedup();
        let mut room = [FALLBACKS.max; 2];
        servers.retain(|server| {
            let room = &mut room[usize::from(server.is_ipv6())];
            *room > 0 && {
                *room -= 1;
                true
            }
        });
        let others = servers != self.plan.fallbacks;
        self.plan.fallbacks = servers;
        others
    }

    /// Looks at everything and puts right what is wrong. Says what that was, once. Whether all is well now.
    pub fn check(&mut self) -> bool {
        if self.over {
            return true;
        }
        self.counters.checks.bump();
        let mut faults = Vec::new();
        let mut drifts = self.link.check().unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        if let Some(firewall) = &mut self.firewall {
            let checked = firewall.check(&self.plan);
            self.counters.rules.set(u64::from(checked.is_ok()));
            match checked {
                Ok(found) => drifts.extend(found),
                Err(fault) => faults.push(fault),
            }
        }
        let warnings = self.firewall.as_ref().map(|firewall| firewall.warnings().to_vec());
        self.tell(&drifts, &faults, warnings.unwrap_or_default());
        faults.is_empty()
    }

    fn tell(&mut self, drifts: &[Drift], faults: &[Fault], warnings: Vec<String>) {
        let mut told = warnings;
        for drift in drifts {
            self.counters.repairs[drift.kind as usize].bump();
            told.push(format!("somebody else changed this, and it was put right: {}", drift.what));
        }
        for fault in faults {
            self.count(fault);
            told.push(fault.what.clone());
        }
        for line in told.iter().filter(|line| !self.told.contains(line)) {
            warn!("{line}");
        }
        self.told = told;
    }

    /// Takes the rules away that keep clients here, for good; they go to the cluster DNS from now on, if anything is
    /// asleep there. Goes on after an error and tells them all.
    pub fn rules_down(&mut self) {
        self.over = true;
        let Some(firewall) = &mut self.firewall else { return };
        let faults = firewall.down().err().unwrap_or_default();
        self.counters.rules.set(0);
        self.complain(&faults);
    }

    /// The last step, when nobody listens any more: our rows in the filters of others go. With `teardown_on_exit`, or
    /// after a start that failed (`at_once`), link and sleeping rows go too. What somebody else sees to (link or
    /// firewall `none`) stays, and so does, after a start that failed, what an earlier run has left.
    pub fn leave(&mut self, at_once: bool) {
        let left = self.firewall.as_mut().and_then(|firewall| firewall.leave().err());
        self.complain(&left.unwrap_or_default());
        if !(self.settings.teardown_on_exit || at_once) {
            return;
        }
        let Earlier { link, rows } = self.earlier;
        let is_kept = |earlier: bool, what: &str| {
            let is_kept = at_once && earlier;
            if is_kept {
                info!("{what} of an earlier run stay: clients may reach the cluster DNS by them");
            }
            is_kept
        };
        let mut report = super::Report::default();
        if self.firewall.is_some() && !is_kept(rows, "sleeping rows") {
            report.add_rules();
        }
        if self.settings.link != LinkKind::None && !is_kept(link || rows, "link and addresses") {
            report.add_link(&self.settings.interface, &self.plan.addresses);
        }
        for line in &report.removed {
            info!("removed: {line}");
        }
        self.complain(&report.faults);
    }

    fn complain(&self, faults: &[Fault]) {
        for fault in faults {
            self.count(fault);
            warn!("{fault}");
        }
    }

    fn count(&self, fault: &Fault) {
        self.counters.faults[fault.kind as usize].bump();
    }
}

/// The packet filter of this kind.
fn choose(kind: FirewallKind, needs_nftables: bool) -> Result<Option<Box<dyn Firewall>>, Fault> {
    let nftables = |nftables: Nftables| -> Box<dyn Firewall> { Box::new(nftables) };
    let iptables = |iptables: Iptables| -> Box<dyn Firewall> { Box::new(iptables) };
    let chosen = match kind {
        FirewallKind::None => return Ok(None),
        FirewallKind::Nftables => Nftables::open().map(nftables),
        FirewallKind::Iptables => Iptables::find().map(iptables),
        FirewallKind::Auto => match Nftables::open() {
            Ok(found) if found.owns() || needs_nftables => Ok(nftables(found)),
            // Before Linux 5.12: what the node has already is what its people know how to look at.
            Ok(found) => Ok(Iptables::find().map_or_else(|_| nftables(found), iptables)),
            Err(no_nftables) => Iptables::find().map(iptables).map_err(|no_iptables| Fault {
                kind: no_nftables.kind,
                what: format!("no packet filter can be had: {no_nftables}; {no_iptables}"),
            }),
        },
    };
    chosen.map(Some)
}

fn list(addresses: &[std::net::IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
