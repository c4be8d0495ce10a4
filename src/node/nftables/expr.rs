//! Expressions: what a row is made of. The kernel runs them in order over 16 registers of four bytes; the first that
//! is not true of the packet ends the row.
//!
//! Names and numbers are those of linux/netfilter/nf_tables.h. Every method appends one expression, `dnat` and
//! `set_mark` also those that load their values; `phrases` has what takes two or three.

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
    pub(super) fn source(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Where in the header the receiver's address stands.
    pub(super) fn destination(self) -> u32 {
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
}
