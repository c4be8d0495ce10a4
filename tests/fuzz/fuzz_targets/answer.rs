//! Foreign bytes: replies of upstreams, as they are given to clients.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::cache::entry::fuzz_answer(data));
