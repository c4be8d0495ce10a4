//! Foreign bytes: the grammar of Corefiles.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::corefile::fuzz(data));
