//! node-cache's command line: the flags that its DaemonSets give, in all the forms that Go's `flag` package takes.
//!
//! `-name value`, `-name=value`, one dash or two; a switch is `-name`, `-name=false`, and takes no next argument. The
//! first argument that is no flag ends them, `--` too. A flag that is given twice holds its last value.
//!
//! What differs from node-cache is on purpose: `-localip` takes both families; `-syncinterval` takes what people mean
//! by it (there it is a duration multiplied by a second again); flags that ask for what we do not do are refused by
//! name instead of being ignored. Flags of ours may stand among them: they are [listed](super::list) apart.

use std::path::PathBuf;

use super::list::{self, FLAGS};
use super::options::Options;
use super::values::{example, interval, local_ips, path, port, service, switch, workers};
use crate::config::address::parse_endpoint;
use crate::config::problem::{Wrong, shown};
use crate::config::{
    Flags, Source, parse_cache_size, parse_firewall, parse_interface, parse_link, parse_log_format,
};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To serve.
    Run(Box<Flags>),
    /// `-check`: to say what would be served.
    Check(Box<Flags>),
    /// `-convert`: to say it as a configuration file of ours.
    Convert(Box<Flags>),
    /// `-version`
    Version,
    /// `-plugins`
    Plugins,
    /// `-help`, `-h`
    Help,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// A flag that we do not know or cannot honour, or a value that makes no sense: which, why, and what to write.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, Wrong> {
    let mut reading = Reading::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            match arguments.next() {
                None => break,
                Some(rest) => return Err(no_flag(&rest)),
            }
        }
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        // `-` alone ends the flags in Go, and `---x` is bad syntax there.
        let flag = flag.filter(|flag| !flag.is_empty() && !flag.starts_with(['-', '=']));
        let flag = flag.ok_or_else(|| no_flag(&argument))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let known = list::find(name).ok_or_else(|| unknown(name))?;
        if known.value.is_none() {
            let on = value.as_deref().map_or(Ok(true), |value| switch(name, value))?;
            reading.switch(name, on);
        } else {
            let missing = || Wrong::new(format!("-{name} has no value"), example(name));
            let value = value.or_else(|| arguments.next()).ok_or_else(missing)?;
            reading.value(name, &value)?;
        }
    }
    reading.end()
}

#[derive(Default)]
struct Reading {
    options: Options,
    /// Ours.
    flags: Flags,
    check: bool,
    convert: bool,
    /// `-conf` wins over `-corefile`, wherever it stands.
    conf: Option<PathBuf>,
    instead: Option<Asked>,
}

impl Reading {
    fn switch(&mut self, name: &str, on: bool) {
        let o = &mut self.options;
        match name {
            "setupinterface" => o.setup_interface = on,
            "setupiptables" => o.setup_iptables = on,
            "skipteardown" => o.skip_teardown = on,
            "quiet" => o.quiet = on,
            "lenient" => o.lenient = on,
            "check" => self.check = on,
            "convert" => self.convert = on,
            "teardown-on-exit" => self.flags.teardown_on_exit = on,
            "version" if on => self.instead = Some(Asked::Version),
            "plugins" if on => self.instead = Some(Asked::Plugins),
            "help" | "h" if on => self.instead = Some(Asked::Help),
            // `-reloadwithsignal`: a change is taken over at once, whoever makes it, and at SIGUSR1 too.
            _ => {}
        }
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        let (o, f) = (&mut self.options, &mut self.flags);
        let of = |wrong: Wrong| wrong.of(&format!("-{name}"));
        let path = || path(value).map_err(of);
        match name {
            "localip" => o.local_ip = local_ips(value).map_err(of)?,
            "interfacename" => o.interface_name = parse_interface(value).map_err(of)?,
            "syncinterval" => o.sync_interval = interval(value).map_err(of)?,
            "metrics-listen-address" => o.metrics_listen_address = parse_endpoint(value).map_err(of)?,
            "prometheus-listen-address" => {
                parse_endpoint(value).map_err(of)?;
                value.clone_into(&mut o.prometheus_listen_address);
            }
            "basecorefile" => o.base_corefile = path()?,
            "corefile" => o.corefile = path()?,
            "conf" => self.conf = Some(path()?),
            "kubednscm" => o.kube_dns = (!value.is_empty()).then(|| PathBuf::from(value)),
            "upstreamsvc" => o.upstream_service = service(value).map_err(of)?,
            // The rules follow the addresses that serve HTTP: see the documentation.
            "health-port" => drop(port(value).map_err(of)?),
            "dns.port" | "p" => o.port = port(value).map_err(of)?,
            "pidfile" => f.pidfile = (!value.is_empty()).then(|| PathBuf::from(value)),
            "firewall" => f.firewall = Some(parse_firewall(value).map_err(of)?),
            "link" => f.link = Some(parse_link(value).map_err(of)?),
            "workers" => f.workers = Some(workers(value).map_err(of)?),
            "cache-size" => f.cache_size = Some(parse_cache_size(value).map_err(of)?),
            "log" => f.log = Some(parse_log_format(value).map_err(of)?),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn end(self) -> Result<Asked, Wrong> {
        let Self { mut options, mut flags, check, convert, conf, instead } = self;
        if let Some(instead) = instead {
            return Ok(instead);
        }
        if options.local_ip.is_empty() {
            return Err(Wrong::new("-localip is missing", example("localip")));
        }
        let clash = |one: &str, other: &str| {
            Err(Wrong::new(format!("{one} and {other} contradict each other"), "leave one out"))
        };
        match &options {
            o if !o.setup_interface && flags.link.is_some() => {
                return clash("-setupinterface=false", "-link");
            }
            o if !o.setup_iptables && flags.firewall.is_some() => {
                return clash("-setupiptables=false", "-firewall");
            }
            o if o.skip_teardown && flags.teardown_on_exit => {
                return clash("-skipteardown", "-teardown-on-exit");
            }
            _ => {}
        }
        options.corefile = conf.unwrap_or(options.corefile);
        flags.source = Source::NodeCache(Box::new(options));
        let flags = Box::new(flags);
        Ok(match (convert, check) {
            (true, _) => Asked::Convert(flags),
            (false, true) => Asked::Check(flags),
            (false, false) => Asked::Run(flags),
        })
    }
}

fn unknown(name: &str) -> Wrong {
    if name.starts_with("tls") {
        let hint = "leave it out: upstreams are asked over TCP or UDP, unencrypted";
        return Wrong::new(format!("-{} is not supported", shown(name)), hint);
    }
    // Of the short ones nobody is reminded by a longer word.
    let known = FLAGS.iter().map(|flag| flag.name).filter(|known| known.len() > 1);
    Wrong::near(format!("unknown flag -{}", shown(name)), name, known)
}

fn no_flag(argument: &str) -> Wrong {
    Wrong::new(format!("`{}` is no flag", shown(argument)), "flags look like -localip 169.254.20.10")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::{FirewallKind, LinkKind};

    fn asked(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_owned)).map_err(|wrong| wrong.to_string())
    }

