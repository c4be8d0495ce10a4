//! Our tables as the kernel holds them, and how that differs from what is planned.

use super::dump;
use super::message::Family;
use super::table::{Chain, Set, Table};
use crate::netlink::{Error, Socket};

/// A table as it is.
pub(super) struct Actual {
    table: dump::Table,
    chains: Vec<dump::Chain>,
    rules: Vec<dump::Rule>,
    sets: Vec<(String, Vec<dump::Element>)>,
}

impl Table {
    /// How the kernel's table differs from this one, in words; nothing if it does not.
    pub(super) fn differences(&self, actual: Option<&Actual>) -> Vec<String> {
        let name = self.name;
        let Some(actual) = actual else { return vec![format!("the table inet {name} is gone")] };
        let mut all = Vec::new();
        if actual.table.flags != self.flags {
            all.push(format!("the table inet {name} has other flags"));
        }
        for set in &self.sets {
            all.extend(set.difference(actual).map(|what| format!("the set {} of {name} {what}", set.name)));
        }
        for chain in &self.chains {
            let what = chain.differences(actual);
            all.extend(what.into_iter().map(|what| format!("the chain {} of {name} {what}", chain.name)));
        }
        if actual.sets.len() > self.sets.len() || actual.chains.len() > self.chains.len() {
            all.push(format!("the table inet {name} holds sets or chains that are not ours"));
        }
        all
    }
}

impl Set {
    fn difference(&self, actual: &Actual) -> Option<&'static str> {
        let Some((_, elements)) = actual.sets.iter().find(|(name, _)| *name == self.name) else {
            return Some("is gone");
        };
        let mut held: Vec<_> = elements.iter().map(|element| element.key.as_slice()).collect();
        held.sort_unstable();
        let planned = self.elements.as_ref()?;
        (!held.iter().eq(planned.iter())).then_some("holds other addresses than ours")
    }
}

impl Chain {
    fn differences(&self, actual: &Actual) -> Vec<String> {
        let Some(chain) = actual.chains.iter().find(|chain| chain.name == self.name) else {
            return vec!["is gone".to_owned()];
        };
        if chain.hook != Some(self.hook) || chain.kind != self.kind || chain.drops {
            return vec!["is another".to_owned()];
        }
        let fingerprints = |rule: &dump::Rule| rule.note.fingerprint;
        let held: Vec<_> =
            actual.rules.iter().filter(|rule| rule.chain == self.name).map(fingerprints).collect();
        let planned: Vec<_> = self.rules.iter().map(|rule| rule.note().fingerprint).collect();
        if held == planned {
            return Vec::new();
        }
        let mut all: Vec<_> = self
            .rules
            .iter()
            .zip(&planned)
            .filter(|(_, print)| !held.contains(print))
            .map(|(rule, _)| format!("lacks a row ({})", rule.reason))
            .collect();
        let foreign = held.iter().filter(|print| !planned.contains(print)).count();
        if foreign > 0 {
            all.push(format!("holds {foreign} rows that are not ours"));
        }
        if all.is_empty() {
            all.push("holds our rows in another order or number".to_owned());
        }
        all
    }
}

impl Actual {
    /// What the kernel holds under this name, if anything.
    pub(super) fn read(socket: &mut Socket, name: &str) -> Result<Option<Self>, Error> {
        let Some(table) = dump::find_table(socket, Family::INET, name)? else { return Ok(None) };
        let mut chains = dump::chains(socket, Family::INET)?;
        chains.retain(|chain| chain.table == name);
        let rules = dump::rules(socket, Family::INET, name, None)?;
        let mut sets = Vec::new();
        for set in dump::sets(socket, Family::INET, name)? {
            let elements = dump::elements(socket, Family::INET, name, &set)?;
            sets.push((set, elements));
        }
        Ok(Some(Self { table, chains, rules, sets }))
    }

    /// The table itself.
    pub(super) fn table(&self) -> &dump::Table {
        &self.table
    }

    /// Its rules, chain by chain.
    pub(super) fn rules(&self) -> &[dump::Rule] {
        &self.rules
    }

    /// The elements of one of its sets.
    pub(super) fn elements(&self, set: &str) -> &[dump::Element] {
        self.sets.iter().find(|(name, _)| name == set).map_or(&[], |(_, elements)| elements)
    }
}
