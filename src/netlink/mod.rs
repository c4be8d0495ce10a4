//! Netlink (RFC 3549, netlink(7)): the kernel's own way to be told of links, addresses and packet-filter rows.
//!
//! Spoken directly, because the alternative is to run `ip`, `nft` and `conntrack`: binaries that an image would
//! have to carry, in versions that must fit the node. What we say is little: a [`Message`] is built from a fixed
//! header and attributes, a [`Socket`] sends it and waits for the kernel's word, and [`Attributes`] walks through
//! what comes back. Nothing here knows what a message means; `node` and `doctor` do.
//!
//! The kernel answers requests while it handles them, so a request blocks no longer than the kernel works; a
//! timeout ([`PATIENCE`]) guards against the rest.

mod events;
mod message;
mod socket;

pub use events::Events;
pub use message::{Attributes, Message, Reply, attribute};
pub use socket::{Error, Family, PATIENCE, Refused, Socket};
