//! Which iptables: legacy speaks to the kernel's old tables, nft to nf_tables. The two do not see each other's rules,
//! and a node that has some of each sends its packets through both. So ours go where the node's are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::program::{Programs, run};
use super::rule::{Comment, Family};
use crate::node::{Fault, FaultKind};

/// The kernel's interface that a program of iptables speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// nf_tables.
    Nft,
    /// ip_tables and ip6_tables.
    Legacy,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

/// What is installed of one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which it is.
    pub variant: Variant,
    /// The programs of each family; a family that is not there has none.
    pub programs: BTreeMap<Family, Programs>,
}

/// Every variant that is installed in the folders of `path` (as in the environment's PATH).
pub fn installed(path: &OsStr) -> Vec<Installed> {
    let plain = plain(path);
    let of = |variant: Variant| {
        let programs: BTreeMap<_, _> = Family::ALL
            .into_iter()
            .filter_map(|family| {
                let named = programs(path, &format!("{}-{variant}", family.program()));
                let found =
                    named.or_else(|| programs(path, family.program()).filter(|_| plain == Some(variant)))?;
                Some((family, found))
            })
            .collect();
        (!programs.is_empty()).then_some(Installed { variant, programs })
    };
    Variant::ALL.into_iter().filter_map(of).collect()
}

/// The variant that the node uses.
///
/// As the images of Kubernetes find it: the one in which kubelet or kube-proxy have left their marks in the mangle
/// table; else the one with more rules; else what the name `iptables` stands for. Our own rules do not count, or
/// one wrong guess would hold for ever.
///
/// # Errors
/// None is installed, or none can be read.
pub fn find(path: &OsStr) -> Result<Installed, Fault> {
    let mut first = None;
    let mut found = Vec::new();
    for one in installed(path) {
        match Use::of(&one) {
            Ok(used) => found.push((used, one)),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    let plain = plain(path);
    // The first of equals wins, and nft comes first.
    let best = found.into_iter().reduce(|best, next| {
        let rank = |(used, one): &(Use, Installed)| (used.kubernetes, used.rules, plain == Some(one.variant));
        if rank(&next) > rank(&best) { next } else { best }
    });
    match (best, first) {
        (Some((_, installed)), _) => Ok(installed),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(missing("iptables", path)),
    }
}

/// Programs of iptables that are needed and not there.
pub fn missing(name: &str, path: &OsStr) -> Fault {
    let what = format!(
        "no {name} found (looked for {name}-save and {name}-restore, with -nft and -legacy, in {}); install the package \
         iptables, or use --firewall nftables, which needs no program",
        path.to_string_lossy()
    );
    Fault { kind: FaultKind::Rules, what }
}

/// How much a variant is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    kubernetes: bool,
    rules: usize,
}

impl Use {
    fn of(installed: &Installed) -> Result<Self, Fault> {
        let mut all = Self::default();
        for programs in installed.programs.values() {
            let one = Self::read(&programs.saved()?);
            all = Self { kubernetes: all.kubernetes || one.kubernetes, rules: all.rules + one.rules };
        }
        Ok(all)
    }

    fn read(saved: &str) -> Self {
        let mut used = Self::default();
        let mut mangle = false;
        for line in saved.lines() {
            if let Some(table) = line.strip_prefix('*') {
                mangle = table.trim() == "mangle";
            }
            let mark = |chain: &str| line.strip_prefix(':').is_some_and(|rest| rest.starts_with(chain));
            used.kubernetes |= mangle && (mark("KUBE-IPTABLES-HINT ") || mark("KUBE-KUBELET-CANARY "));
            let ours = [Comment::Skip, Comment::Allow, Comment::FallBack]
                .iter()
                .any(|one| line.contains(one.text()));
            used.rules += usize::from(line.contains("-A ") && !ours);
        }
        used
    }
}

/// What `iptables` without an ending stands for; before 1.8 there was legacy only, and it did not say so.
fn plain(path: &OsStr) -> Option<Variant> {
    let program = look_up(path, "iptables")?;
    let version = run(&program, &["--version"], "").ok()?.output;
    Some(if version.contains("nf_tables") { Variant::Nft } else { Variant::Legacy })
}

fn programs(path: &OsStr, name: &str) -> Option<Programs> {
    let save = look_up(path, &format!("{name}-save"))?;
    let restore = look_up(path, &format!("{name}-restore"))?;
    Some(Programs { save, restore })
}

fn look_up(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|program| Path::is_file(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_kubernetes_count_in_mangle_only() {
        let mark = ":KUBE-KUBELET-CANARY - [0:0]\n";
        assert!(Use::read(&format!("*mangle\n{mark}COMMIT\n")).kubernetes);
        assert!(!Use::read(&format!("*mangle\nCOMMIT\n*nat\n{mark}COMMIT\n")).kubernetes);
    }

    #[test]
    fn our_own_rules_do_not_count() {
        let saved = "*raw\n[0:0] -A OUTPUT -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n[1:2] -A OUTPUT -j ACCEPT\n";
        assert_eq!(Use::read(saved).rules, 1);
    }

    #[test]
    fn nothing_installed_is_said_with_what_to_do() {
        let empty = tempfile::tempdir().unwrap();
        let fault = find(empty.path().as_os_str()).unwrap_err();
        assert!(fault.what.contains("--firewall nftables") && fault.what.contains("install"), "{fault}");
    }
}
