//! Locks, missing parts, no permission, two at once: what is said, and what stands then.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sidestep::node::iptables::variant::Variant;
use sidestep::node::iptables::{Family, Iptables, teardown_in};
use sidestep::node::{FaultKind, Firewall, Plan};

use super::tools::{Folder, VARIANTS, all, iptables, real, saved, sorted};
use super::{classic, plan};
use crate::namespace::alone;

#[test]
fn the_variant_that_the_node_uses() {
    let find = |folder: &Folder| folder.find().variant();
    alone(move || {
        let both = Folder::of("nft").with("legacy");
        assert_eq!(find(&both), Variant::Nft, "nobody says anything");
        let both = both.plain("legacy");
        assert_eq!(find(&both), Variant::Legacy, "what the short name stands for");
        iptables(Family::V6, "nft", "-A INPUT -p tcp -j ACCEPT");
        assert_eq!(find(&both), Variant::Nft, "more rules");
        iptables(Family::V4, "legacy", "-t mangle -N KUBE-IPTABLES-HINT");
        assert_eq!(find(&both), Variant::Legacy, "kubelet's mark");
        iptables(Family::V4, "nft", "-t mangle -N KUBE-KUBELET-CANARY");
        assert_eq!(find(&both), Variant::Nft, "marks in both");
        assert_eq!(find(&Folder::of("legacy")), Variant::Legacy, "the image has one only");
        assert_eq!(find(&Folder::empty().plain("nft")), Variant::Nft, "under its short name");
        assert_eq!(find(&Folder::empty().plain("legacy")), Variant::Legacy);
    });
}

#[test]
fn a_held_lock_ends_the_wait_and_is_said() {
    alone(|| {
        let folder = Folder::of("legacy");
        let mut firewall = folder.find();
        let lock = File::create(folder.lock()).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let before = Instant::now();
        let fault = firewall.up(&plan()).unwrap_err();
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
        assert_eq!(fault.kind, FaultKind::Lock, "{fault}");
        assert!(fault.what.contains("another program holds the lock"), "{fault}");
        drop(lock);
        firewall.up(&plan()).unwrap();
        assert_eq!(all("legacy").len(), 2 * 19);
    });
}

#[test]
fn a_lock_file_that_cannot_be_made() {
    alone(|| {
        let folder = Folder::of("legacy");
        for family in ["iptables", "ip6tables"] {
            let restore = real(&format!("{family}-legacy-restore"));
            folder.script(
                &format!("{family}-legacy-restore"),
                &format!("XTABLES_LOCKFILE=/proc/none/xtables.lock exec {} \"$@\"", restore.display()),
            );
        }
        let fault = folder.find().up(&plan()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Rules);
        assert!(fault.what.contains("lock file") && fault.what.contains("hostPath"), "{fault}");
    });
}

#[test]
fn without_the_capability() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            Folder::of(variant).find().up(&plan()).unwrap();
            for family in ["iptables", "ip6tables"] {
                for program in ["", "-save", "-restore"] {
                    let name = format!("{family}-{variant}{program}");
                    let real = real(&name);
                    let drop = "setpriv --bounding-set=-net_admin,-net_raw --inh-caps=-net_admin,-net_raw";
                    folder.script(&name, &format!("exec {drop} {} \"$@\"", real.display()));
                }
            }
            let fault = Iptables::find_in(folder.path()).unwrap_err();
            assert!(fault.what.contains("NET_ADMIN"), "{fault}");
            assert_eq!(teardown_in(folder.path()).unwrap_err().len(), 2, "each step that failed is said");
        });
    }
}

#[test]
fn without_one_family_or_any() {
    alone(|| {
        let folder = Folder::of("nft");
        std::fs::remove_file(std::path::Path::new(folder.path()).join("ip6tables-nft-restore")).unwrap();
        let mut firewall = folder.find();
        firewall.up(&plan()).unwrap();
        assert_eq!(saved(Family::V4, "nft").len(), 14 + 5, "the other family has its rules");
        assert_eq!(saved(Family::V6, "nft"), [""; 0]);
        let [lack] = firewall.lacks() else { panic!("{:?}", firewall.lacks()) };
        let what = &lack.what;
        assert!(what.starts_with("fd00:53::10: no rules") && what.contains("no ip6tables found"), "{what}");
        assert_eq!(firewall.check(&plan()).unwrap(), [], "there is nothing to be put right");
        firewall.down().unwrap();
        firewall.leave().unwrap();
        // Where nothing can be put in, that is the end.
        let six = Plan { addresses: vec!["fd00:53::10".parse().unwrap()], ..plan() };
        let fault = folder.find().up(&six).unwrap_err();
        assert!(fault.what.contains("no ip6tables found"), "{fault}");
        let fault = Iptables::find_in(Folder::empty().path()).unwrap_err();
        assert!(fault.what.contains("--firewall nftables"), "{fault}");
    });
}

/// A program that refuses `-m socket` as a kernel without xt_socket does.
const NO_SOCKET: &str = "input=$(cat)
case \"$input\" in *'-m socket'*)
    echo \"line 2: RULE_APPEND failed (No such file or directory): rule in chain PREROUTING\" >&2; exit 4;;
esac
printf '%s\\n' \"$input\" | ";

