//! Expressions: what a row is made of. The kernel runs them in order over 16 registers of four bytes; the first that
//! is not true of the packet ends the row.
//!
//! Names and numbers are those of linux/netfilter/nf_tables.h. Every method appends one expression, except those
//! at the end, which append the two or three that say one thing in the rows' words (`udp`, `to_port`). `nft list
//! ruleset` shows them as if `nft` had put them in: addresses are preceded by the protocol family and ports by the
//! transport protocol, as `nft` expects it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::netlink::attribute;

/// NLA_F_NESTED.
const NESTED: u16 = 0x8000;
/// NFTA_LIST_ELEM.
pub(super) const LIST_ELEMENT: u16 = 1;
/// NFTA_DATA_VALUE.
const DATA_VALUE: u16 = 1;

/// A register of four bytes; longer values take the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    /// Where everything is loaded that the next expression looks at.
    pub(crate) const FIRST: Self = Self(8); // NFT_REG32_00
    /// Behind the longest address in [`FIRST`](Self::FIRST).
    pub(crate) const FIFTH: Self = Self(12); // NFT_REG32_04

    /// The register behind a value of `length` bytes that starts in this one.
    pub(crate) fn behind(self, length: u32) -> Self {
        Self(self.0 + length.div_ceil(4))
    }
}

/// What `meta` knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    /// SO_MARK and fwmark; four bytes in the host's order.
    Mark = 3,
    /// NFPROTO_*: one byte.
    Family = 15,
    /// IPPROTO_*: one byte.
    Protocol = 16,
}

/// Where in a packet `payload` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// IPv4 or IPv6.
    Network = 1,
    /// UDP or TCP. Not there in fragments but the first.
    Transport = 2,
}

/// How `cmp` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Equal.
    Equal = 0,
    /// Not equal.
    Unequal = 1,
}

/// What becomes of a packet in this chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// NF_DROP.
    Drop = 0,
    /// NF_ACCEPT: it passes this table.
    Accept = 1,
}

/// IPv4 or IPv6, with what differs between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// NFPROTO_IPV4 or NFPROTO_IPV6.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// Bytes of an address.
    pub(crate) fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// The number that ends the names of our sets: `live4`, `live6`.
    pub(crate) fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// Where in the header the sender's address stands.
    fn source(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Where in the header the receiver's address stands.
    fn destination(self) -> u32 {
        self.source() + self.length()
    }
}

/// The bytes of an address as packets have them.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A list of expressions, as a rule message carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expressions(Vec<u8>);

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

fn data(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, &attribute(DATA_VALUE, value))
}

// The names are the rows' own: `Match::To`, `Match::From`.
#[allow(clippy::wrong_self_convention)]
impl Expressions {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The list as the value of NFTA_RULE_EXPRESSIONS.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends an expression by its kernel name; `attributes` are its own.
    pub(super) fn push(&mut self, name: &str, attributes: &[Vec<u8>]) -> &mut Self {
        const NFTA_EXPR_NAME: u16 = 1;
        const NFTA_EXPR_DATA: u16 = 2;
        let mut expression = text(NFTA_EXPR_NAME, name);
        if !attributes.is_empty() {
            expression.extend(attribute(NFTA_EXPR_DATA | NESTED, &attributes.concat()));
        }
        self.0.extend(attribute(LIST_ELEMENT | NESTED, &expression));
        self
    }

    /// Loads what `meta` knows.
    pub(crate) fn meta(&mut self, key: Meta, to: Register) -> &mut Self {
        self.push("meta", &[number(1, to.0), number(2, key as u32)])
    }

    /// Sets the packet's mark.
    pub(crate) fn set_mark(&mut self, mark: u32) -> &mut Self {
        self.immediate(Register::FIRST, &mark.to_ne_bytes());
        self.push("meta", &[number(2, Meta::Mark as u32), number(3, Register::FIRST.0)])
    }

    /// Loads bytes of the packet.
    pub(crate) fn payload(&mut self, header: Header, offset: u32, length: u32, to: Register) -> &mut Self {
        self.push(
            "payload",
            &[number(1, to.0), number(2, header as u32), number(3, offset), number(4, length)],
        )
    }

    /// Goes on if the register holds (or does not hold) these bytes.
    pub(crate) fn compare(&mut self, register: Register, how: Compare, value: &[u8]) -> &mut Self {
        self.push("cmp", &[number(1, register.0), number(2, how as u32), data(3, value)])
    }

