//! Connection tracking as the kernel tells of it over ctnetlink (linux/netfilter/nfnetlink_conntrack.h): what it
//! counts, one entry by its tuple, and the entries of an address.
//!
//! It is only read here. An entry tells two things that nothing else does: that a packet of ours was tracked at all,
//! and whether a connection of ours was translated on its way (its reply comes from another address than the one
//! that we spoke to). Reading needs CAP_NET_ADMIN in the network namespace.

use std::net::{IpAddr, SocketAddr};

use crate::netlink::{Attributes, Error, Family, Message, Reply, Socket};

/// NFNL_SUBSYS_CTNETLINK, where message types have it.
const SUBSYSTEM: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = SUBSYSTEM | 1;
const IPCTNL_MSG_CT_GET_STATS_CPU: u16 = SUBSYSTEM | 4;
const IPCTNL_MSG_CT_GET_STATS: u16 = SUBSYSTEM | 5;
/// Bytes of `struct nfgenmsg`.
const FIXED: usize = 4;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The protocol's number (IANA); what is no TCP and no UDP may have zeros for ports.
    pub protocol: u8,
    /// Where its packets come from.
    pub src: SocketAddr,
    /// Where they go.
    pub dst: SocketAddr,
}

/// A connection that the kernel tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The direction of its first packet, as it was sent.
    pub original: Tuple,
    /// The direction of the answers. Without translation it is the other the wrong way round.
    pub reply: Tuple,
}

impl Entry {
    /// Where the packets really went, if not where they were sent (DNAT).
    pub fn translated_to(&self) -> Option<SocketAddr> {
        (self.reply.src != self.original.dst).then_some(self.reply.src)
    }

    /// Whether the address stands at either end, before or after translation.
    pub fn concerns(&self, address: IpAddr) -> bool {
        [self.original.src, self.original.dst, self.reply.src, self.reply.dst]
            .iter()
            .any(|end| end.ip() == address)
    }
}

/// What a network namespace has counted since it exists, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries that could not be inserted: a race with the same tuple was lost.
    pub insert_failed: u64,
    /// Packets dropped because there was no entry for them: a full table, or a race lost.
    pub drop: u64,
    /// Entries thrown out to make room in a full table.
    pub early_drop: u64,
    /// Races that the kernel settled without a loss. `None`: it does not count them (before Linux 5.10).
    pub clash_resolve: Option<u64>,
}

/// The way to the kernel.
#[derive(Debug)]
pub struct Conntrack(Socket);

impl Conntrack {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel has no netfilter netlink, or a sandbox forbids it.
    pub fn open() -> Result<Self, Error> {
        Socket::open(Family::Netfilter).map(Self)
    }

    /// What was counted.
    ///
    /// # Errors
    /// The kernel's own: EPERM without CAP_NET_ADMIN, EINVAL without ctnetlink.
    pub fn totals(&mut self) -> Result<Totals, Error> {
        let replies = self.0.dump(&Message::new(IPCTNL_MSG_CT_GET_STATS_CPU, 0, &[0; FIXED]))?;
        Ok(Totals::sum(&replies))
    }

    /// How many connections are tracked now, of both families; `None`: the kernel does not say.
    ///
    /// # Errors
    /// As [`totals`](Self::totals).
    pub fn count(&mut self) -> Result<Option<u32>, Error> {
        const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
        let reply = self.0.get(&Message::new(IPCTNL_MSG_CT_GET_STATS, 0, &[0; FIXED]))?;
        Ok(reply.and_then(|reply| reply.attributes(FIXED).network(CTA_STATS_GLOBAL_ENTRIES)))
    }

