//! Foreign bytes: configurations in TOML and resolv.confs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestep::config::fuzz(data));
