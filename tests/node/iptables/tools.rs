//! Folders of programs, as images have them, and the kernel's rules as an operator reads them.
//!
//! The programs are scripts that run the real ones with a lock file of the test's own, so that tests neither wait for
//! the machine's lock nor hold it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sidestep::node::iptables::{Family, Iptables};
use tempfile::TempDir;

/// Where one's own commands lock: the machine's lock is in a folder that not everybody may write to.
pub const NOBODYS_LOCK: &str = "/dev/null";

pub const VARIANTS: [&str; 2] = ["nft", "legacy"];

/// A folder for PATH.
pub struct Folder(TempDir);

impl Folder {
    /// Without programs.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With one variant, under its long names.
    pub fn of(variant: &str) -> Self {
        Self::empty().with(variant)
    }

    /// With another variant as well.
    pub fn with(self, variant: &str) -> Self {
        for family in Family::ALL.map(Family::program) {
            for program in ["", "-save", "-restore"] {
                let name = format!("{family}-{variant}{program}");
                self.script(&name, &format!("exec {} \"$@\"", real(&name).display()));
            }
        }
        self
    }

    /// With the short names, standing for one variant.
    pub fn plain(self, variant: &str) -> Self {
        for family in Family::ALL.map(Family::program) {
            for program in ["", "-save", "-restore"] {
                let target = real(&format!("{family}-{variant}{program}"));
                self.script(&format!("{family}{program}"), &format!("exec {} \"$@\"", target.display()));
            }
        }
        self
    }

    /// Adds or replaces a program; it finds the lock file in its environment.
    pub fn script(&self, name: &str, body: &str) {
        let path = self.0.path().join(name);
        let text = format!("#!/bin/sh\nexport XTABLES_LOCKFILE={}\n{body}\n", self.lock().display());
        // Written aside and moved: a script that a forked process has open for writing cannot be run.
        let aside = self.0.path().join("aside");
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, Permissions::from_mode(0o755)).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// The lock file of legacy programs in here.
    pub fn lock(&self) -> PathBuf {
        self.0.path().join("xtables.lock")
    }

    pub fn path(&self) -> &OsStr {
        self.0.path().as_os_str()
    }

    pub fn find(&self) -> Iptables {
        Iptables::find_in(self.path()).unwrap()
    }
}

/// Where a program of iptables stands on this machine.
pub fn real(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin"].map(Path::new);
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install iptables"))
}

/// Runs iptables as an operator would; `arguments` hold no blanks of their own but within double quotes.
pub fn iptables(family: Family, variant: &str, arguments: &str) {
    let program = real(&format!("{}-{variant}", family.program()));
    let script = format!("exec {} -w 5 {arguments}", program.display());
    let output =
        Command::new("sh").args(["-c", &script]).env("XTABLES_LOCKFILE", NOBODYS_LOCK).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All rules of one family, as iptables-save shows them, with the table before each.
pub fn saved(family: Family, variant: &str) -> Vec<String> {
    let program = real(&format!("{}-{variant}-save", family.program()));
    let output = Command::new(program).env("XTABLES_LOCKFILE", NOBODYS_LOCK).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut table = "";
    let mut rules = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if line.starts_with("-A") {
            rules.push(format!("{table} {line}").replace("-j CT --notrack", "-j NOTRACK"));
        }
    }
    rules
}

/// The rules that both families have, together.
pub fn all(variant: &str) -> Vec<String> {
    Family::ALL.into_iter().flat_map(|family| saved(family, variant)).collect()
}

pub fn sorted(mut rules: Vec<String>) -> Vec<String> {
    rules.sort();
    rules
}
