//! What people and machines can see of us: log lines, counters, and whether we are well.
//!
//! This is a wing. It reads the counters that the stages own ([`crate::count`]) and is asked by the
//! supervisor alone; the road never looks here, and nothing here runs on a worker's thread (but for the log
//! lines a worker writes).
//!
//! | File | What stands in it |
//! |---|---|
//! | [`log`] | Lines on standard error, text or JSON, their level changeable at run time. |
//! | [`queries`] | The log of queries on standard output, in CoreDNS's form. |
//! | [`metrics`] | The counters of all workers, summed at scrape and written for Prometheus. |
//! | [`health`] | A question to ourselves at every address: do process and listeners answer? |
//! | [`ready`] | What is still missing before clients should be sent here. |
//! | [`http`] | The three pages `/metrics`, `/health` and `/ready`. |

pub mod health;
pub mod http;
pub mod log;
pub mod metrics;
pub mod queries;
pub mod ready;
