//! The rules in iptables and ip6tables, in node-cache's words.
//!
//! For nodes without owner tables in nftables, or where somebody has asked for it. What stands in the kernel is what
//! node-cache would have put there: twelve rules for an address with an HTTP port, under its comments, so that
//! tooling which knows those knows ours. Two more for each address let our questions to ourselves through, and tell
//! a later run that the address was ours.
//!
//! # What it can promise
//!
//! NOTRACK in PREROUTING asks with `-m socket` whether a socket is bound to the address (one bound to the wildcard does
//! not count; one that is connecting or in time-wait does, so that handshakes and goodbyes are whole). When the process
//! dies, so do its sockets, and queries from *pods* are translated: those to the cluster DNS' own address by kube-proxy,
//! the others, where there are servers to fall back to, by the rules in nat that have slept until then. Of 3,000
//! lookups, one each millisecond, 0 to 4 were lost over a SIGKILL and a start. It does not help
//!
//! - clients on the host network: OUTPUT has no `-m socket`, so their queries stay untracked until the rules go;
//! - when the process hangs: its sockets are still bound (the watchdog ends such a process);
//! - where the kernel lacks xt_socket: then the rules are node-cache's, and the log says so.
//!
//! `notrack_upstream` is not possible: it needs sets that packets fill. It needs nftables, as the whole promise does.
//!
//! # How it is done
//!
//! [`variant`] finds which iptables the node uses; [`expand`] makes rules from the rows; [`program`] asks what is
//! there and [`line`](mod@line) reads it; [`difference`] compares; one `iptables-restore --noflush` for each family
//! carries it out. A table changes at once, the three tables one after the other. The lock of iptables is waited for,
//! five seconds at most. A process killed between reading and writing leaves some tables as they were and some as they
//! should be, and the next start sees which.
//!
//! Sleeping rows have no end of their own here, as they have in nftables, where the set that they look in empties by
//! itself: iptables has neither rows nor sets with a timeout that the kernel keeps. They stay until `sidestep teardown`
//! or the next start, and lead clients to servers that may have moved meanwhile.

pub mod difference;
pub mod expand;
mod leftovers;
pub mod line;
pub mod program;
pub mod rule;
pub mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};

use difference::{Difference, Scope};
use expand::fallbacks;
pub use leftovers::{Found, clear, overview, overview_in, teardown, teardown_in};
use program::Programs;
use rule::Target;
pub use rule::{Family, Rule};
use variant::{Installed, Variant};

use super::{Drift, Fault, FaultKind, Firewall, Plan};

/// How often a difference is written before we say that it does not stay: somebody else may write at the same time,
/// for instance a run of ours that was killed and whose last iptables-restore still waits for the lock.
const ROUNDS: usize = 3;

/// iptables, in one variant.
#[derive(Debug)]
pub struct Iptables {
    path: OsString,
    installed: Installed,
    /// Families whose kernel has refused `-m socket`.
    no_socket: BTreeSet<Family>,
    /// Addresses that this process has put rules up for.
    held: BTreeSet<IpAddr>,
    /// Families that have addresses and no programs.
    lacks: Vec<Fault>,
}

impl Iptables {
    /// The variant that the node uses, with the programs in PATH.
    ///
    /// # Errors
    /// iptables is not installed, or cannot be used: no permission, or the kernel has none of it.
    pub fn find() -> Result<Self, Fault> {
        Self::find_in(&leftovers::path())
    }

    /// [`Iptables::find`] with the programs in the folders of `path`.
    ///
    /// # Errors
    /// As [`Iptables::find`].
    pub fn find_in(path: &OsStr) -> Result<Self, Fault> {
        let installed = variant::find(path)?;
        tracing::debug!(variant = %installed.variant, "iptables");
        Ok(Self {
            path: path.to_owned(),
            installed,
            no_socket: BTreeSet::new(),
            held: BTreeSet::new(),
            lacks: Vec::new(),
        })
    }

