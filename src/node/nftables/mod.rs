//! The rules in nftables, over netlink; no program is needed. (What a killed process has left in iptables is looked for
//! once, where iptables can be run.)
//!
//! Two tables of family `inet` (`table`), made from the rows of [`rules`](super::rules) (`rows`). One socket
//! does everything for as long as the process lives, because `inet sidestep` belongs to it: the kernel takes the
//! table away as it closes the socket, and until then nobody else can change it. Descriptors of a process that ends
//! are closed from the highest number on, and closing many sockets takes time; so this one has the highest number,
//! or clients would ask a process that is gone for as long as that takes.
//!
//! Where it falls short: a TCP connection that a client opened to the cluster DNS while we were gone is reset when
//! we are back, since its packets come to us then; clients open another. And we cannot see iptables-legacy's tables.
//!
//! | file | what it holds |
//! |---|---|
//! | `expr`, `phrases` | expressions, what a rule is made of; what several of them say |
//! | `message` | messages: tables, chains, sets, elements, rules |
//! | `note` | comment and fingerprint beside a rule |
//! | `rows` | from a row of the plan to expressions |
//! | `table`, `difference` | our two tables: as planned and made so; as they are, compared |
//! | `foreign`, `accept` | other programs' chains that drop, and our accept rows in them |
//! | `teardown` | taking away |
//! | `dump` | reading back |
//! | `overview` | what `status` and `doctor` show |
//! | `events` | others have changed something |
//! | `legacy` | iptables-legacy's filter table, which cannot be seen from here |
//! | `owner`, `fault` | who holds a table; what went wrong, and what to do |

mod accept;
mod difference;
mod dump;
mod events;
pub(crate) mod expr;
mod fault;
mod foreign;
mod legacy;
pub(crate) mod message;
pub(crate) mod note;
mod overview;
mod owner;
mod phrases;
mod rows;
mod table;
mod teardown;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

pub use events::Events;
pub use legacy::warnings as legacy_warnings;
pub use overview::{Chain, Overview, Row, Table, read};
pub use owner::Owner;
pub(super) use owner::holder;
pub use teardown::{in_use, teardown, teardown_accepts};

use self::difference::Actual;
use self::fault::{Refusal, commit, fault};
use self::foreign::Which;
use self::rows::Spread;
use self::table::{FAIL_OPEN, OWN};
use self::teardown::{held, remove, unaccept};
use super::{Drift, DriftKind, Fault, Firewall, Plan, iptables};
use crate::netlink::{Family, Socket};

/// The number that the socket's descriptor gets, or one close to the limit of open files if that is lower: above
/// whatever else the thread opens that holds the node. The kernel's table takes eight bytes for each number below it.
const PINNED: u64 = 1023;
/// How long the table of a process that has been killed may take to go: it waits for whoever is changing the packet
/// filter, half a second for 20,000 rules of others.
const VACANT: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const VACANT_STEP: Duration = Duration::from_millis(20);
/// How often the sleeping rows are armed anew, at most: each time is a transaction, and others change the packet filter
/// all the time.
const REARM: Duration = Duration::from_secs(30);

/// Our rules in nftables. Dropping it takes away `inet sidestep`, where the kernel has owner tables.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
    port: u32,
    /// [`message::OWNER`], if the kernel has it.
    flags: u32,
    spread: Spread,
    /// What is up.
    plan: Option<Plan>,
    /// When the sleeping rows were last armed.
    rearmed: Option<Instant>,
    warnings: Vec<String>,
}

impl Nftables {
    /// Opens the socket and finds out what the kernel can do. Changes nothing yet. To be called when the limit of
    /// open files has been raised.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or we lack CAP_NET_ADMIN.
    pub fn open() -> Result<Self, Fault> {
        let opened = || -> Result<_, crate::netlink::Error> {
            let socket = Socket::open(Family::Netfilter)?.pinned(highest())?;
            let port = socket.port()?;
            Ok((socket, port))
        };
        let (mut socket, port) = opened().map_err(|error| fault("opening a netlink socket", &error))?;
        let flags = owner_flag(&mut socket)?;
        Ok(Self {
            socket,
            port,
            flags,
            spread: Spread::Hash,
            plan: None,
            rearmed: None,
            warnings: Vec::new(),
        })
    }

    /// Whether the kernel takes the rules away with the process (Linux 5.12). If not, they still do nothing two
    /// seconds after the last answer.
    pub fn owns(&self) -> bool {
        self.flags == message::OWNER
    }

