//! What Corefiles become: settings by fragment, faults with their places, and the same again from TOML.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sidestep::config::{Config, Flags, Source};

/// Reads a Corefile with this text; faults and notes without the folder that it stands in.
fn load(text: &str, lenient: bool) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Corefile");
    fs::write(&path, text).unwrap();
    read(&path, lenient)
}

fn read(path: &Path, lenient: bool) -> Result<Config, String> {
    let source = Source::Corefile { path: path.to_owned(), lenient };
    let folder = format!("{}/", path.parent().unwrap().display());
    Config::load(&Flags { source, ..Flags::default() })
        .map_err(|problem| problem.summary().replace(&folder, ""))
}

/// What a block with these lines, `cache` aside, says beyond what an empty one does; without the zone's name.
fn zone(lines: &str) -> String {
    let text = format!(". {{\nbind 127.0.0.1\nforward . 192.0.2.1\n{lines}\n}}\n");
    let config = load(&text, false).unwrap_or_else(|problem| panic!("{lines}: {problem}"));
    config.to_short_toml()
}

/// Every line of `wanted` is said, and says nothing else.
fn says(lines: &str, wanted: &[&str]) {
    let text = zone(lines);
    for line in wanted {
        assert!(text.lines().any(|found| found == *line), "{lines}: no `{line}` in\n{text}");
    }
}

#[test]
fn cache_takes_every_option() {
    says(
        "cache",
        &["ttl_min = \"5s\"", "stale_for = \"1h\"", "prefetch_hits = 0", "failure_ttl_max = \"5s\""],
    );
    says("cache 30", &["ttl_max = \"30s\"", "negative_ttl_max = \"30s\""]);
    says("cache 3", &["ttl_max = \"3s\"", "ttl_min = \"3s\"", "negative_ttl_min = \"3s\""]);
    says(
        "cache {\nsuccess 9984 30 7\ndenial 100 5\n}",
        &[
            "ttl_max = \"30s\"",
            "ttl_min = \"7s\"",
            "negative_ttl_max = \"5s\"",
            "share_positive = 9984",
            "share_negative = 100",
        ],
    );
    says("cache {\nprefetch 3\n}", &["prefetch_hits = 3", "prefetch_gap = \"1m\""]);
    says("cache {\nprefetch 3 10m 20%\n}", &["prefetch_gap = \"10m\"", "prefetch_percent = 20"]);
    says("cache {\nserve_stale\n}", &["stale_after = \"0s\"", "stale_ttl = \"1s\"", "stale_for = \"1h\""]);
    says("cache {\nserve_stale 2h verify 500ms\n}", &["stale_for = \"2h\"", "stale_after = \"500ms\""]);
    assert!(!zone("cache {\nserve_stale 2h verify\n}").contains("stale_after"));
    assert!(!zone("cache {\nserve_stale 0s\n}").contains("stale_for = \"1h\""));
    says("cache {\nservfail 0\n}", &["failure_ttl = \"0s\""]);
    says("cache {\nservfail 30s\n}", &["failure_ttl_max = \"30s\""]);
    says("cache {\ndisable denial\n}", &["cache_negative = false"]);
    says("cache {\nkeepttl\n}", &["keep_ttl = true"]);
    says(
        "",
        &["cache_positive = false", "cache_negative = false", "stale_for = \"0s\"", "failure_ttl = \"0s\""],
    );
}

#[test]
fn written_capacities_make_the_cache_as_large_as_it_takes() {
    let size = |text: &str| load(text, false).unwrap().cache.size >> 20;
    let block =
        |name: &str, cache: &str| format!("{name} {{\nbind 127.0.0.1\nforward . 192.0.2.1\n{cache}\n}}\n");
    assert_eq!(size(&block(".", "cache")), 32);
    assert_eq!(size(&block(".", "cache {\nsuccess 9984\ndenial 9984\n}")), 32);
    let large = "cache {\nsuccess 100000\n}";
    assert_eq!(size(&(block(".", large) + &block("a", large))), 98);
    // A share is divided among the zones of a block.
    let config = load(&block("a b", large), false).unwrap();
    assert!(config.zones.iter().all(|zone| zone.rules.share.positive == Some(50_000)), "{:?}", config.zones);
}

