//! Loops: a server of ours that asks us in turn. It is asked for a name that nobody else can come upon; if that name is
//! then asked for at our own listeners, the question has come back.
//!
//! A server may be right for one zone and a loop for another: a CoreDNS that answers for the cluster, and forwards the
//! rest to the servers of a resolv.conf that names us. So each zone has a probe of its own for each server.
//!
//! No name is asked for twice: a server that once knew that there is no such name may say so from its cache, loop or not.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::upstream::Server;
use crate::wire::name;

/// The part of the first label that is another in each question, in hexadecimal digits.
const CHANGING: usize = 8;
/// The part that is the probe's own.
const TOKEN: usize = 16;

/// Whether one server loops in one zone.
#[derive(Debug)]
pub struct LoopProbe {
    /// The zone's name: wire format, lower case.
    pub zone: Box<[u8]>,
    /// Whom it is sent to.
    pub server: Server,
    /// Whether it was found before, so that the zone does not ask the server.
    pub is_left_out: bool,
    /// What its names end with: everything behind the part that changes.
    end: Box<[u8]>,
    seen: AtomicBool,
    due: AtomicBool,
}

impl LoopProbe {
    /// A probe; `None` for a zone whose name of almost 255 bytes has no room for one. Like every new one, it is due.
    pub fn new(zone: &[u8], server: Server, is_left_out: bool) -> Option<Self> {
        let token = format!("{:0TOKEN$x}", rand::random::<u64>());
        let end = [token.as_bytes(), b"\x0dsidestep-loop", zone].concat();
        (1 + CHANGING + end.len() <= name::MAX).then(|| Self {
            zone: zone.into(),
            server,
            is_left_out,
            end: end.into(),
            seen: AtomicBool::new(false),
            due: AtomicBool::new(true),
        })
    }

    /// The next name to ask for.
    pub fn name(&self) -> Vec<u8> {
        let length = u8::try_from(CHANGING + TOKEN).unwrap_or_default();
        let changing = format!("{:0CHANGING$x}", rand::random::<u32>());
        [&[length], changing.as_bytes(), &self.end].concat()
    }

    /// Takes it down if `asked` (wire format, lower case) is one of its names, and says whether it is. For the threads
    /// that answer.
    pub fn comes_back(&self, asked: &[u8]) -> bool {
        let is_one = asked.get(1 + CHANGING..) == Some(&self.end);
        if is_one {
            self.seen.store(true, Relaxed);
        }
        is_one
    }

    /// It is asked anew: what came back before does not count.
    pub fn forget(&self) {
        self.seen.store(false, Relaxed);
    }

    /// Whether it has come back.
    pub fn has_come_back(&self) -> bool {
        self.seen.load(Relaxed)
    }

    /// A question of its zone found no answer: it is time to ask.
    pub fn suspect(&self) {
        self.due.store(true, Relaxed);
    }

    /// Whether it is time to ask; not again, until it is suspected.
    pub fn take_due(&self) -> bool {
        self.due.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Transport;

    fn probe(zone: &[u8]) -> Option<LoopProbe> {
        let server = Server { address: "192.0.2.1:53".parse().unwrap(), transport: Transport::Udp };
        LoopProbe::new(zone, server, false)
    }

    #[test]
    fn every_name_is_another_and_all_are_known_again() {
        let (ours, other) = (probe(b"\x04test\0").unwrap(), probe(b"\x04test\0").unwrap());
        let (first, second) = (ours.name(), ours.name());
        assert_ne!(first, second);
        assert!(!other.comes_back(&first) && !ours.comes_back(b"\x04test\0") && !ours.comes_back(b"\0"));
        assert!(!ours.has_come_back());
        assert!(ours.comes_back(&first) && ours.comes_back(&second));
        assert!(ours.has_come_back() && !other.has_come_back());
        ours.forget();
        assert!(!ours.has_come_back());
        let text = String::from_utf8(first).unwrap();
        assert!(text.ends_with("\x0dsidestep-loop\x04test\0") && text.len() == 1 + 24 + 14 + 6, "{text:?}");
    }

    #[test]
    fn a_name_that_has_no_room_has_no_probe() {
        let label = [&[63][..], &[b'a'; 63]].concat();
        assert!(probe(&[&label.repeat(3)[..], b"\0"].concat()).is_some());
        assert!(probe(&[&label.repeat(3)[..], &[30], &[b'a'; 30], b"\0"].concat()).is_none());
    }

    #[test]
    fn a_probe_is_due_once_and_when_it_is_suspected() {
        let probe = probe(b"\0").unwrap();
        assert!(probe.take_due() && !probe.take_due());
        probe.suspect();
        assert!(probe.take_due() && !probe.take_due());
    }
}
