//! Foreign bytes: node-cache's command line.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::config::node_cache::fuzz(data));
