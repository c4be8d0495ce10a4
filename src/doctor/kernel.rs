//! The race: A and AAAA of one socket, sent at the same instant, want the same conntrack entry. What the kernel does
//! with the loser decides whether a lookup stalls for five seconds.
//!
//! | Linux | the loser |
//! |---|---|
//! | before 4.9.163, 4.14.106, 4.19.29, 5.0 (Ubuntu: 4.15.0-56) | is dropped |
//! | from there on | passes if both went to the same server, else is dropped |
//! | 5.6 | passes; its entry lives one second, so an answer that comes later is lost |
//! | 5.10 | the same, and is counted (`clash_resolve`) |
//!
//! Distributions take patches into old versions, so the count is believed before the version.

use super::finding::Finding;
use super::proc::Root;
use crate::node::conntrack::Totals;

const CHECK: &str = "kernel.race";
const CURE: &str =
    "run sidestep on this node: what is not tracked does not race. Or update the kernel (5.10 or newer)";

/// A kernel's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// Its numbers: 4.19.29.
    numbers: [u32; 3],
    /// Ubuntu's own number: 56 of 4.15.0-56-generic.
    ubuntu: Option<u32>,
}

/// What the kernel does with the loser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loser {
    Dropped,
    PassesToSameServer,
    Passes,
}

impl Kernel {
    /// Reads /proc/sys/kernel/osrelease and /proc/version.
    ///
    /// # Errors
    /// Which could not be read, and why.
    pub fn read(root: &Root) -> Result<Self, String> {
        let release = root.text("proc/sys/kernel/osrelease")?;
        let version = root.text("proc/version").unwrap_or_default();
        Ok(Self::parse(release.trim(), &version))
    }

    fn parse(release: &str, version: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (numbers, build) = ([next(), next(), next()], next());
        let ubuntu = version.contains("Ubuntu").then_some(build);
        Self { release: release.to_owned(), numbers, ubuntu }
    }

    fn loser(&self) -> Loser {
        match (self.numbers, self.ubuntu) {
            ([5, minor, _], _) if minor >= 6 => Loser::Passes,
            ([6..=u32::MAX, _, _], _) => Loser::Passes,
            ([5, _, _], _) => Loser::PassesToSameServer,
            ([4, 19, patch], _) if patch >= 29 => Loser::PassesToSameServer,
            ([4, 14, patch], _) if patch >= 106 => Loser::PassesToSameServer,
            ([4, 9, patch], _) if patch >= 163 => Loser::PassesToSameServer,
            ([4, minor, _], _) if minor >= 20 => Loser::Dropped,
            ([4, 15, 0], Some(build)) if build >= 56 => Loser::PassesToSameServer,
            _ => Loser::Dropped,
        }
    }
}

/// `covered`: the pods' queries do not go through conntrack, so that they do not race.
pub fn judge(kernel: &Kernel, totals: Option<&Totals>, covered: bool) -> Finding {
    let counted = totals.and_then(|totals| totals.clash_resolve);
    let release = &kernel.release;
    match (counted, kernel.loser()) {
        (Some(0), _) => Finding::healthy(
            CHECK,
            format!("Linux {release} settles races of A and AAAA between servers; none so far."),
        ),
        (Some(n), _) => {
            let what = format!(
                "Linux {release} has settled {n} races for one conntrack entry. A settled race still loses an answer \
                 that takes longer than a second."
            );
            if covered {
                return Finding::healthy(CHECK, what).evidence(format!("clash_resolve {n}"));
            }
            Finding::note(CHECK, what).remedy(CURE).evidence(format!("clash_resolve {n}"))
        }
        (None, Loser::Passes) => Finding::healthy(
            CHECK,
            format!("Linux {release} settles races of A and AAAA by its version; it does not count them."),
        ),
        (None, loser) => {
            let what = match loser {
                Loser::Dropped => format!(
                    "Linux {release} drops one of A and AAAA when they race for a conntrack entry: lookups stall 5 s."
                ),
                _ => format!(
                    "Linux {release} settles races of A and AAAA only if both go to the same server: with several \
                     servers behind the cluster DNS, lookups stall 5 s."
                ),
            };
            let seen = "no clash_resolve in the conntrack counts; judged by version";
            if covered {
                let what = format!("{what} Queries to our addresses are not tracked and do not race.");
                return Finding::note(CHECK, what).evidence(seen);
            }
            Finding::problem(CHECK, what, CURE).evidence(seen)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn versions_know_their_patches() {
        for (release, version, expected) in [
            ("4.9.162", "", Loser::Dropped),
            ("4.9.163", "", Loser::PassesToSameServer),
            ("4.14.105-rt", "", Loser::Dropped),
            ("4.14.106", "", Loser::PassesToSameServer),
            ("4.15.0-55-generic", "#60-Ubuntu SMP", Loser::Dropped),
            ("4.15.0-56-generic", "#62-Ubuntu SMP", Loser::PassesToSameServer),
            ("4.15.0-56-generic", "Debian", Loser::Dropped),
            ("4.19.28", "", Loser::Dropped),
            ("4.19.29", "", Loser::PassesToSameServer),
            ("4.20.17", "", Loser::Dropped),
            ("5.0.0", "", Loser::PassesToSameServer),
            ("5.5.19", "", Loser::PassesToSameServer),
            ("5.6.0", "", Loser::Passes),
            ("6.18.44-fc-v669", "", Loser::Passes),
            ("3.10.0-1160.el7.x86_64", "", Loser::Dropped),
            ("nonsense", "", Loser::Dropped),
        ] {
            assert_eq!(Kernel::parse(release, version).loser(), expected, "{release}");
        }
    }

    #[test]
    fn what_the_kernel_counts_is_believed_before_its_version() {
        let old = Kernel::parse("4.18.0-553.el8.x86_64", "");
        let totals = |clash_resolve| Totals { clash_resolve, ..Totals::default() };
        for (clashes, covered, level) in [
            (None, false, Level::Problem),
            (None, true, Level::Note),
            (Some(0), false, Level::Healthy),
            (Some(3), false, Level::Note),
            (Some(3), true, Level::Healthy),
        ] {
            assert_eq!(judge(&old, Some(&totals(clashes)), covered).level, level, "{clashes:?} {covered}");
        }
        let new = Kernel::parse("5.8.1", "");
        assert_eq!(judge(&new, None, false).level, Level::Healthy);
    }
}
