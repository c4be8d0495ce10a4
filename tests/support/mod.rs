//! What the integration tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on shall stop"
)]

pub mod message;
pub mod road;
pub mod scripted;