#[test]
fn forward_takes_every_option() {
    let forward = |options: &str| {
        let text =
            format!(". {{\nbind 127.0.0.1\nforward . 192.0.2.1 [2001:db8::1]:5353 {{\n{options}\n}}\n}}\n");
        load(&text, false).unwrap_or_else(|problem| panic!("{options}: {problem}")).to_short_toml()
    };
    for (options, line) in [
        ("", "upstreams = [\"udp://192.0.2.1:53\", \"udp://[2001:db8::1]:5353\"]"),
        ("force_tcp\nprefer_udp", "upstreams = [\"tcp://192.0.2.1:53\", \"tcp://[2001:db8::1]:5353\"]"),
        ("expire 1s", "idle = \"1s\""),
        ("max_age 1m", "max_age = \"1m\""),
        ("read_timeout 500ms", "try_timeout = \"500ms\""),
        ("max_fails 0", "max_fails = 0"),
        ("max_connect_attempts 2", "tries = 2"),
        ("max_concurrent 1000", "max_concurrent = 1000"),
        ("policy round_robin", "policy = \"round-robin\""),
        ("policy sequential", "policy = \"ordered\""),
        ("policy random", "policy = \"random\""),
        ("failover NXDOMAIN servfail", "failover = [\"NXDOMAIN\", \"SERVFAIL\"]"),
        ("failfast_all_unhealthy_upstreams", "fail_fast = true"),
        ("health_check 5s no_rec domain example.org", "probe_every = \"5s\""),
    ] {
        let text = forward(options);
        assert!(text.lines().any(|found| found == line), "{options}: no `{line}` in\n{text}");
    }
}

/// Name, where it answers, whom it asks: a line for each zone.
fn zones(text: &str) -> Vec<String> {
    let config = load(text, false).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    let zone = |zone: &sidestep::config::ZoneConfig| {
        let upstreams: Vec<String> = zone.upstreams.iter().map(|target| format!("{target:?}")).collect();
        let last = |text: &String| {
            text.split("192.0.2.").nth(1).and_then(|t| t.split(':').next()).map(str::to_owned)
        };
        let asked: Vec<String> = upstreams.iter().filter_map(last).collect();
        let listen: Vec<String> = zone.listen.iter().map(ToString::to_string).collect();
        format!(
            "{} [{}] {}{}",
            zone.display,
            listen.join(" "),
            asked.join("+"),
            if zone.local.ends_here { "!" } else { "" }
        )
    };
    config.zones.iter().map(zone).collect()
}

#[test]
fn a_block_becomes_a_zone_wherever_something_changes() {
    assert_eq!(
        zones("a.test b.test {\nbind 127.0.0.1\nforward . 192.0.2.1 {\nexcept x.a.test other\n}\n}"),
        ["a.test. [] 1", "x.a.test. [] !", "b.test. [] 1"]
    );
    assert_eq!(
        zones(". {\nbind 127.0.0.1\nforward a.test 192.0.2.1\nforward . 192.0.2.2\n}"),
        [". [] 2", "a.test. [] 1"]
    );
    // The first that takes a name has it, not the longest.
    assert_eq!(
        zones(". {\nbind 127.0.0.1\nforward . 192.0.2.2\nforward a.test 192.0.2.1\n}"),
        [". [] 2", "a.test. [] 2"]
    );
    assert_eq!(
        zones("10.0.6.0/23 {\nbind 127.0.0.1\nforward . 192.0.2.1\n}"),
        ["6.0.10.in-addr.arpa. [] 1", "7.0.10.in-addr.arpa. [] 1"]
    );
    let text = ". {\nbind 127.0.0.1\nforward . 192.0.2.1\ncache 30 a.test {\ndisable success b.a.test\n}\n}";
    let config = load(text, false).unwrap();
    let kept: Vec<_> = config
        .zones
        .iter()
        .map(|z| (z.display.as_str(), z.rules.cache_positive, z.rules.cache_negative))
        .collect();
    assert_eq!(kept, [(".", false, false), ("a.test.", true, true), ("b.a.test.", false, true)]);
}

#[test]
fn blocks_that_listen_elsewhere_are_views() {
    assert_eq!(
        zones(
            "a.test:53 {\nbind 127.0.0.1\nforward . 192.0.2.1\n}\n\
             a.test:5353 {\nbind 127.0.0.1\nforward . 192.0.2.2\n}\n\
             .:53 .:5353 {\nbind 127.0.0.1\nforward . 192.0.2.3\n}"
        ),
        [
            "a.test. [127.0.0.1:53] 1",
            "a.test. [127.0.0.1:5353] 2",
            ". [127.0.0.1:53] 3",
            ". [127.0.0.1:5353] 3"
        ]
    );
    let config = load(". {\nforward . 192.0.2.1\n}", false).unwrap();
    let listen: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:53", "[::]:53"]);
    // dns64 is for those who ask over IPv6.
    let config = load(". {\nforward . 192.0.2.1\ndns64\n}", false).unwrap();
    let families: Vec<_> =
        config.zones.iter().map(|z| (z.listen[0].is_ipv6(), z.local.dns64.is_some())).collect();
    assert_eq!(families, [(false, false), (true, true)]);
}

