//! What is there against what should be: exactly the difference is written, as one input of iptables-restore.
//!
//! Asking `iptables -C` rule by rule and adding where it says no has filled tables with thousands of copies, because
//! it says no for every failure. Here everything is read, compared and only then changed: what is missing is added,
//! what is there twice or otherwise is deleted. Should some version of iptables print a rule so that we do not know it
//! again, then the old one is deleted as the new one is added, and there is still one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::line::Line;
use super::rule::{Comment, Family, Rule, chain, table};
use crate::node::rules::PROBE_MARK;
use crate::node::{Drift, DriftKind};

/// Which of the lines found may be taken away.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Those about these addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Those in these tables.
    pub tables: &'static [&'static str],
}

impl Scope {
    /// All tables that have rules of ours.
    pub const EVERYWHERE: &'static [&'static str] = &["raw", "filter", "nat"];

    fn covers(&self, line: &Line) -> bool {
        self.tables.contains(&table(line.place)) && self.addresses.contains(&line.address)
    }
}

fn is_sleeping(line: &Line) -> bool {
    table(line.place) == "nat"
}

/// Addresses that this program has held, now or in an earlier run: node-cache has neither the rule for probes nor
/// sleeping ones.
pub fn held(lines: &[Line]) -> BTreeSet<IpAddr> {
    let ours = |line: &&Line| {
        is_sleeping(line)
            || line
                .rule
                .as_ref()
                .is_some_and(|rule| rule.comment == Comment::Skip && rule.mark == Some((true, PROBE_MARK)))
    };
    lines.iter().filter(ours).map(|line| line.address).collect()
}

/// What is to be done to one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Missing, in the order of their chains.
    pub add: Vec<Rule>,
    /// There twice, or not wanted.
    pub remove: Vec<Line>,
}

