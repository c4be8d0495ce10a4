//! What the supervisor does for the node: its place in the order of start and stop, and the watch over it.
//!
//! The order of start (the listeners are bound by then): link, rules, a question to ourselves, which wakes the rules
//! (see [`crate::node`]). Rules that catch clients before we have answered (iptables) are preceded by another question.
//! What it says is no more than a hint: until our rows are there, kube-proxy translates questions to a Service's
//! address, so that others answer them, or nobody while the cluster DNS is down. The question beneath the rules
//! decides.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::fallbacks::Fallbacks;
use super::holder::Holder;
use super::{Supervisor, watchdog};
use crate::config::{Config, ZoneName};
use crate::node::link::Events as LinkEvents;
use crate::node::nftables::Events as RuleEvents;
use crate::node::rules::PROBE_MARK;
use crate::node::{self, Counters, Fault, FaultKind, Node, Settings};
use crate::telemetry::health;

/// After an event, others follow, of the same command mostly: they are looked at together. While the link is away, this
/// is what clients wait for.
const SETTLE: Duration = Duration::from_millis(10);
/// The pause between two checks, so that a quarrel with another agent over a row costs neither of us a core.
const PAUSE: Duration = Duration::from_millis(500);
/// When to try again what could not be done: somebody may hold a lock, or be at work on it.
const RETRY: Duration = Duration::from_secs(5);
/// How long a connection of ours to a pod is remembered beyond its idle time.
const FORGET: Duration = Duration::from_secs(60);
/// How often a listener that does not answer at the start is asked again.
const TRIES: usize = 3;

/// The node in the supervisor's hands.
pub struct Keeper {
    /// The node itself, on a thread of its own.
    holder: Holder,
    /// The port of netlink whose changes are our own, where the kernel tells of changes to the rules.
    port: Option<u32>,
    /// Whether the rows stay when the process ends without taking them away.
    outlive: bool,
    counters: Arc<Counters>,
    settings: Settings,
    /// The listener whose clients are sent elsewhere without us: the first of `addresses`, as its number.
    listener: usize,
    /// Our addresses with the port of DNS.
    addresses: Vec<SocketAddr>,
    mark: Option<u32>,
}

