//! One question to an address of ours, as a client on this node would ask it, and whether the kernel tracked it.
//!
//! The question is `id.server` (RFC 4892), which is answered from memory. It must not leave the machine, not even
//! where a rule translates it to a server elsewhere: so the socket is bound to the link that carries the address
//! (SO_BINDTODEVICE), and only links from which nothing leads anywhere are asked. A packet that is translated
//! comes to nothing there, and its conntrack entry says where it would have gone.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as Layer, Socket, Type};

use super::finding::Finding;
use super::proc::Root;
use crate::node::conntrack::{Conntrack, Entry, Protocol, Tuple};
use crate::node::link::overview::{Link, is_dead_end};
use crate::wire::header::{self, Header};
use crate::wire::{class, rtype};

/// How long an answer from memory may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The name of the question, in wire format.
const NAME: &[u8] = b"\x02id\x06server\0";

/// What came of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whom it went to.
    pub address: SocketAddr,
    /// What came back.
    pub answer: Answer,
    /// The entry that it left. `Err`: conntrack could not be asked.
    pub entry: Result<Option<Entry>, String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An answer, whatever it says.
    Came,
    /// Nobody listens there.
    Refused,
    /// Nothing.
    Silence,
    /// It was not asked, for this reason.
    NotAsked(String),
}

impl Probe {
    /// It was answered, and conntrack does not know of it.
    pub fn is_clean(&self) -> bool {
        self.answer == Answer::Came && self.entry == Ok(None)
    }
}

/// Asks an address that a link of this machine carries.
pub fn ask(address: SocketAddr, links: &[Link], root: &Root) -> Probe {
    let not = |why: String| Probe { address, answer: Answer::NotAsked(why), entry: Ok(None) };
    let Some(link) = links.iter().find(|link| link.addresses.contains(&address.ip())) else {
        return not("it is on no link".to_owned());
    };
    if !is_dead_end(link, links) {
        return not(format!(
            "it stands on {}, from where a translated question could leave the machine",
            link.name
        ));
    }
    let socket = match bound(address.ip(), &link.name) {
        Ok(socket) => socket,
        Err(e) => return not(format!("no socket on link {}: {e}", link.name)),
    };
    let answer = match exchange(&socket, address) {
        // The kernel's refusal does not always find its way to a socket that is bound to a link.
        Answer::Silence if !listens(address, root) => Answer::Refused,
        answer => answer,
    };
    let entry = socket.local_addr().map_err(|e| e.to_string()).and_then(|own| tracked(own, address));
    Probe { address, answer, entry }
}

/// A fresh port of the address itself, on its link.
fn bound(address: IpAddr, link: &str) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Layer::UDP))?;
    socket.bind_device(Some(link.as_bytes()))?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