    /// Has the sleeping rows stay for another [`ARMED`](super::rules::ARMED).
    ///
    /// # Errors
    /// The table is there and cannot be changed.
    fn rearm(&mut self) -> Result<(), Fault> {
        let Some(table) = self.plan.as_ref().and_then(|plan| table::Table::fail_open(plan, self.spread))
        else {
            return Ok(());
        };
        match commit(&mut self.socket, table.renew()) {
            Err(refusal) if refusal.error.errno() == Some(Errno::NOENT) => Ok(()), // `check` puts it back
            done => {
                done?;
                self.rearmed = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Makes `inet sidestep` that of the plan, and says what was not.
    fn own(&mut self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let table = table::Table::own(plan, self.flags);
        let actual = self.actual(OWN)?;
        let owner = actual.as_ref().and_then(|actual| actual.table().owner);
        if let Some(other) = owner.filter(|owner| *owner != self.port) {
            return Err(held(other));
        }
        Ok(self.put(&table, actual.as_ref())?)
    }

    /// Makes `inet sidestep-failopen` that of the plan, and says what was not.
    fn fail_open(&mut self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let actual = self.actual(FAIL_OPEN)?;
        let Some(table) = table::Table::fail_open(plan, self.spread) else {
            if actual.is_none() {
                return Ok(Vec::new());
            }
            commit(&mut self.socket, vec![table::delete(FAIL_OPEN)])?;
            return Ok(vec![format!("the table inet {FAIL_OPEN} was there, with nowhere to fall back to")]);
        };
        let refusal = match self.put(&table, actual.as_ref()) {
            Err(refusal) if missing(&refusal) => refusal,
            done => return Ok(done?),
        };
        if self.spread == Spread::Hash && plan.fallbacks.len() > 1 {
            self.spread = Spread::First;
            let again = self.fail_open(plan);
            self.warn(again.is_ok().then(|| {
                "nftables: the kernel has no hash expression (CONFIG_NFT_HASH): without us, all clients go to \
                 the first server of the cluster DNS"
                    .to_owned()
            }));
            return again;
        }
        self.warn(Some(format!(
            "nftables: no fail-open: {}: {}. It needs NAT in inet tables (Linux 5.2, nft_nat, nft_masq); when this \
             process ends, clients are not sent to the cluster DNS",
            refusal.what, refusal.error
        )));
        Ok(Vec::new())
    }

    /// Refills a table or, where that does not do, replaces it; leaves it alone if it is right.
    fn put(&mut self, planned: &table::Table, actual: Option<&Actual>) -> Result<Vec<String>, Refusal> {
        let differences = planned.differences(actual);
        if differences.is_empty() {
            return Ok(differences);
        }
        let refilled = actual.is_some() && commit(&mut self.socket, planned.refill()).is_ok();
        let now = Actual::read(&mut self.socket, planned.name).ok().flatten();
        if !refilled || !planned.differences(now.as_ref()).is_empty() {
            commit(&mut self.socket, planned.replace(now.is_some()))?;
        }
        Ok(differences)
    }

    /// Puts our accept rows into the chains of others that drop, and says where they were not.
    fn accept(&mut self, plan: &Plan) -> Result<Vec<String>, Fault> {
        let looking = |error| fault("looking at the filter chains of others", &error);
        let chains = foreign::chains(&mut self.socket, Which::Dropping).map_err(looking)?;
        let tables = dump::tables(&mut self.socket).map_err(looking)?;
        let mut repaired = Vec::new();
        for dropping in &chains {
            let chain = &dropping.chain;
            let steps = foreign::repair(dropping, plan);
            if steps.is_empty() {
                continue;
            }
            let ours = |table: &&dump::Table| table.family == chain.family && table.name == chain.table;
            let owner = tables.iter().find(ours).and_then(|table| table.owner);
            let name = foreign::describe(chain);
            let by_hand = foreign::by_hand(chain, plan);
            if let Some(owner) = owner {
                let owner = Owner::find(owner);
                self.warn(Some(format!(
                    "the chain {name} drops what it does not know, and belongs to {owner}, who alone can change it. \
                     Have it accept DNS, if it does not (firewalld: firewall-cmd --permanent --add-service=dns, \
                     firewall-cmd --reload), as these rows would: {by_hand}"
                )));
                continue;
            }
            match commit(&mut self.socket, steps) {
                Ok(()) => repaired.push(format!("the chain {name}, which drops, lacked our accept rows")),
                Err(refusal) => {
                    let fault = Fault::from(refusal);
                    self.warn(Some(format!(
                        "{fault}. Untracked queries are dropped there without: {by_hand}"
                    )));
                }
            }
        }
        Ok(repaired)
    }

    fn actual(&mut self, name: &str) -> Result<Option<Actual>, Fault> {
        Actual::read(&mut self.socket, name)
            .map_err(|error| fault(&format!("reading the table inet {name}"), &error))
    }

    fn warn(&mut self, warning: Option<String>) {
        let warning = warning.filter(|warning| !self.warnings.contains(warning));
        self.warnings.extend(warning);
    }
}

impl Firewall for Nftables {
    fn name(&self) -> String {
        let life =
            if self.owns() { "goes with the process" } else { "asleep two seconds after the last answer" };
        format!("nftables, {life}")
    }

    /// The sleeping rows come first: when NOTRACK begins, there is already something beneath it.
    fn up(&mut self, plan: &Plan) -> Result<(), Fault> {
        self.check(plan).map(drop)
    }

    fn check(&mut self, plan: &Plan) -> Result<Vec<Drift>, Fault> {
        self.warnings = legacy_warnings(plan);
        // Known before the first step, so that `rearm` and `down` after a failure know what there may be.
        self.plan = Some(plan.clone());
        // One that fails does not keep the others from being right.
        let steps = [
            (DriftKind::FailOpen, self.fail_open(plan)),
            (DriftKind::Rules, self.accept(plan)),
            (DriftKind::Rules, self.own(plan)),
        ];
        let mut drift = Vec::new();
        for (kind, repaired) in steps {
            drift.extend(repaired?.into_iter().map(|what| Drift { kind, what }));
        }
        if self.rearmed.is_none_or(|rearmed| rearmed.elapsed() >= REARM) {
            self.rearm()?;
        }
        Ok(drift)
    }

    fn vacant(&mut self) -> Result<(), Fault> {
        let end = Instant::now() + VACANT;
        loop {
            let table = dump::find_table(&mut self.socket, message::Family::INET, OWN)
                .map_err(|error| fault(&format!("looking for the table inet {OWN}"), &error))?;
            match table.and_then(|table| table.owner).filter(|owner| *owner != self.port) {
                None => return Ok(()),
                Some(other) if Instant::now() > end => return Err(held(other)),
                Some(_) => std::thread::sleep(VACANT_STEP),
            }
        }
    }

    fn supersede(&mut self, plan: &Plan) -> Result<usize, Vec<Fault>> {
        iptables::clear(&plan.addresses)
    }

    fn asleep(&self) -> Vec<SocketAddr> {
        read().map(|overview| overview.fallbacks).unwrap_or_default()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn outlives_us(&self) -> bool {
        false // or for two seconds without an answer, before Linux 5.12
    }

    fn port(&self) -> Option<u32> {
        Some(self.port)
    }

    fn down(&mut self) -> Result<(), Vec<Fault>> {
        let mut faults: Vec<Fault> = self.rearm().err().into_iter().collect();
        faults.extend(remove(&mut self.socket, OWN, Some(self.port)).err());
        self.plan = None;
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn leave(&mut self) -> Result<(), Vec<Fault>> {
        unaccept(&mut self.socket).map(drop)
    }
}

/// The lowest number for the socket's descriptor: see [`PINNED`].
fn highest() -> i32 {
    /// Numbers that are left above it, should the first be taken.
    const ROOM: u64 = 16;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    i32::try_from(limit.saturating_sub(ROOM).min(PINNED)).unwrap_or(i32::MAX)
}

/// Whether the kernel has owner tables, by making one and taking it away in one transaction.
fn owner_flag(socket: &mut Socket) -> Result<u32, Fault> {
    const TRIAL: &str = "sidestep-trial";
    let trial = |flags| {
        vec![
            table::Step::new(
                message::new_table(message::Family::INET, TRIAL, flags),
                "making a table of family inet",
            ),
            table::delete(TRIAL),
        ]
    };
    match commit(socket, trial(message::OWNER)) {
        Ok(()) => Ok(message::OWNER),
        Err(refusal) if matches!(refusal.error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
            commit(socket, trial(0))?;
            Ok(0)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Whether the kernel lacks something, rather than that it was asked wrongly.
fn missing(refusal: &Refusal) -> bool {
    matches!(refusal.error.errno(), Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT))
}
