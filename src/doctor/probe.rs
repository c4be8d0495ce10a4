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
use super::links::{Link, is_dead_end};
use crate::node::conntrack::{Conntrack, Entry, Protocol};
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
pub fn ask(address: SocketAddr, links: &[Link]) -> Probe {
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
    let answer = exchange(&socket, address);
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

fn tracked(own: SocketAddr, address: SocketAddr) -> Result<Option<Entry>, String> {
    let found = Conntrack::open().and_then(|mut conntrack| conntrack.lookup(Protocol::Udp, own, address));
    found.map_err(|error| format!("ctnetlink: {error}"))
}

/// What the question tells; `sleeping`: whether clients have somewhere else to go.
pub fn judge(probe: &Probe, sleeping: bool) -> Vec<Finding> {
    const ANSWER: &str = "probe.answer";
    let address = probe.address;
    let answer = match &probe.answer {
        Answer::Came => Finding::healthy(ANSWER, format!("{address} answers.")),
        Answer::NotAsked(why) => return vec![not_asked(ANSWER, address, why)],
        Answer::Refused | Answer::Silence if sleeping => Finding::note(
            ANSWER,
            format!("Nobody answers at {address}; pods are handed to the cluster DNS meanwhile."),
        )
        .remedy("start sidestep, or look in its log why it does not answer"),
        Answer::Refused => Finding::problem(
            ANSWER,
            format!("Nobody listens at {address}: pods that ask it have no DNS."),
            "start sidestep; or, if no cache is to run here, take link and rules away: `sidestep teardown`",
        ),
        Answer::Silence => Finding::problem(
            ANSWER,
            format!(
                "{address} does not answer within {} s: pods that ask it have no DNS.",
                PATIENCE.as_secs()
            ),
            "look in sidestep's log; if a firewall drops the query or its answer, the findings about it say where",
        ),
    };
    vec![answer, entry(probe)]
}

fn not_asked(check: &'static str, address: SocketAddr, why: &str) -> Finding {
    Finding::unknown(
        check,
        format!("{address} was not asked: {why}."),
        "run doctor as root on the node itself",
    )
}

fn entry(probe: &Probe) -> Finding {
    const CHECK: &str = "probe.untracked";
    let address = probe.address;
    match &probe.entry {
        Ok(None) if probe.answer == Answer::Came => {
            Finding::healthy(CHECK, format!("A query to {address} leaves no conntrack entry."))
        }
        Ok(None) => Finding::note(
            CHECK,
            format!("Without an answer from {address} there is nothing to tell of tracking."),
        ),
        Ok(Some(entry)) => {
            let way =
                entry.translated_to().map_or_else(String::new, |to| format!(" and is translated to {to}"));
            Finding::problem(
                CHECK,
                format!("A query to {address} leaves a conntrack entry{way}: NOTRACK does not hold."),
                "see the findings about rules; restart sidestep to have them made anew. While nobody answers, \
                 this is how pods reach the cluster DNS",
            )
            .evidence(format!("udp {} > {}, reply from {}", entry.original.src, entry.original.dst, entry.reply.src))
        }
        Err(why) => Finding::unknown(
            CHECK,
            format!("Whether a query to {address} leaves a conntrack entry is not known."),
            "run doctor as root",
        )
        .evidence(why),
    }
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
        assert_eq!(ask(address, &[loopback()]).answer, Answer::Came);
        thread.join().unwrap();
        // The server has closed its port.
        assert_eq!(ask(address, &[loopback()]).answer, Answer::Refused);
    }

    #[test]
    fn what_could_leave_the_machine_is_not_asked() {
        let wire =
            Link { name: "eth0".to_owned(), addresses: vec!["10.0.0.7".parse().unwrap()], ..Link::default() };
        for address in ["10.0.0.7:53", "192.0.2.1:53"] {
            let probe = ask(address.parse().unwrap(), &[loopback(), wire.clone()]);
            assert!(matches!(probe.answer, Answer::NotAsked(_)), "{probe:?}");
            assert_eq!(judge(&probe, false)[0].level, Level::Unknown);
        }
    }

    #[test]
    fn silence_is_a_problem_unless_pods_have_somewhere_to_go() {
        let address = "169.254.20.10:53".parse().unwrap();
        let probe = Probe { address, answer: Answer::Refused, entry: Ok(None) };
        assert_eq!(judge(&probe, false)[0].level, Level::Problem);
        assert_eq!(judge(&probe, true)[0].level, Level::Note);
    }
}
