//! One rule of iptables, as we make it and as we find it again: the words of iptables-save, and no others.
//!
//! A rule is compared by what it says, not by how it is spelt: the order of options, `NOTRACK` or `CT --notrack`,
//! `tcp` or `6` are the same to us, because versions and variants of iptables differ in them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::node::rules::Place;

/// iptables or ip6tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// iptables.
    V4,
    /// ip6tables.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }
}

/// Protocols that DNS is spoken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Number 17.
    Udp,
    /// Number 6.
    Tcp,
}

impl Protocol {
    /// As iptables writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `NOTRACK`; newer versions print it as `CT --notrack`.
    Notrack,
    /// `ACCEPT`.
    Accept,
    /// `DNAT --to-destination`.
    Dnat(SocketAddr),
    /// `MASQUERADE`.
    Masquerade,
}

/// By its comment a rule is known as ours, or as node-cache's, whose words we use where our rules are its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comment {
    /// Rules of the raw table.
    Skip,
    /// Rules of the filter table.
    Allow,
    /// The sleeping rows, which node-cache does not have.
    FallBack,
}

impl Comment {
    /// The text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Skip => "NodeLocal DNS Cache: skip conntrack",
            Self::Allow => "NodeLocal DNS Cache: allow DNS traffic",
            Self::FallBack => "sidestep: cluster DNS while the cache is gone",
        }
    }

    /// Which of them this is, if any.
    pub fn of(text: &str) -> Option<Self> {
        [Self::Skip, Self::Allow, Self::FallBack].into_iter().find(|comment| comment.text() == text)
    }
}

/// A rule that we could have made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Table and chain.
    pub place: Place,
    /// `-s`: one address.
    pub source: Option<IpAddr>,
    /// `-d`: one address.
    pub destination: Option<IpAddr>,
    /// `-p`.
    pub protocol: Option<Protocol>,
    /// `--sport`: first and last.
    pub source_ports: Option<(u16, u16)>,
    /// `--dport`.
    pub destination_port: Option<u16>,
    /// `--syn`: SYN is set, and ACK, RST and FIN are not.
    pub opening: bool,
    /// `-m socket`: a socket is bound to the address it goes to.
    pub socket: bool,
    /// `-m mark`: whether it is this mark, or any but this.
    pub mark: Option<(bool, u32)>,
    /// `-m conntrack --ctstate DNAT`.
    pub translated: bool,
    /// `--comment`.
    pub comment: Comment,
    /// `-j`.
    pub target: Target,
}

impl Rule {
    /// A rule that matches everything at `place`.
    pub fn new(place: Place, comment: Comment, target: Target) -> Self {
        Self {
            place,
            source: None,
            destination: None,
            protocol: None,
            source_ports: None,
            destination_port: None,
            opening: false,
            socket: false,
            mark: None,
            translated: false,
            comment,
            target,
        }
    }
}

/// The options, as `iptables-save` of 1.8 prints them, without `-A` and the chain.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |address: IpAddr| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
        if let Some(source) = self.source {
            write!(f, "-s {} ", host(source))?;
        }
        if let Some(destination) = self.destination {
            write!(f, "-d {} ", host(destination))?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, "-p {0} -m {0} ", protocol.name())?;
        }
        match self.source_ports {
            Some((first, last)) if first == last => write!(f, "--sport {first} ")?,
            Some((first, last)) => write!(f, "--sport {first}:{last} ")?,
            None => {}
        }
        if let Some(port) = self.destination_port {
            write!(f, "--dport {port} ")?;
        }
        if self.opening {
            write!(f, "--tcp-flags {SYN_MASK} SYN ")?;
        }
        if self.socket {
            write!(f, "-m socket ")?;
        }
        if let Some((is, mark)) = self.mark {
            write!(f, "-m mark {}--mark {mark:#x} ", if is { "" } else { "! " })?;
        }
        if self.translated {
            write!(f, "-m conntrack --ctstate DNAT ")?;
        }
        write!(f, "-m comment --comment \"{}\" -j ", self.comment.text())?;
        match self.target {
            Target::Notrack => write!(f, "NOTRACK"),
            Target::Accept => write!(f, "ACCEPT"),
            Target::Dnat(server) => write!(f, "DNAT --to-destination {server}"),
            Target::Masquerade => write!(f, "MASQUERADE"),
        }
    }
}

/// What `--syn` looks at.
pub const SYN_MASK: &str = "FIN,SYN,RST,ACK";

/// The table of a place, as iptables names it.
pub fn table(place: Place) -> &'static str {
    match place {
        Place::RawPrerouting | Place::RawOutput => "raw",
        Place::FilterInput | Place::FilterOutput => "filter",
        Place::NatPrerouting | Place::NatOutput | Place::NatPostrouting => "nat",
    }
}

/// The chain of a place, as iptables names it.
pub fn chain(place: Place) -> &'static str {
    match place {
        Place::RawPrerouting | Place::NatPrerouting => "PREROUTING",
        Place::RawOutput | Place::FilterOutput | Place::NatOutput => "OUTPUT",
        Place::FilterInput => "INPUT",
        Place::NatPostrouting => "POSTROUTING",
    }
}

/// Every place that we have rules in.
pub const PLACES: [Place; 7] = [
    Place::RawPrerouting,
    Place::RawOutput,
    Place::FilterInput,
    Place::FilterOutput,
    Place::NatPrerouting,
    Place::NatOutput,
    Place::NatPostrouting,
];
