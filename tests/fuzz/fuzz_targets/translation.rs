//! Foreign bytes: Corefiles as configurations, with all checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::config::fuzz_corefile(data));