    /// The entry of a connection, found by either of its directions.
    ///
    /// # Errors
    /// As [`totals`](Self::totals).
    pub fn lookup(
        &mut self,
        protocol: Protocol,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Result<Option<Entry>, Error> {
        let tuple = Tuple { protocol: protocol.number(), src, dst };
        Ok(self.0.get(&tuple.question())?.as_ref().and_then(Entry::read))
    }

    /// All entries with the address at either end, before or after translation. The kernel hands over the whole
    /// table of the address's family, some hundred bytes an entry; what does not concern the address is left out.
    ///
    /// # Errors
    /// As [`totals`](Self::totals).
    pub fn entries_of(&mut self, address: IpAddr) -> Result<Vec<Entry>, Error> {
        let replies = self.0.dump(&Message::new(IPCTNL_MSG_CT_GET, 0, &[family(address), 0, 0, 0]))?;
        Ok(replies.iter().filter_map(Entry::read).filter(|entry| entry.concerns(address)).collect())
    }
}

/// AF_INET or AF_INET6.
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

impl Totals {
    /// Adds up what each processor has counted.
    fn sum(replies: &[Reply]) -> Self {
        const CTA_STATS_INSERT_FAILED: u16 = 9;
        const CTA_STATS_DROP: u16 = 10;
        const CTA_STATS_EARLY_DROP: u16 = 11;
        const CTA_STATS_CLASH_RESOLVE: u16 = 14;
        let of = |kind| {
            let counts = replies.iter().filter_map(|reply| reply.attributes(FIXED).network(kind));
            counts.map(u64::from).fold(None, |sum, n| Some(sum.unwrap_or(0) + n))
        };
        Self {
            insert_failed: of(CTA_STATS_INSERT_FAILED).unwrap_or(0),
            drop: of(CTA_STATS_DROP).unwrap_or(0),
            early_drop: of(CTA_STATS_EARLY_DROP).unwrap_or(0),
            clash_resolve: of(CTA_STATS_CLASH_RESOLVE),
        }
    }

    /// Reads /proc/net/stat/nf_conntrack: a line of names, then a line of hexadecimal counts for each processor.
    /// `None`: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next()?.split_whitespace().collect();
        let rows: Vec<Vec<u64>> = lines
            .map(|line| line.split_whitespace().map(|n| u64::from_str_radix(n, 16).ok()).collect())
            .collect::<Option<_>>()?;
        let of = |name: &str| {
            let column = names.iter().position(|n| *n == name)?;
            Some(rows.iter().filter_map(|row| row.get(column)).sum())
        };
        Some(Self {
            insert_failed: of("insert_failed")?,
            drop: of("drop")?,
            early_drop: of("early_drop")?,
            clash_resolve: of("clashres").or_else(|| of("clash_resolve")),
        })
    }
}

impl Tuple {
    /// Asks for the entry of this tuple.
    fn question(&self) -> Message {
        let mut message = Message::new(IPCTNL_MSG_CT_GET, 0, &[family(self.src.ip()), 0, 0, 0]);
        message.nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                for (end, v4, v6) in
                    [(self.src, CTA_IP_V4_SRC, CTA_IP_V6_SRC), (self.dst, CTA_IP_V4_DST, CTA_IP_V6_DST)]
                {
                    match end.ip() {
                        IpAddr::V4(address) => ip.put(v4, &address.octets()),
                        IpAddr::V6(address) => ip.put(v6, &address.octets()),
                    };
                }
            });
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.put(CTA_PROTO_NUM, &[self.protocol]);
                proto.put(CTA_PROTO_SRC_PORT, &self.src.port().to_be_bytes());
                proto.put(CTA_PROTO_DST_PORT, &self.dst.port().to_be_bytes());
            });
        });
        message
    }

    fn read(tuple: Attributes<'_>) -> Option<Self> {
        let (ip, proto) = (tuple.nested(CTA_TUPLE_IP), tuple.nested(CTA_TUPLE_PROTO));
        let address = |v4, v6| {
            let short = ip.get(v4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
            short.or_else(|| ip.get(v6).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from))
        };
        let port = |kind| proto.get(kind).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
        Some(Self {
            protocol: *proto.get(CTA_PROTO_NUM)?.first()?,
            src: SocketAddr::new(address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(CTA_PROTO_SRC_PORT)),
            dst: SocketAddr::new(address(CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(CTA_PROTO_DST_PORT)),
        })
    }
}

