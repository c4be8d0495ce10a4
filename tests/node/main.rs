//! What sidestep does to a node: links, addresses and packet-filter rows, put up in network namespaces of the tests'
//! own and looked at with the tools that an operator has. Not part of `cargo test`: `just test-real` runs it.
//!
//! As nobody in a user namespace (`unshare -Urn`) all of them run too, but those in `needs_root`: there, the test and a
//! copy of the program must lie in a folder that everybody may read, and `SIDESTEP_PROGRAM` names the copy.
//!
//! It needs root, iproute2, nftables, iptables (both variants) and conntrack. Nothing is ever skipped: what is missing
//! is a failure that says how to install it. What this kernel lacks is tested as lacking.
//!
//! | file | what it holds |
//! |---|---|
//! | `begin` | starts that fail, and what they leave alone |
//! | `link` | the link: made, adopted, repaired, removed; and what is somebody else's |
//! | `pods` | pods reach the link's addresses, in the ways that networks are built |
//! | `nftables` | our tables in nftables: put up, kept so, taken away; other programs' tables |
//! | `iptables` | the rules in iptables, of both variants and families |
//! | `untracked` | packets beneath those rows: past connection tracking, and to the cluster DNS without us |
//! | `doctor` | the doctor beside nodes that are well and nodes that are not |
//! | `life` | the whole program: what lookups leave in connection tracking; a full table |
//! | `deaths` | killed, aborted, stopped, restarted, robbed: how many lookups are lost |
//! | `upstream` | its own connections, untracked beside pods that ask the Service; a server that is cut off |
//! | `order` | starts that must fail and touch nothing; ends, teardown, the watchdog |
//! | `watchdog` | what it ends, and what it lets live |
//! | `fallbacks` | where clients go without us, and when that is forgotten |
//! | `drain` | what a stop owes to those who have asked |
//! | `needs_root` | what cannot be tested in a user namespace, and why |
//! | `program`, `dns` | the program as a process; servers of the cluster DNS and clients that count |
//! | `conntrack` | connection tracking as we read it, beside what `conntrack` says |
//! | `network` | a node, a pod and a cluster DNS, each in a namespace, with servers that say who they are |
//! | `namespace` | network namespaces, in which the library's own code runs |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod begin;
mod conntrack;
mod deaths;
mod dns;
mod doctor;
mod drain;
mod fallbacks;
mod iptables;
mod life;
mod link;
#[path = "../support/message.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod message;
mod namespace;
mod needs_root;
mod network;
mod nftables;
mod order;
mod pods;
mod program;
mod untracked;
mod upstream;
mod watchdog;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: they wait for events, and two cores are all that can be expected.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
