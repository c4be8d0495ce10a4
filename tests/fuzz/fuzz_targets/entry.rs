//! Foreign bytes: replies of upstreams, as they are kept.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::cache::entry::fuzz(data));
