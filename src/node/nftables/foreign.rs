//! Other programs' chains that drop what they do not know. An accept in our own table lets a packet pass our table
//! alone; where another chain of the same hook drops it, it is dropped. Rules for established connections, which let
//! most answers in, do not know untracked packets. So such chains get our accept rows at their head.
//!
//! A chain gets them if its policy is to drop, or if a rule without conditions drops or rejects, in it or where its
//! rules jump to (firewalld, ufw, Calico's host endpoints). Verdict maps are not followed: kube-proxy's lead to
//! rejects for Services without endpoints, which are not ours.

use std::collections::HashSet;

use super::accept::{Accept, COMMENT, accepts};
use super::dump::{self, Chain, Expression, Rule};
use super::expr::Verdict;
use super::message::{self, At, Family};
use super::table::{FAIL_OPEN, OWN, Step};
use crate::netlink::{Error, Socket};
use crate::node::Plan;

/// A chain of others that drops what it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropping {
    /// The chain.
    pub(super) chain: Chain,
    /// The rules of the chain itself.
    pub(super) rules: Vec<Rule>,
}

/// The chains of others at the hooks of input and output: those that drop, or all.
pub(super) fn chains(socket: &mut Socket, which: Which) -> Result<Vec<Dropping>, Error> {
    let all = dump::chains(socket, Family::ANY)?;
    let mut found = Vec::new();
    for chain in all.iter().filter(|chain| candidate(chain)) {
        let rules = dump::rules(socket, chain.family, &chain.table, Some(&chain.name))?;
        if which == Which::All || chain.drops || rejects(socket, chain, &rules)? {
            found.push(Dropping { chain: chain.clone(), rules });
        }
    }
    Ok(found)
}

/// Which chains are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that drop what they do not know.
    Dropping,
    /// Whatever may hold rows of ours.
    All,
}

fn candidate(chain: &Chain) -> bool {
    let hook = chain.hook.is_some_and(|hook| [message::INPUT, message::OUTPUT].contains(&hook.number));
    let family = [Family::INET, Family::IPV4, Family::IPV6].contains(&chain.family);
    let ours = chain.family == Family::INET && [OWN, FAIL_OPEN].contains(&chain.table.as_str());
    hook && family && !ours && chain.kind == "filter"
}

/// Whether a rule without conditions drops, in this chain or where its rules lead.
fn rejects(socket: &mut Socket, chain: &Chain, rules: &[Rule]) -> Result<bool, Error> {
    /// Chains that are looked at for one at a hook.
    const MOST: usize = 256;
    let mut seen: HashSet<String> = HashSet::from([chain.name.clone()]);
    let mut waiting: Vec<String> = Vec::new();
    let mut looked_at = rules.to_vec();
    loop {
        for rule in &looked_at {
            if drops(rule) {
                return Ok(true);
            }
            let leads = rule.expressions.iter().filter_map(|expression| verdict(expression)?.1);
            waiting.extend(leads.filter(|name| seen.len() < MOST && seen.insert(name.clone())));
        }
        let Some(next) = waiting.pop() else { return Ok(false) };
        looked_at = dump::rules(socket, chain.family, &chain.table, Some(&next))?;
    }
}

/// Whether it drops or rejects everything that comes to it.
fn drops(rule: &Rule) -> bool {
    let Some((last, before)) = rule.expressions.split_last() else { return false };
    let is = |expression: &Expression, kind: u16, text: &str| expression.data().text(kind) == Some(text);
    let ends = match last.name.as_str() {
        "immediate" => verdict(last).is_some_and(|(code, _)| code == Verdict::Drop as u32),
        "reject" => true,
        "target" => is(last, 1, "REJECT") || is(last, 1, "DROP"),
        _ => false,
    };
    let passes = |expression: &Expression| match expression.name.as_str() {
        "counter" | "log" => true,
        "match" => is(expression, 1, "comment"),
        _ => false,
    };
    ends && before.iter().all(passes)
}

/// The verdict that an expression gives, and the chain that it leads to.
fn verdict(expression: &Expression) -> Option<(u32, Option<String>)> {
    const NFTA_IMMEDIATE_DATA: u16 = 2;
    const NFTA_DATA_VERDICT: u16 = 2;
    if expression.name != "immediate" {
        return None;
    }
    let verdict = expression.data().nested(NFTA_IMMEDIATE_DATA).nested(NFTA_DATA_VERDICT);
    Some((verdict.network(1)?, verdict.text(2).map(str::to_owned)))
}

/// The steps that put our rows at the chain's head, where they are not there yet, and take away those that are not
/// (any more) planned.
pub(super) fn repair(dropping: &Dropping, plan: &Plan) -> Vec<Step> {
    let planned = accepts(&dropping.chain, plan);
    let held: Vec<_> = dropping.rules.iter().filter_map(|rule| rule.note.fingerprint).collect();
    let mut kept = HashSet::new();
    let mut steps = Vec::new();
    for rule in dropping.rules.iter().filter(|rule| is_ours(rule)) {
        let print = rule.note.fingerprint;
        let right = planned.iter().any(|accept| accept.note.fingerprint == print);
        // What iptables-restore has written anew lacks the fingerprint; such rows would pile up.
        if !right || !kept.insert(print) {
            steps.push(delete(&dropping.chain, rule));
        }
    }
    for accept in planned.into_iter().rev() {
        if accept.note.fingerprint.is_none_or(|print| !held.contains(&print)) {
            steps.push(insert(&dropping.chain, accept));
        }
    }
    steps
}

/// What a person types to put our rows there.
pub(super) fn by_hand(chain: &Chain, plan: &Plan) -> String {
    let rows = accepts(chain, plan);
    let lines = rows.iter().map(|accept| format!("nft insert rule {} {}", describe(chain), accept.words));
    lines.collect::<Vec<_>>().join("; ")
}

/// The steps that take away whatever is ours in this chain.
pub(super) fn remove(dropping: &Dropping) -> Vec<Step> {
    let ours = dropping.rules.iter().filter(|rule| is_ours(rule));
    ours.map(|rule| delete(&dropping.chain, rule)).collect()
}

/// Whether it is one of ours, or node-cache's like it.
pub(super) fn is_ours(rule: &Rule) -> bool {
    let comment = |expression: &Expression| {
        expression.name == "match"
            && expression.data().text(1) == Some("comment")
            && expression.data().get(3).is_some_and(|info| info.starts_with(COMMENT.as_bytes()))
    };
    rule.note.comment == COMMENT || rule.expressions.iter().any(comment)
}

/// The chain, as people say it.
pub(super) fn describe(chain: &Chain) -> String {
    format!("{} {} {}", chain.family.name(), chain.table, chain.name)
}

fn insert(chain: &Chain, accept: Accept) -> Step {
    let note = accept.note.bytes();
    let mut message =
        message::new_rule(chain.family, &chain.table, &chain.name, At::Head, &accept.expressions, &note);
    if let Some(protocol) = accept.compat {
        message::for_protocol(&mut message, protocol);
    }
    Step::new(message, format!("putting an accept row into the chain {}", describe(chain)))
}

fn delete(chain: &Chain, rule: &Rule) -> Step {
    let message = message::delete_rule(chain.family, &chain.table, &chain.name, rule.handle);
    Step::new(message, format!("taking our accept row out of the chain {}", describe(chain)))
}
