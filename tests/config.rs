//! The configuration as its users meet it: the files in config/, flags over files, exact messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use sidestep::config::{self, Config, Flags, LogFormat, LogLevel, Source, Target};
use sidestep::upstream::{Server, Transport};

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|problem| panic!("{problem}"))
}

/// The first line of what is wrong with a text.
fn wrong(text: &str) -> String {
    Config::parse(text, "test.toml").expect_err(text).summary().to_owned()
}

#[test]
fn the_reference_says_exactly_the_defaults() {
    assert_eq!(parse(&example("sidestep.toml")), Config::default());
    assert_eq!(parse(""), Config::default());
}

#[test]
fn the_reference_explains_every_key_that_is_printed() {
    let reference = example("sidestep.toml");
    for line in Config::default().to_toml().lines().filter(|line| !line.is_empty()) {
        let at = reference.lines().position(|l| l == line);
        let at = at.unwrap_or_else(|| panic!("config/sidestep.toml has no line `{line}`"));
        let explained = line.starts_with('[') || reference.lines().nth(at - 1).unwrap().starts_with("# ");
        assert!(explained, "config/sidestep.toml does not explain `{line}`");
    }
}

#[test]
fn the_reference_names_the_limits_that_hold() {
    // Each number just outside of what the reference says is refused, and what it says is taken.
    let checks: [(&str, &str, &[&str], &[&str]); 12] = [
        ("listen", "workers", &["1", "64"], &["0", "65"]),
        ("listen", "udp_size", &["512", "4096"], &["511", "4097"]),
        ("listen", "tcp_connections", &["1", "100000"], &["0", "100001"]),
        ("listen", "tcp_queries", &["1", "4294967295"], &["0", "4294967296"]),
        ("listen", "tcp_idle", &["\"1s\"", "\"1h\""], &["\"999ms\"", "\"3601s\""]),
        ("listen", "tcp_pipeline", &["1", "4096"], &["0", "4097"]),
        ("cache", "size", &["\"1MiB\"", "\"64GiB\""], &["\"1023KiB\"", "\"65GiB\""]),
        ("cache", "prefetches", &["0", "4096"], &["-1", "4097"]),
        ("upstream", "connections", &["1", "256"], &["0", "257"]),
        ("upstream", "hedge_percent", &["0", "20"], &["21"]),
        ("upstream", "datagrams", &["16", "16384"], &["15", "16385"]),
        ("upstream", "try_timeout", &["\"50ms\"", "\"4s\""], &["\"49ms\"", "\"4001ms\""]),
    ];
    for (section, key, good, bad) in checks {
        for value in good {
            parse(&format!("[{section}]\n{key} = {value}\n"));
        }
        for value in bad {
            let message = wrong(&format!("[{section}]\n{key} = {value}\n"));
            let start = format!("test.toml:2:{}: {section}.{key}: ", key.len() + 4);
            assert!(message.starts_with(&start), "{message}");
            assert!(
                message.contains(&format!("{} is out of bounds; give ", value.trim_matches('"'))),
                "{message}"
            );
        }
    }
}

#[test]
fn the_file_for_kubernetes_is_what_the_comments_say() {
    let config = parse(&example("kubernetes.toml"));
    let zones: Vec<_> = config.zones.iter().map(|z| z.display.as_str()).collect();
    assert_eq!(zones, ["cluster.local.", "in-addr.arpa.", "ip6.arpa.", "."]);
    let seconds = |t: Duration| t.as_secs();
    for zone in &config.zones {
        let negative = if zone.display == "cluster.local." { 5 } else { 30 };
        let s = &zone.rules;
        assert_eq!((seconds(s.ttl_max), seconds(s.negative_ttl_max)), (30, negative), "{}", zone.display);
        let (stale_for, stale_negative) = if zone.display == "." { (86_400, true) } else { (3600, false) };
        assert_eq!((seconds(s.stale_for), s.stale_negative), (stale_for, stale_negative), "{}", zone.display);
    }
    let dns = Server { address: "10.96.0.10:53".parse().unwrap(), transport: Transport::Tcp };
    assert_eq!(config.zones[0].upstreams, [Target::Server(dns)]);
    assert_eq!(config.http[0].address.to_string(), "127.0.0.1:9353");
}

