//! The addresses in a reply: what a service's name stands for. Pure, so that tests need no server.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::limit::Limit;
use crate::upstream::message;
use crate::wire::records::{self, Record, Section};
use crate::wire::{Malformed, class, name, rcode, rtype};

/// Addresses that are taken from one name. Each costs every worker connections and memory.
pub const ADDRESSES: Limit<usize> = Limit::new(1, 32, 32);

/// How long addresses are used before they are asked for again: their TTL, within these bounds. Below, a TTL of
/// zero would be a question without end; above, pods are gone for longer than anybody wants to wait.
pub const REFRESH: Limit<Duration> =
    Limit::new(Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(300));

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its addresses, in the order of the reply.
    pub addresses: Vec<IpAddr>,
    /// When to ask again: the lowest TTL on the way to them, within [`REFRESH`].
    pub ttl: Duration,
}

/// Reads the reply to a question for A or AAAA: the addresses of the question's name, or of what it is an alias
/// of (RFC 1034 section 3.6.2). A name without any (NODATA) has none for [`REFRESH`]'s longest time.
///
/// # Errors
/// The name does not exist, the server has failed, or its reply is no message.
pub fn read(reply: &[u8]) -> Result<Found, String> {
    let code = message::rcode(reply);
    if u16::from(code) != rcode::NOERROR {
        return Err(format!("the answer is {}", ResponseCode::from(0, code)));
    }
    addresses(reply).map_err(|Malformed| "the answer is malformed".to_owned())
}

fn addresses(reply: &[u8]) -> Result<Found, Malformed> {
    let records = records::walk(reply)?.collect::<Result<Vec<_>, _>>()?;
    let answers: Vec<_> =
        records.into_iter().filter(|r| r.section == Section::Answer && r.class == class::IN).collect();
    let mut found = Found { addresses: Vec::new(), ttl: REFRESH.max };
    let mut owner = message::HEADER; // the question's name
    // No chain is longer than the records there are: one that goes in a circle ends too.
    for _ in 0..=answers.len() {
        for record in answers.iter().filter(|r| name::same(reply, r.owner, owner)) {
            if let Some(address) = address(record, reply) {
                found.addresses.push(address);
                found.ttl = found.ttl.min(ttl(record));
            }
        }
        let alias = |r: &&Record| r.rtype == rtype::CNAME && name::same(reply, r.owner, owner);
        let Some(alias) = answers.iter().find(alias).filter(|_| found.addresses.is_empty()) else { break };
        found.ttl = found.ttl.min(ttl(alias));
        owner = alias.rdata.start;
    }
    found.ttl = found.ttl.max(REFRESH.min);
    Ok(found)
}

/// The address in a record, if it is one that a server can have.
fn address(record: &Record, reply: &[u8]) -> Option<IpAddr> {
    let data = reply.get(record.rdata.clone())?;
    let address = match record.rtype {
        rtype::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
        rtype::AAAA => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
        _ => return None,
    };
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// A TTL with its highest bit set is zero (RFC 2181 section 8).
fn ttl(record: &Record) -> Duration {
    Duration::from_secs(u64::from(if record.ttl >> 31 == 0 { record.ttl } else { 0 }))
}

/// Puts the two families together. One that could not be asked about keeps what was `known` of it, provided that
/// the other has addresses.
///
/// # Errors
/// There are no addresses, and why.
pub fn merge(
    v4: Result<Found, String>,
    v6: Result<Found, String>,
    known: &[IpAddr],
) -> Result<Found, String> {
    let (mut found, missing) = match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let addresses = [v4.addresses, v6.addresses].concat();
            (Found { addresses, ttl: v4.ttl.min(v6.ttl) }, None)
        }
        (Ok(found), Err(why)) | (Err(why), Ok(found)) => (found, Some(why)),
        (Err(why), Err(_)) => return Err(why),
    };
    let Some(first) = found.addresses.first() else {
        return Err(missing.unwrap_or_else(|| "the name has no addresses".to_owned()));
    };
    if missing.is_some() {
        let there = first.is_ipv4();
        found.addresses.extend(known.iter().filter(|address| address.is_ipv4() != there));
    }
    Ok(found)
}

