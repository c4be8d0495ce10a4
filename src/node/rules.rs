//! The rules, as data: every row that we put into a packet filter, with its reason. Both backends make theirs from
//! these two tables, so what stands here is what the kernel gets.
//!
//! NOTRACK exists in the raw table alone, before connection tracking sees the packet (priority -300, tracking is at
//! -200; linux/netfilter_ipv4.h). A NOTRACK target in the mangle table is refused, whatever articles say.
//!
//! A packet that is not tracked is not translated either: NAT works on connections. So [`SLEEPING`] rows beneath a
//! [`ROWS`] that matches sleep, and are awake in the same instant in which it goes.

/// A row of a packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where on its way a packet meets it.
    pub place: Place,
    /// What must be true of the packet, all of it.
    pub matches: &'static [Match],
    /// What is done then.
    pub action: Action,
    /// Why it is there.
    pub reason: &'static str,
}

/// Table and chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// What comes in, before it is tracked.
    RawPrerouting,
    /// What is sent from here, before it is tracked.
    RawOutput,
    /// What is for this machine.
    FilterInput,
    /// What is sent from here.
    FilterOutput,
    /// What comes in, when its connection begins.
    NatPrerouting,
    /// What is sent from here, when its connection begins.
    NatOutput,
    /// What leaves, when its connection begins.
    NatPostrouting,
}

/// Something that is true of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is UDP.
    Udp,
    /// It is TCP.
    Tcp,
    /// It goes to one of our addresses and this port.
    To(Port),
    /// It comes from one of our addresses and this port.
    From(Port),
    /// It comes from one of our addresses, whatever the port.
    FromUs,
    /// We have answered at the address it goes to within the last [`LIVE`]. nftables: a set of addresses with a
    /// timeout. iptables: somebody listens there (`-m socket`), in PREROUTING only; elsewhere always true.
    Answering,
    /// It is (not) a question of ours to ourselves: its mark is [`PROBE_MARK`].
    Probe(bool),
    /// It is of a connection of ours to a pod behind a Service's name: its mark is [`UPSTREAM_MARK`].
    OwnUpstream,
    /// It is the other direction of such a connection, as [`Action::Remember`] has noted it.
    Remembered,
    /// It opens a TCP connection (SYN without ACK).
    Opening,
    /// Its destination has been translated.
    Translated,
}

/// One of our ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// DNS.
    Dns,
    /// HTTP: health and metrics, where they are served at one of our addresses.
    Http,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not tracked, so it is not translated.
    Notrack,
    /// It passes this table; others may still drop it.
    Accept,
    /// We answer at the address it comes from, for another [`LIVE`]. nftables only; it goes on to the next row.
    Refresh,
    /// Its connection is noted exactly, both ends, and it is not tracked; it passes this table. Where there is no room
    /// to note it, nothing is done and it goes on to the next row. nftables only.
    Remember,
    /// Its destination becomes one of the cluster's DNS servers: the same for all packets of one socket, so that a
    /// client's A and AAAA go the same way and cannot race through different translations.
    ToCluster,
    /// Its source becomes the address of the interface it leaves by.
    Masquerade,
}

/// How long one answer of ours keeps packets coming, if no other follows.
pub const LIVE: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a question over UDP is remembered ([`Action::Remember`]): twice what any client waits. Each has a socket of
/// its own, so that they add up: with room for 65,536 of a family, 8,192 a second.
pub const DATAGRAM: std::time::Duration = std::time::Duration::from_secs(8);
/// How long the sleeping rows stay armed after the last process of ours.
pub const ARMED: std::time::Duration = std::time::Duration::from_secs(15 * 60);
/// The mark (SO_MARK) of questions to ourselves. Marks of kube-proxy (0x4000, 0x8000), Calico (0xffff0000), Cilium
/// (0x0f00), AWS (0x80) and Tailscale (0xff0000) lie in other bits.
pub const PROBE_MARK: u32 = 0x53;
/// The mark of our own connections to pods; see [`PROBE_MARK`].
pub const UPSTREAM_MARK: u32 = 0x54;

