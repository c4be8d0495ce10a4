//! The conntrack table: how full it is, and what was lost by it. A full table drops every new lookup that is tracked.

use super::finding::Finding;
use super::proc::Root;
use crate::node::conntrack::{Conntrack, Totals};

/// From this share of the table on (percent) lookups are in danger.
const CROWDED: u64 = 75;
/// From here on a burst of connections fills it.
const FULL: u64 = 95;

const CURE: &str = "raise net.netfilter.nf_conntrack_max (sysctl; kube-proxy sets it from --conntrack-max-per-core), and \
                    find who opens so many connections: \
                    conntrack -L -p tcp | awk '{print $5}' | sort | uniq -c | sort -rn | head";

/// What is known of connection tracking in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Entries now, and the most that there may be. `None`: nothing is tracked, the kernel has not loaded it.
    pub usage: Option<(u64, u64)>,
    /// What was counted.
    pub totals: Result<Totals, String>,
}

impl Table {
    /// Looks at it.
    pub fn read(root: &Root) -> Self {
        let number = |name: &str| root.number(&format!("proc/sys/net/netfilter/{name}"));
        let usage = number("nf_conntrack_count").zip(number("nf_conntrack_max"));
        // Without tracking there is nothing to count; asking ctnetlink would make the kernel load it.
        let totals = if usage.is_some() { totals(root) } else { Ok(Totals::default()) };
        Self { usage, totals }
    }
}

/// Over ctnetlink, or from procfs, which needs no rights and which some kernels do not have.
fn totals(root: &Root) -> Result<Totals, String> {
    let asked = Conntrack::open().and_then(|mut conntrack| conntrack.totals());
    asked.or_else(|error| {
        let text = root.text("proc/net/stat/nf_conntrack").map_err(|e| format!("ctnetlink: {error}; {e}"))?;
        Totals::parse(&text)
            .ok_or_else(|| "/proc/net/stat/nf_conntrack has no counts that we know".to_owned())
    })
}

/// `later`: the counts of a moment later, to tell what happens now from what happened once.
pub fn judge(table: &Table, later: Option<&Totals>) -> Vec<Finding> {
    let Some((count, max)) = table.usage else {
        return vec![Finding::healthy("conntrack.use", "The kernel tracks no connections here.")];
    };
    vec![usage(count, max), losses(&table.totals, later)]
}

fn usage(count: u64, max: u64) -> Finding {
    const CHECK: &str = "conntrack.use";
    let percent = count.saturating_mul(100) / max.max(1);
    let seen = format!("nf_conntrack_count {count}, nf_conntrack_max {max}");
    match percent {
        FULL.. => Finding::problem(
            CHECK,
            format!("The conntrack table is full ({percent} %): new lookups that are tracked are dropped."),
            CURE,
        ),
        CROWDED.. => Finding::problem(
            CHECK,
            format!("The conntrack table is {percent} % full: a burst fills it, and then tracked lookups are dropped."),
            CURE,
        ),
        _ => Finding::healthy(CHECK, format!("The conntrack table has room: {count} of {max} entries.")),
    }
    .evidence(seen)
}

fn losses(totals: &Result<Totals, String>, later: Option<&Totals>) -> Finding {
    const CHECK: &str = "conntrack.losses";
    let totals = match totals {
        Ok(totals) => totals,
        Err(why) => {
            return Finding::unknown(CHECK, "What conntrack has lost is not known.", "run doctor as root")
                .evidence(why);
        }
    };
    let lost = |totals: &Totals| totals.drop + totals.early_drop + totals.insert_failed;
    let seen = format!(
        "insert_failed {}, drop {}, early_drop {}, clash_resolve {}",
        totals.insert_failed,
        totals.drop,
        totals.early_drop,
        totals.clash_resolve.map_or_else(|| "not counted".to_owned(), |n| n.to_string()),
    );
    let now = later.map_or(0, |later| lost(later).saturating_sub(lost(totals)));
    if now > 0 {
        let what = format!("Conntrack is losing packets right now: {now} while doctor looked.");
        let cure = "if the table is full, make it larger; if it is not, queries race: conntrack -S shows which counts grow";
        return Finding::problem(CHECK, what, cure).evidence(seen);
    }
    match (totals.insert_failed, totals.drop, totals.early_drop) {
        (0, 0, 0) => Finding::healthy(CHECK, "Conntrack has lost nothing since this network came up."),
        (failed, drop, early) => Finding::note(
            CHECK,
            format!(
                "Conntrack has lost packets at some time: {} without room or race lost ({failed} races), {early} \
                 entries thrown out.",
                drop.max(failed)
            ),
        )
        .remedy("watch whether the counts grow: conntrack -S. If they do, the table fills up or queries race"),
    }
    .evidence(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn levels(count: u64, max: u64, totals: Totals, later: Totals) -> Vec<Level> {
        let table = Table { usage: Some((count, max)), totals: Ok(totals) };
        judge(&table, Some(&later)).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_table_is_roomy_crowded_or_full() {
        let none = Totals::default();
        assert_eq!(levels(10, 262_144, none, none), [Level::Healthy, Level::Healthy]);
        assert_eq!(levels(75, 100, none, none), [Level::Problem, Level::Healthy]);
        assert_eq!(levels(100, 100, none, none), [Level::Problem, Level::Healthy]);
        assert_eq!(levels(u64::MAX, 0, none, none)[0], Level::Problem);
    }

    #[test]
    fn losses_of_now_weigh_more_than_those_of_once() {
        let once = Totals { drop: 3, ..Totals::default() };
        let more = Totals { drop: 4, ..Totals::default() };
        assert_eq!(levels(1, 100, once, once)[1], Level::Note);
        assert_eq!(levels(1, 100, once, more)[1], Level::Problem);
    }

    #[test]
    fn recorded_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        assert_eq!(Table::read(&root).usage, None);
        let sysctl = folder.path().join("proc/sys/net/netfilter");
        std::fs::create_dir_all(&sysctl).unwrap();
        std::fs::write(sysctl.join("nf_conntrack_count"), "262144\n").unwrap();
        std::fs::write(sysctl.join("nf_conntrack_max"), "262144\n").unwrap();
        let table = Table::read(&root);
        assert_eq!(table.usage, Some((262_144, 262_144)));
        assert_eq!(judge(&table, None)[0].level, Level::Problem);
    }
}
