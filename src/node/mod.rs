//! The node: addresses for pods, and packets that go past DNAT and connection tracking.
//!
//! ```text
//!                        pod or host client
//!                              | to 169.254.20.10:53
//!                              v
//!              raw: do we answer?  ----- no ----> tracked > sleeping DNAT > cluster DNS      fail-open
//!                              | yes
//!                              v NOTRACK
//!                        our sockets on the link's address
//! ```
//!
//! # What is put up, and in which order
//!
//! 1. The listeners bind (IP_FREEBIND: the address need not be there yet). A busy port, a second instance or a
//!    configuration error ends the start here, and nothing has been touched.
//! 2. [`link`]: an interface that carries the addresses as /32 and /128.
//! 3. The rules ([`rules`]), made from one table by [`nftables`] or [`iptables`].
//! 4. A question to ourselves at each address. With nftables, the answer itself is what wakes the rules: NOTRACK
//!    matches only addresses that we have answered from within the last two seconds. With iptables there is another
//!    one before the rows that catch clients.
//!
//! At the end: connections on the cluster's address drain, NOTRACK goes, the rest drains, sockets close; then our
//! accept rows in the chains of others go, which the last answers have needed. The link and the sleeping rows stay, so
//! that a restart loses as little as a crash; `sidestep teardown` takes them away.
//!
//! # Three ways to fail open
//!
//! - The process dies: the nftables table belongs to a netlink socket of ours (flag `owner`, Linux 5.12) and the
//!   kernel removes it as it closes our descriptors. It does so one change at a time: while another program replaces
//!   many rules in one transaction, the removal waits for the end of that (20,000 rules with `nft -f`: 220 to 280 ms
//!   and as many lookups at 1 ms spacing, on Linux 6.18), at most for the two seconds of the next paragraph. Lookups
//!   that we had not answered yet are lost with us as well: on a node without a processor to spare, those of up to
//!   0.2 s.
//! - It hangs or is stopped: without answers for two seconds the addresses leave the set, and NOTRACK with them. The
//!   same happens after a crash on kernels without owner tables.
//! - A part of it hangs: the watchdog ends the process, and the first way applies.
//!
//! That is nftables. Rows of iptables have no timeout and nobody they belong to: those that [`iptables`] puts to sleep
//! stay until `sidestep teardown` or the next start, not for fifteen minutes, and which of the ways there are, its own
//! documentation says.
//!
//! # Who keeps it so
//!
//! The check runs on netlink events and once a minute; what others have taken away or changed is put back and
//! counted by kind.

pub mod bound;
pub mod conntrack;
pub mod iptables;
mod life;
pub mod link;
pub mod nftables;
pub mod rules;

pub use life::{Counters, Fallback, Node};

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limit::Limit;

/// Addresses on our link.
pub const ADDRESSES: Limit<usize> = Limit::new(0, 0, 16);
/// Servers of the cluster DNS that the sleeping rows spread clients over.
pub const FALLBACKS: Limit<usize> = Limit::new(0, 0, 16);
/// How often everything is looked at even though no event said so. Sleeping rows are armed anew each time, so it stays
/// well below [`rules::ARMED`].
pub const CHECK_EVERY: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(300));
/// How long the process may leave its own questions unanswered before the watchdog ends it.
pub const WATCHDOG: Limit<Duration> =
    Limit::new(Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(300));

/// Section `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The addresses that we hold; none: this is no node, and nothing is touched.
    pub addresses: Vec<IpAddr>,
    /// The link's name: 1 to 15 bytes (IFNAMSIZ).
    pub interface: String,
    /// What it is.
    pub link: LinkKind,
    /// Who filters packets.
    pub firewall: FirewallKind,
    /// Whether clients reach the cluster DNS without us.
    pub fail_open: bool,
    /// The cluster's domain: the zone that holds it names the servers to fall back to.
    pub cluster_domain: String,
    /// Whether our own connections to pods behind `svc://` targets go untracked.
    pub notrack_upstream: bool,
    /// See [`CHECK_EVERY`].
    pub check_every: Duration,
    /// See [`WATCHDOG`].
    pub watchdog: Duration,
    /// Whether link and sleeping rows go at the end, too.
    pub teardown_on_exit: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            interface: "nodelocaldns".to_owned(),
            link: LinkKind::Auto,
            firewall: FirewallKind::Auto,
            fail_open: true,
            cluster_domain: "cluster.local".to_owned(),
            notrack_upstream: false,
            check_every: CHECK_EVERY.default,
            watchdog: WATCHDOG.default,
            teardown_on_exit: false,
        }
    }
}