fn exchange(socket: &UdpSocket, address: SocketAddr) -> Answer {
    let id = rand::random();
    let header = Header { id, flags: header::RD, counts: [1, 0, 0, 0] };
    let question = [&header.bytes()[..], NAME, &rtype::TXT.to_be_bytes(), &class::CH.to_be_bytes()].concat();
    if let Err(e) = socket.connect(address).and_then(|()| socket.send(&question)) {
        return match e.kind() {
            io::ErrorKind::ConnectionRefused => Answer::Refused,
            // Translated to where this link does not lead.
            _ => Answer::Silence,
        };
    }
    let until = Instant::now() + PATIENCE;
    let mut answer = [0; 512];
    while Instant::now() < until {
        match socket.recv(&mut answer) {
            Ok(n) => {
                let ours = |header: Header| header.id == id && header.flags & header::QR != 0;
                if Header::read(&answer[..n]).is_some_and(ours) {
                    return Answer::Came;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Answer::Refused,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    Answer::Silence
}

/// Whether a UDP socket of this machine is bound to the address, or to all. True where that cannot be read.
fn listens(address: SocketAddr, root: &Root) -> bool {
    let tables = ["proc/net/udp", "proc/net/udp6"].map(|path| root.text(path));
    let bound = |text: &String| {
        text.lines().filter_map(local).any(|own| {
            own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified())
        })
    };
    tables.iter().all(Result::is_err) || tables.iter().flatten().any(bound)
}

/// The local address of a line: words of 32 bits in the host's byte order, hexadecimal, and the port.
fn local(line: &str) -> Option<SocketAddr> {
    let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
    let words =
        address.as_bytes().chunks(8).map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok());
    let words: Vec<[u8; 4]> = words.map(|word| word.map(u32::to_ne_bytes)).collect::<Option<_>>()?;
    let bytes = words.concat();
    let short = <[u8; 4]>::try_from(&bytes[..]).ok().map(IpAddr::from);
    let address = short.or_else(|| <[u8; 16]>::try_from(&bytes[..]).ok().map(IpAddr::from))?;
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

fn tracked(own: SocketAddr, address: SocketAddr) -> Result<Option<Entry>, String> {
    let found = Conntrack::open().and_then(|mut conntrack| conntrack.lookup(Protocol::Udp, own, address));
    found.map_err(|error| format!("ctnetlink: {error}"))
}

/// What the questions tell; `sleeping`: whether clients have somewhere else to go.
pub fn judge(probes: &[Probe], sleeping: bool) -> Vec<Finding> {
    let (came, other): (Vec<&Probe>, Vec<&Probe>) =
        probes.iter().partition(|probe| probe.answer == Answer::Came);
    let mut findings = Vec::new();
    if !came.is_empty() {
        findings.push(Finding::healthy("probe.answer", format!("{} answer.", list(&came))));
        findings.extend(tracking(&came));
    }
    findings.extend(other.into_iter().map(|probe| unanswered(probe, sleeping)));
    findings
}

/// Addresses as a list for people.
fn list(probes: &[&Probe]) -> String {
    probes.iter().map(|probe| probe.address.to_string()).collect::<Vec<_>>().join(", ")
}

fn unanswered(probe: &Probe, sleeping: bool) -> Finding {
    const CHECK: &str = "probe.answer";
    const RESTART: &str = "start sidestep, or look in its log why it does not answer";
    let address = probe.address;
    let fault = match &probe.answer {
        Answer::NotAsked(why) => {
            let what = format!("{address} was not asked: {why}.");
            return Finding::unknown(
                CHECK,
                what,
                "ask it by hand: dig +short CH TXT id.server, and see conntrack -L",
            );
        }
        Answer::Refused => "Nobody listens at",
        Answer::Came | Answer::Silence => "A server listens and does not answer at",
    };
    let translated = probe.entry.as_ref().ok().and_then(|entry| entry.as_ref()?.translated_to());
    let finding = if sleeping || translated.is_some() {
        let what = format!("{fault} {address}; meanwhile pods are handed to the cluster DNS.");
        Finding::note(CHECK, what).remedy(RESTART)
    } else {
        let what = format!("{fault} {address}: pods that ask it have no DNS.");
        let cure = match probe.answer {
            Answer::Refused => {
                "start sidestep; or, if no cache is to run here, take link and rules away: sidestep teardown"
            }
            _ => {
                "look in sidestep's log; a firewall that drops the query or its answer has a finding of its own"
            }
        };
        Finding::problem(CHECK, what, cure)
    };
    match translated {
        Some(to) => finding.evidence(format!("a query to {address} is translated to {to}")),
        None => finding,
    }
}

/// Whether the queries that were answered left entries.
fn tracking(came: &[&Probe]) -> Vec<Finding> {
    const CHECK: &str = "probe.untracked";
    let mut findings = Vec::new();
    let clean: Vec<&Probe> = came.iter().copied().filter(|probe| probe.is_clean()).collect();
    if !clean.is_empty() {
        findings
            .push(Finding::healthy(CHECK, format!("Queries to {} leave no conntrack entry.", list(&clean))));
    }
    let tracked: Vec<(&Probe, &Entry)> =
        came.iter().filter_map(|probe| Some((*probe, probe.entry.as_ref().ok()?.as_ref()?))).collect();
    if !tracked.is_empty() {
        let to: Vec<&Probe> = tracked.iter().map(|(probe, _)| *probe).collect();
        let what =
            format!("Queries to {} leave conntrack entries: a full table or a race loses them.", list(&to));
        let cure = "see what is said of rules; restart sidestep to have them made anew";
        findings.push(tracked.iter().fold(Finding::problem(CHECK, what, cure), |finding, (_, entry)| {
            let Tuple { src, dst, .. } = entry.original;
            finding.evidence(format!("entry udp {src} > {dst}, reply from {}", entry.reply.src))
        }));
    }
    if let Some(why) = came.iter().find_map(|probe| probe.entry.as_ref().err()) {
        let what = "Whether our queries leave conntrack entries is not known.";
        findings.push(Finding::unknown(CHECK, what, "run doctor as root").evidence(why));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn loopback() -> Link {
        Link {
            index: 1,
            name: "lo".to_owned(),
            up: true,
            loopback: true,
            addresses: vec!["127.0.0.1".parse().unwrap()],
            ..Link::default()
        }
    }

    #[test]
    fn an_answer_is_told_from_refusal_and_from_noise() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 512];
            let (n, from) = server.recv_from(&mut packet).unwrap();
            server.send_to(b"noise", from).unwrap();
            packet[2] |= 0x80;
            server.send_to(&packet[..n], from).unwrap();
        });
        assert_eq!(ask(address, &[loopback()], &Root::default()).answer, Answer::Came);
        thread.join().unwrap();
        // The server has closed its port.
        assert_eq!(ask(address, &[loopback()], &Root::default()).answer, Answer::Refused);
    }

    #[test]
    fn what_could_leave_the_machine_is_not_asked() {
        let wire =
            Link { name: "eth0".to_owned(), addresses: vec!["10.0.0.7".parse().unwrap()], ..Link::default() };
        for address in ["10.0.0.7:53", "192.0.2.1:53"] {
            let probe = ask(address.parse().unwrap(), &[loopback(), wire.clone()], &Root::default());
            assert!(matches!(probe.answer, Answer::NotAsked(_)), "{probe:?}");
            assert_eq!(judge(std::slice::from_ref(&probe), false)[0].level, Level::Unknown);
        }
    }

    #[test]
    fn silence_is_a_problem_unless_pods_have_somewhere_to_go() {
        let address = "169.254.20.10:53".parse().unwrap();
        let probe = Probe { address, answer: Answer::Refused, entry: Ok(None) };
        assert_eq!(judge(std::slice::from_ref(&probe), false)[0].level, Level::Problem);
        assert_eq!(judge(std::slice::from_ref(&probe), true)[0].level, Level::Note);
    }
}
