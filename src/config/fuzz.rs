//! The fuzz bodies of the configuration: whatever the bytes, no panic; what is accepted prints and reads back.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::corefile::{Around, Filling};
use super::source::Loaded;
use super::{Config, DNS, Flags, RESOLV_CONF, resolv_conf};
use crate::corefile::Surroundings;

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

/// Reads the bytes as a Corefile, strictly and leniently, by itself and as a base file of node-cache.
pub fn fuzz_corefile(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let filling = Filling {
        local: vec![Ipv4Addr::new(169, 254, 20, 10).into(), Ipv6Addr::LOCALHOST.into()],
        cluster: Some(IpAddr::from([10, 96, 0, 20])),
        upstreams: RESOLV_CONF.to_owned(),
        prometheus: ":9253".to_owned(),
        stubs: None,
    };
    for (lenient, node) in [(false, None), (true, None), (true, Some(filling))] {
        let around = Around { lenient, port: DNS, node };
        let loaded = Loaded::corefile(text.clone().into_owned(), Path::new("fuzz"), &around, &Nothing);
        match loaded.and_then(|(loaded, _)| Config::build(loaded, &Flags::default())) {
            Ok(config) => converts(config),
            Err(problem) => {
                assert!(problem.summary().starts_with("fuzz:"), "a problem says where it is: {problem}");
            }
        }
    }
}

/// What a Corefile says can be said in TOML.
fn converts(config: Config) {
    let short = config.to_short_toml();
    // Only a Corefile has notes, and places of its own.
    let config = Config { files: Vec::new(), notes: Vec::new(), places: BTreeMap::new(), ..config };
    for toml in [config.to_toml(), short] {
        let again = Config::parse(&toml, "converted");
        assert_eq!(again.as_ref(), Ok(&config), "what is printed must read back as the same:\n{toml}");
    }
}

/// No files, and an environment with one variable.
struct Nothing;

impl Surroundings for Nothing {
    fn file(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn folder(&self, _: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "30".to_owned())
    }
}
