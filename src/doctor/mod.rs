//! The doctor: looks at a node and says in plain words what is wrong and what to do. Needs no cache running.
//!
//! It changes nothing and sends nothing off the machine: it reads what the kernel tells of itself, and puts one
//! question to each address of ours that stands on a link from which nothing leads anywhere. (Reading over
//! netlink can make a modular kernel load the module that answers.)
//!
//! | file | looks at |
//! |---|---|
//! | [`kernel`] | what the kernel does when A and AAAA race |
//! | [`table`] | how full the conntrack table is, what was lost by it |
//! | [`cluster`] | where the cluster DNS is, and who says so |
//! | [`service`] | who translates queries to it ([`proxy`], [`ipvs`]), and to how many servers ([`translation`]) |
//! | [`ours`] | our link, addresses and rules |
//! | [`probe`] | whether our addresses answer, and whether that is tracked |
//! | [`firewall`] | chains that drop what is not tracked |
//! | [`resolver`] | resolv.conf: options, and servers that lead back to us |
//! | [`filter`] | the packet filter, read |
//! | [`finding`], [`page`] | what is said, and how it looks |
//!
//! Every judgement is a function of facts. Where a test machine lacks something (IPVS, dummy links, old kernels or
//! Cilium), it is tested on facts written down in the kernel's words.

pub mod cluster;
pub mod filter;
pub mod finding;
pub mod firewall;
pub mod ipvs;
pub mod kernel;
pub mod ours;
pub mod page;
pub mod probe;
pub mod proc;
pub mod proxy;
pub mod resolver;
pub mod service;
pub mod table;
pub mod translation;

use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, Target};
use crate::node;
use crate::node::link::overview::{self, Link};
use cluster::Cluster;
use filter::{Action, Ruleset};
use finding::{Finding, Level, Report};
use kernel::Kernel;
use ours::Asked;
use probe::Probe;
use proc::Root;
use proxy::Proxy;
use table::Table;

/// The port that clients ask.
const DNS: u16 = 53;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Where the node's files stand.
    pub root: Root,
    /// The name of our link.
    pub interface: String,
    /// Addresses that it is to carry; those that it carries are looked at in any case.
    pub addresses: Vec<IpAddr>,
    /// Zones, without their last dot, and whom they ask.
    pub upstreams: Vec<(String, Target)>,
    /// The cluster's domain.
    pub cluster_domain: String,
}

impl Subject {
    /// A node with this configuration, and these settings of the node itself.
    pub fn new(config: &Config, node: &node::Settings) -> Self {
        let zone = |display: &str| display.trim_end_matches('.').to_owned();
        let targets =
            config.zones.iter().flat_map(|z| z.targets().map(move |t| (zone(&z.display), t.clone())));
        Self {
            root: Root::default(),
            interface: node.interface.clone(),
            addresses: node.addresses.clone(),
            upstreams: targets.collect(),
            cluster_domain: node.cluster_domain.clone(),
        }
    }
}

impl Default for Subject {
    fn default() -> Self {
        Self::new(&Config::default(), &node::Settings::default())
    }
}

/// The packet filter, and what of it could not be read.
struct Filter {
    rules: Ruleset,
    services: Vec<(SocketAddr, String)>,
    blind: Option<Finding>,
}

/// Looks at everything.
pub fn examine(subject: &Subject) -> Report {
    let table = Table::read(&subject.root);
    let mut filter = Filter::read(&subject.root);
    let (links, blind) = read_links();
    let ours = ours::addresses(&subject.addresses, &links, &subject.interface);
    let held: Vec<IpAddr> =
        ours.iter().copied().filter(|a| links.iter().any(|l| l.addresses.contains(a))).collect();
    let probes: Vec<Probe> =
        held.iter().map(|a| probe::ask(SocketAddr::new(*a, DNS), &links, &subject.root)).collect();
    let clean: Vec<IpAddr> = probes.iter().filter(|p| p.is_clean()).map(|p| p.address.ip()).collect();
    let cluster = Cluster::find(subject, &filter.rules, &filter.services, &ours);
    let proxy = Proxy::read(&subject.root, &links, std::mem::take(&mut filter.services));
    let covered = !clean.is_empty() && clean.len() == ours.len();

    let mut findings = blind;
    findings.push(race(&subject.root, &table, covered));
    findings.extend(table::judge(&table, Table::read(&subject.root).totals.as_ref().ok()));
    findings.extend(ours::link(&subject.addresses, &links, &subject.interface));
    if filter.blind.is_none() || ours::has_rules(&filter.rules) {
        let later = if probes.is_empty() { Ruleset::default() } else { Filter::read(&subject.root).rules };
        let answered = probes.iter().any(|p| p.answer == probe::Answer::Came);
        let asked = Asked { answered, clean: !probes.is_empty() && clean.len() == probes.len() };
        findings.extend(ours::rules(&held, &filter.rules, &later, asked));
    }
    let sleeping = filter.sleeps();
    findings.extend(probe::judge(&probes, sleeping));
    // What was not read whole cannot be called empty.
    let whole = filter.blind.is_none();
    findings.extend(service::judge(&cluster, &proxy, &filter.rules, whole, &links, &clean));
    let firewall = firewall::judge(&filter.rules, &ours, DNS);
    findings.extend(firewall.into_iter().filter(|finding| whole || finding.level != Level::Healthy));
    findings.extend(resolver::examine(subject, &ours));
    findings.extend(filter.blind);
    Report { findings }
}

fn read_links() -> (Vec<Link>, Vec<Finding>) {
    match overview::read() {
        Ok(links) => (links, Vec::new()),
        Err(error) => {
            let what = "Links and addresses cannot be read.";
            let finding =
                Finding::unknown("node.link", what, "allow netlink sockets (rtnetlink) where doctor runs");
            (Vec::new(), vec![finding.evidence(error.to_string())])
        }
    }
}

fn race(root: &Root, table: &Table, covered: bool) -> Finding {
    match Kernel::read(root) {
        Ok(kernel) => {
            kernel::judge(&kernel, table.totals.as_ref().ok().filter(|_| table.usage.is_some()), covered)
        }
        Err(why) => Finding::unknown("kernel.race", "The kernel's version cannot be read.", why),
    }
}

impl Filter {
    fn read(root: &Root) -> Self {
        let mut filter = Self { rules: Ruleset::default(), services: Vec::new(), blind: None };
        let mut why = Vec::new();
        match filter::nft::read().and_then(|rules| Ok((rules, filter::nft::services()?))) {
            Ok((rules, services)) => (filter.rules, filter.services) = (rules, services),
            // A kernel without nf_tables has no rules of it.
            Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => {}
            Err(error) => why.push(format!("nftables: {error}")),
        }
        match filter::legacy::read(root) {
            Ok(rules) => filter.rules.extend(rules),
            Err(error) => why.push(format!("iptables-legacy: {error}")),
        }
        if !why.is_empty() {
            let what = "The packet filter could not be read whole: rules of ours, of kube-proxy and of firewalls may \
                        be there that doctor does not know of.";
            let cure = "run doctor as root (CAP_NET_ADMIN) in the node's network namespace, with iptables installed \
                        if its legacy variant is used";
            let finding = Finding::unknown("firewall.rules", what, cure);
            filter.blind = Some(why.into_iter().fold(finding, Finding::evidence));
        }
        filter
    }

    /// Whether pods have somewhere to go without us.
    fn sleeps(&self) -> bool {
        let translates = |rule: &filter::Rule| matches!(rule.action, Action::Translate(_));
        self.rules.rules.iter().any(|rule| rule.table.name == ours::FAILOPEN && translates(rule))
    }
}
