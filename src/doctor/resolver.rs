//! The host's resolv.conf (resolv.conf(5)), and those that upstreams are read from: options that change how much is
//! asked and how it races, and servers that lead back to where the question came from.

use std::net::IpAddr;

use super::Subject;
use super::finding::Finding;
use super::proc::Root;
use crate::config::{RESOLV_CONF, Target};

/// Where systemd-resolved lists the servers behind its stub.
const BEHIND_STUB: &str = "run/systemd/resolve/resolv.conf";
/// From here on each external name is looked up in every search domain first.
const MANY_DOTS: u32 = 2;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: usize,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    resolver.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => resolver.search = words.count(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    fn ndots(&self) -> u32 {
        let value = |option: &String| option.strip_prefix("ndots:")?.parse().ok();
        self.options.iter().rev().find_map(value).unwrap_or(1)
    }
}

/// Looks at the host's options, and at the servers of every resolv.conf that upstreams come from. `ours`: addresses
/// that we answer at.
pub fn examine(subject: &Subject, ours: &[IpAddr]) -> Vec<Finding> {
    let mut findings = match read(&subject.root, RESOLV_CONF) {
        Ok(resolver) => options(&resolver),
        Err(why) => vec![Finding::unknown("resolver.options", "The host's resolv.conf cannot be read.", why)],
    };
    let mut files: Vec<String> = Vec::new();
    for (_, target) in &subject.upstreams {
        match target {
            Target::ResolvConf(path, _) => files.push(path.display().to_string()),
            // Found out through the others, which are here.
            Target::Service(_) => {}
            Target::Server(server) => {
                findings.extend(looping("the configuration", server.address.ip(), subject, ours))
            }
        }
    }
    files.sort();
    files.dedup();
    for file in files {
        match read(&subject.root, &file) {
            Ok(resolver) => findings.extend(upstreams(&file, &resolver, subject, ours)),
            Err(why) => {
                findings.push(Finding::unknown("resolver.loop", format!("{file} cannot be read."), why))
            }
        }
    }
    findings
}

fn read(root: &Root, path: &str) -> Result<Resolver, String> {
    root.text(path.trim_start_matches('/')).map(|text| Resolver::parse(&text))
}

fn options(resolver: &Resolver) -> Vec<Finding> {
    const CHECK: &str = "resolver.options";
    let mut findings = Vec::new();
    let said = format!("{RESOLV_CONF}: options {}", resolver.options.join(" "));
    if let Some(option) = ["single-request-reopen", "single-request"].into_iter().find(|o| resolver.has(o)) {
        let effect = match option {
            "single-request" => {
                "glibc asks for AAAA only after A has come: no race, and every lookup takes twice as long"
            }
            _ => "glibc asks for A and AAAA from different ports: no race, one more socket for each lookup",
        };
        findings.push(
            Finding::note(
                CHECK,
                format!("Option {option}: {effect}. musl (Alpine) ignores it and always asks at once."),
            )
            .remedy("with NOTRACK there is no race: the option can go")
            .evidence(said.clone()),
        );
    }
    if resolver.has("use-vc") {
        findings.push(
            Finding::note(
                CHECK,
                "Option use-vc: glibc asks over TCP, a new connection for every lookup. musl ignores it.",
            )
            .remedy("with NOTRACK, UDP loses nothing to conntrack: the option can go")
            .evidence(said.clone()),
        );
    }
    let (ndots, search) = (resolver.ndots(), resolver.search);
    if ndots >= MANY_DOTS && search > 0 {
        // Each search domain and the name itself, A and AAAA.
        let queries = (search + 1) * 2;
        findings.push(
            Finding::note(
                CHECK,
                format!(
                    "Option ndots:{ndots} with {search} search domains: a name with fewer than {ndots} dots costs up \
                     to {queries} queries instead of 2."
                ),
            )
            .remedy("write external names with a dot at the end, or lower ndots (in pods: dnsConfig)")
            .evidence(said),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::healthy(
            CHECK,
            format!("{RESOLV_CONF} has no option that slows or multiplies lookups."),
        ));
    }
    findings
}

