//! What takes two or three expressions: one thing that is true of a packet, in the words of the rows.
//!
//! `nft list ruleset` shows them as if `nft` had put them in, if addresses are preceded by the protocol family and
//! ports by the transport protocol.

use std::net::IpAddr;

use super::expr::{Compare, Expressions, Header, IpFamily, Meta, Register, octets};

// The names are the rows' own: `Match::To`, `Match::From`.
#[allow(clippy::wrong_self_convention)]
impl Expressions {
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
