//! Our two tables as they are to be, and the messages that make them so.
//!
//! | table | holds | lives |
//! |---|---|---|
//! | `inet sidestep` | [`ROWS`](rules::ROWS) of the raw places | as long as the process: the flag `owner` |
//! | `inet sidestep-failopen` | [`SLEEPING`](rules::SLEEPING) rows | until it is taken away; its rows match a set that empties by itself |
//!
//! A table that is there is refilled: chains are emptied and filled within one transaction, so that no packet meets
//! half of it, and what the sets have learned stays. Only one that cannot be made right so is replaced.

use std::time::Duration;

use super::expr::{IpFamily, octets};
use super::message::{self, At, Family, Hook, Key, SetKind};
use super::rows::{self, Spread};
use crate::netlink::Message;
use crate::node::rules::{self, Place};
use crate::node::{ADDRESSES, Plan};

/// The table that goes with the process.
pub(super) const OWN: &str = "sidestep";
/// The table that stays.
pub(super) const FAIL_OPEN: &str = "sidestep-failopen";

/// Elements of a set of connections: more than we may have open over TCP, and questions over UDP for as long as they are
/// remembered. Beyond it, they are tracked like anybody's, and counted in a row of their own.
const CONNECTIONS: u32 = 65_536;
/// How long an element of those stays if a row said nothing else; they all do.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// Before connection tracking (NF_IP_PRI_RAW).
const RAW: i32 = -300;
/// Behind kube-proxy's translation (NF_IP_PRI_NAT_DST, -100): the first that translates wins.
const DESTINATION: i32 = -95;
/// Behind others' source translation (NF_IP_PRI_NAT_SRC, 100).
const SOURCE: i32 = 105;

/// A message of a transaction, and what it does, in words for a fault.
pub(super) struct Step {
    /// The message.
    pub(super) message: Message,
    /// What it does.
    pub(super) what: String,
}

impl Step {
    pub(super) fn new(message: Message, what: impl Into<String>) -> Self {
        Self { message, what: what.into() }
    }
}

/// A table as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name; the family is `inet`.
    pub(super) name: &'static str,
    /// [`message::OWNER`] or none.
    pub(super) flags: u32,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

/// A set as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: String,
    kind: SetKind,
    /// Its elements; `None`: rules put them in.
    pub(super) elements: Option<Vec<Vec<u8>>>,
}

/// A chain as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: Hook,
    pub(super) rules: Vec<rows::Rule>,
}

/// nft's types of what keys hold (libnftables' datatype.h), for those who list our sets.
fn address_key(family: IpFamily) -> Key {
    let kind = match family {
        IpFamily::V4 => 7,
        IpFamily::V6 => 8,
    };
    Key { kind, length: family.length() }
}

/// Protocol, address, port, address, port: six bits each.
fn connection_key(family: IpFamily) -> Key {
    const INET_PROTOCOL: u32 = 12;
    const INET_SERVICE: u32 = 13;
    let address = address_key(family);
    let parts = [INET_PROTOCOL, address.kind, INET_SERVICE, address.kind, INET_SERVICE];
    Key { kind: parts.iter().fold(0, |all, part| all << 6 | part), length: 12 + 2 * address.length }
}

/// Our addresses of a family, as elements.
fn addresses(plan: &Plan, family: IpFamily) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = plan
        .addresses
        .iter()
        .filter(|address| IpFamily::of(**address) == family)
        .map(|address| octets(*address))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Twice what we may have: expired elements take up room until they are swept.
fn room() -> Option<u32> {
    u32::try_from(2 * ADDRESSES.max).ok()
}

impl Table {
    /// `inet sidestep`.
    pub(super) fn own(plan: &Plan, flags: u32) -> Self {
        let mut sets = Vec::new();
        for family in IpFamily::BOTH {
            let digit = family.digit();
            let key = address_key(family);
            let fixed = SetKind { key, timeout: None, dynamic: false, size: room() };
            let live = SetKind { key, timeout: Some(rules::LIVE), dynamic: true, size: room() };
            let connections = SetKind {
                key: connection_key(family),
                timeout: Some(CONNECTION_TIMEOUT),
                dynamic: true,
                size: Some(CONNECTIONS),
            };
            sets.push(Set {
                name: format!("addresses{digit}"),
                kind: fixed,
                elements: Some(addresses(plan, family)),
            });
            sets.push(Set { name: format!("live{digit}"), kind: live, elements: None });
            sets.push(Set { name: format!("connections{digit}"), kind: connections, elements: None });
        }
        let chain = |name, place, number| {
            let rules = rows::rules(rules::ROWS, place, plan, Spread::First);
            Chain { name, kind: "filter", hook: Hook { number, priority: RAW }, rules }
        };
        let chains = vec![
            chain("prerouting", Place::RawPrerouting, message::PREROUTING),
            chain("output", Place::RawOutput, message::OUTPUT),
        ];
        Self { name: OWN, flags, sets, chains }
    }

