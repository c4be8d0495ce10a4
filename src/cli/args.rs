//! The arguments as clap reads them; [`Flags`] is what the rest of the program sees.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{self, Flags, LogFormat, Source, WrittenTarget, Wrong, ZoneName};
use crate::lab;
use crate::listen::WORKERS;
use crate::node::{FirewallKind, LinkKind};

/// A node-local DNS cache that steps around DNAT and conntrack.
///
/// Without a command it runs; without anything it answers on 127.0.0.1:5300 and asks the servers of
/// /etc/resolv.conf. No root is needed for that. Try it: dig @127.0.0.1 -p 5300 example.com
#[derive(Debug, Parser)]
#[command(name = "sidestep", version, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub flags: FlagArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answer queries, until SIGTERM or SIGINT. This is what happens without a command.
    Run(FlagArgs),
    /// Check a configuration and print what holds, with the defaults and the flags.
    Check(CheckArgs),
    /// Print a Corefile as the configuration file that says the same, with a comment where the meaning differs.
    Convert(ConvertArgs),
    /// Look at this node and say what is wrong with its DNS and what to do: kernel, conntrack, rules, resolv.conf.
    ///
    /// Needs no cache running, changes nothing, and sends nothing off the machine. Run it as root on the node.
    Doctor(DoctorArgs),
    /// Show the problem and the cure on this kernel, in networks of its own; takes about a minute.
    ///
    /// Needs root or user namespaces, and nf_tables in the kernel. Touches nothing of this machine. Exit status: 0
    /// the cure is shown, 1 it is not, 2 the lab could not be built.
    Lab(LabArgs),
    /// Show link, rules and counters of this node at a glance.
    Status(StatusArgs),
    /// Remove link and rules that earlier runs have left on this machine.
    Teardown(TeardownArgs),
    /// Serve as NodeLocal DNSCache does, by node-cache's flags, Corefile and ConfigMap. -h after it lists the flags.
    ///
    /// The flags are also known without the command, and the program under the name node-cache.
    #[command(name = "node-cache", disable_help_flag = true)]
    NodeCache {
        /// Flags with one dash or two, as in -localip 169.254.20.10; -check prints what would hold.
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    /// The link's name.
    #[arg(long, value_name = "NAME", default_value = "nodelocaldns", value_parser = config::parse_interface)]
    pub interface: String,
}

#[derive(clap::Args, Debug)]
pub(super) struct TeardownArgs {
    /// The link's name.
    #[arg(long, value_name = "NAME", default_value = "nodelocaldns", value_parser = config::parse_interface)]
    pub interface: String,
    /// An address that stood on lo, for kernels that do not remember who put it there (before 5.18). May be given
    /// again.
    #[arg(long, value_name = "IP", value_parser = config::parse_node)]
    pub node_address: Vec<IpAddr>,
}

