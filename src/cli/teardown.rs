//! `sidestep teardown`: takes away what any earlier run has left on this machine.

use std::net::IpAddr;
use std::process::ExitCode;

use super::{complain, print};
use crate::listen::bind::{BindError, who};
use crate::listen::guard::Guard;
use crate::node;

/// Removes rules and link, says what it did, and goes on after an error. What a process holds that lives is left.
pub(super) fn teardown(interface: &str, addresses: &[IpAddr]) -> ExitCode {
    let guards = Guard::succeed(|| Guard::take_link(interface))
        .and_then(|link| Guard::succeed(Guard::take_rules).map(|rules| [link, rules]));
    if let Err(held) = &guards {
        let why = match held {
            BindError::Held { what, pid } => format!("{} holds {what}; stop it first", who(*pid)),
            other => other.to_string(),
        };
        complain(&format!("sidestep: nothing is removed: {why}"));
        return ExitCode::FAILURE;
    }
    let report = node::teardown(interface, addresses);
    let mut text = String::new();
    for line in &report.removed {
        text.push_str(&format!("removed: {line}\n"));
    }
    for line in &report.left {
        text.push_str(&format!("left: {line}\n"));
    }
    if text.is_empty() && report.faults.is_empty() {
        text.push_str("nothing of sidestep is here\n");
    }
    let printed = print(text.as_bytes());
    for fault in &report.faults {
        complain(&format!("sidestep: {fault}"));
    }
    if report.faults.is_empty() { printed } else { ExitCode::FAILURE }
}