    /// As if it had put up rules for these addresses, so that `down` takes them away.
    pub fn holding(mut self, addresses: &[IpAddr]) -> Self {
        self.held.extend(addresses);
        self
    }

    /// The variant in use.
    pub fn variant(&self) -> Variant {
        self.installed.variant
    }

    /// Whether pods of this family reach the cluster DNS when the process dies, as far as the last [`Firewall::up`]
    /// of this plan could tell.
    pub fn fails_open(&self, plan: &Plan, family: Family) -> bool {
        !fallbacks(plan, family).is_empty() && !self.no_socket.contains(&family)
    }

    fn programs(&self, family: Family) -> Result<&Programs, Fault> {
        let programs = self.installed.programs.get(&family);
        programs.ok_or_else(|| variant::missing(family.program(), &self.path))
    }

    fn wanted(&self, plan: &Plan, family: Family) -> Vec<Rule> {
        let mut rules = expand::running(plan, family, !self.no_socket.contains(&family));
        rules.extend(expand::sleeping(plan, family));
        rules
    }

    /// What may be taken away of `family` while rules are put up.
    fn scope(&self, family: Family) -> Scope {
        let addresses = self.held.iter().copied().filter(|address| Family::of(*address) == family).collect();
        Scope { addresses, tables: Scope::EVERYWHERE }
    }

    /// Writes what is missing until nothing is; what it was at first.
    fn settle(&self, family: Family, plan: &Plan, scope: &Scope) -> Result<Difference, Fault> {
        let programs = self.programs(family)?;
        let wanted = self.wanted(plan, family);
        let first = Difference::new(&programs.lines()?, &wanted, scope);
        let mut left = first.clone();
        for _ in 0..ROUNDS {
            if left.is_empty() {
                return Ok(first);
            }
            let written = programs.restore(&left.script());
            let next = Difference::new(&programs.lines()?, &wanted, scope);
            // A row to be deleted may have gone in the meantime; then there is another difference, to be tried.
            match written {
                Err(fault) if next == left || fault.kind == FaultKind::Lock => return Err(fault),
                _ => left = next,
            }
        }
        if left.is_empty() {
            return Ok(first);
        }
        let what = left.drift(family).into_iter().map(|drift| drift.what).collect::<Vec<_>>().join("; ");
        let what =
            format!("rules do not stay as they were put in ({what}); is another program writing them?");
        Err(Fault { kind: FaultKind::Rules, what })
    }

    /// [`Self::settle`]; where `-m socket` is what the kernel refuses, once more without.
    fn settle_with_or_without_socket(
        &mut self,
        family: Family,
        plan: &Plan,
        scope: &Scope,
    ) -> Result<(), Fault> {
        let fault = match self.settle(family, plan, scope) {
            Err(fault) if fault.kind != FaultKind::Lock => fault,
            ended => return ended.map(drop),
        };
        self.no_socket.insert(family);
        if self.settle(family, plan, scope).is_err() {
            // It was not that.
            self.no_socket.remove(&family);
            return Err(fault);
        }
        tracing::warn!(
            family = family.program(),
            why = %fault,
            "no -m socket (module xt_socket): pods do not fall back to the cluster DNS if the process dies"
        );
        Ok(())
    }

