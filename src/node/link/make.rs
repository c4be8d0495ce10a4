//! The link made, of whatever type it is to be.

use rustix::io::Errno;

use super::fault::cannot_make;
use super::kernel::{Kernel, TRIAL};
use super::{Link, Raised, owner, tun};
use crate::netlink::Error;
use crate::node::{Fault, LinkKind};

impl Link {
    /// Makes the link: of the first type that the kernel has, where that is left to us.
    pub(super) fn make(&mut self, kernel: &mut Kernel) -> Result<Raised, Fault> {
        const AUTO: [LinkKind; 3] = [LinkKind::Dummy, LinkKind::Bridge, LinkKind::Loopback];
        let wanted = [self.made.unwrap_or(self.kind)];
        let candidates = if wanted == [LinkKind::Auto] { &AUTO[..] } else { &wanted };
        let mut last = (LinkKind::Auto, Error::from(Errno::OPNOTSUPP));
        for &kind in candidates {
            match self.make_a(kernel, kind) {
                Ok(index) => return Ok(Raised { index, kind, is_new: kind != LinkKind::Loopback }),
                Err(error) => last = (kind, error),
            }
            if last.1.errno() != Some(Errno::OPNOTSUPP) {
                break;
            }
        }
        Err(cannot_make(&self.name, last.0, &last.1))
    }

    /// Whether this kernel can make a link of the type that is wanted, so that none is given up for one that cannot be
    /// had. Nothing stays of the try.
    pub(super) fn try_out(&self, kernel: &mut Kernel) -> Result<(), Fault> {
        let tried = match self.kind {
            LinkKind::Dummy => kernel.has(owner::DUMMY),
            LinkKind::Bridge => kernel.has(owner::BRIDGE),
            // It goes with its descriptor.
            LinkKind::Tun => tun::create(TRIAL).map(drop).map_err(Error::from),
            LinkKind::Loopback | LinkKind::Auto | LinkKind::None => Ok(()),
        };
        tried.map_err(|error| cannot_make(&self.name, self.kind, &error))
    }

    fn make_a(&mut self, kernel: &mut Kernel, kind: LinkKind) -> Result<u32, Error> {
        let name = match kind {
            LinkKind::Loopback => owner::LOOPBACK,
            _ => &self.name,
        };
        match kind {
            LinkKind::Dummy => kernel.create(name, owner::DUMMY)?,
            LinkKind::Bridge => kernel.create(name, owner::BRIDGE)?,
            LinkKind::Tun => {
                // The one that was taken away from us is of no use any more.
                self.tun = None;
                self.tun = Some(tun::create(name)?);
            }
            LinkKind::Loopback | LinkKind::Auto | LinkKind::None => {}
        }
        let index = kernel.find(name)?.ok_or(Errno::NODEV)?.index;
        if kind == LinkKind::Loopback {
            kernel.set_up(index)?;
        } else {
            kernel.silence(index);
            kernel.claim(index)?;
        }
        Ok(index)
    }
}
