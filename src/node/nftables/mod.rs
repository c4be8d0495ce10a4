//! The rules in nftables, over netlink.

pub(crate) mod expr;
pub(crate) mod message;
pub(crate) mod note;
