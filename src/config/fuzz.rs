//! The fuzz body of the configuration: whatever the bytes, no panic; what is accepted prints and reads back.

use super::{Config, resolv_conf};

/// Reads the bytes as a configuration and as a resolv.conf.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::parse(&text, "fuzz") {
        Ok(config) => {
            let again = Config::parse(&config.to_toml(), "printed");
            assert_eq!(again.as_ref(), Ok(&config), "what is printed must read back as the same");
        }
        Err(problem) => assert!(problem.summary().starts_with("fuzz:"), "a problem says where it is"),
    }
    match resolv_conf::parse(&text, "fuzz") {
        Ok(servers) => assert!(resolv_conf::SERVERS.contains(servers.len()), "never none, never too many"),
        Err(problem) => assert!(problem.summary().starts_with("fuzz:"), "a problem says where it is"),
    }
}