    fn run(line: &str) -> (Options, Flags) {
        match asked(line) {
            Ok(Asked::Run(flags)) => match flags.source.clone() {
                Source::NodeCache(options) => (*options, *flags),
                other => panic!("{other:?}"),
            },
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        asked(line).expect_err(line)
    }

    #[test]
    fn the_arguments_of_the_published_daemonset_are_taken() {
        let (options, flags) =
            run("-localip 169.254.20.10,10.96.0.10 -conf /etc/Corefile -upstreamsvc kube-dns-upstream");
        let ips: Vec<String> = options.local_ip.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["169.254.20.10", "10.96.0.10"]);
        assert_eq!(options.upstream_service, "kube-dns-upstream");
        let rest = Options { local_ip: options.local_ip.clone(), ..Options::default() };
        assert_eq!(Options { upstream_service: "kube-dns".to_owned(), ..options.clone() }, rest);
        assert_eq!(flags, Flags { source: Source::NodeCache(Box::new(options)), ..Flags::default() });
    }

    #[test]
    fn the_forms_of_go_are_taken() {
        let one = run("-localip 10.0.0.1 -setupiptables=false -p 5353").0;
        for line in [
            "--localip=10.0.0.1 --setupiptables=F --dns.port=5353",
            "-p 1 -localip ::1 -localip=10.0.0.1 -setupiptables -setupiptables=0 -p=5353 --",
        ] {
            assert_eq!(run(line).0, one, "{line}");
        }
        assert_eq!(run("-localip fd00::10,10.0.0.1,fd00::10").0.local_ip.len(), 2);
        let empty = run("-localip 10.0.0.1 -kubednscm= -pidfile=");
        assert_eq!((empty.0.kube_dns, empty.1.pidfile), (None, None), "as if they were not there");
    }

    #[test]
    fn conf_wins_over_corefile_wherever_it_stands() {
        for line in ["-localip ::1 -conf a -corefile b", "-localip ::1 -corefile b -conf a"] {
            assert_eq!(run(line).0.corefile, PathBuf::from("a"));
        }
    }

    #[test]
    fn flags_of_ours_may_stand_among_them() {
        let (options, flags) = run("-localip 10.0.0.1 -link dummy --firewall=iptables -teardown-on-exit \
                                    -workers 3 -cache-size 2MiB -log json -lenient -pidfile /run/pid");
        assert!(options.lenient && flags.teardown_on_exit);
        assert_eq!((flags.link, flags.firewall), (Some(LinkKind::Dummy), Some(FirewallKind::Iptables)));
        assert_eq!((flags.workers, flags.cache_size), (Some(3), Some(2 << 20)));
        assert_eq!(
            (flags.log, flags.pidfile),
            (Some(crate::config::LogFormat::Json), Some("/run/pid".into()))
        );
        assert!(matches!(asked("-localip 10.0.0.1 -check"), Ok(Asked::Check(_))));
        assert!(matches!(asked("-localip 10.0.0.1 -convert"), Ok(Asked::Convert(_))));
    }

