//! Foreign bytes: packets of clients.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::wire::query::fuzz(data));
