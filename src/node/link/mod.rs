//! The link: an interface that carries our addresses, so that the kernel delivers packets for them here.
//!
//! # Whose is it?
//!
//! A link that we make or adopt gets the alias `sidestep`, and each address that we add the protocol 0x53
//! (IFA_PROTO, Linux 5.18), so that a later run, `teardown` and a reader of `ip address` know them as ours.
//!
//! - A link of our name is ours when its type is one that we make, it has no ports, and it is marked; or it has no
//!   alias at all and no other addresses than ours. The second is node-cache's own dummy (which stands there without
//!   being up), or one of our own whose process was killed before it had put the mark on. It is marked then.
//! - Whatever else has the name is somebody's. It is left alone, and the start ends with its description.
//! - A tun lives as long as its process. One that is there and that we do not hold is another process's.
//! - An address on an interface that is not ours has a use there that we would break: an error, except on `lo`
//!   where the kind is `auto`, as no other host can mean it. One on something of ours (a link of an earlier run,
//!   `lo`) is moved: it is added here first, so that it is never gone.
//! - [`Link::up`] takes other addresses off our link: they are of an earlier configuration, and nobody listens
//!   there any more. [`Link::check`] only adds, so that two processes do not undo each other's work for ever.
//! - [`teardown`] removes what is ours by the same measure, and nothing else.
//!
//! # What it is
//!
//! A dummy, where the kernel has the type; else a bridge without ports, which has a carrier until it has lost its
//! first port, and delivers packets to its own addresses either way. Neither sends anything: the kernel is kept from
//! giving it a link-local IPv6 address, with which it would look for routers. IPv6 addresses are added without
//! asking the neighbours (IFA_F_NODAD), as otherwise nobody could bind to them for a second. A link that is down
//! still delivers for IPv4 but not for IPv6, so it is set up.

mod addresses;
mod events;
mod fault;
mod kernel;
mod make;
pub mod overview;
mod owner;
mod teardown;
mod tun;
mod view;

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{Drift, DriftKind, Fault, LinkKind};
use crate::netlink::Error;
use fault::{cannot_change, cannot_look, foreign};
use kernel::Kernel;
use view::{ALIAS, Interface, View};

pub use events::Events;
pub use teardown::{Removed, held, teardown};

/// The link that carries our addresses; see the module. It speaks to the network namespace of the thread that calls.
#[derive(Debug)]
pub struct Link {
    name: String,
    kind: LinkKind,
    addresses: Vec<IpAddr>,
    /// What `auto` has come to.
    made: Option<LinkKind>,
    /// Its number, by which it is known if somebody renames it.
    index: Option<u32>,
    /// What a tun lives by.
    tun: Option<OwnedFd>,
}

/// What [`Link::up`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// What carries the addresses: the type and never [`LinkKind::Auto`].
    pub kind: LinkKind,
    /// What had to be done for it, a line each; nothing if all was there.
    pub done: Vec<String>,
}

/// A link that is up and marked.
#[derive(Clone, Copy)]
struct Raised {
    index: u32,
    kind: LinkKind,
    /// It was made a moment ago: what was seen before says nothing about it.
    is_new: bool,
}

