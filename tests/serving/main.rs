//! The whole program against a scripted upstream: what clients see, what upstreams see, what it costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod asking;
mod client;
mod corefile;
mod edns;
mod flights;
mod hostile;
mod hosts;
mod keeping;
mod life;
mod limits;
mod loops;
mod node_cache;
mod program;
mod query_log;
mod reload;
mod services;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod views;
mod zones;
