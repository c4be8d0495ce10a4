//! Does the benchmark notice what it says it notices? The load against servers that lie in one way each.
//!
//! `cargo test --benches` runs this, and `cargo bench --bench road -- check`. It measures nothing.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::batch::Wait;
use crate::load::{Load, Outcome};
use crate::names::Questions;
use crate::zone::{self, HEADER};

/// How long each liar is asked.
const DURATION: Duration = Duration::from_millis(50);

/// A way to answer, and what the load must make of it.
struct Liar {
    what: &'static str,
    /// Changes the right answer to query number `n`; one that comes out empty is not sent.
    lie: fn(answer: &mut Vec<u8>, n: u64),
    noticed: fn(&Outcome) -> bool,
}

const LIARS: [Liar; 8] = [
    Liar {
        what: "right answers",
        lie: |_, _| {},
        noticed: |o| {
            o.answered > 0 && o.wrong == 0 && o.lost == 0 && o.latency.percentile(0.5) > Duration::ZERO
        },
    },
    Liar { what: "another id", lie: |a, _| a[0] ^= 0x80, noticed: |o| o.lost > 0 && o.answered == 0 },
    Liar { what: "another question", lie: |a, _| a[HEADER + 1] ^= 1, noticed: only_wrong },
    Liar { what: "another response code", lie: |a, _| a[3] ^= 1, noticed: only_wrong },
    Liar { what: "another number of answers", lie: |a, _| a[7] += 1, noticed: only_wrong },
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

/// Tries all liars. Returns whether each was noticed.
pub fn run() -> Result<bool, Box<dyn Error>> {
    let mut passed = 0;
    for liar in &LIARS {
        let mut load = Load::new(start(liar.lie)?, 16, Wait::Sleep)?;
        let outcome = load.run(&mut Questions::warm(), DURATION)?;
        let noticed = (liar.noticed)(&outcome);
        println!("{}: {}", liar.what, if noticed { "noticed" } else { "NOT NOTICED" });
        passed += usize::from(noticed);
    }
    println!("{passed} passed, {} failed", LIARS.len() - passed);
    Ok(passed == LIARS.len())
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
