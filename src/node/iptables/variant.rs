//! Which iptables: legacy speaks to the kernel's old tables, nft to nf_tables. The two do not see each other's rules,
//! and a node that has some of each sends its packets through both. So ours go where the node's are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::program::{Programs, RUN, run};
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
                let named = programs(path, variant, &format!("{}-{variant}", family.program()));
                let found = named.or_else(|| {
                    programs(path, variant, family.program()).filter(|_| plain == Some(variant))
                })?;
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
/// table, nft first; else the one with more rules; else what the name `iptables` stands for. Our own rules do not
/// count, or one wrong guess would hold for ever.
///
/// # Errors
/// None is installed, or none can be read.
pub fn find(path: &OsStr) -> Result<Installed, Fault> {
    let mut installed = installed(path);
    if let Some(marked) = installed.iter().position(Installed::has_marks) {
        return Ok(installed.swap_remove(marked));
    }
    let plain = plain(path);
    let mut fault = missing("iptables", path);
    let mut found: Vec<(usize, bool, Installed)> = Vec::new();
    for one in installed {
        match one.rules() {
            Ok(rules) => found.push((rules, plain == Some(one.variant), one)),
            Err(why) => fault = why,
        }
    }
    // The first of equals wins, and nft comes first.
    let more = |best: (usize, bool, Installed), next: (usize, bool, Installed)| {
        if (next.0, next.1) > (best.0, best.1) { next } else { best }
    };
    found.into_iter().reduce(more).map(|(_, _, one)| one).ok_or(fault)
}

/// Programs of iptables that are needed and not there.
pub fn missing(name: &str, path: &OsStr) -> Fault {
    let what = format!(
        "no {name} found (looked for {name}, {name}-save and {name}-restore, with -nft and -legacy, in {}); install the package \
         iptables, or use --firewall nftables, which needs no program",
        path.to_string_lossy()
    );
    Fault { kind: FaultKind::Rules, what }
}

impl Installed {
    /// Whether Kubernetes has left its marks in one of the families.
    fn has_marks(&self) -> bool {
        self.programs.values().any(|programs| programs.mangle().is_ok_and(|saved| marked(&saved)))
    }

    /// How many rules there are that are not ours. A family that cannot be read (a kernel without IPv6) has none; if
    /// none can be read, that is an error.
    fn rules(&self) -> Result<usize, Fault> {
        let counts = self.programs.values().map(|programs| programs.saved().map(|saved| others(&saved)));
        let sum = counts.reduce(|one, other| match (one, other) {
            (Ok(one), Ok(other)) => Ok(one + other),
            (one, other) => one.or(other),
        });
        sum.unwrap_or(Ok(0))
    }
}

/// Whether there is a mark of kubelet's or kube-proxy's in the mangle table.
fn marked(saved: &str) -> bool {
    let mut mangle = false;
    saved.lines().any(|line| {
        if let Some(table) = line.strip_prefix('*') {
            mangle = table.trim() == "mangle";
        }
        mangle && (line.starts_with(":KUBE-IPTABLES-HINT ") || line.starts_with(":KUBE-KUBELET-CANARY "))
    })
}

/// Rules of others.
fn others(saved: &str) -> usize {
    let ours = |line: &str| {
        [Comment::Skip, Comment::Allow, Comment::FallBack].iter().any(|one| line.contains(one.text()))
    };
    saved.lines().filter(|line| line.contains("-A ") && !ours(line)).count()
}

/// What `iptables` without an ending stands for; before 1.8 there was legacy only, and it did not say so.
fn plain(path: &OsStr) -> Option<Variant> {
    let program = look_up(path, "iptables")?;
    let version = run(&program, &["--version"], "", RUN).ok()?.output;
    Some(if version.contains("nf_tables") { Variant::Nft } else { Variant::Legacy })
}

fn programs(path: &OsStr, variant: Variant, name: &str) -> Option<Programs> {
    let list = look_up(path, name)?;
    let save = look_up(path, &format!("{name}-save"))?;
    let restore = look_up(path, &format!("{name}-restore"))?;
    Some(Programs { variant, list, save, restore })
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
        assert!(marked(&format!("*mangle\n{mark}COMMIT\n")));
        assert!(!marked(&format!("*mangle\nCOMMIT\n*nat\n{mark}COMMIT\n")));
    }

    #[test]
    fn our_own_rules_do_not_count() {
        let saved = "*raw\n[0:0] -A OUTPUT -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n[1:2] -A OUTPUT -j ACCEPT\n";
        assert_eq!(others(saved), 1);
    }

    #[test]
    fn nothing_installed_is_said_with_what_to_do() {
        let empty = tempfile::tempdir().unwrap();
        let fault = find(empty.path().as_os_str()).unwrap_err();
        assert!(fault.what.contains("--firewall nftables") && fault.what.contains("install"), "{fault}");
    }
}