/// Servers of a file that we take for upstreams.
fn upstreams(file: &str, resolver: &Resolver, subject: &Subject, ours: &[IpAddr]) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        resolver.servers.iter().flat_map(|server| looping(file, *server, subject, ours)).collect();
    if findings.is_empty() {
        findings.push(Finding::healthy(
            "resolver.loop",
            format!("The upstreams of {file} do not lead back to us."),
        ));
    }
    findings
}

/// Whether an upstream leads back to us.
fn looping(origin: &str, server: IpAddr, subject: &Subject, ours: &[IpAddr]) -> Option<Finding> {
    const CHECK: &str = "resolver.loop";
    if ours.contains(&server) {
        let what =
            format!("{origin} names {server}, where we answer ourselves: we would ask ourselves for ever.");
        let cure = "name other upstreams: --upstream .=tcp://IP, or the path of a resolv.conf with the network's servers";
        return Some(Finding::problem(CHECK, what, cure));
    }
    let stub = matches!(server, IpAddr::V4(v4) if matches!(v4.octets(), [127, 0, 0, 53 | 54]));
    if !stub {
        return None;
    }
    let behind = read(&subject.root, BEHIND_STUB).map(|resolver| resolver.servers).unwrap_or_default();
    if let Some(us) = behind.iter().find(|address| ours.contains(address)) {
        let what = format!("{origin} names the stub {server}, which asks {us}: us. That is a circle.");
        return Some(Finding::problem(CHECK, what, format!("take {us} out of systemd-resolved's servers")));
    }
    let what =
        format!("{origin} names {server}, the stub of systemd-resolved: one more cache on every miss's way.");
    let cure = format!("ask its servers instead: --upstream /{BEHIND_STUB}");
    Some(Finding::note(CHECK, what).remedy(cure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn found(resolv_conf: &str, behind: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        std::fs::create_dir_all(folder.path().join("run/systemd/resolve")).unwrap();
        std::fs::write(folder.path().join("etc/resolv.conf"), resolv_conf).unwrap();
        std::fs::write(folder.path().join(BEHIND_STUB), behind).unwrap();
        let subject = Subject { root: Root::at(folder.path()), ..Subject::default() };
        examine(&subject, &["169.254.20.10".parse().unwrap()])
    }

    fn levels(resolv_conf: &str, behind: &str) -> Vec<(&'static str, Level)> {
        found(resolv_conf, behind).iter().map(|finding| (finding.check, finding.level)).collect()
    }

    const OPTIONS: &str = "resolver.options";
    const LOOP: &str = "resolver.loop";

    #[test]
    fn a_plain_resolv_conf_is_healthy() {
        let healthy = [(OPTIONS, Level::Healthy), (LOOP, Level::Healthy)];
        assert_eq!(levels("nameserver 192.0.2.1\noptions edns0 ndots:1\n", ""), healthy);
    }

    #[test]
    fn options_are_explained() {
        for (line, word) in [
            ("options single-request", "twice as long"),
            ("options single-request-reopen", "different ports"),
            ("options use-vc", "over TCP"),
            ("search a b c\noptions ndots:5", "8 queries instead of 2"),
        ] {
            let found = found(&format!("nameserver 192.0.2.1\n{line}\n"), "");
            assert_eq!((found[0].check, found[0].level), (OPTIONS, Level::Note), "{line}");
            assert!(found[0].what.contains(word), "{line}: {}", found[0].what);
        }
    }

    #[test]
    fn circles_are_found_also_behind_the_stub() {
        assert_eq!(levels("nameserver 169.254.20.10\n", "")[1], (LOOP, Level::Problem));
        assert_eq!(
            levels("nameserver 127.0.0.53\n", "nameserver 169.254.20.10\n")[1],
            (LOOP, Level::Problem)
        );
        assert_eq!(levels("nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n")[1], (LOOP, Level::Note));
    }
}
