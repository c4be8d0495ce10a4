//! node-cache itself says what is recorded. Its module is not on every machine's way to Go modules, so this runs where
//! `SIDESTEP_NODE_CACHE` names the program, and only when it is asked for: `just record-golden`.

use super::recorded::{answers_text, hold, set_text};
use super::running::{Kind, Running};
use super::sets::for_any_address;
use super::tools::VARIANTS;
use super::turn;

#[test]
#[ignore = "needs node-cache: SIDESTEP_NODE_CACHE names it, `just record-golden` runs this"]
fn node_cache_says_what_is_recorded() {
    let _turn = turn();
    let running = Running::new(Kind::NodeCache);
    let version = running.version();
    hold("answers", &version, &answers_text(&running.answers()));
    hold("metrics", &version, &set_text(&running.metrics()));
    hold("ports", &version, &set_text(&running.ports()));
    drop(running);
    for variant in VARIANTS {
        let rules = Running::with_rules(Kind::NodeCache, variant).rules(variant);
        assert_eq!(rules.len(), 24, "twelve for an address: {rules:#?}");
        hold("rules", &version, &set_text(&for_any_address(&rules)));
    }
}