impl Link {
    /// Touches nothing yet. `name` has 1 to 15 bytes.
    pub fn new(name: &str, kind: LinkKind, addresses: &[IpAddr]) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            addresses: addresses.to_owned(),
            made: None,
            index: None,
            tun: None,
        }
    }

    /// Whether an earlier run has left it here: a link of ours, or our addresses on `lo`. What cannot be looked at, the
    /// next step says.
    pub fn is_there(&self) -> bool {
        self.look().is_ok_and(|(_, view)| {
            let claimed = |link| owner::claim(link, &view, &self.addresses).is_ok();
            view.link(&self.name).is_some_and(claimed)
                || owner::on_loopback(&view, &self.addresses).next().is_some()
        })
    }

    /// Makes the link, or adopts the one that is there, sets it up, and gives it our addresses and no others. A
    /// second time changes nothing.
    ///
    /// # Errors
    /// The name or an address is somebody else's, or, with [`LinkKind::None`], an address is not there, which is found
    /// before anything is touched; or the kernel refused.
    pub fn up(&mut self) -> Result<Up, Fault> {
        let (mut kernel, view) = self.look()?;
        if self.kind == LinkKind::None {
            let is_there = |ip: &IpAddr| view.addresses.iter().any(|address| address.ip == *ip);
            // One that a local route covers is delivered here although no interface has it.
            let mut is_missing = |ip: &&IpAddr| !is_there(ip) && !matches!(kernel.delivers(**ip), Ok(true));
            let missing: Vec<_> = self.addresses.iter().filter(|ip| is_missing(ip)).copied().collect();
            return match &missing[..] {
                [] => Ok(Up { kind: LinkKind::None, done: Vec::new() }),
                missing => Err(fault::not_there(missing)),
            };
        }
        let (raised, drifts) = self.settle(&mut kernel, &view)?;
        let mut done: Vec<_> = drifts.into_iter().map(|drift| drift.what).collect();
        done.extend(self.trim(&mut kernel, &view, raised)?);
        Ok(Up { kind: raised.kind, done })
    }

    /// Puts right what others have done to the link and its addresses, and says what that was. With
    /// [`LinkKind::None`] that is nothing.
    ///
    /// # Errors
    /// It could not be looked at, or not be repaired: the next check tries again.
    pub fn check(&mut self) -> Result<Vec<Drift>, Fault> {
        if self.kind == LinkKind::None {
            return Ok(Vec::new());
        }
        let (mut kernel, view) = self.look()?;
        Ok(self.settle(&mut kernel, &view)?.1)
    }

    /// Removes link and addresses, as [`teardown`] does.
    ///
    /// # Errors
    /// As [`teardown`].
    pub fn down(&mut self) -> Result<Removed, Vec<Fault>> {
        let result = teardown(&self.name, &self.addresses);
        self.tun = None;
        self.made = None;
        self.index = None;
        result
    }

    fn look(&self) -> Result<(Kernel, View), Fault> {
        look(&self.name)
    }

    /// Everything that up and check have in common.
    fn settle(&mut self, kernel: &mut Kernel, view: &View) -> Result<(Raised, Vec<Drift>), Fault> {
        let existing = self.existing(view)?;
        let carrier = existing.map(|(_, link)| link.index);
        owner::held_elsewhere(view, &self.addresses, carrier, self.kind)
            .map_or(Ok(()), |what| Err(foreign(what)))?;
        let (raised, drift) = self.raise(kernel, existing)?;
        let before = self.index.replace(raised.index);
        self.made = Some(raised.kind);
        let addresses = self.place(kernel, view, raised)?;
        if drift.is_some() || !addresses.is_empty() {
            self.await_delivery(kernel);
        }
        if raised.is_new {
            remove_renamed(kernel, view, before.filter(|&index| index != raised.index))?;
        }
        // Addresses go with their link, and IPv6 ones as it is set down: that is one thing, not several.
        Ok((raised, drift.map_or(addresses, |drift| vec![drift])))
    }

    /// The link that is there, if it is ours.
    fn existing<'v>(&self, view: &'v View) -> Result<Option<(LinkKind, &'v Interface)>, Fault> {
        if self.made.unwrap_or(self.kind) == LinkKind::Loopback {
            return Ok(view.link(owner::LOOPBACK).map(|lo| (LinkKind::Loopback, lo)));
        }
        let Some(link) = view.link(&self.name) else { return Ok(None) };
        let kind = owner::claim(link, view, &self.addresses).and_then(|kind| match kind {
            LinkKind::Tun if self.tun.is_none() => Err("it is a tun that another process holds".to_owned()),
            kind => Ok(kind),
        });
        let kind = kind.map_err(|why| {
            let name = &self.name;
            foreign(format!(
                "link {name} is not ours: {why}. Choose another name with --interface, or remove it: \
                 `ip link del {name}`"
            ))
        })?;
        Ok(Some((kind, link)))
    }

    /// Sees to a link that is there, up and marked.
    fn raise(
        &mut self,
        kernel: &mut Kernel,
        existing: Option<(LinkKind, &Interface)>,
    ) -> Result<(Raised, Option<Drift>), Fault> {
        let Some((kind, link)) = existing else {
            let raised = self.make(kernel)?;
            return Ok((raised, Some(self.drift(format!("was not there: made {}", told(raised.kind))))));
        };
        let cannot = |step: &str, error: Error| cannot_change(&link.name, step, &error);
        if ![kind, LinkKind::Auto].contains(&self.kind) {
            // What is there serves clients, if only by what sleeps beneath it, until there is something better.
            self.try_out(kernel)?;
            kernel.delete(link.index).map_err(|error| cannot("remove it", error))?;
            let raised = self.make(kernel)?;
            return Ok((raised, Some(self.drift(format!("was {}: made {}", told(kind), told(raised.kind))))));
        }
        let raised = Raised { index: link.index, kind, is_new: false };
        let is_marked = link.alias == ALIAS || kind == LinkKind::Loopback;
        let what = match (is_marked, link.up) {
            (true, true) => return Ok((raised, None)),
            (true, false) => "was down: set up".to_owned(),
            (false, _) => format!("was there without our mark, {}: adopted", told(kind)),
        };
        let done = if kind == LinkKind::Loopback {
            kernel.set_up(link.index)
        } else {
            kernel.silence(link.index);
            kernel.claim(link.index)
        };
        done.map_err(|error| cannot("set it up", error))?;
        Ok((raised, Some(Drift { kind: DriftKind::Link, what: format!("link {} {what}", link.name) })))
    }

    fn drift(&self, what: String) -> Drift {
        Drift { kind: DriftKind::Link, what: format!("link {} {what}", self.name) }
    }
}

fn look(name: &str) -> Result<(Kernel, View), Fault> {
    let look = || -> Result<_, Error> {
        let mut kernel = Kernel::open()?;
        let view = kernel.view()?;
        Ok((kernel, view))
    };
    look().map_err(|error| cannot_look(name, &error))
}

/// A link of ours that somebody has given another name is of no more use once its addresses are on a new one.
fn remove_renamed(kernel: &mut Kernel, view: &View, before: Option<u32>) -> Result<(), Fault> {
    let renamed = view.links.iter().find(|link| Some(link.index) == before && link.alias == ALIAS);
    renamed.map_or(Ok(()), |link| {
        kernel
            .delete(link.index)
            .or_else(gone)
            .map_err(|error| cannot_change(&link.name, "remove it", &error))
    })
}

/// What is to be removed may have gone a moment ago.
fn gone(error: Error) -> Result<(), Error> {
    match error.errno() {
        Some(Errno::NODEV | Errno::ADDRNOTAVAIL) => Ok(()),
        _ => Err(error),
    }
}

/// A type in words.
fn told(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Dummy => "a dummy",
        LinkKind::Bridge => "a bridge",
        LinkKind::Tun => "a tun",
        LinkKind::Loopback => "addresses on lo",
        LinkKind::Auto | LinkKind::None => "nothing",
    }
}