/// What carries the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LinkKind {
    /// A dummy where the kernel has it, else an empty bridge, else loopback. An existing link of ours is kept as it is.
    #[default]
    Auto,
    /// A dummy (CONFIG_DUMMY).
    Dummy,
    /// A bridge without ports (CONFIG_BRIDGE).
    Bridge,
    /// A tun that belongs to the process and goes with it (CONFIG_TUN).
    Tun,
    /// The addresses stand on `lo`.
    Loopback,
    /// The addresses are there already, or somebody else sees to them.
    None,
}

/// Who filters packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FirewallKind {
    /// nftables where the kernel has owner tables (5.12), else iptables.
    #[default]
    Auto,
    /// nftables, over netlink; no program is needed.
    Nftables,
    /// iptables, in the variant that the node uses already.
    Iptables,
    /// No rules: somebody else sees to them, or none are needed (Cilium).
    None,
}

/// What the rules are to say: the values that go into the rows of [`rules`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Our addresses.
    pub addresses: Vec<IpAddr>,
    /// [`rules::Port::Dns`].
    pub dns_port: u16,
    /// [`rules::Port::Http`]: ports that HTTP is served on at our addresses.
    pub http_ports: Vec<u16>,
    /// The cluster's DNS servers (addresses of pods), at most [`FALLBACKS`] of each family. None of a family: that
    /// family has no sleeping rows.
    pub fallbacks: Vec<SocketAddr>,
    /// Whether the rows of [`rules::Match::OwnUpstream`] and [`rules::Match::Remembered`] are there.
    pub notrack_upstream: bool,
    /// How long a silent connection of ours to a pod is remembered: its longest idle time, and some more.
    pub upstream_idle: Duration,
}

/// A packet filter that holds our rows.
pub trait Firewall {
    /// What it is, in a few words for the log.
    fn name(&self) -> String;

    /// Makes the kernel's rows those of the plan, all at once as far as it can; a second time changes nothing.
    ///
    /// # Errors
    /// The first row that could not be put in.
    fn up(&mut self, plan: &Plan) -> Result<(), Fault>;

    /// Compares the kernel's rows with the plan, puts back what is not right, and says what that was.
    ///
    /// # Errors
    /// It could not be looked at, or not be repaired.
    fn check(&mut self, plan: &Plan) -> Result<Vec<Drift>, Fault>;

    /// Whether nobody else holds what we are about to take. Asked before anything is touched, the link included: what
    /// another process of ours has put up is not to be changed by one that cannot start.
    ///
    /// # Errors
    /// Somebody does, and who, or it cannot be looked at.
    fn vacant(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// Takes away what a program that was killed has left for our addresses in another packet filter: NOTRACK that goes
    /// with no process would keep clients from the cluster DNS when we are gone. How many rows those were.
    ///
    /// # Errors
    /// What could not be looked at or taken away.
    fn supersede(&mut self, _plan: &Plan) -> Result<usize, Vec<Fault>> {
        Ok(0)
    }

    /// The servers that sleeping rows of an earlier run lead to: until better ones are known, clients go there.
    fn asleep(&self) -> Vec<SocketAddr>;

    /// What could not be done, though the rest goes on without it; as of the last `up` or `check`.
    fn warnings(&self) -> &[String] {
        &[]
    }

    /// Parts of the plan that this packet filter cannot do on this node, now or later, though the rest goes on without
    /// them; as of the last `up`.
    fn lacks(&self) -> &[Fault] {
        &[]
    }

    /// Whether the rows stay when the process ends without taking them away; then [`release`] does.
    fn outlives_us(&self) -> bool;

    /// Whose changes are our own among the [events](nftables::Events) that the kernel tells of the rows: a port of
    /// netlink, 0 for nobody's. `None`: it tells nobody of changes.
    fn port(&self) -> Option<u32>;

    /// Takes away the rows that keep clients here: those of [`rules::ROWS`] in the raw places. What lets our packets
    /// pass the filters of others stays, and so do the sleeping rows.
    ///
    /// # Errors
    /// Every row that could not be taken away.
    fn down(&mut self) -> Result<(), Vec<Fault>>;

    /// Takes the other [`rules::ROWS`] away, when nobody is answered any more; the sleeping rows stay.
    ///
    /// # Errors
    /// As [`down`](Self::down).
    fn leave(&mut self) -> Result<(), Vec<Fault>>;
}

/// Something of ours that others had taken away or changed, and that has been put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What kind.
    pub kind: DriftKind,
    /// In words: which link, address or row, and what was wrong with it.
    pub what: String,
}