    /// Keeps only the bits of the mask in the register.
    pub(crate) fn mask(&mut self, register: Register, mask: &[u8]) -> &mut Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let zeros = vec![0; mask.len()];
        self.push(
            "bitwise",
            &[
                number(1, register.0),
                number(2, register.0),
                number(3, length),
                data(4, mask),
                data(5, &zeros),
            ],
        )
    }

    /// Loads these bytes.
    pub(crate) fn immediate(&mut self, to: Register, value: &[u8]) -> &mut Self {
        self.push("immediate", &[number(1, to.0), data(2, value)])
    }

    /// Goes on if the set holds what stands from this register on.
    pub(crate) fn lookup(&mut self, set: &str, key: Register) -> &mut Self {
        self.push("lookup", &[text(1, set), number(2, key.0)])
    }

    /// Puts what stands from this register on into the set, or renews its time there. `None`: the set's own timeout.
    pub(crate) fn update(&mut self, set: &str, key: Register, timeout: Option<Duration>) -> &mut Self {
        const NFT_DYNSET_OP_UPDATE: u32 = 1;
        let mut attributes = vec![text(1, set), number(3, NFT_DYNSET_OP_UPDATE), number(4, key.0)];
        if let Some(timeout) = timeout {
            attributes.push(attribute(6, &super::message::milliseconds(timeout).to_be_bytes()));
        }
        self.push("dynset", &attributes)
    }

    /// Loads the status of the packet's connection (IPS_*; four bytes in the host's order).
    pub(crate) fn connection_status(&mut self, to: Register) -> &mut Self {
        const NFT_CT_STATUS: u32 = 2;
        self.push("ct", &[number(1, to.0), number(2, NFT_CT_STATUS)])
    }

    /// Loads `jhash` of `length` bytes, modulo: a number below `modulus` in the host's order. The seed is always
    /// said: without one the kernel gives each row a random one of its own, and rows that belong together differ.
    pub(crate) fn hash(
        &mut self,
        from: Register,
        length: u32,
        modulus: u32,
        seed: u32,
        to: Register,
    ) -> &mut Self {
        const NFT_HASH_JENKINS: u32 = 0;
        self.push(
            "hash",
            &[
                number(1, from.0),
                number(2, to.0),
                number(3, length),
                number(4, modulus),
                number(5, seed),
                number(7, NFT_HASH_JENKINS),
            ],
        )
    }

    /// Loads a random number below `modulus`, in the host's order.
    pub(crate) fn random(&mut self, modulus: u32, to: Register) -> &mut Self {
        const NFT_NG_RANDOM: u32 = 1;
        self.push("numgen", &[number(1, to.0), number(2, modulus), number(3, NFT_NG_RANDOM)])
    }

    /// Counts packets and bytes that came as far as this.
    pub(crate) fn counter(&mut self) -> &mut Self {
        self.push("counter", &[attribute(1, &[0; 8]), attribute(2, &[0; 8])])
    }

    /// The packet is not tracked. Before priority -200 only.
    pub(crate) fn notrack(&mut self) -> &mut Self {
        self.push("notrack", &[])
    }

    /// Ends the chain with a verdict.
    pub(crate) fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        const NFT_REG_VERDICT: u32 = 0;
        const NFTA_DATA_VERDICT: u16 = 2;
        let code = attribute(NFTA_DATA_VERDICT | NESTED, &number(1, verdict as u32));
        self.push("immediate", &[number(1, NFT_REG_VERDICT), attribute(2 | NESTED, &code)])
    }

    /// The connection's destination becomes this address and port, and the chain ends.
    pub(crate) fn dnat(&mut self, to: SocketAddr) -> &mut Self {
        const NFT_NAT_DNAT: u32 = 1;
        let family = u32::from(IpFamily::of(to.ip()).number());
        self.immediate(Register::FIRST, &octets(to.ip()));
        self.immediate(Register::FIFTH, &to.port().to_be_bytes());
        self.push(
            "nat",
            &[
                number(1, NFT_NAT_DNAT),
                number(2, family),
                number(3, Register::FIRST.0),
                number(5, Register::FIFTH.0),
            ],
        )
    }

    /// The connection's source becomes the address of the interface it leaves by, and the chain ends.
    pub(crate) fn masquerade(&mut self) -> &mut Self {
        self.push("masq", &[])
    }

    /// It is of this family. Not needed in tables of that family alone, but not wrong there.
    pub(crate) fn family(&mut self, family: IpFamily) -> &mut Self {
        self.meta(Meta::Family, Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &[family.number()])
    }

    /// It is of this transport protocol (IPPROTO_*).
    pub(crate) fn protocol(&mut self, protocol: u8) -> &mut Self {
        self.meta(Meta::Protocol, Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &[protocol])
    }

    /// It is UDP.
    pub(crate) fn udp(&mut self) -> &mut Self {
        self.protocol(17)
    }

    /// It is TCP.
    pub(crate) fn tcp(&mut self) -> &mut Self {
        self.protocol(6)
    }

    /// Loads the sender's address; [`family`](Self::family) comes before.
    pub(crate) fn source(&mut self, family: IpFamily, to: Register) -> &mut Self {
        self.payload(Header::Network, family.source(), family.length(), to)
    }

    /// Loads the receiver's address; [`family`](Self::family) comes before.
    pub(crate) fn destination(&mut self, family: IpFamily, to: Register) -> &mut Self {
        self.payload(Header::Network, family.destination(), family.length(), to)
    }

    /// Loads the sender's port.
    pub(crate) fn source_port(&mut self, to: Register) -> &mut Self {
        self.payload(Header::Transport, 0, 2, to)
    }

    /// Loads the receiver's port.
    pub(crate) fn destination_port(&mut self, to: Register) -> &mut Self {
        self.payload(Header::Transport, 2, 2, to)
    }

    /// It comes from this address.
    pub(crate) fn from_address(&mut self, address: IpAddr) -> &mut Self {
        self.source(IpFamily::of(address), Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &octets(address))
    }

    /// It goes to this address.
    pub(crate) fn to_address(&mut self, address: IpAddr) -> &mut Self {
        self.destination(IpFamily::of(address), Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &octets(address))
    }

    /// It comes from this port; [`udp`](Self::udp) or [`tcp`](Self::tcp) comes before.
    pub(crate) fn from_port(&mut self, port: u16) -> &mut Self {
        self.source_port(Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &port.to_be_bytes())
    }

    /// It goes to this port; [`udp`](Self::udp) or [`tcp`](Self::tcp) comes before.
    pub(crate) fn to_port(&mut self, port: u16) -> &mut Self {
        self.destination_port(Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &port.to_be_bytes())
    }

    /// It has this mark (or not).
    pub(crate) fn mark(&mut self, how: Compare, mark: u32) -> &mut Self {
        self.meta(Meta::Mark, Register::FIRST);
        self.compare(Register::FIRST, how, &mark.to_ne_bytes())
    }

    /// It opens a TCP connection: SYN without ACK; [`tcp`](Self::tcp) comes before.
    pub(crate) fn opening(&mut self) -> &mut Self {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.payload(Header::Transport, 13, 1, Register::FIRST);
        self.mask(Register::FIRST, &[SYN | ACK]);
        self.compare(Register::FIRST, Compare::Equal, &[SYN])
    }

    /// Its destination has been translated (IPS_DST_NAT).
    pub(crate) fn translated(&mut self) -> &mut Self {
        const IPS_DST_NAT: u32 = 1 << 5;
        self.connection_status(Register::FIRST);
        self.mask(Register::FIRST, &IPS_DST_NAT.to_ne_bytes());
        self.compare(Register::FIRST, Compare::Unequal, &[0; 4])
    }

    /// It is the `index`th of `count` parts of all packets, chosen at random each time, as kube-proxy does.
    pub(crate) fn random_part(&mut self, index: u32, count: u32) -> &mut Self {
        self.random(count, Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &index.to_ne_bytes())
    }

    /// It is the `index`th of `count` parts of all packets; those of one socket are in the same part.
    /// [`family`](Self::family) comes before.
    pub(crate) fn socket_part(&mut self, family: IpFamily, index: u32, count: u32) -> &mut Self {
        /// Any number will do, as long as all rows have the same.
        const SEED: u32 = 0x5349_4445;
        let address = Register::FIFTH;
        self.source(family, address);
        self.source_port(address.behind(family.length()));
        self.hash(address, family.length() + 4, count, SEED, Register::FIRST);
        self.compare(Register::FIRST, Compare::Equal, &index.to_ne_bytes())
    }
}
