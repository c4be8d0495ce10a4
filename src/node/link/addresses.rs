//! The addresses on the link: put there, put right, and taken off.

use std::net::IpAddr;
use std::time::Duration;

use super::fault::{cannot_add, cannot_change};
use super::kernel::Kernel;
use super::view::{ALIAS, Address, View};
use super::{Link, Raised, gone, owner};
use crate::netlink::Error;
use crate::node::{Drift, DriftKind, Fault, LinkKind};

/// How long we wait for the kernel to deliver packets to addresses that it has taken: milliseconds, unless it looks
/// for others who have them, which it does for addresses that somebody else has added (RFC 4862, 5.4: a second).
const DELIVERY: Duration = Duration::from_millis(1500);

impl Link {
    /// Sees to every address standing on the link as it should, and on nothing else of ours. One that cannot be had (of
    /// a family that is switched off, say) does not keep the others from it.
    pub(super) fn place(
        &self,
        kernel: &mut Kernel,
        view: &View,
        raised: Raised,
    ) -> Result<Vec<Drift>, Fault> {
        let mut drifts = Vec::new();
        let mut faults = Vec::new();
        for &ip in &self.addresses {
            let mut report = |what| drifts.push(Drift { kind: DriftKind::Address, what });
            faults.extend(self.place_one(kernel, view, raised, ip, &mut report).err());
        }
        faults.into_iter().next().map_or(Ok(drifts), Err)
    }

    fn place_one(
        &self,
        kernel: &mut Kernel,
        view: &View,
        raised: Raised,
        ip: IpAddr,
        report: &mut impl FnMut(String),
    ) -> Result<(), Fault> {
        let is_loopback = raised.kind == LinkKind::Loopback;
        let carrier = if is_loopback { owner::LOOPBACK } else { &self.name };
        let cannot = |error: Error| cannot_add(carrier, ip, &error);
        let here = || view.on(raised.index).filter(|a| a.ip == ip && !raised.is_new);
        // On lo, whoever put it there in whatever way: it serves.
        if !here().any(|a| is_loopback || (a.is_whole() && !a.refused)) {
            for wrong in here() {
                kernel.remove(wrong).or_else(gone).map_err(cannot)?;
                report(format!("address {ip} was on {carrier} as {ip}/{}: put right", wrong.prefix));
            }
            kernel.add(raised.index, ip).map_err(cannot)?;
            if here().next().is_none() {
                report(format!("address {ip} was not on {carrier}: added"));
            }
        }
        for other in owner::ours_elsewhere(view, ip, raised.index) {
            kernel.remove(other).or_else(gone).map_err(cannot)?;
            let holder = view.name(other.index);
            report(format!("address {ip} was on {holder} as well, by us: taken away there"));
        }
        Ok(())
    }

    /// Waits until packets to our addresses arrive. IPv6 sees to that in a work queue of the kernel's, some moments
    /// after it has acknowledged the address. Whether they do in the end, the question to ourselves shows.
    pub(super) fn await_delivery(&self, kernel: &mut Kernel) {
        const STEP: Duration = Duration::from_millis(2);
        let mut steps = DELIVERY.as_millis() / STEP.as_millis();
        for &ip in &self.addresses {
            while steps > 0 && matches!(kernel.delivers(ip), Ok(false)) {
                std::thread::sleep(STEP);
                steps -= 1;
            }
        }
    }

    /// Takes away what earlier configurations have left on what is ours.
    pub(super) fn trim(
        &self,
        kernel: &mut Kernel,
        view: &View,
        raised: Raised,
    ) -> Result<Vec<String>, Fault> {
        let mut done = Vec::new();
        let is_loopback = raised.kind == LinkKind::Loopback;
        let carrier = if is_loopback { owner::LOOPBACK } else { &self.name };
        let is_stale = |a: &&Address| {
            let is_ours = a.is_marked() || !(is_loopback || a.link_local);
            is_ours && !self.addresses.contains(&a.ip)
        };
        for stale in view.on(raised.index).filter(is_stale).filter(|_| !raised.is_new) {
            let step = format!("take {} off", stale.ip);
            kernel.remove(stale).or_else(gone).map_err(|error| cannot_change(carrier, &step, &error))?;
            done.push(format!("address {} was left on {carrier}: taken away", stale.ip));
        }
        let left = view.link(&self.name).filter(|link| is_loopback && link.alias == ALIAS);
        if let Some(link) = left.filter(|link| owner::claim(link, view, &[]).is_ok()) {
            kernel.delete(link.index).map_err(|error| cannot_change(&link.name, "remove it", &error))?;
            done.push(format!("link {} was left: removed", link.name));
        }
        Ok(done)
    }
}
