//! Every flag: its name, its value, its default, and what it does here. The one list of them: reading, suggestions and
//! the page of `-h` follow from it.

/// A flag.
pub(super) struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What stands for its value in the page; `None` for a switch, which takes no next argument.
    pub value: Option<&'static str>,
    /// As it would be written.
    pub default: &'static str,
    /// What it does here.
    pub what: &'static str,
    /// Whether node-cache does not have it.
    pub is_ours: bool,
}

const fn flag(name: &'static str, value: &'static str, default: &'static str, what: &'static str) -> Flag {
    Flag { name, value: Some(value), default, what, is_ours: false }
}

const fn switch(name: &'static str, default: &'static str, what: &'static str) -> Flag {
    Flag { name, value: None, default, what, is_ours: false }
}

const fn ours(flag: Flag) -> Flag {
    Flag { is_ours: true, ..flag }
}

/// All of them, in the order of the page.
pub(super) const FLAGS: [Flag; 32] = [
    flag("localip", "IP,...", "", "Addresses to answer on. Needed. Both families may be among them."),
    switch(
        "setupinterface",
        "true",
        "Make the link and give it the addresses. false: they are there, or somebody else sees to it.",
    ),
    flag("interfacename", "NAME", "nodelocaldns", "The link."),
    switch(
        "setupiptables",
        "true",
        "Put in the rules: with nftables where its tables can belong to a process, else with iptables. false: none.",
    ),
    flag(
        "syncinterval",
        "TIME",
        "60",
        "Time between two checks of link and rules, 1 s to 300 s. A number is seconds, 1ns too, as charts mean it.",
    ),
    flag("metrics-listen-address", "ADDR:PORT", "0.0.0.0:9353", "Serve /metrics here: all of them."),
    flag("prometheus-listen-address", "ADDR:PORT", ":9253", "What __PROMETHEUS__ENDPOINT__ stands for."),
    flag("basecorefile", "FILE", "/etc/coredns/Corefile.base", "The Corefile with variables."),
    flag(
        "corefile",
        "FILE",
        "/etc/Corefile",
        "Where it is written, filled in, if it can be. Where there is no base file, it is read.",
    ),
    flag("conf", "FILE", "", "As -corefile, and stronger."),
    flag(
        "kubednscm",
        "FOLDER",
        "/etc/kube-dns, if it is there",
        "The kube-dns ConfigMap: stubDomains, upstreamNameservers.",
    ),
    flag(
        "upstreamsvc",
        "SERVICE",
        "kube-dns",
        "Whose address __PILLAR__CLUSTER__DNS__ stands for, by the environment. Missing: an error that says what to do.",
    ),
    flag(
        "health-port",
        "PORT",
        "8080",
        "Taken and not needed: rules for the probe follow the addresses that serve /health.",
    ),
    switch(
        "skipteardown",
        "false",
        "Leave the link at the end. So we do anyway, and clients reach the cluster DNS; see -teardown-on-exit.",
    ),
    switch(
        "reloadwithsignal",
        "false",
        "Taken and not needed: changed files are read at once. SIGUSR1 and SIGHUP reload, too.",
    ),
    flag("dns.port", "PORT", "53", "The port of server blocks that name none, and of the rules."),
    flag("p", "PORT", "53", "As -dns.port."),
    flag("pidfile", "FILE", "", "Write our process id here once we answer; it is removed at the end."),
    switch("quiet", "false", "Log warnings and errors only."),
    switch("version", "false", "Print the version."),
    switch("plugins", "false", "Print the plugins that a Corefile may name."),
    switch("help", "false", "Print this page."),
    switch("h", "false", "Print this page."),
    ours(switch("check", "false", "Read everything, print what holds as TOML, and serve nothing.")),
    ours(switch("convert", "false", "Print the same as a configuration file of ours, and serve nothing.")),
    ours(switch("lenient", "false", "Warn of what a Corefile asks for in vain, instead of refusing it.")),
    ours(switch("teardown-on-exit", "false", "Take link and rules away at the end.")),
    ours(flag("link", "KIND", "auto", "What the link is: auto, dummy, bridge, tun, lo, or none.")),
    ours(flag("firewall", "KIND", "auto", "Who holds the rules: auto, nftables, iptables, or none.")),
    ours(flag("workers", "N", "one per core, at most two", "Worker threads.")),
    ours(flag("cache-size", "BYTES", "32MiB", "Memory for all answers together.")),
    ours(flag("log", "FORMAT", "text", "How log lines look: text or json.")),
];

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// What `-h` prints.
pub fn usage() -> String {
    let mut page = "Usage: sidestep node-cache -localip IP[,IP...] [flags]\n\n\
                    Serves as node-cache does, by its flags and its Corefile. Flags begin with one dash or two; -flag \
                    value and -flag=value\nare the same. A switch takes no next argument: -switch, -switch=false.\n"
        .to_owned();
    for (title, is_ours) in [("Flags of node-cache", false), ("Our own", true)] {
        page.push_str(&format!("\n{title}:\n"));
        for flag in FLAGS.iter().filter(|flag| flag.is_ours == is_ours) {
            let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
            page.push_str(&format!("  -{}{value}\n        {}", flag.name, flag.what));
            if !flag.default.is_empty() && flag.default != "false" {
                page.push_str(&format!(" [default: {}]", flag.default));
            }
            page.push('\n');
        }
    }
    page
}

/// Whether an argument is a flag for node-cache and can be none of ours: one dash and several letters, or two dashes
/// and a name that only node-cache has.
pub fn is_flag(argument: &str) -> bool {
    let (long, flag) = match (argument.strip_prefix("--"), argument.strip_prefix('-')) {
        (Some(flag), _) => (true, flag),
        (None, Some(flag)) => (false, flag),
        (None, None) => return false,
    };
    let name = flag.split('=').next().unwrap_or_default();
    find(name).is_some_and(|flag| match long {
        true => !flag.is_ours && !["help", "version", "h", "p"].contains(&name),
        false => name != "h",
    })
}