impl Difference {
    /// From what is there to what is wanted, within `scope`.
    pub fn new(present: &[Line], wanted: &[Rule], scope: &Scope) -> Self {
        let mut seen = Vec::new();
        let mut remove = Vec::new();
        for line in present {
            match line.rule.as_ref().filter(|rule| wanted.contains(rule)) {
                Some(rule) if !seen.contains(&rule) => seen.push(rule),
                Some(_) => remove.push(line.clone()),
                None if scope.covers(line) => remove.push(line.clone()),
                None => {}
            }
        }
        let add = wanted.iter().filter(|rule| !seen.contains(rule)).cloned().collect();
        Self { add, remove }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Input of `iptables-restore --noflush`: deletions first, then additions. Rules of raw and filter go to the top
    /// of their chain, as node-cache's do; sleeping ones to the end of theirs, behind kube-proxy's.
    ///
    /// Each table changes at once, but one after the other: what is not tracked must be accepted before, and for as
    /// long as, it is not tracked; and what sleeps must not be awake in between.
    pub fn script(&self) -> String {
        let mut script = String::new();
        let tables = if self.add.is_empty() { ["raw", "filter", "nat"] } else { ["filter", "raw", "nat"] };
        for name in tables {
            let mut body = String::new();
            for line in self.remove.iter().filter(|line| table(line.place) == name) {
                let _ = writeln!(body, "-D {} {}", chain(line.place), line.text);
            }
            let mut additions: Vec<_> = self.add.iter().filter(|rule| table(rule.place) == name).collect();
            let end = name == "nat";
            if !end {
                additions.reverse();
            }
            for rule in additions {
                let _ = writeln!(body, "{} {} {rule}", if end { "-A" } else { "-I" }, chain(rule.place));
            }
            if !body.is_empty() {
                let _ = write!(script, "*{name}\n{body}COMMIT\n");
            }
        }
        script
    }

    /// The difference in words, one for each kind.
    pub fn drift(&self, family: Family) -> Vec<Drift> {
        let kind = |sleeping: bool| {
            let gone: Vec<String> = self
                .add
                .iter()
                .filter(|rule| (table(rule.place) == "nat") == sleeping)
                .map(|rule| format!("-t {} -A {} {rule}", table(rule.place), chain(rule.place)))
                .collect();
            let extra: Vec<String> = self
                .remove
                .iter()
                .filter(|line| is_sleeping(line) == sleeping)
                .map(|line| format!("-t {} -A {} {}", table(line.place), chain(line.place), line.text))
                .collect();
            let what = [(gone, "gone"), (extra, "there twice or changed")]
                .into_iter()
                .filter_map(|(rows, how)| {
                    rows.first()
                        .map(|first| format!("{} {how}, the first: {} {first}", rows.len(), family.program()))
                })
                .collect::<Vec<_>>()
                .join("; ");
            let kind = if sleeping { DriftKind::FailOpen } else { DriftKind::Rules };
            (!what.is_empty()).then(|| Drift { kind, what: format!("{} rules: {what}", family.program()) })
        };
        [false, true].into_iter().filter_map(kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::parse;
    use super::super::rule::Target;
    use super::*;
    use crate::node::rules::Place;

    fn rule(place: Place, port: u16) -> Rule {
        Rule {
            destination: Some("10.0.0.1".parse().unwrap()),
            destination_port: Some(port),
            protocol: Some(super::super::rule::Protocol::Udp),
            ..Rule::new(place, Comment::Skip, Target::Notrack)
        }
    }

    fn saved(rules: &[Rule]) -> Vec<Line> {
        let lines =
            rules.iter().map(|rule| format!("*{}\n-A {} {rule}\n", table(rule.place), chain(rule.place)));
        parse(&lines.collect::<String>())
    }

    fn all() -> Scope {
        Scope { addresses: ["10.0.0.1".parse().unwrap()].into(), tables: Scope::EVERYWHERE }
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let rules = [rule(Place::RawPrerouting, 53), rule(Place::RawOutput, 53)];
        assert!(Difference::new(&saved(&rules), &rules, &all()).is_empty());
    }

    #[test]
    fn copies_go_and_the_missing_come_in_order() {
        let wanted = [rule(Place::RawOutput, 1), rule(Place::RawOutput, 2), rule(Place::RawOutput, 3)];
        let there = [wanted[1].clone(), wanted[1].clone(), rule(Place::RawOutput, 9)];
        let script = Difference::new(&saved(&there), &wanted, &all()).script();
        assert_eq!(
            script,
            format!(
                "*raw\n-D OUTPUT {}\n-D OUTPUT {}\n-I OUTPUT {}\n-I OUTPUT {}\nCOMMIT\n",
                wanted[1], there[2], wanted[2], wanted[0]
            )
        );
    }

    #[test]
    fn rules_about_other_addresses_are_not_ours_to_take() {
        let there = saved(&[rule(Place::RawOutput, 53)]);
        assert!(
            Difference::new(&there, &[], &Scope { tables: Scope::EVERYWHERE, ..Scope::default() }).is_empty()
        );
        assert!(Difference::new(&there, &[], &Scope { tables: &["filter"], ..all() }).is_empty());
        assert_eq!(Difference::new(&there, &[], &all()).remove, there);
    }

    #[test]
    fn a_changed_rule_is_deleted_by_its_own_words() {
        let there = parse(
            "*raw\n-A OUTPUT -d 10.0.0.1/32 -m limit --limit 1/sec -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n",
        );
        let difference = Difference::new(&there, &[], &all());
        assert!(difference.script().contains("-D OUTPUT -d 10.0.0.1/32 -m limit --limit 1/sec"));
        assert_eq!(difference.drift(Family::V4)[0].kind, DriftKind::Rules);
    }

    #[test]
    fn the_rule_for_probes_tells_our_addresses_from_node_caches() {
        let probe = Rule { mark: Some((true, PROBE_MARK)), ..rule(Place::RawOutput, 53) };
        assert!(held(&saved(&[rule(Place::RawOutput, 53)])).is_empty());
        assert_eq!(held(&saved(&[probe])), all().addresses);
    }
}