/// Kinds of drift, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftKind {
    /// The link was gone, down, or of another kind.
    Link,
    /// An address was gone.
    Address,
    /// NOTRACK or accept rows were gone or other than planned.
    Rules,
    /// The sleeping rows were.
    FailOpen,
}

/// Something that could not be done to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind, as `coredns_nodecache_setup_errors_total` has it.
    pub kind: FaultKind,
    /// What was tried, what the kernel said, and what to do about it.
    pub what: String,
}

/// Kinds of faults: the values of node-cache's label `errortype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// `iptables`: a rule could not be put in or checked, whichever the backend.
    Rules,
    /// `iptables_lock`: another program held the lock of iptables for too long.
    Lock,
    /// `interface_add`: the link or an address could not be put up.
    LinkAdd,
    /// `interface_check`: the link could not be looked at.
    LinkCheck,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

/// What [`teardown`] has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was there and is not any more.
    pub removed: Vec<String>,
    /// What was left, because it is not ours or in use, with the reason.
    pub left: Vec<String>,
    /// What could not be done.
    pub faults: Vec<Fault>,
}

/// Removes everything that any earlier run has left: rules first, so that no packet is kept for a link that is gone;
/// then the link. Goes on after an error. A second time it finds nothing. Beside a process of ours that lives (seen by
/// its nftables table), or any other that answers at the addresses (node-cache after a rollback, whose link and rules
/// look like ours), it does nothing.
pub fn teardown(interface: &str, addresses: &[IpAddr]) -> Report {
    let mut report = Report::default();
    // What a living process holds it would put up again, and clients would miss it until then.
    if let Err(fault) = nftables::in_use() {
        report.faults.push(fault);
        return report;
    }
    if let Some(bound) = bound::find(&asked(interface, addresses)) {
        let what = format!("nothing is removed: {bound}, and clients ask there; stop it first");
        report.faults.push(Fault { kind: FaultKind::LinkCheck, what });
        return report;
    }
    report.add_rules();
    report.add_link(interface, addresses);
    report
}

/// Where clients may be asking by what a teardown would take away: the addresses of the link, those that rules of
/// iptables are about, with their ports, and these.
fn asked(interface: &str, addresses: &[IpAddr]) -> BTreeSet<SocketAddr> {
    const DNS: u16 = 53;
    let ruled = iptables::overview().0.into_iter().map(|found| {
        let catches = |rule: &iptables::Rule| rule.place == rules::Place::RawPrerouting;
        let port = found.line.rule.filter(catches).and_then(|rule| rule.destination_port);
        (found.line.address, port.unwrap_or(DNS))
    });
    let held = link::held(interface, addresses).into_iter().chain(addresses.iter().copied());
    ruled.chain(held.map(|address| (address, DNS))).map(SocketAddr::from).collect()
}

impl Report {
    /// Removes the rules, of either packet filter.
    fn add_rules(&mut self) {
        let lines = |n: usize, what: &str| {
            ((n > 0).then(|| format!("{what}: {n} rules")).into_iter().collect(), Vec::new())
        };
        self.add(nftables::teardown().map(|removed| (removed, Vec::new())));
        // Rows that let packets pass go after those that keep them from being tracked. Those of the iptables backend
        // are seen over netlink, too, but counted with their own.
        self.add(iptables::teardown().map(|n| lines(n, "iptables")));
        self.add(nftables::teardown_accepts().map(|n| lines(n, "filter chains of others")));
    }

    /// Removes the link.
    fn add_link(&mut self, interface: &str, addresses: &[IpAddr]) {
        self.add(link::teardown(interface, addresses).map(|link| (link.removed, link.left)));
    }

    fn add(&mut self, step: Result<(Vec<String>, Vec<String>), Vec<Fault>>) {
        match step {
            Ok((removed, left)) => {
                self.removed.extend(removed);
                self.left.extend(left);
            }
            Err(faults) => self.faults.extend(faults),
        }
    }
}

/// Takes the rules away that would keep clients coming after the process has ended: those of iptables. A last deed,
/// so it says nothing of what fails; the fault is told by whoever looks at the node next.
pub fn release(addresses: &[IpAddr]) {
    if let Ok(iptables) = iptables::Iptables::find() {
        let mut iptables = iptables.holding(addresses);
        let _ = iptables.down();
        let _ = iptables.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_rows_are_armed_anew_in_time() {
        assert!(2 * CHECK_EVERY.max < rules::ARMED);
    }
}