#[test]
fn a_kernel_without_socket_match_gets_node_caches_rules() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let restore = real(&format!("iptables-{variant}-restore"));
            folder.script(
                &format!("iptables-{variant}-restore"),
                &format!("{NO_SOCKET} {} \"$@\"", restore.display()),
            );
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            assert!(!firewall.fails_open(&plan(), Family::V4), "this is what status must say");
            assert!(firewall.fails_open(&plan(), Family::V6));
            assert_eq!(firewall.check(&plan()).unwrap(), []);
            assert_eq!(all(variant).iter().filter(|rule| rule.contains("-m socket")).count(), 2);
            // Not otherwise where there is nobody to fall back to.
            firewall.up(&classic()).unwrap();
            assert_eq!(all(variant).iter().filter(|rule| rule.contains("-m socket")).count(), 2);
            assert_eq!(all(variant).len(), 2 * 14);
        });
    }
}

#[test]
fn programs_that_lie_leave_one_set() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let restore = real(&format!("iptables-{variant}-restore"));
            folder.script(
                &format!("iptables-{variant}-restore"),
                &format!("{} \"$@\"; echo it failed >&2; exit 1", restore.display()),
            );
            folder.find().up(&classic()).unwrap();
            assert_eq!(all(variant).len(), 2 * 14);
            folder.script(&format!("iptables-{variant}-restore"), "cat >/dev/null; exit 0");
            iptables(Family::V4, variant, "-t raw -F OUTPUT");
            let fault = folder.find().check(&classic()).unwrap_err();
            assert!(fault.what.contains("do not stay"), "{fault}");
        });
    }
}

#[test]
fn two_starts_at_once_leave_one_set() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            for round in 0..5 {
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| folder.find().up(&plan()));
                    }
                });
                let mut firewall = folder.find();
                firewall.up(&plan()).unwrap();
                let rules = sorted(all(variant));
                assert_eq!(rules.len(), 38, "round {round}: {rules:#?}");
                teardown_in(folder.path()).unwrap();
            }
        });
    }
}

/// The last program of a run that was killed has waited for the lock, and writes the same after we have.
#[test]
fn a_late_writer_is_tidied_up_after() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            for family in ["iptables", "ip6tables"] {
                let name = format!("{family}-{variant}-restore");
                let (real, late) = (real(&name), folder.lock().with_extension(family));
                let body = format!(
                    "input=$(cat); again() {{ printf '%s\\n' \"$input\" | {} \"$@\"; }}
                    [ -e {late} ] || {{ touch {late}; again \"$@\"; }}
                    again \"$@\"",
                    real.display(),
                    late = late.display(),
                );
                folder.script(&name, &body);
            }
            folder.find().up(&plan()).unwrap();
            assert_eq!(all(variant).len(), 38);
        });
    }
}

/// As a kill does it: between two tables, and with a script half written.
#[test]
fn a_start_after_a_kill_leaves_one_set() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let restore = real(&format!("iptables-{variant}-restore"));
            let name = format!("iptables-{variant}-restore");
            for bytes in [10, 500, 1500, 1900, 2500, 3000, 4000] {
                folder.script(&name, &format!("head -c {bytes} | {} \"$@\"", restore.display()));
                let _ = folder.find().up(&plan());
                folder.script(&name, &format!("exec {} \"$@\"", restore.display()));
                folder.find().up(&plan()).unwrap();
                assert_eq!(all(variant).len(), 38, "after {bytes} bytes");
                teardown_in(folder.path()).unwrap();
            }
        });
    }
}

#[test]
fn kills_at_any_moment() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let start = || {
                let mut command = Command::new(crate::program::sidestep());
                command.args(["--node-address", "169.254.20.10", "--node-address", "fd00:53::10"]);
                command.args(["--link", "lo", "--firewall", "iptables", "--upstream", "tcp://127.0.0.1:9"]);
                command.env("PATH", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().unwrap()
            };
            // How long it takes here and now until its first rules are there.
            let (mut whole, began) = (start(), Instant::now());
            while all(variant).is_empty() {
                assert!(began.elapsed() < Duration::from_secs(30), "it puts up no rules");
            }
            let rules = began.elapsed();
            whole.kill().unwrap();
            whole.wait().unwrap();
            teardown_in(folder.path()).unwrap();
            let mut midway = 0;
            for kill in 0..20 {
                let mut victim = start();
                std::thread::sleep(rules * kill / 8);
                assert!(victim.try_wait().unwrap().is_none(), "it ended by itself");
                victim.kill().unwrap();
                victim.wait().unwrap();
                midway += usize::from(!all(variant).is_empty());
                folder.find().up(&plan()).unwrap();
                assert_eq!(all(variant).len(), 38, "{variant}, kill {kill}");
                teardown_in(folder.path()).unwrap();
            }
            assert!(midway > 0, "no kill came after the first rule");
        });
    }
}

#[test]
fn a_family_that_fails_does_not_keep_the_other_from_being_repaired() {
    alone(|| {
        let folder = Folder::of("nft");
        let mut firewall = folder.find();
        firewall.up(&plan()).unwrap();
        let whole = all("nft").len();
        for family in [Family::V4, Family::V6] {
            iptables(family, "nft", "-t raw -F PREROUTING");
        }
        let gone = (whole - all("nft").len()) / 2;
        folder.script("iptables-nft-restore", "echo broken >&2; exit 1");
        let fault = firewall.check(&plan()).unwrap_err();
        assert!(fault.what.contains("broken"), "{fault}");
        assert_eq!(all("nft").len(), whole - gone);
    });
}
