//! The node's packet filter as far as DNS is concerned, whoever wrote it: nftables, iptables-nft (both read over
//! netlink, [`nft`]) and iptables-legacy ([`legacy`]) in one shape, so that every judgement is made once.
//!
//! Of a rule only what decides over a DNS packet is kept: an exact address, a port, the verdict, and of whatever
//! else it asks for only the kind ([`Extra`]).

pub mod legacy;
pub mod nft;
mod walk;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Chains and rules, in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Every chain.
    pub chains: Vec<Chain>,
    /// Every rule, those of one chain in their order.
    pub rules: Vec<Rule>,
}

/// A table: where chains and rules belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Who holds it.
    pub keeper: Keeper,
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: String,
}

/// Which part of the kernel holds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// nf_tables: `nft` and `iptables-nft`.
    Nftables,
    /// ip_tables and ip6_tables: `iptables-legacy`.
    Legacy,
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table.
    pub table: Table,
    /// Its name.
    pub name: String,
    /// Where packets come into it, if not from another chain.
    pub base: Option<Base>,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Where on their way packets meet it.
    pub hook: Hook,
    /// Whether packets that no rule decides over are dropped.
    pub drops: bool,
}

/// Where on their way packets meet a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Prerouting,
    /// What is for this machine.
    Input,
    /// What passes through.
    Forward,
    /// What is sent from here.
    Output,
    /// What leaves.
    Postrouting,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its table.
    pub table: Table,
    /// Its chain.
    pub chain: String,
    /// The one address that packets come from.
    pub from: Option<IpAddr>,
    /// The one address that they go to.
    pub to: Option<IpAddr>,
    /// The protocol's number.
    pub protocol: Option<u8>,
    /// The port that they come from.
    pub sport: Option<u16>,
    /// The port that they go to.
    pub dport: Option<u16>,
    /// What else it asks for.
    pub extra: Extra,
    /// What it does.
    pub action: Action,
    /// Packets that it has seen, where it counts them.
    pub packets: Option<u64>,
    /// What its writer says of it.
    pub comment: Option<String>,
}

/// What a rule asks for besides addresses, protocol and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Extra {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that a packet of ours may have: a source network, an interface, a set.
    Something,
    /// A state of its connection, which an untracked packet does not have.
    State,
    /// That it comes or goes by loopback, which a pod's packet does not.
    Loopback,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Action {
    /// Something that decides nothing here.
    #[default]
    Other,
    /// The packet passes this chain's hook.
    Accept,
    /// It is dropped or rejected.
    Drop,
    /// It is not tracked.
    Notrack,
    /// Its destination is translated; to this address, where the rule names one.
    Translate(Option<SocketAddr>),
    /// It goes on in another chain.
    Jump(String),
}

impl Family {
    /// Whether packets with this address are seen.
    pub fn sees(self, address: IpAddr) -> bool {
        match self {
            Self::Ip => address.is_ipv4(),
            Self::Ip6 => address.is_ipv6(),
            Self::Inet => true,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keeper {
            Keeper::Nftables => write!(f, "{} {}", self.family, self.name),
            Keeper::Legacy if self.family == Family::Ip6 => write!(f, "ip6tables-legacy {}", self.name),
            Keeper::Legacy => write!(f, "iptables-legacy {}", self.name),
        }
    }
}

impl Chain {
    /// Whether it belongs to one of the iptables: `nft` should not touch it.
    pub fn is_iptables(&self) -> bool {
        self.table.keeper == Keeper::Legacy
            || (self.table.family != Family::Inet
                && self.base.is_some()
                && self.name == self.name.to_uppercase())
    }
}

/// What is known of it, in the words of iptables.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.map(|number| match number {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => other.to_string(),
        });
        let (from, to) = (self.from.map(|a| a.to_string()), self.to.map(|a| a.to_string()));
        let (sport, dport) = (self.sport.map(|p| p.to_string()), self.dport.map(|p| p.to_string()));
        let asked = [("-s", from), ("-d", to), ("-p", protocol), ("--sport", sport), ("--dport", dport)];
        for (option, value) in asked.into_iter().filter_map(|(option, value)| Some((option, value?))) {
            write!(f, "{option} {value} ")?;
        }
        if self.extra != Extra::Nothing {
            f.write_str("... ")?;
        }
        match &self.action {
            Action::Other => f.write_str("...")?,
            Action::Accept => f.write_str("-j ACCEPT")?,
            Action::Drop => f.write_str("-j DROP")?,
            Action::Notrack => f.write_str("-j NOTRACK")?,
            Action::Translate(None) => f.write_str("-j DNAT")?,
            Action::Translate(Some(to)) => write!(f, "-j DNAT --to-destination {to}")?,
            Action::Jump(chain) => write!(f, "-j {chain}")?,
        }
        self.comment.as_ref().map_or(Ok(()), |comment| write!(f, " (\"{comment}\")"))
    }
}

impl Rule {
    /// A rule that asks for nothing and does nothing.
    fn empty(table: Table, chain: String) -> Self {
        Self {
            table,
            chain,
            from: None,
            to: None,
            protocol: None,
            sport: None,
            dport: None,
            extra: Extra::Nothing,
            action: Action::Other,
            packets: None,
            comment: None,
        }
    }

    /// Whether it asks for nothing: every packet meets it.
    pub fn is_broad(&self) -> bool {
        self.extra == Extra::Nothing
            && self.protocol.is_none()
            && [self.from, self.to] == [None, None]
            && self.ports() == [None; 2]
    }

    /// It asks for this as well; what rules out a pod's untracked packets stays.
    fn also(&mut self, extra: Extra) {
        self.extra = self.extra.max(extra);
    }

    fn ports(&self) -> [Option<u16>; 2] {
        [self.sport, self.dport]
    }
}

impl Ruleset {
    /// The rules of one chain.
    pub fn of<'a>(&'a self, table: &'a Table, chain: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.table == *table && rule.chain == chain)
    }

    /// Takes in what another reader has found.
    pub fn extend(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.rules.extend(other.rules);
    }
}