    /// Takes our rules out of these tables.
    fn take_away(&self, tables: &'static [&'static str]) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for family in self.families(&Plan::default()) {
            let scope = Scope { tables, ..self.scope(family) };
            let done = self.programs(family).and_then(|programs| {
                let difference = Difference::new(&programs.lines()?, &[], &scope);
                if difference.is_empty() { Ok(()) } else { programs.restore(&difference.script()) }
            });
            faults.extend(done.err());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The families that `plan` has rules for, or that this process has put rules up for, and whose programs are
    /// there.
    fn families(&self, plan: &Plan) -> BTreeSet<Family> {
        let families = plan.addresses.iter().chain(&self.held).copied().map(Family::of);
        families.filter(|family| self.installed.programs.contains_key(family)).collect()
    }

    /// The families of `plan` whose programs are not there; if that is all of them, it is an error.
    fn missing(&self, plan: &Plan) -> Result<Vec<Fault>, Fault> {
        let families: BTreeSet<_> = plan.addresses.iter().copied().map(Family::of).collect();
        let missing = families.iter().filter_map(|&family| {
            let Fault { kind, what } = self.programs(family).err()?;
            let ours = plan.addresses.iter().filter(|address| Family::of(**address) == family);
            let ours = ours.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Some(Fault { kind, what: format!("{ours}: no rules, so queries there are tracked: {what}") })
        });
        let mut missing: Vec<_> = missing.collect();
        if missing.len() == families.len() && !missing.is_empty() {
            return Err(missing.swap_remove(0));
        }
        Ok(missing)
    }

    /// Addresses that an earlier run of this program has left rules for. What cannot be read is said by the step that
    /// needs it.
    fn left_by_earlier_runs(&self) -> BTreeMap<Family, BTreeSet<IpAddr>> {
        let of = |(family, programs): (&Family, &Programs)| {
            let held = difference::held(&programs.lines().ok()?);
            (!held.is_empty()).then_some((*family, held))
        };
        self.installed.programs.iter().filter_map(of).collect()
    }
}

impl Firewall for Iptables {
    fn name(&self) -> String {
        format!("iptables-{}", self.installed.variant)
    }

    fn up(&mut self, plan: &Plan) -> Result<(), Fault> {
        self.lacks = self.missing(plan)?;
        self.no_socket.clear();
        // The first time, what an earlier run with other addresses left goes too; later, others' addresses are theirs.
        let earlier = if self.held.is_empty() { self.left_by_earlier_runs() } else { BTreeMap::new() };
        self.held.extend(earlier.into_values().flatten());
        self.held.extend(&plan.addresses);
        for family in self.families(plan) {
            let scope = self.scope(family);
            self.settle_with_or_without_socket(family, plan, &scope)?;
        }
        self.held = plan.addresses.iter().copied().collect();
        Ok(())
    }

    fn check(&mut self, plan: &Plan) -> Result<Vec<Drift>, Fault> {
        self.held.extend(&plan.addresses);
        let mut drifts = Vec::new();
        let mut faults = Vec::new();
        // A family that fails does not keep the other from being right.
        for family in self.families(plan) {
            match self.settle(family, plan, &self.scope(family)) {
                Ok(difference) => drifts.extend(difference.drift(family)),
                Err(fault) => faults.push(fault),
            }
        }
        faults.into_iter().next().map_or(Ok(drifts), Err)
    }

    fn lacks(&self) -> &[Fault] {
        &self.lacks
    }

    fn asleep(&self) -> Vec<SocketAddr> {
        let lines = self.installed.programs.values().filter_map(|programs| programs.lines().ok()).flatten();
        let server = |line: line::Line| match line.rule?.target {
            Target::Dnat(server) => Some(server),
            _ => None,
        };
        let servers: BTreeSet<_> = lines.filter_map(server).collect();
        servers.into_iter().collect()
    }

    fn outlives_us(&self) -> bool {
        true
    }

    /// The kernel tells of the nft variant's rows, our own changes among them: a check that finds nothing to do makes no
    /// events, so this ends after one. Of the legacy variant's it tells nobody.
    fn port(&self) -> Option<u32> {
        const NOBODY: u32 = 0;
        (self.installed.variant == Variant::Nft).then_some(NOBODY)
    }

    fn down(&mut self) -> Result<(), Vec<Fault>> {
        self.take_away(&["raw"])
    }

    fn leave(&mut self) -> Result<(), Vec<Fault>> {
        self.take_away(&["filter"])
    }
}
