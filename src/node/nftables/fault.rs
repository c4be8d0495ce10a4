//! What went wrong, in words that help: what was tried, what the kernel said, what to do.

use rustix::io::Errno;

use super::table::Step;
use crate::netlink::{Error, Message, Socket};
use crate::node::{Fault, FaultKind};

/// A fault: `what` was tried, and this came of it.
pub(super) fn fault(what: &str, error: &Error) -> Fault {
    Fault { kind: FaultKind::Rules, what: format!("nftables: {what}: {error}{}", advice(error)) }
}

/// What to do about it.
fn advice(error: &Error) -> &'static str {
    match error.errno() {
        Some(Errno::PERM | Errno::ACCESS) => {
            ". Packet filters need CAP_NET_ADMIN: give it, or leave the rules to others with --firewall none"
        }
        Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => {
            ". This kernel or sandbox has no nf_tables: choose --firewall iptables or none"
        }
        Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::INVAL | Errno::PROTOTYPE) => {
            ". This kernel may be too old or lack a module (nf_tables, nft_ct, nft_nat, nft_masq): choose \
             --firewall iptables or none"
        }
        Some(Errno::NOMEM | Errno::NOBUFS | Errno::NFILE | Errno::MFILE) => {
            ". The node is short of resources"
        }
        _ => "",
    }
}

/// Why a transaction was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Which of its steps, in words.
    pub(super) what: String,
    /// The kernel's word.
    pub(super) error: Error,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        fault(&refusal.what, &refusal.error)
    }
}

/// Does all steps or none.
pub(super) fn commit(socket: &mut Socket, steps: Vec<Step>) -> Result<(), Refusal> {
    let (messages, words): (Vec<Message>, Vec<String>) =
        steps.into_iter().map(|step| (step.message, step.what)).unzip();
    socket.transaction(super::message::SUBSYSTEM, messages).map_err(|error| {
        let what = match &error {
            Error::Refused(refused) => words.into_iter().nth(refused.index),
            Error::Broken(_) => None,
        };
        Refusal { what: what.unwrap_or_else(|| "changing the rules".to_owned()), error }
    })
}
