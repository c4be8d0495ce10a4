//! A tun: a link that belongs to the process that opened it, and goes as the kernel closes its descriptor
//! (linux/Documentation/networking/tuntap.rst). Nobody reads what is sent into it, and nothing is: packets to its
//! own address are delivered before they reach it.
//!
//! The one place beside `listen::batch` with `unsafe` in it, for one ioctl.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

/// Where tuns come from.
pub(super) const DEVICE: &str = "/dev/net/tun";

/// `struct ifreq` (netdevice(7)) as TUNSETIFF reads and writes it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Makes a tun of this name that lives as long as the descriptor: TUNSETPERSIST is never asked for. IPv4 and IPv6
/// packets would stand in it without a header of its own (IFF_NO_PI).
///
/// # Errors
/// The device's or the kernel's: ENOENT, EACCES or EPERM without the device or the right to it, EBUSY or EINVAL when
/// a link of this name is there.
pub(super) fn create(name: &str) -> Result<OwnedFd, Errno> {
    const IFF_TUN: i16 = 1;
    const IFF_NO_PI: i16 = 0x1000;
    const IFF_TUN_EXCL: i16 = i16::MIN; // 0x8000: a link of this name must not be there yet
    const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL, rest: [0; 22] };
    let Some(room) = request.name.get_mut(..name.len()).filter(|room| room.len() < 16) else {
        return Err(Errno::INVAL);
    };
    room.copy_from_slice(name.as_bytes());
    let device = File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, at most the 40 bytes that `Request` has, as whose
    // layout it stands in linux/if.h; it keeps no pointer to it, and every bit pattern is a valid `Request`.
    unsafe { ioctl(&device, Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
    Ok(device.into())
}
