//! The golden run: the add-on's arguments and Corefile, once by node-cache and once by us, on a node with a real CoreDNS
//! behind it, and everything that can be seen from outside side by side. Not part of `cargo test`: `just test-real`
//! runs it.
//!
//! What node-cache says was recorded (`recorded/`) by node-cache itself, since its module cannot be had everywhere:
//! `SIDESTEP_NODE_CACHE=PROGRAM just record-golden` asks it again, and writes what it says. What differs stands in tables
//! in docs/node-cache.md and docs/metrics.md; the tests hold to them line by line: a difference that is not there fails,
//! and so does one there that is gone.
//!
//! It needs CoreDNS, iproute2, iptables and root. Nothing touches the machine's own network.
//!
//! | file | what it holds |
//! |---|---|
//! | `answers` | the same questions to both |
//! | `sets` | rules, metrics, ports; how it ends |
//! | `node_cache` | node-cache beside what is recorded of it |
//! | `questions`, `ask` | what is asked, in dig's words, and answers part by part |
//! | `world`, `running` | the node, and one of the two programs on it |
//! | `recorded`, `table` | the files of `recorded/`, and the tables of `docs/` |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod ask;
#[path = "../support/message.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod message;
#[path = "../node/namespace.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod namespace;
mod node_cache;
#[path = "../real/process.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod process;
mod recorded;
mod running;
mod sets;
mod table;
#[path = "../node/iptables/tools.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod tools;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
