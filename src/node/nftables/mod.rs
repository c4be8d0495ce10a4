//! The rules in nftables, over netlink.