/// Each flag replaces the key of the configuration that it is named after, also after a reload.
#[derive(clap::Args, Debug)]
pub(super) struct FlagArgs {
    /// The configuration; without it the defaults hold. A file named like "Corefile" is read as one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Warn of what a Corefile asks for in vain, instead of refusing it.
    #[arg(long)]
    lenient: bool,
    /// Answer here, over UDP and TCP. May be given again.
    #[arg(long, value_name = "ADDR:PORT", value_parser = config::parse_listen)]
    listen: Vec<SocketAddr>,
    /// Hold this address for the pods of this node, and answer at its port 53. May be given again.
    #[arg(long, value_name = "IP", value_parser = config::parse_node)]
    node_address: Vec<IpAddr>,
    /// The link that carries these addresses.
    #[arg(long, value_name = "NAME", value_parser = config::parse_interface)]
    interface: Option<String>,
    /// What that link is: auto, dummy, bridge, tun, lo, or none (the addresses are there already).
    #[arg(long, value_name = "KIND", value_parser = config::parse_link)]
    link: Option<LinkKind>,
    /// Who keeps their packets from DNAT and conntrack: auto, nftables, iptables, or none.
    #[arg(long, value_name = "KIND", value_parser = config::parse_firewall)]
    firewall: Option<FirewallKind>,
    /// Take link and rules away at the end; without it they stay for the next start, and pods fall back.
    #[arg(long)]
    teardown_on_exit: bool,
    /// Ask this server: tcp://IP[:53], udp://IP[:53], IP[:port] (TCP), the path of a resolv.conf, or svc://NAME[:53].
    ///
    /// svc:// is every address behind the name of a headless Service, found out through the zone's other targets.
    ///
    /// With ZONE= for this zone alone, on every listener that has one of that name, else for all names that no other
    /// zone holds. May be given again: the targets of one zone are a group.
    #[arg(long, value_name = "[ZONE=]TARGET", value_parser = config::parse_upstream)]
    upstream: Vec<(ZoneName, WrittenTarget)>,
    /// Serve /metrics, /health and /ready here. May be given again.
    #[arg(long, value_name = "ADDR:PORT", value_parser = config::parse_listen)]
    http: Vec<SocketAddr>,
    /// Worker threads; without it one per core, at most two.
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,
    /// Memory for all answers together, such as 32MiB.
    #[arg(long, value_name = "BYTES", value_parser = config::parse_cache_size)]
    cache_size: Option<u64>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    log: Option<Format>,
    /// Log more: -v debug (every miss, with its outcome), -vv trace.
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// The name of a [`LogFormat`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(clap::Args, Debug)]
pub(super) struct CheckArgs {
    /// The configuration; without it the defaults are printed. A file named like "Corefile" is read as one.
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: FlagArgs,
}

#[derive(clap::Args, Debug)]
pub(super) struct ConvertArgs {
    /// The Corefile, whatever its name.
    pub file: PathBuf,
    /// Warn of what it asks for in vain, instead of refusing it.
    #[arg(long)]
    pub lenient: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct DoctorArgs {
    /// Print one JSON object, for scripts.
    #[arg(long)]
    pub json: bool,
    /// The configuration of the cache that runs or is to run here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The same for one that is given node-cache's flags: these, as in -localip 169.254.20.10 -conf /etc/Corefile.
    #[arg(last = true, value_name = "FLAGS", conflicts_with = "config")]
    pub node_cache: Vec<OsString>,
    /// An address that pods are to ask on this node. May be given again; those on the link are found without it.
    #[arg(long, value_name = "IP")]
    pub node_address: Vec<IpAddr>,
    /// The name of our link, if it is not nodelocaldns.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct LabArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Fill the connection tracking table even where it is large: up to 4,194,304 entries, 1.3 GB for a while.
    #[arg(long)]
    full_table: bool,
}

impl LabArgs {
    /// What the lab is to do.
    pub fn options(self) -> lab::Options {
        lab::Options { full_table: self.full_table }
    }
}

/// Reads a number of workers.
fn workers(text: &str) -> Result<usize, Wrong> {
    let number = text.parse().ok().filter(|n| WORKERS.contains(*n));
    number.ok_or_else(|| Wrong::bounds(text, WORKERS.min, WORKERS.max))
}

impl From<FlagArgs> for Flags {
    fn from(args: FlagArgs) -> Self {
        Self {
            source: source(args.config, args.lenient),
            listen: args.listen,
            node_address: args.node_address,
            interface: args.interface,
            link: args.link,
            firewall: args.firewall,
            teardown_on_exit: args.teardown_on_exit,
            upstream: args.upstream,
            http: args.http,
            workers: args.workers,
            cache_size: args.cache_size,
            log: args.log.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            }),
            verbose: args.verbose,
            pidfile: None,
        }
    }
}

impl From<CheckArgs> for Flags {
    fn from(args: CheckArgs) -> Self {
        let flags = FlagArgs { config: args.file.or(args.flags.config), ..args.flags };
        Self::from(flags)
    }
}

/// What a file's name says about it.
fn source(file: Option<PathBuf>, lenient: bool) -> Source {
    file.map_or(Source::Nothing, |path| Source::file(path, lenient))
}
