//! Corefiles as they are met in the field, each in our own words; and whatever else somebody may feed us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sidestep::config;
use sidestep::corefile::pillar::{self, Variables};
use sidestep::corefile::{self, Block, Corefile, Directive, Disk, Place, Surroundings, Token, Transport};

/// The disk, and an environment of our own.
struct World;

impl Surroundings for World {
    fn file(&self, path: &Path) -> io::Result<String> {
        Disk.file(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Vec<String>> {
        Disk.folder(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        let known = [("CACHE_TTL", "30"), ("UPSTREAM", "10.0.0.10"), ("POLICY", "random")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefile").join(name)
}

/// Fills and reads a file of tests/corefile.
fn read(name: &str) -> Corefile {
    let value = |text: &str| Some(text.to_owned());
    let variables = Variables {
        domain: value("cluster.local"),
        local: value("169.254.20.10"),
        server: "10.0.0.10".to_owned(),
        cluster: value("10.0.0.11"),
        upstreams: value("/etc/resolv.conf"),
        prometheus: value(":9253"),
    };
    let text = fs::read_to_string(path(name)).unwrap();
    let filled = pillar::fill(&text, &path(name), &variables).unwrap_or_else(|fault| panic!("{fault}"));
    corefile::parse_filled(&filled, &path(name), &World).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A line for each block: its zones, and its directives with the number of their arguments and lines.
fn outline(tree: &Corefile) -> Vec<String> {
    let directive = |d: &Directive| {
        let body = d.body.as_ref().map_or(String::new(), |body| format!("{{{}}}", body.len()));
        format!(" {}/{}{body}", d.name.text, d.arguments.len())
    };
    let block = |block: &Block| {
        let port = |p: Option<u16>| p.map_or(String::new(), |p| format!(":{p}"));
        let keys = block.keys.iter().map(|k| k.zones.join("+") + &port(k.port));
        keys.collect::<Vec<_>>().join(" ")
            + " ="
            + &block.directives.iter().map(directive).collect::<String>()
    };
    tree.blocks.iter().map(block).collect()
}

const FIXTURES: [(&str, &[&str]); 9] = [
    (
        "addon.Corefile",
        &[
            "cluster.local.:53 = bind/2 health/1 prometheus/1 cache/0{2} forward/2{1} errors/0 reload/0 loop/0",
            "in-addr.arpa.:53 = bind/2 prometheus/1 cache/1 forward/2{1} errors/0 reload/0 loop/0",
            "ip6.arpa.:53 = bind/2 prometheus/1 cache/1 forward/2{1} errors/0 reload/0 loop/0",
            ".:53 = bind/2 prometheus/1 cache/1 forward/2 errors/0 reload/0 loop/0",
        ],
    ),
    (
        "eks.Corefile",
        &[
            "cluster.local.:53 = errors/0 cache/0{2} reload/0 loop/0 bind/1 forward/2{1} prometheus/1 health/1",
            "in-addr.arpa.:53 ip6.arpa.:53 = errors/0 cache/1 reload/0 loop/0 bind/1 forward/2{1} prometheus/1",
            "eu-west-1.compute.internal.:53 = errors/0 cache/1 bind/1 forward/2",
            ".:53 = errors/0 cache/1 reload/0 loop/0 bind/1 forward/2 prometheus/1",
        ],
    ),
    (
        "gke.Corefile",
        &[
            "cluster.local.:53 = errors/0 template/3{1} cache/0{2} reload/0 loop/0 bind/2 health/1 prometheus/1 forward/2{2}",
            "in-addr.arpa.:53 = errors/0 cache/1 reload/0 loop/0 bind/2 prometheus/1 forward/2{2}",
            ".:53 = errors/0 template/3{1} cache/1 reload/0 loop/0 bind/2 prometheus/1 forward/2",
        ],
    ),
    (
        "aks/Corefile",
        &[
            ".:53 = log/0 errors/0 bind/1 ready/1 forward/2{2} cache/1{4} loop/0 template/3{3} template/3{1} prometheus/1 loadbalance/1 hosts/0{2}",
            "corp.example.com.:53 contoso.example. = errors/0 forward/3",
            "db.example.:53 = forward/2",
        ],
    ),
    (
        "kubespray.Corefile",
        &[
            "example.com.:53 sub.example.com.:53 = log/0 errors/0 rewrite/6 forward/3 loadbalance/0 cache/1 reload/0 loop/0 bind/1 prometheus/1",
            "cluster.local.:53 = errors/0 cache/0{3} reload/0 loop/0 bind/1 forward/2{2} prometheus/1 health/1",
            "in-addr.arpa.:53 = errors/0 cache/1 bind/1 forward/2{1}",
            ".:53 = errors/0 cache/1 bind/1 forward/2{1} prometheus/1 hosts/1{1}",
        ],
    ),
    (
        "kops.Corefile",
        &[
            "cluster.local.:53 = errors/0 cache/0{2} reload/0 loop/0 bind/1 forward/2{1} prometheus/1 health/1",
            "REVERSE = errors/0 cache/1 bind/1 forward/2{1}",
            ".:53 = errors/0 cache/1 reload/0 loop/0 bind/1 forward/2 prometheus/1",
        ],
    ),
    (
        "gardener.Corefile",
        &[
            "cluster.local.:53 = loop/0 bind/2 forward/2{1} prometheus/1 health/1 errors/0 cache/0{2} reload/0",
            "in-addr.arpa.:53 ip6.arpa.:53 = errors/0 cache/1 bind/2 forward/2{1}",
            ".:53 = errors/0 cache/1 loop/0 bind/2 forward/2{1} prometheus/1",
        ],
    ),
    (
        "deliveryhero.Corefile",
        &[
            "cluster.local.:53 = errors/0 cache/0{3} reload/0 loop/0 bind/1 forward/2{2} prometheus/1 health/0",
            "corp.example.org.:5353 corp.example.net.:5353 = errors/0 log/2{1} cache/1 forward/3{2}",
            ".:53 = errors/0 log/0 cache/1 dns64/1 bufsize/1 loadbalance/1 bind/1 forward/2{1} prometheus/1",
        ],
    ),
    (
        "dialect.Corefile",
        &[
            "example.org.:8853 example.org. 6.0.10.in-addr.arpa.+7.0.10.in-addr.arpa. 8.b.d.0.1.0.0.2.ip6.arpa.:1053 = errors/0{1} cache/1 template/2{3} template/2{1} log/2 timeouts/0{1} whoami/0",
            "example.net. = errors/0{1} cache/1 forward/2{1}",
            ". = errors/0{1} cache/1 forward/2{1} debug/0",
        ],
    ),
];

#[test]
fn corefiles_from_the_field_are_read() {
    let shared: Vec<String> = (64..128).map(|n| format!("{n}.100.in-addr.arpa.")).collect();
    for (name, expected) in FIXTURES {
        let expected: Vec<String> =
            expected.iter().map(|line| line.replace("REVERSE", &shared.join("+"))).collect();
        assert_eq!(outline(&read(name)), expected, "{name}");
    }
    let files = |folder: &str| {
        fs::read_dir(path(folder)).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count()
    };
    assert_eq!(files("") + files("aks"), FIXTURES.len(), "each file is a fixture");
}

#[test]
fn what_is_read_prints_and_reads_back() {
    for (name, outlined) in FIXTURES {
        let tree = read(name);
        let again = corefile::parse(&tree.to_string(), Path::new("printed"), &World).unwrap();
        assert_eq!(anywhere(again.blocks.clone()), anywhere(tree.blocks), "{name}");
        assert_eq!(again.to_string().matches("\n}\n").count(), outlined.len(), "{name}");
        fuzz(&fs::read(path(name)).unwrap());
    }
}

#[test]
fn imports_are_watched_noted_and_told_apart() {
    let tree = read("aks/Corefile");
    let expected =
        ["aks/Corefile", "aks/custom/log.override", "aks/custom/corp.server", "aks/custom/db.server"];
    assert_eq!(tree.files, expected.map(path));
    assert_eq!(tree.folders, ["aks/custom", "aks/none"].map(path));
    let notes: Vec<String> = tree.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("aks/Corefile:30:1: no file in") && notes[0].contains("/aks/none fits"),
        "{notes:?}"
    );
    let hosts = tree.blocks[0].directives.last().unwrap();
    assert!(hosts.at().to_string().ends_with("aks/custom/log.override:2:1"));
    assert!(hosts.at().via.as_deref().unwrap().to_string().ends_with("aks/Corefile:27:5"));
}

#[test]
fn the_dialect_says_what_it_means() {
    let tree = read("dialect.Corefile");
    let first = &tree.blocks[0];
    let transports: Vec<Transport> = first.keys.iter().map(|k| k.transport).collect();
    assert_eq!(transports, [Transport::Tls, Transport::Https, Transport::Dns, Transport::Dns]);
    let texts = |d: &Directive| d.arguments.iter().map(|a| a.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&first.directives[1]), ["30"]);
    assert_eq!(texts(&first.directives[2].body.as_ref().unwrap()[0]), ["^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)\\."]);
    assert_eq!(texts(&first.directives[3].body.as_ref().unwrap()[0]), ["{{ .Name }} 60 IN TXT \"a#b\""]);
    assert_eq!(texts(&first.directives[4]), [".", "a word\nover two lines"]);
    assert_eq!(texts(&tree.blocks[2].directives[2].body.as_ref().unwrap()[0]), ["random"]);
    assert!(tree.notes.is_empty(), "{:?}", tree.notes);
}

#[test]
fn a_filled_file_tells_the_places_of_its_base() {
    let tree = read("addon.Corefile");
    let bind = &tree.blocks[0].directives[0];
    let columns: Vec<(u32, u32)> = bind.arguments.iter().map(|a| (a.at.line, a.at.column)).collect();
    assert_eq!(columns, [(4, 10), (4, 33)]);
    assert_eq!(bind.arguments[1].text, "10.0.0.10");
}

/// The same tree, with every word at one place.
fn anywhere(mut blocks: Vec<Block>) -> Vec<Block> {
    fn put(directive: &mut Directive) {
        directive.name.at = nowhere();
        directive.arguments.iter_mut().for_each(|argument| argument.at = nowhere());
        directive.body.iter_mut().flatten().for_each(put);
    }
    for block in &mut blocks {
        block.at = nowhere();
        block.keys.iter_mut().for_each(|key| key.token.at = nowhere());
        block.directives.iter_mut().for_each(put);
    }
    blocks
}

fn nowhere() -> Place {
    Place { file: Path::new("").into(), line: 1, column: 1, via: None }
}

/// Any word that can be written: in quotes, each backslash is before a letter.
fn word() -> impl Strategy<Value = Token> {
    let token = |(text, quoted)| Token { text, at: nowhere(), quoted };
    let bare = r#"[a-z0-9.:*(_\\$%][a-z"\\.{}$%()é]{0,6}[a-z]"#;
    prop_oneof![
        bare.prop_filter("no variable", |t| !t.contains("{$") && !t.contains("{%") && t != "import")
            .prop_map(|t| (t, false)),
        "([ -!#&-\\[\\]-~\n\r\té]|\\\\[a-z]){0,12}".prop_map(|t| (t, true)),
        select(vec!["{", "}", "import", "\"", "#", "", "(a)", "a,"]).prop_map(|t| (t.to_owned(), true)),
    ]
    .prop_map(token)
}

fn line() -> impl Strategy<Value = Directive> {
    let leaf =
        (word(), vec(word(), 0..4)).prop_map(|(name, arguments)| Directive { name, arguments, body: None });
    leaf.prop_recursive(4, 24, 4, |line| {
        (word(), vec(word(), 0..3), prop::option::of(vec(line, 0..4)))
            .prop_map(|(name, arguments, body)| Directive { name, arguments, body })
    })
}

/// Trees as they might have been read, made without reading.
fn tree() -> impl Strategy<Value = Corefile> {
    let keys = select(vec![". {", "a:53 tls://b 10.0.0.0/23 {", "\"import\" \"x\" {"]);
    let block = (keys, vec(line(), 0..4)).prop_map(|(keys, directives)| {
        let read = corefile::parse(&format!("{keys}\n}}"), Path::new(""), &Disk).unwrap();
        let keys = read.blocks[0].keys.clone();
        Block { keys, directives, at: nowhere() }
    });
    vec(block, 0..3).prop_map(|blocks| Corefile { blocks: anywhere(blocks), ..Corefile::default() })
}

/// Text that is near to a Corefile.
fn near() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        ".:53",
        "{",
        "}",
        " ",
        "\n",
        "\n",
        "\n",
        "{\n",
        "}\n",
        "\"",
        "\\",
        "#",
        ",",
        "import ",
        "(s)",
        "(t)",
        "s",
        "t",
        "*",
        "f",
        "{$A}",
        "{%NONE%}",
        "{$",
        "}",
        "---",
        "\r",
        "\u{feff}",
        "é",
        "__PILLAR__LOCAL__DNS__",
        "__PILLAR__",
        "10.0.0.0/9",
        " {\n import s\n}\n",
        "(s) {\n x\n}\n",
        "import x/*\n",
        "cache 30\n",
    ]);
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The grammar, and what is made of it.
fn fuzz(bytes: &[u8]) {
    corefile::fuzz(bytes);
    config::fuzz_corefile(bytes);
}

/// Blocks of lines that plugins read, with words that they may or may not take.
fn blocks() -> impl Strategy<Value = String> {
    let plugins: Vec<&str> = config::corefile_plugins().collect();
    let options = [
        "success",
        "denial",
        "prefetch",
        "serve_stale",
        "servfail",
        "disable",
        "keepttl",
        "except",
        "force_tcp",
        "policy",
        "next",
        "failover",
        "max_fails",
        "max_concurrent",
        "expire",
        "health_check",
        "read_timeout",
        "ttl",
        "fallthrough",
        "reload",
        "match",
        "answer",
        "rcode",
        "class",
        "prefix",
        "allow_ipv4",
        "idle",
        "consolidate",
        "192.0.2.7",
        "kubernetes",
        "any",
    ];
    let words = [
        ".",
        "a.test",
        "b.a.test",
        "10.0.0.0/23",
        "192.0.2.1",
        "127.0.0.1",
        "[::1]:53",
        "fd00::10:8080",
        "169.254.20.10",
        ":9253",
        "0.0.0.0:9253",
        "localhost:0",
        "/etc/resolv.conf",
        "svc://a.test",
        "tls://192.0.2.2",
        "0",
        "1",
        "30",
        "65536",
        "30s",
        "1h",
        "0s",
        "5%",
        "random",
        "NXDOMAIN",
        "denial",
        "success",
        "verify",
        "IN",
        "ANY",
        "A",
        "name",
        "exact",
        "regex",
        "(.*)",
        "{1}",
        "\"{{ .Name }} 60 IN A 192.0.2.1\"",
        "{common}",
        "off",
        "\"\"",
        "é",
        "64:ff9b::/96",
        "stop",
        "{$A}",
        "__PILLAR__LOCAL__DNS__",
        "__PILLAR__CLUSTER__DNS__:53",
    ];
    let words = || vec(select(words.to_vec()), 0..4).prop_map(|words| words.join(" "));
    let option =
        (select(options.to_vec()), words()).prop_map(|(name, words)| format!("    {name} {words}\n"));
    let line =
        (select(plugins), words(), prop::option::of(vec(option, 0..4))).prop_map(|(name, words, body)| {
            let body = body.map_or(String::new(), |body| format!(" {{\n{}  }}", body.concat()));
            format!("  {name} {words}{body}\n")
        });
    let keys = select(vec![".", "a.test", "a.test:5353 b.test", "tls://.", "10.0.0.0/23"]);
    let end = select(vec!["", "  forward . 192.0.2.1\n", "  bind 127.0.0.1\n  forward . 192.0.2.1\n"]);
    let block = (keys, vec(line, 0..3), end)
        .prop_map(|(key, lines, end)| format!("{key} {{\n{}{end}}}\n", lines.concat()));
    vec(block, 1..3).prop_map(|blocks| blocks.concat())
}

/// Arguments, one a line, that are near to node-cache's.
fn arguments() -> impl Strategy<Value = String> {
    let usage = config::node_cache::usage();
    let flags = usage.lines().filter_map(|line| line.strip_prefix("  -")?.split(' ').next());
    let flags: Vec<String> = flags.map(str::to_owned).collect();
    let value = select(vec![
        "",
        "=",
        "=1",
        "=f",
        "=169.254.20.10,fd00::10",
        "\n::1",
        "\n:9253",
        "\n1m30s",
        "=a/b",
        "\n-",
        "\n--",
    ]);
    let dashes = select(vec!["-", "-", "-", "--", "---", ""]);
    vec(
        (dashes, select(flags), value).prop_map(|(dashes, name, value)| format!("{dashes}{name}{value}\n")),
        0..8,
    )
    .prop_map(|lines| format!("-localip\n10.0.0.1\n{}", lines.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_prints_and_reads_back(tree in tree()) {
        let printed = tree.to_string();
        let again = corefile::parse(&printed, Path::new("printed"), &Disk);
        let again = again.unwrap_or_else(|fault| panic!("{fault}\n{printed}"));
        prop_assert_eq!(anywhere(again.blocks), tree.blocks, "{}", printed);
    }

    #[test]
    fn any_text_ends_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
        config::node_cache::fuzz(&bytes);
    }

    #[test]
    fn text_near_to_a_corefile_ends_soon_and_reads_back(text in near()) {
        let begin = Instant::now();
        fuzz(text.as_bytes());
        prop_assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn blocks_of_plugins_are_translated_or_refused_and_convert(text in blocks()) {
        config::fuzz_corefile(text.as_bytes());
    }

    #[test]
    fn arguments_near_to_node_caches_are_read_or_refused(text in arguments()) {
        config::node_cache::fuzz(text.as_bytes());
    }

    #[test]
    fn a_fixture_with_a_wrong_byte_is_survived(
        which in select(FIXTURES.map(|(name, _)| name).to_vec()),
        at in any::<prop::sample::Index>(),
        byte in select(b"{}\"\\#\n ,$%(*-\xff".to_vec()),
    ) {
        let mut bytes = fs::read(path(which)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzz(&bytes);
    }
}
