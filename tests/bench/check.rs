//! Does the benchmark notice what it says it notices? The load against servers that lie in one way each.
//!
//! `cargo test --benches` runs this, and `cargo bench --bench road -- check`. It measures nothing.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::load::{Load, Manner, Stop, Wait, Way};
use crate::names;
use crate::pace::Pace;
use crate::questions::{Questions, Set};
use crate::slots::Outcome;
use crate::upstream::Upstream;
use crate::zone::{self, HEADER};

/// How long each liar is asked.
const DURATION: Duration = Duration::from_millis(50);

/// What a slow upstream takes.
const SLOW: Duration = Duration::from_millis(20);

/// How they are asked.
const MANNER: Manner = Manner {
    way: Way::Udp,
    wait: Wait::Sleep,
    edns: true,
    in_flight: 16,
    patience: Duration::from_millis(500),
};

/// A way to answer, and what the load must make of it.
struct Liar {
    what: &'static str,
    /// Changes the right answer to query number `n`; one that comes out empty is not sent.
    lie: fn(answer: &mut Vec<u8>, n: u64),
    noticed: fn(&Outcome) -> bool,
}

const LIARS: [Liar; 9] = [
    Liar {
        what: "right answers",
        lie: |_, _| {},
        noticed: |o| o.answered > 0 && o.wrong == 0 && o.lost == 0 && o.hits.percentile(0.5) > Duration::ZERO,
    },
    Liar { what: "another id", lie: |a, _| a[0] ^= 0x80, noticed: |o| o.lost > 0 && o.answered == 0 },
    Liar { what: "another question", lie: |a, _| a[HEADER + 1] ^= 1, noticed: only_wrong },
    Liar { what: "another response code", lie: |a, _| a[3] ^= 1, noticed: only_wrong },
    Liar { what: "another number of answers", lie: |a, _| a[7] += 1, noticed: only_wrong },
    Liar { what: "no OPT record", lie: |a, _| a[11] = 0, noticed: only_wrong },
    Liar { what: "truncated", lie: |a, _| a[2] |= 2, noticed: only_wrong },
    Liar { what: "a query", lie: |a, _| a[2] &= 0x7f, noticed: only_wrong },
    Liar {
        what: "every tenth is silent",
        lie: |a, n| a.truncate(if n.is_multiple_of(10) { 0 } else { a.len() }),
        noticed: |o| o.lost > 0 && o.answered > 0 && o.wrong == 0,
    },
];

fn only_wrong(outcome: &Outcome) -> bool {
    outcome.wrong > 0 && outcome.answered == 0 && outcome.first_wrong.is_some()
}

/// Tries all liars, all ways to ask, and what the upstream can be told. Returns whether all was noticed.
pub fn run() -> Result<bool, Box<dyn Error>> {
    let mut checks = Vec::new();
    for liar in &LIARS {
        let outcome = ask(start(liar.lie)?, MANNER, Pace::Closed)?;
        checks.push((liar.what.to_owned(), (liar.noticed)(&outcome)));
    }
    let upstream = Upstream::start()?;
    for way in [Way::Udp, Way::UdpSpread, Way::Tcp, Way::TcpSingle] {
        let outcome = ask(upstream.address, Manner { way, ..MANNER }, Pace::Closed)?;
        checks.push((
            format!("right answers, {way:?}"),
            outcome.answered > 16 && outcome.wrong + outcome.lost == 0,
        ));
    }
    let outcome = ask(upstream.address, MANNER, Pace::PerSecond(4000.0))?;
    // 200 are expected, and the moments are the same in every run.
    checks.push(("an open loop's pace".to_owned(), (150..250).contains(&(outcome.answered + outcome.lost))));
    upstream.set(SLOW, 0);
    let outcome = ask(upstream.address, Manner { way: Way::Tcp, ..MANNER }, Pace::Closed)?;
    let waited = outcome.answered > 0 && outcome.hits.percentile(0.01) > SLOW * 9 / 10;
    checks.push(("a slow upstream".to_owned(), waited));
    upstream.set(Duration::ZERO, 50);
    let outcome = ask(upstream.address, Manner { way: Way::Tcp, ..MANNER }, Pace::Closed)?;
    checks.push(("an upstream that drops half".to_owned(), outcome.lost > 0 && outcome.answered > 0));
    for (what, noticed) in &checks {
        println!("{what}: {}", if *noticed { "noticed" } else { "NOT NOTICED" });
    }
    let passed = checks.iter().filter(|(_, noticed)| *noticed).count();
    println!("{passed} passed, {} failed", checks.len() - passed);
    Ok(passed == checks.len())
}

/// Asks for warm names for a while.
fn ask(server: SocketAddr, manner: Manner, pace: Pace) -> io::Result<Outcome> {
    let set = Set::even(names::warm_set());
    Load::new(server, manner, pace)?.run(&mut Questions::new(set, 0.0), Stop::After(DURATION))
}

/// Starts a liar for as long as the process lives.
fn start(lie: fn(&mut Vec<u8>, u64)) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        let (mut query, mut answer, mut n) = ([0; 512], Vec::new(), 0);
        loop {
            let (len, client) = socket.recv_from(&mut query)?;
            answer.clear();
            if zone::answer(&query[..len], &mut answer) {
                lie(&mut answer, n);
            }
            n += 1;
            if !answer.is_empty() {
                socket.send_to(&answer, client)?;
            }
        }
    });
    Ok(address)
}
