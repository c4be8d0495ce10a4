//! The rules in iptables and ip6tables, in node-cache's words.
