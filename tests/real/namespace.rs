//! A network of one machine: a network and a mount namespace with loopback and a resolv.conf of its own.
//!
//! It is held by one sleeping process and has no name, so that nothing of it is left when that process is
//! gone, however the test ended.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, command, program};

/// The namespace, and the files that are seen in it.
pub struct Namespace {
    holder: Process,
    enter: PathBuf,
    directory: TempDir,
}

impl Namespace {
    /// Makes one whose /etc/resolv.conf says `resolv_conf`, and whose resolvers ask files and DNS alone.
    pub fn new(resolv_conf: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root: run `just test-real` as root"
        );
        let install = "apt-get install util-linux";
        let unshare = program("unshare", "SIDESTEP_UNSHARE", install);
        let enter = program("nsenter", "SIDESTEP_NSENTER", install);
        program("ip", "SIDESTEP_IP", "apt-get install iproute2");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
        fs::write(directory.path().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        let script = "set -e
            for file in resolv.conf nsswitch.conf; do
                [ -e /etc/$file ] || { echo \"/etc/$file is missing: touch it\" >&2; exit 1; }
                mount --bind \"$0/$file\" /etc/$file
            done
            PATH=$PATH:/usr/sbin:/sbin ip link set lo up
            echo the namespace is up
            exec sleep 600";
        let mut hold = command(unshare, ["--net", "--mount", "sh", "-c", script]);
        hold.arg(directory.path());
        let mut holder = Process::start("namespace", hold, directory.path());
        holder.wait_for("the namespace is up");
        Self { holder, enter, directory }
    }

    /// Writes the resolv.conf anew, in place as most tools do.
    pub fn write_resolv_conf(&self, text: &str) {
        fs::write(self.directory.path().join("resolv.conf"), text).unwrap();
    }

    /// A command that runs in here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let target = self.holder.id().to_string();
        let mut enter = command(&self.enter, ["--target", &target, "--net", "--mount", "--"]);
        enter.arg(program);
        enter
    }

    /// The same command as `outside`, in here.
    pub fn run(&self, outside: &Command) -> Command {
        let mut command = self.command(outside.get_program());
        command.args(outside.get_args());
        command
    }
}