use Action::{Accept, Masquerade, Notrack, Refresh, Remember, ToCluster};
use Match::{Answering, From, FromUs, Opening, OwnUpstream, Probe, Remembered, Tcp, To, Translated, Udp};
use Place::{FilterInput, FilterOutput, NatOutput, NatPostrouting, NatPrerouting, RawOutput, RawPrerouting};
use Port::{Dns, Http};

const fn row(place: Place, matches: &'static [Match], action: Action, reason: &'static str) -> Row {
    Row { place, matches, action, reason }
}

const PODS: &str = "pods' queries are not tracked, so they neither race nor find the table full";
const ANSWERS: &str = "our answers are not tracked";
const HOST: &str = "queries of clients on the host network are not tracked";
const HTTP: &str = "the kubelet's probes are not tracked, so a full table does not make us look dead";
/// The other direction has no mark, so it is known by what was noted: these exact connections and no more, or pods that
/// ask the Service would break.
const UPSTREAM: &str = "a full table does not cut us off from the cluster DNS";
const PASS_IN: &str = "rules for established connections do not know untracked queries";
const PASS_OUT: &str = "rules for established connections do not know untracked answers";

/// While we run: packets of ours go past connection tracking. The order within a place is the order in the chain.
pub const ROWS: &[Row] = &[
    row(RawPrerouting, &[Udp, To(Dns), Answering], Notrack, PODS),
    row(RawPrerouting, &[Tcp, To(Dns), Answering], Notrack, PODS),
    row(RawPrerouting, &[Remembered], Notrack, "what pods of the cluster DNS answer us is not tracked"),
    row(
        RawOutput,
        &[To(Dns), Probe(true)],
        Notrack,
        "our questions to ourselves arrive here while nobody else's do, or nobody's ever would again",
    ),
    row(
        RawOutput,
        &[Udp, From(Dns)],
        Refresh,
        "an answer shows that we live; over TCP the kernel itself would answer handshakes for a process that hangs",
    ),
    row(RawOutput, &[Udp, From(Dns)], Notrack, ANSWERS),
    row(RawOutput, &[Tcp, From(Dns)], Notrack, ANSWERS),
    row(RawOutput, &[Udp, To(Dns), Answering], Notrack, HOST),
    row(RawOutput, &[Tcp, To(Dns), Answering], Notrack, HOST),
    row(RawOutput, &[Tcp, To(Http)], Notrack, HTTP),
    row(RawOutput, &[Tcp, From(Http)], Notrack, HTTP),
    row(RawOutput, &[Tcp, OwnUpstream], Remember, UPSTREAM),
    row(RawOutput, &[Udp, OwnUpstream], Remember, UPSTREAM),
    row(
        RawOutput,
        &[OwnUpstream],
        Accept,
        "there was no room to note it: it is tracked, or its answer might be dropped",
    ),
    row(FilterInput, &[Udp, To(Dns)], Accept, PASS_IN),
    row(FilterInput, &[Tcp, To(Dns)], Accept, PASS_IN),
    row(FilterInput, &[OwnUpstream], Accept, PASS_IN),
    row(FilterOutput, &[Udp, From(Dns)], Accept, PASS_OUT),
    row(FilterOutput, &[Tcp, From(Dns)], Accept, PASS_OUT),
    row(FilterOutput, &[OwnUpstream], Accept, PASS_OUT),
];

const FALL_BACK: &str = "without us, queries go to the cluster DNS";
const FALL_BACK_TCP: &str = "without us, new connections go to the cluster DNS; open ones are not torn";

/// Beneath them, for [`ARMED`] longer than we run: fail-open.
pub const SLEEPING: &[Row] = &[
    row(NatPrerouting, &[Udp, To(Dns), Probe(false)], ToCluster, FALL_BACK),
    row(NatPrerouting, &[Tcp, To(Dns), Probe(false), Opening], ToCluster, FALL_BACK_TCP),
    row(NatOutput, &[Udp, To(Dns), Probe(false)], ToCluster, FALL_BACK),
    row(NatOutput, &[Tcp, To(Dns), Probe(false), Opening], ToCluster, FALL_BACK_TCP),
    row(
        NatPostrouting,
        &[FromUs, Translated],
        Masquerade,
        "a client on the host network asks from our own address, which every node has: answers would not come back",
    ),
];