impl Keeper {
    /// The node of this configuration. Nothing is touched yet.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn of(holder: Holder, config: &Config, listening: &[SocketAddr]) -> Result<Self, Fault> {
        let settings = &config.node;
        die_at_once();
        let http: Vec<_> = config.http.iter().map(|listener| listener.address).collect();
        let (wanted, listening_at, idle) =
            (settings.clone(), listening.to_vec(), config.upstream.idle + FORGET);
        let make = move || Node::new(&wanted, &listening_at, &http, idle);
        let tell = |node: &Node| {
            (Arc::clone(node.counters()), node.has_rules(), node.rules_outlive_us(), node.rules_port())
        };
        let (counters, has_rules, outlive, port) = holder.make(make, tell)?;
        let ours = |a: &&SocketAddr| settings.addresses.contains(&a.ip());
        Ok(Self {
            holder,
            counters,
            port,
            outlive,
            mark: has_rules.then_some(PROBE_MARK),
            settings: settings.clone(),
            listener: listening.iter().position(|address| ours(&address)).unwrap_or_default(),
            addresses: listening.iter().filter(ours).copied().collect(),
        })
    }

    /// Where it counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Our addresses with the port of DNS.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How long our own questions may stay unanswered.
    pub fn patience(&self) -> Duration {
        self.settings.watchdog
    }

    /// What the end of this process would be good for.
    pub fn hope(&self) -> &'static str {
        if self.settings.fail_open && self.mark.is_some() {
            "clients reach the cluster DNS without it"
        } else {
            watchdog::ANEW
        }
    }

    /// The mark on our questions to ourselves, where rows know it.
    pub fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// What the watchdog does before it ends the process: rules that outlive it go. Those of nftables need no help.
    pub fn last_deed(&self) -> Box<dyn FnOnce() + Send> {
        let addresses = self.settings.addresses.clone();
        let outlive = self.outlive;
        Box::new(move || {
            if outlive {
                node::release(&addresses);
            }
        })
    }

    /// NOTRACK goes.
    pub async fn end(&self) {
        self.holder.with(Node::rules_down).await;
    }

    /// The last step, when nobody listens any more.
    pub async fn leave(&self) {
        self.holder.with(|node| node.leave(false)).await;
    }

    /// Puts everything up, in order. A failure leaves nothing behind.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn begin(&self) -> Result<(), Fault> {
        let begun = self.steps().await;
        if begun.is_err() {
            let undo = |node: &mut Node| {
                node.rules_down();
                node.leave(true);
            };
            self.holder.with(undo).await;
        }
        begun
    }

    async fn steps(&self) -> Result<(), Fault> {
        self.holder.with(Node::link_up).await?;
        if self.outlive
            && let Err(fault) = self.ask_ourselves().await
        {
            warn!("{fault}; it is asked again when the rules are there");
        }
        let rules = self.holder.with(Node::rules_up).await;
        match rules {
            Err(fault) if fault.kind == FaultKind::Lock => warn!("{fault}"),
            rules => rules?,
        }
        self.ask_ourselves().await
    }

    async fn ask_ourselves(&self) -> Result<(), Fault> {
        let mut answer = Ok(());
        for _ in 0..TRIES {
            answer = health::ask_ourselves(&self.addresses, self.mark).await;
            if answer.is_ok() {
                return Ok(());
            }
        }
        let why = answer.err().unwrap_or_default().join("; ");
        let what = format!(
            "our own questions are not answered: {why}; a packet filter of the node drops them, or the address is \
             elsewhere (`ip address`, `sidestep doctor`)"
        );
        Err(Fault { kind: FaultKind::LinkCheck, what })
    }

    /// Learns where clients can go without us, and puts the rules in line with it. Whether that is news, which it
    /// tells.
    async fn learn(&self, fallbacks: &mut Fallbacks, supervisor: &Supervisor) -> bool {
        if !self.settings.fail_open || self.mark.is_none() {
            return false;
        }
        // As it is now: a reload may have named another domain.
        let cluster = cluster_name(&supervisor.config.borrow().node.cluster_domain);
        let asked = supervisor.published.load().asked_for(self.listener, &cluster);
        let fallback = fallbacks.of(&asked, &self.addresses, self.settings.notrack_upstream).await;
        let take = move |node: &mut Node| {
            let is_news = node.fall_back_to(fallback);
            if is_news {
                match node.rules_up() {
                    Ok(()) => info!("{}", node.promise()),
                    Err(fault) => warn!("{fault}"),
                }
            }
            is_news
        };
        self.holder.with(take).await
    }

    /// Keeps link and rules as they should be, for ever.
    pub async fn keep(&self, supervisor: &Rc<Supervisor>) {
        let links = LinkEvents::open(&self.settings.interface, &self.settings.addresses);
        let mut links = links.inspect_err(|fault| warn!("{fault}")).ok();
        let rules = self.port.map(RuleEvents::listen).transpose();
        let mut rules = rules.inspect_err(|fault| warn!("{fault}")).ok().flatten();
        // What has happened since all was put up, nobody has heard.
        let mut is_well = self.holder.with(Node::check).await;
        let mut servers = supervisor.changes.subscribe();
        let mut fallbacks = Fallbacks::default();
        if !self.learn(&mut fallbacks, supervisor).await {
            info!("{}", self.holder.with(|node| node.promise()).await);
        }
        let mut due = Instant::now() + self.settings.check_every;
        loop {
            if !is_well {
                due = due.min(Instant::now() + RETRY);
            }
            sleep(PAUSE).await;
            // An event is no reason to ask around where clients can go: others change their rows all the time.
            let is_time = tokio::select! {
                () = sleep_until(due) => true,
                _ = servers.changed() => true, // the sender is the supervisor's, which is there
                () = heard(&mut links, LinkEvents::heard) => false,
                () = heard(&mut rules, RuleEvents::heard) => false,
            };
            if !is_time {
                sleep(SETTLE).await;
            }
            // Clients need link and rules now; servers that do not answer may take seconds.
            is_well = self.holder.with(Node::check).await;
            if is_time {
                due = Instant::now() + self.settings.check_every;
                self.learn(&mut fallbacks, supervisor).await;
            }
        }
    }
}

/// A process that dumps its memory keeps its sockets and its rules for as long as that takes, a second for half a
/// gigabyte, and clients keep coming all the while. So we leave no dump (PR_SET_DUMPABLE, prctl(2)).
fn die_at_once() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "after a crash the kernel may take time to dump our memory, and clients wait for it");
    }
}

/// A domain that has been checked, in wire format.
fn cluster_name(domain: &str) -> Box<[u8]> {
    domain.parse::<ZoneName>().map_or_else(|_| ZoneName::root().wire().into(), |name| name.wire().into())
}

/// Waits until a source has something to tell; without one, for ever. One that is broken is told of and given up: the
/// timer must do then.
async fn heard<E>(source: &mut Option<E>, next: impl AsyncFn(&mut E) -> Result<(), Fault>) {
    if let Some(events) = source {
        match next(events).await {
            Ok(()) => return,
            Err(fault) => warn!("{fault}"),
        }
        *source = None;
    }
    std::future::pending().await
}