#[test]
fn the_file_for_a_host_listens_where_resolvers_ask() {
    let config = parse(&example("host.toml"));
    assert_eq!(config.listen.addresses, ["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!(config.zones, Config::default().zones);
}

#[test]
fn every_setting_survives_printing() {
    let text = r#"
        [listen]
        addresses = ["127.0.0.1:0", "[fe80::1%7]:53"]
        workers = 3
        identity = "node \"7\" \\ ü"
        [cache]
        size = 1048577
        stale_ttl = "61s"
        [[zone]]
        name = "Cluster.Local"
        upstreams = ["10.96.0.10", "udp://[2001:db8::1]:5353", "./a b/\"resolv\".conf"]
        transport = "tcp"
        policy = "random"
        tries = 2
        failover = ["NXDOMAIN", "SERVFAIL"]
        fail_fast = true
        max_concurrent = 1000
        max_fails = 0
        probe_every = "500ms"
        idle = "9s"
        max_age = "31s"
        try_timeout = "2s"
        next = [{ on = ["NODATA", "NXDOMAIN"], upstreams = ["192.0.2.7", "/etc/resolv.conf"] }]
        by_name = [{ names = ["new.test"], except = ["x.new.test"], upstreams = ["192.0.2.8"] }, { names = ["."] }]
        cache_positive = false
        cache_negative = false
        keep_ttl = true
        share_positive = 9984
        share_negative = 100
        prefetch_hits = 7
        prefetch_gap = "1m"
        prefetch_percent = 20
        stale_after = "0s"
        stale_retry = "2s"
        stale_ttl = "3s"
        failure_ttl = "0s"
        failure_ttl_max = "4s"
        rotate = false
        [[zone]]
        name = "0/25.2.0.192.in-addr.arpa"
        upstreams = ["192.0.2.1"]
        transport = "udp"
        [[http.serve]]
        address = "127.0.0.1:9353"
        paths = ["/ready"]
        [[http.serve]]
        address = "127.0.0.1:9354"
        [log]
        format = "json"
        level = "trace"
    "#;
    let config = parse(text);
    assert_eq!(parse(&config.to_toml()), config, "{}", config.to_toml());
    assert_eq!(
        config.zones[0].upstreams[2],
        Target::ResolvConf("./a b/\"resolv\".conf".into(), Transport::Tcp)
    );
    assert_eq!(config.zones.len(), 3, "zone . is always there");
    assert_eq!(config.http[1].paths, config::HttpPath::ALL);
}

#[test]
fn faults_are_named_with_their_place_and_a_remedy() {
    let cases = [
        ("[cahce]\n", "1:2: unknown section `cahce`; did you mean `cache`?"),
        ("size = 1\n", "1:1: key `size` outside of a section; it belongs to [cache]"),
        ("[cache]\n  sise = 1\n", "2:3: unknown key `sise` in [cache]; did you mean `size`?"),
        ("[listen]\nsize = 1\n", "2:1: unknown key `size` in [listen]; it belongs to [cache]"),
        (
            "[cache]\nsize = true\n",
            "2:8: cache.size: a boolean where a size is wanted; write it like \"32MiB\"",
        ),
        (
            "[cache]\nsize = \"32MB\"\n",
            "2:8: cache.size: `32MB` is no size; write a whole number with KiB, MiB or GiB, or bytes: \"32MiB\"",
        ),
        (
            "[listen]\ntcp_idle = 30\n",
            "2:12: listen.tcp_idle: `30` has no unit; write a whole number with ms, s, m, h or d: \"30s\", \"500ms\"",
        ),
        (
            "[listen]\nworkers = \"two\"\n",
            "2:11: listen.workers: a string where a whole number is wanted; give 1 to 64",
        ),
        ("[listen]\nworkers = 65\n", "2:11: listen.workers: 65 is out of bounds; give 1 to 64"),
        ("[listen]\naddresses = []\n", "2:13: listen.addresses: a list of 0 is out of bounds; give 1 to 64"),
        (
            "[listen]\naddresses = [\"127.0.0.1\"]\n",
            "2:14: listen.addresses: `127.0.0.1` has no port; write \"127.0.0.1:53\"",
        ),
        (
            "[listen]\naddresses = [\"[::1]:53\",\n  \"[0::1]:53\"]\n",
            "3:3: listen.addresses: \"[::1]:53\" is given twice; leave one out",
        ),
        ("[log]\nlevel = \"wran\"\n", "2:9: log.level: unknown word `wran`; did you mean `warn`?"),
        ("[zone]\nname = \".\"\n", "1:1: zone: a table where a list of zones is wanted; write [[zone]]"),
        ("[[zone]]\n", "1:1: a zone without a name; add `name = \"cluster.local\"`, or \".\" for all"),
        ("[[zone]]\nname = \"a\"\n", "1:1: zone `a.` has no upstreams; add `upstreams = [\"10.96.0.10\"]`"),
        (
            "[[zone]]\nname = \"A\"\nupstreams = [\"::1\"]\n[[zone]]\nname = \"a.\"\nupstreams = [\"::1\"]\n",
            "5:8: zone `a.` is given twice; make one of the two, or let each listen on addresses of its own",
        ),
        (
            "[[zone]]\nname = \"a\"\nlisten = [\"127.0.0.1:5300\"]\nupstreams = [\"::1\"]\n\
             [[zone]]\nname = \"a.\"\nlisten = [\"127.0.0.1:5300\"]\nupstreams = [\"::1\"]\n",
            "7:10: zone `a.` is given twice on 127.0.0.1:5300; make one of the two",
        ),
        (
            "[[zone]]\nname = \"a\"\nlisten = [\"127.0.0.2:5300\"]\nupstreams = [\"::1\"]\n",
            "3:10: zone `a.` is to answer on 127.0.0.2:5300, where nobody listens; \
             add it to listen.addresses, or take one of these",
        ),
        (
            "[[zone]]\nname = \".\"\nupstreams = [\"::1\", \"tcp://[::1]:53\"]\n",
            "3:13: zone `.` has an upstream twice; leave one out",
        ),
        (
            "[[zone]]\nname = \".\"\nupstreams = [\"dns.example\"]\n",
            "3:14: zone.upstreams: `dns.example` is a host name, which nobody could resolve before we run; \
             write an IP address: \"10.96.0.10\", \"[2001:db8::1]:53\", or a path with a slash",
        ),
        (
            "[[zone]]\nname = \".\"\nttl_min = \"31s\"\nttl_max = \"30s\"\n",
            "3:11: zone.ttl_min (31s) is above zone.ttl_max (30s); lower the first or raise the second",
        ),
        (
            "[[zone]]\nname = \".\"\nttl_max = \"1500ms\"\n",
            "3:11: zone.ttl_max: 1500ms is not in whole seconds; TTLs count seconds",
        ),
        (
            "[cache]\nfailure_ttl = \"31s\"\n",
            "2:15: cache.failure_ttl (31s) is above cache.failure_ttl_max (30s); \
             lower the first or raise the second",
        ),
        (
            "[[zone]]\nname = \".\"\nstale_after = \"3s\"\n[upstream]\ndeadline = \"2s\"\n",
            "3:15: zone.stale_after (3s) is not below upstream.deadline (2s); \
             stale data would come too late: lower the first",
        ),
        (
            "[[zone]]\nname = \".\"\nnext = [{ on = [\"NXDOMAIN\"] }]\n",
            "3:9: zone.next: an entry needs `on` and `upstreams`; \
             write { on = [\"NXDOMAIN\"], upstreams = [\"10.96.0.10\"] }",
        ),
        (
            "[[zone]]\nname = \".\"\nnext = [{ on = [\"NXDOMAIN\"], upstreams = [\"svc://a.b\"] }]\n",
            "3:9: zone.next: a svc:// upstream in `next`; put it into the zone's own upstreams",
        ),
        (
            "[[zone]]\nname = \".\"\nby_name = [{ upstreams = [\"192.0.2.1\"] }]\n",
            "3:12: zone.by_name: an entry needs `names`; \
             write { names = [\"new.example\"], upstreams = [\"10.0.0.53\"] }",
        ),
        (
            "[[zone]]\nname = \".\"\nby_name = [{ names = [\"a..b\"], upstreams = [\"192.0.2.1\"] }]\n",
            "3:12: zone.by_name: `a..b` is no DNS name; labels have 1 to 63 characters, a name has at most 253",
        ),
        (
            "[[zone]]\nname = \".\"\nfailure_ttl = \"9s\"\nfailure_ttl_max = \"5s\"\n",
            "3:15: zone.failure_ttl (9s) is above zone.failure_ttl_max (5s); \
             lower the first or raise the second",
        ),
        (
            "[upstream]\ndeadline = \"1s\"\n",
            "2:12: cache.stale_after (1800ms) is not below upstream.deadline (1s); \
             stale data would come too late: lower the first",
        ),
        (
            "[http]\nserve = [{ address = \"127.0.0.1:5300\" }]\n",
            "2:9: 127.0.0.1:5300 already answers DNS; give HTTP another port, such as 9353",
        ),
        (
            "[http]\nserve = [{ address = \"127.0.0.1:1\" }, { address = \"0.0.0.0:1\" }]\n",
            "2:9: 0.0.0.0:1 and 127.0.0.1:1 are the same port, which can be had once; leave out the one for fewer addresses",
        ),
        (
            "[http]\nserve = [{ address = \"0.0.0.0:5300\" }]\n",
            "2:9: 127.0.0.1:5300 already answers DNS; give HTTP another port, such as 9353",
        ),
        (
            "[http]\nserve = [{ address = \"127.0.0.1:1\", pahts = [] }]\n",
            "2:37: http.serve: unknown key `pahts` in an entry; did you mean `paths`?",
        ),
        (
            "[http]\nserve = [{ paths = [\"/ready\"] }]\n",
            "2:10: http.serve: an entry without an address; write { address = \"127.0.0.1:9353\" }",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(wrong(text), format!("test.toml:{message}"), "\n{text}");
    }
}

#[test]
fn broken_toml_has_a_place() {
    for text in
        ["[", "[listen", "a", "a =", "[cache]\nsize = \"", "[log]\n[log]\n", "\u{1}", "a = 1\na = 2\n"]
    {
        let message = wrong(text);
        let place: Vec<&str> = message.splitn(4, ':').collect();
        assert!(
            place[1].parse::<usize>().is_ok_and(|l| l > 0) && place[2].parse::<usize>().is_ok(),
            "{message}"
        );
    }
}

/// Flags with this configuration file.
fn flags(dir: &tempfile::TempDir, text: &str) -> Flags {
    let path = dir.path().join("sidestep.toml");
    fs::write(&path, text).unwrap();
    Flags { source: Source::Toml(path), ..Flags::default() }
}

#[test]
fn flags_replace_the_keys_of_the_file_at_every_load() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[listen]\naddresses = [\"127.0.0.1:1\"]\nworkers = 5\ntcp_pipeline = 7\n[log]\nlevel = \"warn\"\n\
                [[zone]]\nname = \"a\"\nupstreams = [\"192.0.2.1\"]\ntransport = \"udp\"\nttl_max = \"9s\"\n\
                [[zone]]\nname = \"b\"\nupstreams = [\"192.0.2.2\"]\n";
    let up = |text| config::parse_upstream(text).unwrap();
    let mut flags = Flags {
        listen: vec!["127.0.0.1:2".parse().unwrap(), "127.0.0.1:3".parse().unwrap()],
        upstream: vec![up("a=192.0.2.3"), up("192.0.2.4"), up("A.=tcp://192.0.2.5"), up("c=192.0.2.6")],
        http: vec!["127.0.0.1:4".parse().unwrap()],
        workers: Some(6),
        cache_size: Some(2 << 20),
        log: Some(LogFormat::Json),
        verbose: 1,
        ..flags(&dir, file)
    };
    for _ in 0..2 {
        let config = Config::load(&flags).unwrap();
        assert_eq!(config.listen.addresses, flags.listen);
        assert_eq!(
            (config.listen.workers, config.listen.tcp_pipeline, config.cache.size),
            (Some(6), 7, 2 << 20)
        );
        assert_eq!((config.http.len(), config.http[0].paths.len()), (1, 3));
        assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
        let zones: Vec<_> = config.zones.iter().map(|z| (z.display.as_str(), z.upstreams.len())).collect();
        assert_eq!(zones, [("a.", 2), ("b.", 1), (".", 1), ("c.", 1)]);
        let first = Server { address: "192.0.2.3:53".parse().unwrap(), transport: Transport::Udp };
        assert_eq!(config.zones[0].upstreams[0], Target::Server(first), "the zone's transport stays");
        assert_eq!(config.zones[0].rules.ttl_max, Duration::from_secs(9));
    }
    flags.verbose = 2;
    assert_eq!(Config::load(&flags).unwrap().log.level, LogLevel::Trace);
    flags.upstream = vec![up("192.0.2.4"), up("tcp://192.0.2.4")];
    let twice = Config::load(&flags).unwrap_err().to_string();
    assert_eq!(twice, "--upstream: zone `.` has an upstream twice; leave one out");
}

#[test]
fn a_flag_for_a_name_is_for_every_zone_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let zone = |listen: &str| format!("[[zone]]\nname = \"a\"\n{listen}upstreams = [\"192.0.2.1\"]\n");
    let text = ["listen = [\"127.0.0.1:1\"]\n", "listen = [\"127.0.0.1:2\"]\n", ""].map(zone).concat();
    let text = format!("[listen]\naddresses = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]\n{text}");
    let upstream = ["a=192.0.2.3", "a=192.0.2.4"].map(|text| config::parse_upstream(text).unwrap()).to_vec();
    let config = Config::load(&Flags { upstream, ..flags(&dir, &text) }).unwrap();
    let zones: Vec<_> = config.zones.iter().filter(|zone| zone.display == "a.").collect();
    assert_eq!(zones.len(), 3);
    assert!(zones.iter().all(|zone| zone.upstreams == zones[0].upstreams && zone.upstreams.len() == 2));
}

#[test]
fn a_zone_without_upstreams_may_get_them_from_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = flags(&dir, "[[zone]]\nname = \"a\"\nttl_max = \"9s\"\n");
    assert!(Config::load(&file).unwrap_err().summary().contains("has no upstreams"));
    let up = config::parse_upstream("a=192.0.2.3").unwrap();
    assert!(Config::load(&Flags { upstream: vec![up], ..file }).is_ok());
}

#[test]
fn the_keys_that_need_a_restart_are_those_that_the_reference_marks() {
    let running = Config::default();
    assert_eq!(running.needs_restart(&running), Vec::<&str>::new());
    let changed = parse(
        "[listen]\naddresses = [\"127.0.0.1:1\"]\nworkers = 1\nudp_size = 600\n[cache]\nsize = \"1MiB\"\n\
         stale_ttl = \"1s\"\n[http]\nserve = [{ address = \"127.0.0.1:2\" }]\n\
         [log]\nformat = \"json\"\nlevel = \"debug\"\n",
    );
    let keys = ["listen.addresses", "listen.workers", "cache.size", "http.serve", "log.format"];
    assert_eq!(changed.needs_restart(&running), keys);
    let marked = example("sidestep.toml")
        .split("\n\n")
        .filter(|paragraph| paragraph.contains("Needs a restart."))
        .filter_map(|paragraph| Some(paragraph.lines().last()?.split(" = ").next()?.to_owned()))
        .collect::<Vec<_>>();
    assert_eq!(marked, ["addresses", "workers", "size", "serve", "format"]);
}

#[test]
fn the_files_with_upstreams_are_named_once() {
    let zone = |name: &str| format!("[[zone]]\nname = \"{name}\"\nupstreams = [\"/run/r\", \"192.0.2.1\"]\n");
    let config = parse(&(zone("a") + &zone("b")));
    assert_eq!(
        config.resolv_confs().into_iter().collect::<Vec<_>>(),
        ["/etc/resolv.conf", "/run/r"].map(Path::new)
    );
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let with = |bytes: &[u8]| {
        let path = dir.path().join("f");
        fs::write(&path, bytes).unwrap();
        Config::load(&Flags { source: Source::Toml(path), ..Flags::default() }).unwrap_err().to_string()
    };
    assert!(with(b"# \n\xff").ends_with("/f: is not UTF-8 in line 2"));
    assert!(with(&vec![b' '; (1 << 20) + 1]).ends_with("is longer than 1MiB; is it the right file?"));
    let missing = Flags { source: Source::Toml(dir.path().join("missing")), ..Flags::default() };
    assert!(
        Config::load(&missing).unwrap_err().to_string().contains("/missing: cannot be opened: No such file")
    );
}

#[test]
fn too_many_zones_are_refused() {
    let zone = |n| format!("[[zone]]\nname = \"z{n}\"\nupstreams = [\"::1\"]\n");
    let zones = |n: usize| (0..n).map(zone).collect::<String>();
    assert_eq!(parse(&zones(255)).zones.len(), 256);
    assert!(
        wrong(&zones(256)).contains("257 zones is out of bounds; give 1 to 256"),
        "{}",
        wrong(&zones(256))
    );
    assert!(wrong(&zones(257)).contains("257 zones is out of bounds"));
}

#[test]
fn the_corpus_is_replayed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/config");
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        config::fuzz(&fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 8, "the corpus is gone");
    for name in ["sidestep.toml", "kubernetes.toml", "host.toml"] {
        config::fuzz(example(name).as_bytes());
    }
}

