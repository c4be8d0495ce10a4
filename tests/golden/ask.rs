//! Questions in dig's words, and answers in a form that can be compared and read: part by part, records as sets, TTLs
//! as they were before they began to run down.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use super::message;
use super::world::LOCAL;

/// All of them; those of a comment are left out.
pub fn questions() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("questions").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The parts of an answer.
pub const PARTS: [&str; 17] = [
    "rcode",
    "aa",
    "tc",
    "rd",
    "ra",
    "ad",
    "cd",
    "do",
    "question",
    "answer",
    "answer ttl",
    "authority",
    "authority ttl",
    "additional",
    "additional ttl",
    "edns size",
    "edns options",
];

/// An answer, in parts that have names; a part that is not there has no name either.
pub type Answer = BTreeMap<&'static str, String>;

/// TTLs that answers begin with: the caps of the blocks, CoreDNS' own floor, and those of the zones beneath.
const TTLS: [u32; 9] = [0, 1, 5, 12, 30, 60, 300, 3600, 7200];
/// How long an answer may have been in the cache when it is asked for again.
const AGED: u32 = 3;
/// Longer sections are told in short.
const MANY: usize = 12;
/// How long an answer may take; NOTIFY gets none of node-cache.
const PATIENCE: Duration = Duration::from_secs(2);
const ID: u16 = 7;

/// Asks one question.
pub fn ask(words: &str) -> Answer {
    let address: IpAddr = words.split_once('@').map_or(LOCAL[0], |(_, at)| at).parse().unwrap();
    let server = SocketAddr::new(address, 53);
    let query = query(words);
    let answer = if words.contains("+tcp") { over_tcp(server, &query) } else { over_udp(server, &query) };
    match answer {
        Ok(bytes) => read(&bytes),
        Err(error) => BTreeMap::from([("rcode", format!("no answer: {:?}", error.kind()))]),
    }
}

fn over_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The number of a type.
fn number(word: &str) -> Option<u16> {
    const TYPES: [(&str, u16); 13] = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("HTTPS", 65),
        ("AXFR", 252),
        ("ANY", 255),
        ("CAA", 257),
    ];
    let known = TYPES.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    known.or_else(|| word.strip_prefix("TYPE")?.parse().ok())
}

/// The query that dig would send for these words.
fn query(words: &str) -> Vec<u8> {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let (mut rtype, mut class, mut flags) = (1, 1u16, 0x0100);
    let (mut size, mut edns, mut opt_flags, mut options) = (1232, false, 0u32, Vec::new());
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("CH", _) => class = 3,
            ("+norec", _) => flags &= !0x0100,
            ("+cd", _) => flags |= 0x0010,
            ("+ad", _) => flags |= 0x0020,
            ("+opcode", code) => flags |= code.parse::<u16>().unwrap() << 11,
            ("+bufsize", bytes) => (edns, size) = (true, bytes.parse().unwrap()),
            ("+do", _) => (edns, opt_flags) = (true, opt_flags | 0x8000),
            ("+edns", version) => (edns, opt_flags) = (true, version.parse::<u32>().unwrap() << 16),
            ("+cookie", _) => (edns, options) = (true, message::option(10, b"sidestep")),
            ("+tcp", _) => {}
            (at, _) if at.starts_with('@') => {}
            (word, _) => rtype = number(word).unwrap_or_else(|| panic!("what is {word}?")),
        }
    }
    let question = [&message::name(name)[..], &rtype.to_be_bytes(), &class.to_be_bytes()].concat();
    let opt = if edns { vec![message::opt(size, opt_flags, &options)] } else { Vec::new() };
    message::message(ID, flags, &question, [&[], &[], &opt])
}

/// Takes an answer apart.
fn read(bytes: &[u8]) -> Answer {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(error) => return BTreeMap::from([("rcode", format!("no message: {error}"))]),
    };
    let meta = &message.metadata;
    assert_eq!(meta.id, ID);
    let mut answer = BTreeMap::from([("rcode", format!("{:?}", meta.response_code).to_uppercase())]);
    let flags = [
        ("aa", meta.authoritative),
        ("tc", meta.truncation),
        ("rd", meta.recursion_desired),
        ("ra", meta.recursion_available),
        ("ad", meta.authentic_data),
        ("cd", meta.checking_disabled),
    ];
    answer.extend(flags.iter().filter(|(_, is)| *is).map(|(flag, _)| (*flag, "yes".to_owned())));
    let questions: Vec<_> = message.queries.iter().map(ToString::to_string).collect();
    answer.insert("question", questions.join("; "));
    for (part, ttl, records) in [
        ("answer", "answer ttl", &message.answers),
        ("authority", "authority ttl", &message.authorities),
        ("additional", "additional ttl", &message.additionals),
    ] {
        let (records, ttls) = section(records);
        answer.extend([(part, records), (ttl, ttls)]);
    }
    if let Some(edns) = &message.edns {
        answer.insert("edns size", edns.max_payload().to_string());
        answer.insert("edns options", edns.options().as_ref().len().to_string());
        answer.insert("do", if edns.flags().dnssec_ok { "yes" } else { "" }.to_owned());
    }
    answer.retain(|_, value| !value.is_empty());
    answer
}

/// The records of a section in their alphabetical order, and their TTLs in the same order, but only one if all are the
/// same. Of many, the first and the last are told.
fn section(records: &[Record]) -> (String, String) {
    let mut all: Vec<(String, u32)> = records
        .iter()
        .map(|record| {
            let (name, class, rtype) = (&record.name, record.dns_class, record.record_type());
            (format!("{name} {class} {rtype} {}", record.data), began_with(record.ttl))
        })
        .collect();
    all.sort();
    let mut ttls: Vec<String> = all.iter().map(|(_, ttl)| ttl.to_string()).collect();
    if ttls.iter().all(|ttl| *ttl == ttls[0]) {
        ttls.truncate(1);
    }
    let texts: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    let text = match texts.as_slice() {
        [first, .., last] if texts.len() > MANY => format!("{} records, {first} to {last}", texts.len()),
        _ => texts.join("; "),
    };
    (text, ttls.join(" "))
}

/// The TTL that an answer had before it was kept for a moment.
fn began_with(ttl: u32) -> u32 {
    TTLS.into_iter().find(|began| (ttl..=ttl + AGED).contains(began)).unwrap_or(ttl)
}
