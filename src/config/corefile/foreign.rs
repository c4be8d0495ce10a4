//! Plugins of CoreDNS that node-cache does not have: what to do instead.
//!
//! Those that answer names or guard them are errors in any case: a server that left them out would say something
//! else to its clients. The others are notes for the lenient.

use super::plugins::Context;
use crate::corefile::{Directive, Fault};

/// Whether a server without it would say something else.
type Matters = bool;

/// Every plugin of CoreDNS that node-cache lacks.
pub(super) const PLUGINS: [(&str, Matters, &str); 40] = [
    ("acl", true, "let a network policy say who may ask"),
    ("any", false, "leave it out: ANY is asked of the upstream like any other type"),
    ("auto", true, "let CoreDNS serve the zones, and forward to it"),
    ("autopath", false, "leave it out: it makes up answers that clients then keep"),
    ("azure", true, "let CoreDNS serve the zones, and forward to it"),
    ("cancel", false, "leave it out: every client hears within upstream.deadline"),
    ("chaos", false, "leave it out: listen.version and listen.identity of sidestep.toml say this"),
    ("clouddns", true, "let CoreDNS serve the zones, and forward to it"),
    ("dnssec", true, "let CoreDNS sign the zones, and forward to it"),
    ("erratic", true, "leave it out, it is for tests of clients"),
    ("etcd", true, "let CoreDNS serve the zones, and forward to it"),
    ("file", true, "let CoreDNS serve the zones, and forward to it"),
    ("geoip", false, "leave it out"),
    ("grpc", true, "write a `forward` to plain DNS"),
    ("grpc_server", false, "leave it out: clients ask over UDP and TCP"),
    ("header", false, "leave it out"),
    ("https", false, "leave it out: clients ask over UDP and TCP"),
    ("https3", false, "leave it out: clients ask over UDP and TCP"),
    ("k8s_external", true, "let CoreDNS serve the zones, and forward to it"),
    (
        "kubernetes",
        true,
        "ask the cluster's DNS, with a line `forward . 10.96.0.10 {`, below it `force_tcp`, and below that `}`",
    ),
    ("local", false, "leave it out, and write a block for each local zone"),
    ("minimal", false, "leave it out"),
    ("multisocket", false, "leave it out: every worker has sockets of its own"),
    ("nomad", true, "forward to Nomad's DNS"),
    ("nsid", false, "leave it out: listen.identity of sidestep.toml says this"),
    ("on", false, "leave it out: nothing is run at start or end"),
    ("proxyproto", true, "let clients ask directly"),
    ("proxy", true, "write `forward`"),
    ("quic", false, "leave it out: clients ask over UDP and TCP"),
    ("ratelimit", true, "let a network policy or the packet filter limit who asks"),
    ("root", true, "leave it out, and write whole paths"),
    ("route53", true, "let CoreDNS serve the zones, and forward to it"),
    ("secondary", true, "let CoreDNS serve the zones, and forward to it"),
    ("sign", true, "let CoreDNS sign the zones, and forward to it"),
    ("shutdown", false, "leave it out: nothing is run at start or end"),
    ("startup", false, "leave it out: nothing is run at start or end"),
    ("tls", false, "leave it out: clients ask unencrypted"),
    ("transfer", true, "let CoreDNS serve the zones, and forward to it"),
    ("tsig", true, "leave it out, and guard the way to the server"),
    ("view", true, "give clients listeners of their own, with `bind` or a port"),
];

/// Refuses a plugin, or tells of it.
pub(super) fn read(
    line: &Directive,
    (name, matters, hint): (&str, Matters, &'static str),
    context: &mut Context<'_>,
) -> Result<(), Fault> {
    let what = format!("node-cache has no plugin `{name}`, and neither have we");
    if matters {
        return Err(Fault::new(line.at().clone(), what, hint));
    }
    context.tell.vain(line.at(), what, hint)
}