/// The reference with one stretch of bytes replaced: near enough to right to reach every check.
mod mutated {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn references_never_panic(at: prop::sample::Index, cut in 0usize..12, put in "[\\[\\]{}=\"',.a-z0-9%\\\\\n é]{0,8}") {
            let mut bytes = example("sidestep.toml").into_bytes();
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put.bytes());
            config::fuzz(&bytes);
        }
    }
}

#[test]
fn a_service_needs_somebody_who_knows_its_addresses() {
    let zone = |upstreams: &str| format!("[[zone]]\nname = \"cluster.local\"\nupstreams = [{upstreams}]\n");
    let service = "\"svc://dns.kube-system.svc.cluster.local\"";
    assert_eq!(
        wrong(&zone(service)),
        "test.toml:3:13: zone `cluster.local.` has only svc:// upstreams, and nobody to ask for them; add the \
         cluster DNS Service, like \"tcp://10.96.0.10\", or a resolv.conf"
    );
    for other in ["\"10.96.0.10\"", "\"/etc/resolv.conf\""] {
        for transport in ["", "transport = \"udp\"\n", "transport = \"tcp\"\n"] {
            let text = zone(&format!("{service}, {other}")) + transport;
            let config = parse(&text);
            assert_eq!(parse(&config.to_toml()), config, "{text}");
        }
    }
    let twice =
        wrong(&zone(&format!("{service}, \"10.96.0.10\", \"svc://DNS.kube-system.svc.cluster.local:53\"")));
    assert!(twice.contains("is given twice"), "{twice}");
    let up = config::parse_upstream(&format!("cluster.local={}", service.trim_matches('"'))).unwrap();
    let alone = Config::load(&Flags { upstream: vec![up], ..Flags::default() }).unwrap_err().to_string();
    assert!(alone.starts_with("--upstream: zone `cluster.local.` has only svc:// upstreams"), "{alone}");
}