#[test]
fn what_leads_on_to_the_next_forward() {
    let text = ". {\nbind 127.0.0.1\nforward . 192.0.2.1 {\nnext NXDOMAIN\nnext_on_nodata\n}\n\
                forward . 192.0.2.2 {\nforce_tcp\n}\n}";
    let toml = load(text, false).unwrap().to_short_toml();
    let line = "next = [{ on = [\"NODATA\", \"NXDOMAIN\"], upstreams = [\"tcp://192.0.2.2:53\"] }]";
    assert!(toml.lines().any(|found| found == line), "{toml}");
}

#[test]
fn what_rewrite_makes_of_a_name_is_for_the_forward_that_takes_it() {
    let block = |forwards: &str| {
        let text = format!(". {{\nbind 127.0.0.1\nrewrite name suffix .old.test .new.test\n{forwards}\n}}");
        let toml = load(&text, false).unwrap().to_short_toml();
        let lines = toml.lines().filter_map(|line| line.strip_prefix("by_name = "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(block("forward . 192.0.2.1"), [""; 0], "there is one for all names");
    assert_eq!(
        block("forward . 192.0.2.1\nforward new.test 192.0.2.2"),
        [""; 0],
        "the second never has its turn"
    );
    let new = "{ names = [\"new.test.\"], except = [\"x.new.test.\"], upstreams = [\"tcp://192.0.2.2:53\"] }";
    let own = new.replace("\"tcp://192.0.2.2:53\"", "");
    let all = "{ names = [\".\"], except = [], upstreams = [\"udp://192.0.2.1:53\"] }";
    // The zones are `.`, x.new.test and new.test: each leaves out what comes from its own servers at the end anyway.
    let found = block("forward new.test 192.0.2.2 {\nexcept x.new.test\nforce_tcp\n}\nforward . 192.0.2.1");
    assert_eq!(found, [format!("[{new}]"), format!("[{new}]"), format!("[{own}, {all}]")]);
}

#[test]
fn pages_are_served_where_the_plugins_say() {
    let serve = |lines: &str| {
        let text = zone(lines);
        text.lines().find(|line| line.starts_with("serve = ")).unwrap_or_default().to_owned()
    };
    assert_eq!(serve("health"), "serve = [{ address = \"[::]:8080\", paths = [\"/health\", \"/ready\"] }]");
    let both = serve("health 127.0.0.2 127.0.0.3:8081");
    assert!(both.contains("127.0.0.2:8081") && both.contains("127.0.0.3:8081"), "{both}");
    // What the add-on's line becomes with an IPv6 address last, without brackets and with them.
    let six = |paths: &str| {
        format!(
            "{{ address = \"127.0.0.2:8081\", paths = {paths} }}, {{ address = \"[fd00::10]:8081\", paths = {paths} }}"
        )
    };
    let six = format!("serve = [{}]", six("[\"/health\", \"/ready\"]"));
    assert_eq!(serve("health 127.0.0.2 fd00::10:8081"), six);
    assert_eq!(serve("health [127.0.0.2 fd00::10]:8081"), six);
    assert_eq!(serve("health 127.0.0.2 [fd00::10]:8081"), six);
    for alone in ["health fd00::10:8081", "health [fd00::10]:8081"] {
        assert!(serve(alone).starts_with("serve = [{ address = \"[fd00::10]:8081\", paths"), "{alone}");
    }
    assert!(serve("health [127.0.0.2]:8081").starts_with("serve = [{ address = \"127.0.0.2:8081\", paths"));
    assert!(serve("prometheus").contains("127.0.0.1:9153"));
    assert_eq!(
        serve("prometheus :9253\nready localhost:8181"),
        "serve = [{ address = \"[::]:9253\", paths = [\"/metrics\"] }, \
         { address = \"127.0.0.1:8181\", paths = [\"/ready\"] }]"
    );
}

#[test]
fn a_port_of_pages_is_served_once_and_at_every_address_that_is_named() {
    let serve = |lines: [&str; 2]| {
        let block =
            |name: &str, line: &str| format!("{name} {{\nbind 127.0.0.1\nforward . 192.0.2.1\n{line}\n}}\n");
        let config = load(&(block(".", lines[0]) + &block("a.test", lines[1])), false).unwrap();
        let found: Vec<_> =
            config.http.iter().map(|http| format!("{} {}", http.address, http.paths.len())).collect();
        found.join(", ")
    };
    for narrow in ["prometheus 0.0.0.0:9253", "prometheus 127.0.0.1:9253", "prometheus [::1]:9253"] {
        assert_eq!(serve([narrow, "ready :9253"]), "[::]:9253 2", "{narrow}");
        assert_eq!(serve(["ready [::]:9253", narrow]), "[::]:9253 2", "{narrow}");
    }
    assert_eq!(serve(["prometheus 0.0.0.0:9253", "health 127.0.0.1:9253"]), "0.0.0.0:9253 3");
    assert_eq!(
        serve(["prometheus 127.0.0.1:9253", "prometheus 127.0.0.2:9253"]),
        "127.0.0.1:9253 1, 127.0.0.2:9253 1"
    );
    assert_eq!(serve(["prometheus 0.0.0.0:9253", "prometheus [::1]:9253"]), "0.0.0.0:9253 1, [::1]:9253 1");
    assert_eq!(serve(["prometheus :9253", "prometheus 127.0.0.1:9254"]), "[::]:9253 1, 127.0.0.1:9254 1");
}

#[test]
fn a_line_that_needs_a_restart_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Corefile");
    let text = |bind: &str, pages: &str, cache: &str| {
        let text = format!(
            ". {{\n  bind 127.0.0.1 {bind}\n  forward . 192.0.2.1\n  prometheus :9253\n{pages}  cache {{\n    success {cache}\n  }}\n}}\n"
        );
        fs::write(&path, text).unwrap();
        read(&path, false).unwrap()
    };
    let running = text("", "", "100");
    let named = |config: &Config, running: &Config| {
        let at = |key| config.differs_at(running, key).map(|at| format!("{key} {}:{}", at.line, at.column));
        config.needs_restart(running).into_iter().map(|key| at(key).unwrap_or_default()).collect::<Vec<_>>()
    };
    let changed = text("127.0.0.2", "  health 127.0.0.1:8080\n", "200000");
    assert_eq!(named(&changed, &running), ["listen.addresses 2:18", "cache.size 7:13", "http.serve 5:10"]);
    assert_eq!(named(&running, &changed)[2], "http.serve 5:10", "the line that is gone");
    let toml = Config::parse("[http]\nserve = [{ address = \"127.0.0.1:1\" }]\n", "t").unwrap();
    assert_eq!(toml.differs_at(&Config::default(), "http.serve"), None, "its key is its name");
}

#[test]
fn where_nobody_answers_or_one_asks_oneself_it_is_said() {
    let notes = |lines: &str| -> Vec<String> {
        let config = load(&format!("a.test {{\n  bind 127.0.0.1\n{lines}}}\n"), false).unwrap();
        config
            .notes
            .iter()
            .map(|note| format!("{}:{}: {}", note.at.line, note.at.column, note.what))
            .collect()
    };
    let nobody = "1:1: this block has no `forward`, nor data of its own: what it is asked ends in SERVFAIL";
    assert_eq!(notes("  cache 30\n"), [nobody]);
    assert_eq!(notes("  rewrite name x.a.test y.a.test\n"), [nobody]);
    for line in [
        "  forward . 192.0.2.1\n",
        "  hosts {\n 192.0.2.1 a.test\n }\n",
        "  template ANY ANY {\n rcode NXDOMAIN\n }\n",
    ] {
        assert_eq!(notes(line), Vec::<String>::new(), "{line}");
    }
    // Each of these would ask itself.
    for (text, at, told) in [
        (
            ".:5353 {\n  bind 127.0.0.1\n  forward . 127.0.0.1:5353\n}\n",
            "3:3",
            "127.0.0.1:5353, and answers there itself (127.0.0.1:5353)",
        ),
        (
            ".:5353 {\n  forward . 192.0.2.1 127.0.0.2:5353\n}\n",
            "2:3",
            "127.0.0.2:5353, and answers there itself (0.0.0.0:5353)",
        ),
        (".:5353 {\n  forward . [::1]:5353\n}\n", "2:3", "[::1]:5353, and answers there itself ([::]:5353)"),
        (
            ".:5353 {\n  bind 127.0.0.1\n  forward . 192.0.2.1 {\n    next NXDOMAIN\n  }\n  forward . 127.0.0.1:5353\n}\n",
            "3:3",
            "127.0.0.1:5353, and answers there itself (127.0.0.1:5353)",
        ),
    ] {
        let found = load(text, false).unwrap_err();
        assert!(found.starts_with(&format!("Corefile:{at}: zone `.` asks {told}")), "{found}");
    }
    // One of ours asks another one.
    let chain = ". {\n  bind 127.0.0.1\n  forward . 127.0.0.2\n}\n.:5353 {\n  bind 127.0.0.1\n  forward . 127.0.0.1:53\n}\n";
    assert!(load(chain, false).is_ok());
    let toml = "[listen]\naddresses = [\"127.0.0.1:5353\"]\n[[zone]]\nname = \".\"\nupstreams = [\"192.0.2.1\", \"127.0.0.1:5353\"]\n";
    let found = Config::parse(toml, "test").unwrap_err();
    assert!(
        found.summary().starts_with("test:5:13: zone `.` asks 127.0.0.1:5353, and answers there itself"),
        "{found}"
    );
    let flags = Flags {
        listen: vec!["127.0.0.1:5353".parse().unwrap()],
        upstream: vec![sidestep::config::parse_upstream("127.0.0.1:5353").unwrap()],
        ..Flags::default()
    };
    let found = Config::load(&flags).unwrap_err();
    assert!(found.summary().starts_with("--upstream: zone `.` asks"), "{found}");
}

#[test]
fn what_a_node_needs_is_left_to_be_uncommented() {
    let text = |bind: &str| {
        load(&format!(". {{\n  bind {bind}\n  forward . 192.0.2.1\n}}\n"), false).unwrap().to_short_toml()
    };
    let toml = text("169.254.20.10 10.96.0.10 127.0.0.1 fd00::10");
    let lines: Vec<&str> = toml.lines().rev().take(3).collect();
    assert_eq!(lines[..2], ["# addresses = [\"169.254.20.10\", \"10.96.0.10\", \"fd00::10\"]", "# [node]"]);
    assert!(lines[2].starts_with("# On a node, "), "{toml}");
    let uncommented = toml.replace("# [node]", "[node]").replace("# addresses", "addresses");
    let config = Config::parse(&uncommented, "test").unwrap();
    assert_eq!(config.node.addresses.len(), 3);
    for bind in ["127.0.0.1", "10.96.0.10"] {
        assert!(!text(bind).contains("[node]"), "{bind}");
    }
}

#[test]
fn faults_have_a_line_and_a_column_and_say_what_to_do() {
    for (line, message) in [
        ("cahce 30", "Corefile:2:3: unknown plugin `cahce`; did you mean `cache`?"),
        (
            "kubernetes cluster.local",
            "Corefile:2:3: node-cache has no plugin `kubernetes`, and neither have we; ask the cluster's DNS, with a \
             line `forward . 10.96.0.10 {`, below it `force_tcp`, and below that `}`",
        ),
        ("cache 0", "Corefile:2:9: a TTL of 0 is none"),
        ("cache 99999999", "Corefile:2:9: `99999999` is out of bounds; give 0 seconds to 604800 seconds"),
        (
            "bind {$SIDESTEP_NOT_SET}",
            "Corefile:2:8: the variable `SIDESTEP_NOT_SET` is not set and leaves nothing here: `` is no IP address; set it",
        ),
        (
            "forward . 1.1.1.1, 8.8.8.8",
            "Corefile:2:13: `1.1.1.1,` is no IP address; leave out the `,`: blanks",
        ),
        ("loop;", "Corefile:2:3: unknown plugin `loop;`; leave out the `;`"),
        ("forward . 1.1.1.1:70000", "Corefile:2:13: `1.1.1.1:70000` has a port beyond 65535; ports are 1"),
        (
            "forward . 1.1.1.1 force_tcp",
            "Corefile:2:21: `force_tcp` is an option, and stands where a server does; write `{` at the end",
        ),
        ("hosts \"\"", "Corefile:2:9: a file without a name; write its path, or nothing for /etc/hosts"),
        (
            "hosts {\n    db.example 192.0.2.1\n  }",
            "Corefile:3:5: `db.example` stands where an entry has its address; write the address first: 192.0.2.1 db.e",
        ),
        ("cache {\n    success\n  }", "Corefile:3:5: `success` lacks its capacity"),
        ("cache {\n    prefetch 1 1m 5%\n  }", "Corefile:3:19: `5%` is no share of a TTL; give 10% to 90%"),
        (
            "cache {\n    keep_ttl\n  }",
            "Corefile:3:5: unknown property `keep_ttl` of `cache`; did you mean `keepttl`?",
        ),
        ("cache {\n    servfail 6m\n  }", "Corefile:3:14: `6m` is too long"),
        ("cache {\n    serve_stale 1h later\n  }", "Corefile:3:20: unknown way"),
        (
            "cache\n  cache",
            "Corefile:3:3: `cache` stands in this block a second time, after Corefile:2:3; make one",
        ),
        ("forward . dns.example", "Corefile:2:13: `dns.example` is a host name"),
        ("forward . tls://192.0.2.1", "Corefile:2:13: `tls://192.0.2.1`: upstreams are asked unencrypted"),
        ("forward .", "Corefile:2:3: `forward` lacks the servers to ask"),
        (
            "forward . 192.0.2.1 {\n    polciy random\n  }",
            "Corefile:3:5: unknown property `polciy` of `forward`; did you mean `policy`?",
        ),
        ("forward . 192.0.2.1 {\n    expire 2\n  }", "Corefile:3:12: `2` is no duration"),
        ("forward . 192.0.2.1 {\n    force_tcp yes\n  }", "Corefile:3:15: `yes` is one word too many"),
        ("bind eth0", "Corefile:2:8: `eth0` is no IP address"),
        (
            "bind 10.0.0.1 [fd00::10]",
            "Corefile:2:17: `[fd00::10]` is more than an IP address; write it without brackets, and a port behind the \
             block's key: `bind 10.0.0.1 fd00::10`",
        ),
        ("bind 10.0.0.1:53", "Corefile:2:8: `10.0.0.1:53` is more than an IP address"),
        (
            "forward 1.1.1.1",
            "Corefile:2:11: `1.1.1.1` stands where FROM does, the names to ask for, before TO, the servers; write the \
             names first, all of them are `.`: `forward . 1.1.1.1`",
        ),
        ("forward [2001:db8::1]:53 1.1.1.1", "Corefile:2:11: `[2001:db8::1]:53` stands where FROM does"),
        ("forward /etc/resolv.conf", "Corefile:2:11: `/etc/resolv.conf` stands where FROM does"),
        (
            "bind __PILLAR__LOCAL__DNS__",
            "Corefile:2:8: the variable `__PILLAR__LOCAL__DNS__` is filled in only in a base file of node-cache; try \
             `sidestep node-cache -check -localip 169.254.20.10 -basecorefile Corefile`",
        ),
        ("bufsize 100", "Corefile:2:11: `100` is no size of a datagram; give 512 to 4096"),
        ("rewrite name regex ( x", "Corefile:2:22: "),
        ("rewrite edns0 local set 0xffee 0x61", "Corefile:2:11: not supported: rewrite edns0"),
        ("template IN A {\n    answer \"{{ .Nmae }} 60 IN A 192.0.2.1\"\n  }", "Corefile:3:12: "),
        ("hosts {\n    tll 5\n  }", "Corefile:3:5: unknown property `tll` of `hosts`; did you mean `ttl`?"),
        ("health 8080", "Corefile:2:10: `8080` is no address and port"),
        ("loadbalance random", "Corefile:2:15: unknown policy `random`"),
        ("dns64 10.0.0.0/8", "Corefile:2:9: `10.0.0.0/8` is no prefix"),
        ("log . {\n    class denail\n  }", "Corefile:3:11: unknown class `denail`; did you mean `denial`?"),
        ("log {\n    clas all\n  }", "Corefile:3:5: unknown property `clas` of `log`; did you mean `class`?"),
        ("log a..b", "Corefile:2:7: `a..b` is no DNS name"),
        ("log . \"{name} {/log/class}\"", "Corefile:2:9: `{/log/class}` is a label of metadata"),
        ("log {combined}", "Corefile:2:7: `{combined}` stands where a name does, and logs nothing"),
        ("errors {\n    consolidate 5m\n  }", "Corefile:3:5: `consolidate` lacks a pattern"),
    ] {
        let found = load(&format!(". {{\n  {line}\n}}\n"), false).unwrap_err();
        assert!(found.starts_with(message), "{line}: {found}");
    }
    let twice = load(". {\nforward . 192.0.2.1\n}\n. {\nforward . 192.0.2.1\n}\n", false).unwrap_err();
    assert!(twice.starts_with("Corefile:4:1: zone `.` is given twice"), "{twice}");
    assert!(load("", false).is_err());
    let many: String = (1..=65).map(|last| format!(" 127.0.1.{last}")).collect();
    let many = load(&format!(". {{\nbind{many}\nforward . 192.0.2.1\n}}\n"), false).unwrap_err();
    assert!(many.starts_with("Corefile:2:6: 65 addresses to listen on; at most 64"), "{many}");
}

#[test]
fn a_ttl_with_a_unit_is_a_zone_and_that_is_said() {
    let config = load(". {\ncache 1m30s\nforward . 192.0.2.1\n}\n", false).unwrap();
    let [note] = config.notes.as_slice() else { panic!("{:?}", config.notes) };
    let note = note.to_string();
    assert!(note.ends_with(
        "Corefile:2:7: `1m30s` is taken for a zone, as CoreDNS does: only names below it are cached; a TTL has no \
         unit: cache 90"
    ), "{note}");
}

#[test]
fn the_lenient_are_told_of_what_is_in_vain_but_not_spared_what_makes_no_sense() {
    for line in [
        "any",
        "forward . tls://192.0.2.1",
        "loadbalance weighted f",
        "log {common}",
        "log . \"{name} {/log/class}\"",
        "cache {\nsuccess 1 9999999\n}",
        "forward 1.1.1.1 9.9.9.9",
    ] {
        let more = if line.starts_with("forward") { "" } else { "\nforward . 192.0.2.1" };
        let text = format!(". {{\n{line}{more}\n}}\n");
        assert!(load(&text, false).is_err(), "{line}");
        assert_eq!(
            load(&text, true).unwrap_or_else(|problem| panic!("{line}: {problem}")).notes.len(),
            1,
            "{line}"
        );
    }
    for line in ["cahce", "cache 0", "forward . x", "acl", "hosts {\nnothing 1\n}"] {
        assert!(load(&format!(". {{\n{line}\n}}\n"), true).is_err(), "{line}");
    }
}

#[test]
fn log_takes_names_a_format_and_classes() {
    for (lines, line) in [
        ("log", r#"log = [{ names = ["."], format = "{common}", classes = ["all"] }]"#),
        (
            "log A.test b.test",
            r#"log = [{ names = ["a.test.", "b.test."], format = "{common}", classes = ["all"] }]"#,
        ),
        (
            "log . {combined} {\nclass denial error\nclass denial\n}",
            r#"log = [{ names = ["."], format = "{combined}", classes = ["denial", "error"] }]"#,
        ),
        (
            "log a.test \"{name} {rcode}\"\nlog",
            r#"log = [{ names = ["a.test."], format = "{name} {rcode}", classes = ["all"] }, { names = ["."], format = "{common}", classes = ["all"] }]"#,
        ),
    ] {
        says(lines, &[line]);
    }
    let zones = "a.test b.test {\nbind 127.0.0.1\nlog\nforward . 192.0.2.1 {\nexcept x.a.test\n}\n}";
    assert!(load(zones, false).unwrap().zones.iter().all(|zone| zone.log.len() == 1));
    for (line, message) in [
        ("log = [{ classes = [\"eror\"] }]", "test:2:21: zone.log.classes: unknown word `eror`"),
        ("log = [{ format = \"{/x}\" }]", "test:2:8: zone.log: `{/x}` is a label of metadata"),
        (
            "log = [{ nams = [] }]",
            "test:2:10: zone.log: unknown key `nams` in an entry; did you mean `names`?",
        ),
    ] {
        let found = Config::parse(&format!("[[zone]]\n{line}\nname = \".\"\n"), "test").unwrap_err();
        assert!(found.summary().starts_with(message), "{line}: {found}");
    }
}

#[test]
fn a_block_that_nobody_hears_where_others_bind_is_told_of() {
    let text = ".:53 {\nbind 127.0.0.1\nforward . 192.0.2.1\n}\na.test:53 {\nforward . 192.0.2.2\n}\n";
    let notes: Vec<String> = load(text, false).unwrap().notes.iter().map(ToString::to_string).collect();
    assert!(notes.len() == 1 && notes[0].ends_with("who asks 127.0.0.1:53 hears nothing of it"), "{notes:?}");
    assert!(notes[0].contains("Corefile:5:1: "), "{notes:?}");
}

#[test]
fn rules_of_a_zone_are_written_in_toml_too() {
    let text = "[[zone]]\nname = \"a.test\"\nends_here = true\nrecords = [\"db.a.test 60 IN A 192.0.2.1\"]\n\
                rewrite = [\"stop name  exact x.a.test y.a.test\"]\ndns64 = { allow_ipv4 = true }\n\
                hosts = { entries = [\"192.0.2.7 h.a.test k.a.test\"], fallthrough = [\"a.test\"] }\n\
                template = [{ type = \"TYPE65280\", rcode = \"NXDOMAIN\", error = \"15 blocked here\" }]\n";
    let config = Config::parse(text, "test").unwrap();
    let zone = &config.zones[0];
    assert!(zone.local.ends_here && zone.upstreams.is_empty() && zone.local.dns64.is_some());
    assert_eq!(zone.local.templates[0].error, Some((15, "blocked here".to_owned())));
    for text in [config.to_toml(), config.to_short_toml()] {
        assert_eq!(Config::parse(&text, "again").unwrap(), config, "{text}");
    }
    for (line, message) in [
        ("rewrite = [\"name exact a..b c\"]", "test:3:12: zone.rewrite: "),
        ("records = [\"a.test 60 IN A 192.0.2.1\", \"no\"]", "test:3:40: zone.records: "),
        ("hosts = { entries = [\"x y\"] }", "test:3:9: zone.hosts: `x y` is no address with names"),
        (
            "hosts = { entries = [\"192.0.2.1 a\", \"\"] }",
            "test:3:9: zone.hosts: `` is no address with names",
        ),
        (
            "hosts = { fil = \"x\" }",
            "test:3:11: zone.hosts: unknown key `fil` in an entry; did you mean `file`?",
        ),
        ("template = [{ match = [\"(\"] }]", "test:3:13: zone.template: "),
        ("dns64 = { prefix = \"10.0.0.0/8\" }", "test:3:20: "),
        (
            "ends_here = true\nupstreams = [\"192.0.2.1\"]",
            "test:4:13: zone `a.test.` has upstreams, and is to ask",
        ),
        ("upstreams = []", "test:1:1: zone `a.test.` has no upstreams"),
    ] {
        let upstreams = if line.contains("upstreams") { "" } else { "\nupstreams = [\"192.0.2.1\"]" };
        let text = format!("[[zone]]\nname = \"a.test\"\n{line}{upstreams}\n");
        let found = Config::parse(&text, "test").unwrap_err();
        assert!(found.summary().starts_with(message), "{line}: {found}");
    }
}

/// What has to be lenient with: tls:// upstreams and keys, dns64 for nobody.
const FIXTURES: [(&str, bool); 9] = [
    ("addon.Corefile", false),
    ("eks.Corefile", false),
    ("gke.Corefile", false),
    ("kops.Corefile", false),
    ("gardener.Corefile", false),
    ("aks/Corefile", false),
    ("kubespray.Corefile", false),
    ("deliveryhero.Corefile", true),
    ("dialect.Corefile", true),
];

#[test]
fn corefiles_from_the_field_are_translated_and_their_conversions_say_the_same() {
    let values = [
        ("__PILLAR__DNS__DOMAIN__", "cluster.local"),
        ("__PILLAR__LOCAL__DNS__", "169.254.20.10"),
        ("__PILLAR__DNS__SERVER__", "10.0.0.10"),
        ("__PILLAR__CLUSTER__DNS__", "10.0.0.11"),
        ("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf"),
        ("__PROMETHEUS__ENDPOINT__", ":9253"),
        ("{$CACHE_TTL}", "30"),
        ("{$UPSTREAM}", "10.0.0.10"),
        ("{%POLICY%}", "random"),
    ];
    for (name, lenient) in FIXTURES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefile").join(name);
        let mut text = fs::read_to_string(&path).unwrap();
        for (variable, value) in values {
            text = text.replace(variable, value);
        }
        // Beside the original, imports would be found; a copy of the folder has them too.
        let folder = tempfile::tempdir().unwrap();
        if name.starts_with("aks") {
            fs::create_dir(folder.path().join("custom")).unwrap();
            for file in fs::read_dir(path.parent().unwrap().join("custom")).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), folder.path().join("custom").join(file.file_name())).unwrap();
            }
        }
        let copy = folder.path().join("Corefile");
        fs::write(&copy, text).unwrap();
        assert_eq!(read(&copy, false).is_ok(), !lenient, "{name}");
        let config = read(&copy, true).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        for text in [config.to_toml(), config.to_short_toml()] {
            let again = Config::parse(&text, "converted")
                .unwrap_or_else(|problem| panic!("{name}: {problem}\n{text}"));
            let config =
                Config { files: Vec::new(), notes: Vec::new(), places: BTreeMap::new(), ..config.clone() };
            assert_eq!(again, config, "{name}\n{text}");
        }
    }
}
