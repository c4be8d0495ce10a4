//! Rules, metrics and ports: what there is, line by line, beside what node-cache has; and how it ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::recorded;
use super::running::{Kind, Running};
use super::table::under;
use super::tools::VARIANTS;
use super::turn;
use super::world::LOCAL;

/// Holds two sets to a table whose first cells are lines, and whose second and third say `yes` or `no`: who has it.
fn hold(what: &str, document: &str, heading: &str, theirs: &BTreeSet<String>, ours: &BTreeSet<String>) {
    let rows = under(document, heading);
    let lines = |who: [&str; 2]| -> BTreeSet<String> {
        let rows = rows.iter().filter(|row| [&row[1].text, &row[2].text] == who);
        rows.flat_map(|row| row[0].codes.clone()).collect()
    };
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        only(theirs, ours),
        lines(["yes", "no"]),
        "{what}: left node-cache alone has, right is documented"
    );
    assert_eq!(only(ours, theirs), lines(["no", "yes"]), "{what}: left we alone have, right is documented");
}

/// A rule of either address becomes one of `ADDRESS`; those of the second address must be the same.
pub fn for_any_address(rules: &BTreeSet<String>) -> BTreeSet<String> {
    let of = |address: &str| -> BTreeSet<String> {
        let rules = rules.iter().filter(|rule| rule.contains(&format!("{address}/32")));
        rules.map(|rule| rule.replace(&format!("{address}/32"), "ADDRESS")).collect()
    };
    let [first, second] = LOCAL.map(of);
    assert_eq!(first, second, "the rules of both addresses");
    assert_eq!(2 * first.len(), rules.len(), "rules that are of no address: {rules:#?}");
    first
}

#[test]
fn our_rules_in_iptables_are_node_caches_but_for_what_is_documented() {
    let _turn = turn();
    let document = include_str!("../../docs/node-cache.md");
    for variant in VARIANTS {
        let running = Running::with_rules(Kind::Us, variant);
        let mut ours = for_any_address(&running.rules(variant));
        // Where the kernel has no xt_socket, the log says so, and the rules are without.
        if running.process.log().contains("no -m socket") {
            let with = |rule: &String| match rule.starts_with("raw -A PREROUTING") {
                true => rule.replace("--dport 53", "--dport 53 -m socket"),
                false => rule.clone(),
            };
            assert!(!ours.iter().any(|rule| rule.contains("-m socket")), "{ours:#?}");
            ours = ours.iter().map(with).collect();
        }
        hold(variant, document, "## Rules that differ", &recorded::set("rules"), &ours);
    }
}

#[test]
fn our_metrics_are_node_caches_but_for_what_is_documented() {
    let _turn = turn();
    let running = Running::new(Kind::Us);
    running.answers();
    let ours = |line: &String| !line.split(' ').nth(1).is_some_and(|name| name.starts_with("sidestep_"));
    let pages: BTreeSet<String> = running.metrics().into_iter().filter(ours).collect();
    // Both pages are one, with us and with node-cache.
    for (port, other) in [("9253 ", "9353 "), ("9353 ", "9253 ")] {
        for all in [&pages, &recorded::set("metrics")] {
            let missing = all
                .iter()
                .filter_map(|line| line.strip_prefix(port))
                .find(|line| !all.contains(&format!("{other}{line}")));
            assert_eq!(missing, None, "on {port} alone");
        }
    }
    let names = |all: &BTreeSet<String>| -> BTreeSet<String> {
        all.iter().filter_map(|line| line.strip_prefix("9253 ")).map(str::to_owned).collect()
    };
    let document = include_str!("../../docs/metrics.md");
    let heading = "## What one has and the other has not";
    hold("metrics", document, heading, &names(&recorded::set("metrics")), &names(&pages));
}

#[test]
fn it_listens_where_node_cache_does_is_well_and_ends_in_good_order() {
    let _turn = turn();
    let mut running = Running::new(Kind::Us);
    let document = include_str!("../../docs/node-cache.md");
    hold("ports", document, "## Ports that differ", &recorded::set("ports"), &running.ports());
    let (status, text) = running.get(&format!("{}:8080", LOCAL[0]), "/health");
    assert_eq!((status, text.trim()), (200, "ok"));
    let start = Instant::now();
    let status = running.process.end();
    assert!(status.success(), "{status}: {}", running.process.log());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(running.all_ports(), BTreeSet::new(), "somebody still listens");
}