/// Sorts the addresses, each once, and takes no more than [`ADDRESSES`]; true if there were more. Every process
/// takes others, by its `keys`, so that the nodes of a cluster do not all ask the same few; but the same again
/// each time, so that connections stay.
pub fn choose(addresses: &mut Vec<IpAddr>, keys: &RandomState) -> bool {
    addresses.sort_unstable();
    addresses.dedup();
    let too_many = addresses.len() > ADDRESSES.max;
    if too_many {
        addresses.sort_by_cached_key(|address| keys.hash_one(address));
        addresses.truncate(ADDRESSES.max);
        addresses.sort_unstable();
    }
    too_many
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of class IN whose owner is the name at this offset.
    fn record(owner: u8, rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u16;
        let fixed = [&[0xc0, owner][..], &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes()].concat();
        [&fixed, &length.to_be_bytes()[..], data].concat()
    }

    /// A reply about `dns.test`, whose name stands at 12 and ends at 21; the records begin at 26.
    fn reply(code: u8, answers: &[Vec<u8>]) -> Vec<u8> {
        let header = [0, 7, 0x81, 0x80 | code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0];
        [&header[..], b"\x03dns\x04test\0\0\x01\0\x01", &answers.concat()].concat()
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn addresses_of_the_name_are_taken_with_the_lowest_ttl() {
        let answers = [
            record(12, 1, 60, &[10, 244, 0, 3]),
            record(12, 1, 20, &[10, 244, 0, 2]),
            record(16, 1, 1, &[10, 244, 0, 9]), // of `test`
            record(12, 1, 1, &[0, 0, 0, 0]),
            record(12, 1, 1, &[10, 244, 0]),
            record(12, 16, 1, b"\x01x"),
        ];
        let found = read(&reply(0, &answers)).unwrap();
        assert_eq!(found, Found { addresses: vec![v4(3), v4(2)], ttl: secs(20) });
        let six =
            read(&reply(0, &[record(12, 28, 30, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])]));
        assert_eq!(six.unwrap().addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn an_alias_is_followed_and_a_circle_ends() {
        // dns.test > a.test > b.test: the names stand in the data, at 38 and 54.
        let chain = [
            record(12, 5, 90, b"\x01a\xc0\x10"),
            record(38, 5, 40, b"\x01b\xc0\x10"),
            record(54, 1, 80, &[10, 244, 0, 4]),
            record(38, 1, 1, &[10, 244, 0, 9]), // beside an alias there is nothing (RFC 1034)
        ];
        let found = read(&reply(0, &chain[..3])).unwrap();
        assert_eq!(found, Found { addresses: vec![v4(4)], ttl: secs(40) });
        assert_eq!(read(&reply(0, &chain)).unwrap().addresses, [v4(9)], "the first addresses on the way");
        let circle = [record(12, 5, 90, b"\x01a\xc0\x10"), record(38, 5, 40, b"\xc0\x0c")];
        assert!(read(&reply(0, &circle)).unwrap().addresses.is_empty());
    }

    #[test]
    fn ttls_are_bounded() {
        let of = |ttl| read(&reply(0, &[record(12, 1, ttl, &[10, 244, 0, 1])])).unwrap().ttl;
        assert_eq!([of(0), of(7), of(u32::MAX), of(100_000)], [secs(5), secs(7), secs(5), secs(300)]);
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        assert_eq!(read(&reply(3, &[])).unwrap_err(), "the answer is Non-Existent Domain");
        assert!(read(&reply(2, &[])).is_err());
        assert!(read(&[]).is_err());
        let whole = reply(0, &[record(12, 1, 1, &[10, 244, 0, 1])]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(read(&reply(0, &[])).unwrap().addresses.is_empty(), "no data is an answer");
    }

    #[test]
    fn a_family_that_fails_keeps_what_was_known_of_it() {
        let six: IpAddr = "fd00::1".parse().unwrap();
        let found = |addresses: &[IpAddr], n| Ok(Found { addresses: addresses.to_vec(), ttl: secs(n) });
        let fails = || Err("why".to_owned());
        let known = [v4(1), six];
        let merged = |a, b| merge(a, b, &known).map(|found| (found.addresses, found.ttl.as_secs()));
        assert_eq!(merged(found(&[v4(2)], 10), found(&[six], 20)), Ok((vec![v4(2), six], 10)));
        assert_eq!(merged(found(&[v4(2)], 10), fails()), Ok((vec![v4(2), six], 10)));
        assert_eq!(merged(fails(), found(&[six], 9)), Ok((vec![six, v4(1)], 9)));
        assert_eq!(
            merged(found(&[v4(2)], 10), found(&[], 300)),
            Ok((vec![v4(2)], 10)),
            "no data is an answer"
        );
        assert_eq!(merged(fails(), found(&[], 300)), Err("why".to_owned()));
        assert_eq!(merged(fails(), fails()), Err("why".to_owned()));
        assert_eq!(merged(found(&[], 9), found(&[], 9)), Err("the name has no addresses".to_owned()));
    }

    #[test]
    fn of_too_many_each_process_takes_its_own_and_stays_with_them() {
        let all: Vec<_> = (0..100).rev().map(v4).collect();
        let take = |from: &[IpAddr], keys: &RandomState| {
            let mut taken = from.to_vec();
            (choose(&mut taken, keys), taken)
        };
        let (one, two) = (RandomState::new(), RandomState::new());
        let (too_many, taken) = take(&all, &one);
        assert!(too_many && taken.len() == ADDRESSES.max && taken.is_sorted());
        assert_eq!(take(&all, &one).1, taken);
        assert_ne!(take(&all, &two).1, taken);
        let without: Vec<_> = all.iter().copied().filter(|a| *a != taken[5]).collect();
        let kept = take(&without, &one).1.iter().filter(|a| taken.contains(a)).count();
        assert_eq!(kept, ADDRESSES.max - 1, "one goes, one comes");
        assert_eq!(take(&[v4(2), v4(1), v4(2)], &one), (false, vec![v4(1), v4(2)]));
    }
}