    /// `inet sidestep-failopen`; none if there is nowhere to fall back to.
    pub(super) fn fail_open(plan: &Plan, spread: Spread) -> Option<Self> {
        let sets = IpFamily::BOTH.map(|family| Set {
            name: format!("armed{}", family.digit()),
            kind: SetKind {
                key: address_key(family),
                timeout: Some(rules::ARMED),
                dynamic: false,
                size: room(),
            },
            elements: Some(addresses(plan, family)),
        });
        let chain = |name, place, number, priority| {
            let rules = rows::rules(rules::SLEEPING, place, plan, spread);
            Chain { name, kind: "nat", hook: Hook { number, priority }, rules }
        };
        let chains = vec![
            chain("prerouting", Place::NatPrerouting, message::PREROUTING, DESTINATION),
            chain("output", Place::NatOutput, message::OUTPUT, DESTINATION),
            chain("postrouting", Place::NatPostrouting, message::POSTROUTING, SOURCE),
        ];
        let empty = chains.iter().all(|chain| chain.rules.is_empty());
        (!empty).then_some(Self { name: FAIL_OPEN, flags: 0, sets: sets.into(), chains })
    }

    /// Removes the table if it is there, and makes it anew.
    pub(super) fn replace(&self, there: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if there {
            steps.push(delete(self.name));
        }
        steps.extend(self.shape());
        steps.extend(self.contents());
        steps
    }

    /// Empties the table's chains and fixed sets, and fills them.
    pub(super) fn refill(&self) -> Vec<Step> {
        let mut steps = self.shape();
        for chain in &self.chains {
            let message = message::flush_chain(Family::INET, self.name, chain.name);
            steps.push(Step::new(message, format!("emptying the chain {} of {}", chain.name, self.name)));
        }
        for set in self.sets.iter().filter(|set| set.elements.is_some()) {
            steps.push(self.flush(&set.name));
        }
        steps.extend(self.contents());
        steps
    }

    /// Renews the time of the elements that would go by themselves.
    pub(super) fn renew(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for set in self.sets.iter().filter(|set| set.kind.timeout.is_some() && set.elements.is_some()) {
            steps.push(self.flush(&set.name));
            steps.extend(self.fill(set));
        }
        steps
    }

    /// The table, its sets and its chains, where they are not there yet.
    fn shape(&self) -> Vec<Step> {
        let name = self.name;
        let table = message::new_table(Family::INET, name, self.flags);
        let mut steps = vec![Step::new(table, format!("making the table inet {name}"))];
        for (id, set) in (1..).zip(&self.sets) {
            let message = message::new_set(Family::INET, name, &set.name, set.kind, id);
            steps.push(Step::new(message, format!("making the set {} of {name}", set.name)));
        }
        for chain in &self.chains {
            let message = message::new_chain(Family::INET, name, chain.name, chain.kind, chain.hook);
            steps.push(Step::new(
                message,
                format!("making the {} chain {} of {name}", chain.kind, chain.name),
            ));
        }
        steps
    }

    /// What is in them.
    fn contents(&self) -> Vec<Step> {
        let mut steps: Vec<_> = self.sets.iter().filter_map(|set| self.fill(set)).collect();
        for chain in &self.chains {
            for rule in &chain.rules {
                let note = rule.note().bytes();
                let message = message::new_rule(
                    Family::INET,
                    self.name,
                    chain.name,
                    At::Tail,
                    &rule.expressions,
                    &note,
                );
                let what =
                    format!("putting a row into the chain {} of {} ({})", chain.name, self.name, rule.reason);
                steps.push(Step::new(message, what));
            }
        }
        steps
    }

    fn flush(&self, set: &str) -> Step {
        let message = message::flush_set(Family::INET, self.name, set);
        Step::new(message, format!("emptying the set {set} of {}", self.name))
    }

    fn fill(&self, set: &Set) -> Option<Step> {
        let elements = set.elements.as_ref().filter(|elements| !elements.is_empty())?;
        let message = message::add_elements(Family::INET, self.name, &set.name, elements);
        Some(Step::new(message, format!("putting our addresses into the set {} of {}", set.name, self.name)))
    }
}

/// Takes a table of ours away.
pub(super) fn delete(name: &str) -> Step {
    Step::new(message::delete_table(Family::INET, name), format!("taking away the table inet {name}"))
}
