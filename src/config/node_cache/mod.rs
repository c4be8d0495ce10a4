//! node-cache's way to a configuration: its flags, a base file with variables, and the kube-dns ConfigMap.
//!
//! ```text
//! flags, base file, environment, ConfigMap > one Corefile (with blocks for stub domains) > Written > node, HTTP > rules
//! ```
//!
//! Every load reads all of it again, so a reload knows nothing that a start would not. What `docs/node-cache.md` says
//! of each flag is what stands here.

mod base;
mod config_map;
mod flags;
mod list;
mod options;
mod values;

pub use flags::{Asked, parse};
pub use list::{is_flag, usage};
pub use options::Options;
pub(in crate::config) use values::go_duration;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::corefile::{Around, Filling};
use super::file::Written;
use super::problem::Problem;
use super::source::{Loaded, Source};
use super::target::Target;
use super::{HttpListener, HttpPath, LogLevel};
use crate::corefile::Disk;
use crate::node::{FirewallKind, LinkKind};
use base::Base;
use config_map::ConfigMap;

/// Where the kube-dns ConfigMap is mounted, unless `-kubednscm` says otherwise.
pub const KUBE_DNS: &str = "/etc/kube-dns";

/// Where host names are asked for without the ConfigMap's upstreamNameservers.
const UPSTREAMS: &str = super::RESOLV_CONF;

/// Reads everything that the flags name. `variable` is the environment.
pub(super) fn load(options: &Options, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problem> {
    let Some(base) = Base::find(options)? else { return as_it_is(options) };
    let folder = options.kube_dns.as_deref().unwrap_or(Path::new(KUBE_DNS));
    let map = ConfigMap::read(folder).map_err(Problem::of_config_map)?;
    let filling = Filling {
        local: options.local_ip.clone(),
        cluster: base.cluster_dns(&options.upstream_service, variable)?,
        upstreams: map.upstreams().unwrap_or_else(|| UPSTREAMS.to_owned()),
        prometheus: options.prometheus_listen_address.clone(),
        stubs: map.stubs(options),
    };
    let cluster = filling.cluster;
    let text = if map.upstreams().is_some() { base.over_udp() } else { base.text.clone() };
    let around = Around { lenient: options.lenient, port: options.port, node: Some(filling) };
    let (mut loaded, filled) = Loaded::corefile(text, &base.path, &around, &Disk)?;
    if base.path != options.corefile {
        loaded.filled = Some((options.corefile.clone(), Base::for_people(&filled)));
    }
    loaded.files.extend(map.files);
    loaded.notes.extend(map.notes);
    apply(options, cluster, &mut loaded.written);
    Ok(loaded)
}

/// The Corefile itself, where there is no base file, as node-cache reads it then: nothing is filled in or added.
fn as_it_is(options: &Options) -> Result<Loaded, Problem> {
    let around = Around { lenient: options.lenient, port: options.port, node: None };
    let text = super::read(&options.corefile)?;
    let (mut loaded, _) = Loaded::corefile(text, &options.corefile, &around, &Disk)?;
    // It may come to be.
    loaded.files.push(options.base_corefile.clone());
    apply(options, None, &mut loaded.written);
    Ok(loaded)
}

/// What the flags say beside the Corefile.
fn apply(options: &Options, cluster: Option<IpAddr>, written: &mut Written) {
    let config = &mut written.config;
    let node = &mut config.node;
    node.addresses.clone_from(&options.local_ip);
    node.interface.clone_from(&options.interface_name);
    node.link = if options.setup_interface { LinkKind::Auto } else { LinkKind::None };
    node.firewall = if options.setup_iptables { FirewallKind::Auto } else { FirewallKind::None };
    node.check_every = options.sync_interval;
    // The zone that asks the upstream Service is the cluster's. Reverse zones ask it too.
    let is_clusters =
        |target: &Target| matches!(target, Target::Server(s) if Some(s.address.ip()) == cluster);
    let domain = written.zones.iter().find(|zone| {
        let name = zone.name();
        !name.is_root()
            && !name.text().trim_end_matches('.').ends_with(".arpa")
            && zone.upstreams.iter().any(|target| is_clusters(&target.settle(zone.transport)))
    });
    if let Some(zone) = domain {
        node.cluster_domain = zone.name().text().trim_end_matches('.').to_owned();
    }
    HttpListener::add(&mut config.http, options.metrics_listen_address, &[HttpPath::Metrics]);
    if options.quiet {
        config.log.level = config.log.level.min(LogLevel::Warn);
    }
}

/// The fuzz body of the command line: whatever the bytes, no panic; what is refused says what to write. Each line is an
/// argument.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = text.lines().any(is_flag);
    match parse(text.lines().map(str::to_owned)) {
        Ok(Asked::Run(flags) | Asked::Check(flags) | Asked::Convert(flags)) => {
            let Source::NodeCache(options) = &flags.source else { return };
            assert!(!options.local_ip.is_empty(), "nobody serves without an address");
        }
        Ok(Asked::Version | Asked::Plugins | Asked::Help) => {}
        Err(wrong) => assert!(wrong.to_string().contains("; "), "what is wrong, and what to do: {wrong}"),
    }
}

/// The files of a folder that a ConfigMap is mounted to.
fn files(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| folder.join(name)).collect()
}
