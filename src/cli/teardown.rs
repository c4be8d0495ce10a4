//! `sidestep teardown`: takes away what any earlier run has left on this machine.

use std::net::IpAddr;
use std::process::ExitCode;

use super::{complain, print};
use crate::node;

/// Removes rules and link, says what it did, and goes on after an error.
pub(super) fn teardown(interface: &str, addresses: &[IpAddr]) -> ExitCode {
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
