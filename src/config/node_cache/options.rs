//! What node-cache's own flags ask for, typed, with node-cache's defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::node;

/// The flags that say what is served and where; each is named after its flag. Those of ours that may stand among them
/// are in [`Flags`](crate::config::Flags).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The addresses to answer on. At least one.
    pub local_ip: Vec<IpAddr>,
    /// Whether the link is ours to make.
    pub setup_interface: bool,
    /// The link's name.
    pub interface_name: String,
    /// Whether rules are put in.
    pub setup_iptables: bool,
    /// The time between two checks of link and rules.
    pub sync_interval: Duration,
    /// Where the metrics of the set-up are served: here, all metrics.
    pub metrics_listen_address: SocketAddr,
    /// What `__PROMETHEUS__ENDPOINT__` stands for.
    pub prometheus_listen_address: String,
    /// The base file, with variables.
    pub base_corefile: PathBuf,
    /// Where it is written once its variables are filled; read as it is where there is no base file.
    pub corefile: PathBuf,
    /// The folder with the kube-dns ConfigMap; `None`: [`KUBE_DNS`](super::KUBE_DNS).
    pub kube_dns: Option<PathBuf>,
    /// The Service whose address `__PILLAR__CLUSTER__DNS__` stands for.
    pub upstream_service: String,
    /// Whether link and rules are to stay at the end.
    pub skip_teardown: bool,
    /// The port of DNS for blocks without one, and in the rules.
    pub port: u16,
    /// Whether to say less: warnings and errors.
    pub quiet: bool,
    /// Ours: what a Corefile asks for in vain is told instead of refused.
    pub lenient: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            local_ip: Vec::new(),
            setup_interface: true,
            interface_name: node::Settings::default().interface,
            setup_iptables: true,
            sync_interval: node::CHECK_EVERY.default,
            metrics_listen_address: SocketAddr::from(([0, 0, 0, 0], 9353)),
            prometheus_listen_address: ":9253".to_owned(),
            base_corefile: PathBuf::from("/etc/coredns/Corefile.base"),
            corefile: PathBuf::from("/etc/Corefile"),
            kube_dns: None,
            upstream_service: "kube-dns".to_owned(),
            skip_teardown: false,
            port: 53,
            quiet: false,
            lenient: false,
        }
    }
}
