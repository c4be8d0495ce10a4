//! iptables-legacy, which speaks no netlink: its `-save` program is run where the kernel has tables of it, and its
//! text read. A table that nobody uses is not asked for, because asking would make the kernel register it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::doctor::proc::Root;

use super::{Action, Base, Chain, Extra, Family, Hook, Keeper, Rule, Ruleset, Table};

/// Where distributions keep it.
const PLACES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];

/// Reads the tables that the kernel holds. `Err`: why some could not be read.
///
/// # Errors
/// In words: no right to look, no program to look with, or what it said.
pub fn read(root: &Root) -> Result<Ruleset, String> {
    let mut all = Ruleset::default();
    for (family, names, program) in [
        (Family::Ip, "proc/net/ip_tables_names", "iptables-legacy-save"),
        (Family::Ip6, "proc/net/ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        // The kernel has none of it where there is no such file.
        let names = root.optional(names)?.unwrap_or_default();
        for name in names.lines() {
            all.extend(parse(&save(program, name)?, family));
        }
    }
    Ok(all)
}

fn save(program: &str, table: &str) -> Result<String, String> {
    let path = PLACES.iter().map(|place| PathBuf::from(place).join(program)).find(|path| path.exists());
    let path =
        path.ok_or_else(|| format!("the kernel has iptables-legacy tables, and there is no {program}"))?;
    let output = Command::new(path).args(["-c", "-t", table]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads what `iptables-save` writes, with or without counters.
pub fn parse(text: &str, family: Family) -> Ruleset {
    let mut all = Ruleset::default();
    let mut table = Table { keeper: Keeper::Legacy, family, name: String::new() };
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table.name);
        } else if let Some(chain) = line.strip_prefix(':') {
            all.chains.extend(self::chain(chain, &table));
        } else {
            all.rules.extend(rule(line, &table));
        }
    }
    all
}

/// `INPUT DROP [0:0]`; a chain that is no base chain has `-` for a policy.
fn chain(text: &str, table: &Table) -> Option<Chain> {
    let mut words = text.split_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    let hook = match name {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "FORWARD" => Some(Hook::Forward),
        "OUTPUT" => Some(Hook::Output),
        "POSTROUTING" => Some(Hook::Postrouting),
        _ => None,
    };
    let base = hook.filter(|_| policy != "-").map(|hook| Base { hook, drops: policy == "DROP" });
    Some(Chain { table: table.clone(), name: name.to_owned(), base })
}

/// `[packets:bytes] -A CHAIN ...`
fn rule(line: &str, table: &Table) -> Option<Rule> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str).peekable();
    let packets = words.next_if(|word| word.starts_with('['));
    let packets = packets.and_then(|word| word.trim_start_matches('[').split_once(':')?.0.parse().ok());
    if words.next()? != "-A" {
        return None;
    }
    let mut rule = Rule::empty(table.clone(), words.next()?.to_owned());
    rule.packets = packets;
    while let Some(option) = words.next() {
        match option {
            "-s" if one(words.next(), &mut rule.from) => {}
            "-d" if one(words.next(), &mut rule.to) => {}
            "-p" => rule.protocol = words.next().and_then(protocol),
            "--sport" if parsed(words.next(), &mut rule.sport) => {}
            "--dport" if parsed(words.next(), &mut rule.dport) => {}
            "-i" | "-o" => {
                rule.also(if words.next() == Some("lo") { Extra::Loopback } else { Extra::Something })
            }
            "--ctstate" | "--state" => rule.also(Extra::State),
            "--comment" => rule.comment = words.next().map(str::to_owned),
            "-j" | "-g" => rule.action = action(words.next()?),
            "--to-destination" => {
                rule.action = Action::Translate(words.next().and_then(|to| to.parse().ok()))
            }
            // Their own options follow; what these matches ask for is read above.
            "-m" if words.next_if(|name| matches!(*name, "udp" | "tcp" | "comment")).is_some() => {}
            "--reject-with" => drop(words.next()),
            "--notrack" => rule.action = Action::Notrack,
            _ if rule.action == Action::Other => rule.also(Extra::Something),
            _ => {} // an option of the target
        }
    }
    Some(rule)
}

fn action(target: &str) -> Action {
    match target {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "NOTRACK" => Action::Notrack,
        "DNAT" | "REDIRECT" => Action::Translate(None),
        "CT" | "RETURN" | "LOG" | "MARK" | "CONNMARK" | "MASQUERADE" | "SNAT" => Action::Other,
        chain => Action::Jump(chain.to_owned()),
    }
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "udp" => Some(17),
        "tcp" => Some(6),
        "icmp" => Some(1),
        other => other.parse().ok(),
    }
}

/// An address with a full prefix.
fn one(word: Option<&str>, field: &mut Option<IpAddr>) -> bool {
    let single = |word: &str| match word.split_once('/') {
        Some((address, "32" | "128")) => address.parse().ok(),
        Some(_) => None,
        None => word.parse().ok(),
    };
    *field = word.and_then(single);
    field.is_some()
}

fn parsed(word: Option<&str>, field: &mut Option<u16>) -> bool {
    *field = word.and_then(|word| word.parse().ok());
    field.is_some()
}

/// Words of a line; what stands in double quotes is one.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), None::<String>, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                word.get_or_insert_default().push(c);
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save v1.8.9
*nat
:PREROUTING ACCEPT [5:300]
:KUBE-SERVICES - [0:0]
[9:540] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
[3:180] -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
[1:60] -A KUBE-SEP-A -p udp -m comment --comment "a \"quoted\" word" -m udp -j DNAT --to-destination 10.244.0.5:53
COMMIT
*filter
:INPUT DROP [0:0]
[0:0] -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[0:0] -A INPUT -s 10.0.0.0/8 -j ACCEPT
[0:0] -A INPUT -j REJECT --reject-with icmp-port-unreachable
COMMIT
"#;

    #[test]
    fn the_text_of_iptables_save_is_read() {
        let all = parse(SAVED, Family::Ip);
        assert_eq!(all.chains[0].base, Some(Base { hook: Hook::Prerouting, drops: false }));
        assert_eq!(all.chains[1].base, None);
        assert_eq!(all.chains[2].base, Some(Base { hook: Hook::Input, drops: true }));
        let [portals, service, endpoint, state, net, reject] = &all.rules[..] else { panic!("six rules") };
        assert!(portals.is_broad());
        assert_eq!(portals.action, Action::Jump("KUBE-SERVICES".to_owned()));
        assert_eq!((service.to, service.protocol), (Some([10, 96, 0, 10].into()), Some(17)));
        assert_eq!((service.dport, service.packets, service.extra), (Some(53), Some(3), Extra::Nothing));
        assert_eq!(service.comment.as_deref(), Some("kube-system/kube-dns:dns cluster IP"));
        assert_eq!(endpoint.action, Action::Translate(Some("10.244.0.5:53".parse().unwrap())));
        assert_eq!(endpoint.comment.as_deref(), Some("a \"quoted\" word"));
        assert_eq!((state.extra, net.extra), (Extra::State, Extra::Something));
        assert!(reject.is_broad() && reject.action == Action::Drop);
        assert_eq!(reject.table.to_string(), "iptables-legacy filter");
    }

    #[test]
    fn notrack_is_seen_in_both_spellings() {
        for target in ["NOTRACK", "CT --notrack"] {
            let line =
                format!("*raw\n-A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -j {target}\n");
            let all = parse(&line, Family::Ip);
            assert_eq!(
                (&all.rules[0].action, all.rules[0].extra),
                (&Action::Notrack, Extra::Nothing),
                "{target}"
            );
        }
    }
}
