//! sidestep against real servers and real resolvers. Not part of `cargo test`: `just test-real` runs it.
//!
//! It needs CoreDNS, unbound, dig, kdig, musl-gcc, iproute2 and, for network namespaces, root. Nothing is ever
//! skipped: what is missing is a failure that says how to install it.
//!
//! | file | what it holds |
//! |---|---|
//! | `answers` | dig, kdig and a pipelining client get through us what the server says itself |
//! | `outages` | servers die, come back, get slow, lose queries: what clients see |
//! | `latency` | fast names stay fast while slow ones are pending on the same server |
//! | `resolvers` | glibc's and musl's resolvers |
//! | `rules` | rewrite, template, hosts and dns64 as CoreDNS has them |
//! | `metrics` | promtool reads our metrics; ready and healthy beside a real server |
//! | `dashboards` | CoreDNS and we count the same, by the same names |
//! | `query_log` | CoreDNS and we log the same queries in the same words |
//! | `start` | the start without arguments; a resolv.conf that names ourselves |
//! | `servers` | starts CoreDNS, unbound and sidestep, each at an address of its own |
//! | `client` | single questions, and load that counts what came back |
//! | `process`, `namespace` | guards: whatever a test started ends with it |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod client;
mod dashboards;
mod latency;
mod metrics;
mod namespace;
mod outages;
mod process;
mod query_log;
mod resolvers;
mod roads;
mod rules;
mod servers;
mod start;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: they start whole servers and measure time, and two cores are all that can be expected.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