impl Entry {
    fn read(reply: &Reply) -> Option<Self> {
        let attributes = reply.attributes(FIXED);
        Some(Self {
            original: Tuple::read(attributes.nested(CTA_TUPLE_ORIG))?,
            reply: Tuple::read(attributes.nested(CTA_TUPLE_REPLY))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.18, two processors.
    const NEW: &str = "\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
0000000c  00000011 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000003 00000004 00000000  00000000 00000000 00000000 00000000
0000000c  00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000  00000000 00000000 00000000 00000000
";
    /// Linux 4.15, one processor.
    const OLD: &str = "\
entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000177  00000b2e 0000a1f7 000008ce 0000006e 00001d45 00000757 00000757 000008ce 0000001f 0000001f 00000000 00000003  00000000 00000000 00000000 00000000
";

    #[test]
    fn counts_are_added_up_over_the_processors() {
        let expected = Totals { insert_failed: 2, drop: 4, early_drop: 4, clash_resolve: Some(0x12) };
        assert_eq!(Totals::parse(NEW), Some(expected));
    }

    #[test]
    fn an_old_kernel_does_not_count_clashes() {
        let expected = Totals { insert_failed: 0x1f, drop: 0x1f, early_drop: 0, clash_resolve: None };
        assert_eq!(Totals::parse(OLD), Some(expected));
        assert_eq!(Totals::parse(""), None);
        assert_eq!(Totals::parse("entries drop\nzz 1\n"), None);
    }

    #[test]
    fn an_entry_is_read_with_both_directions_and_tells_a_translation() {
        // A query to 10.96.0.10:53 that went to 10.244.0.5:53, as the kernel words it.
        let asked = Tuple {
            protocol: 17,
            src: "10.244.1.7:4711".parse().unwrap(),
            dst: "10.96.0.10:53".parse().unwrap(),
        };
        let mut message = asked.question();
        message.nest(CTA_TUPLE_REPLY, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.put(CTA_IP_V4_SRC, &[10, 244, 0, 5]).put(CTA_IP_V4_DST, &[10, 244, 1, 7]);
            });
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.put(CTA_PROTO_NUM, &[17]).put(CTA_PROTO_SRC_PORT, &53u16.to_be_bytes());
                proto.put(CTA_PROTO_DST_PORT, &4711u16.to_be_bytes());
            });
        });
        let reply = message.heard();
        let entry = Entry::read(&reply).unwrap();
        assert_eq!(entry.original, asked);
        assert_eq!(entry.translated_to(), Some("10.244.0.5:53".parse().unwrap()));
        for (address, concerned) in [("10.96.0.10", true), ("10.244.0.5", true), ("10.96.0.11", false)] {
            assert_eq!(entry.concerns(address.parse().unwrap()), concerned, "{address}");
        }
        for cut in 0..reply.body.len() {
            let body = reply.body[..cut].to_vec();
            let damaged = Entry::read(&Reply { body, ..reply.clone() });
            assert!(damaged.is_none_or(|damaged| damaged.original == entry.original), "{cut}");
        }
    }

    #[test]
    fn what_one_processor_does_not_tell_takes_nothing_from_the_others() {
        let counted = |n: u32| {
            let mut message = Message::new(IPCTNL_MSG_CT_GET_STATS_CPU, 0, &[0; FIXED]);
            message.network(9, n).network(10, n).network(14, n);
            message.heard()
        };
        let silent = Message::new(IPCTNL_MSG_CT_GET_STATS_CPU, 0, &[0; FIXED]).heard();
        let expected = Totals { insert_failed: 5, drop: 5, early_drop: 0, clash_resolve: Some(5) };
        assert_eq!(Totals::sum(&[counted(2), silent.clone(), counted(3)]), expected);
        assert_eq!(Totals::sum(&[silent]).clash_resolve, None);
    }
}