    #[test]
    fn pages_need_no_address() {
        assert_eq!(asked("-version"), Ok(Asked::Version));
        assert_eq!(asked("-localip 10.0.0.1 --plugins"), Ok(Asked::Plugins));
        assert_eq!((asked("-h"), asked("--help")), (Ok(Asked::Help), Ok(Asked::Help)));
        assert!(wrong("-version=false").starts_with("-localip is missing"));
    }

    #[test]
    fn an_interval_is_what_people_mean_by_it() {
        let of = |text: &str| run(&format!("-localip 10.0.0.1 -syncinterval {text}")).0.sync_interval;
        let cases = [
            ("60", 60),
            ("1ns", 1),
            ("5ns", 5),
            ("60s", 60),
            ("1m30s", 90),
            ("1.5m", 90),
            ("500ms", 1),
            ("1h", 300),
            ("3600", 300),
        ];
        for (text, seconds) in cases {
            assert_eq!(of(text), Duration::from_secs(seconds), "{text}");
        }
        for text in ["0", "0s", "-5s", "s", "5x", "1.2.3s", "", "5s5", "1e3s", "99999999999999999999h"] {
            let message = wrong(&format!("-localip 10.0.0.1 -syncinterval={text}"));
            assert!(
                message.starts_with("-syncinterval: `") && message.ends_with("write it like 60s"),
                "{message}"
            );
        }
    }

    #[test]
    fn every_error_names_the_flag_and_what_to_write() {
        for (line, message) in [
            ("", "-localip is missing; write it like -localip 169.254.20.10,10.96.0.10"),
            ("-localip", "-localip has no value; write it like -localip"),
            ("-localip=", "-localip is missing"),
            ("-localip 10.0.0.1,dns", "-localip: `dns` is no IP address"),
            ("-localip 0.0.0.0", "-localip: `0.0.0.0` is every address of the machine"),
            ("-localip 10.0.0.1 run", "`run` is no flag; flags look like -localip"),
            ("-localip 10.0.0.1 -- x", "`x` is no flag"),
            ("-", "`-` is no flag"),
            ("---localip 1", "`---localip` is no flag"),
            ("-=x", "`-=x` is no flag"),
            ("-locallip 10.0.0.1", "unknown flag -locallip; did you mean `localip`?"),
            ("-colour", "unknown flag -colour; known: localip, "),
            ("-tls-cert x", "-tls-cert is not supported; leave it out"),
            ("-quiet=yes", "-quiet: `yes` is neither true nor false; write -quiet or -quiet=false"),
            ("-setupiptables false", "`false` is no flag"),
            ("-metrics-listen-address 9353", "-metrics-listen-address: `9353` is no IP address"),
            ("-prometheus-listen-address :x", "-prometheus-listen-address: `:x` is no IP address"),
            ("-conf=", "-conf: no path is given; write it like -conf /etc/Corefile"),
            ("-upstreamsvc a/b", "-upstreamsvc: `a/b` is no Service's name"),
            ("-health-port 0", "-health-port: `0` is no port; ports are 1 to 65535"),
            ("-p 65536", "-p: `65536` is no port"),
            ("-interfacename a/b", "-interfacename: `a/b` is no name of an interface"),
            ("-link wire", "-link: unknown kind of link `wire`"),
            ("-firewall ufw", "-firewall: unknown packet filter `ufw`"),
            ("-workers 0", "-workers: 0 is out of bounds; give 1 to 64"),
            ("-cache-size 1KiB", "-cache-size: 1KiB is out of bounds"),
            ("-log xml", "-log: unknown log format `xml`"),
            (
                "-localip ::1 -setupinterface=false -link lo",
                "-setupinterface=false and -link contradict each other",
            ),
            ("-localip ::1 -setupiptables=f -firewall none", "-setupiptables=false and -firewall contradict"),
            (
                "-localip ::1 -skipteardown -teardown-on-exit",
                "-skipteardown and -teardown-on-exit contradict",
            ),
        ] {
            let found = wrong(line);
            assert!(found.starts_with(message), "{line}: {found}");
        }
    }

    #[test]
    fn every_flag_of_the_list_is_read() {
        for flag in &FLAGS {
            let found = wrong(&format!("-{}=?/", flag.name));
            let is_free = ["basecorefile", "corefile", "conf", "kubednscm", "pidfile"].contains(&flag.name);
            let expected =
                if is_free { "-localip is missing".to_owned() } else { format!("-{}: ", flag.name) };
            assert!(found.starts_with(&expected), "{found}");
        }
    }
}
