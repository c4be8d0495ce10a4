//! What is compared: rules in a Corefile's words, and questions that they are about or not.

use hickory_proto::rr::RecordType::{A, AAAA, ANY, CNAME, MX, PTR, SOA, SRV, TXT};

use super::{Case, NONE};

/// The forms of `rewrite`. Each asks for what its rule is about, and for something that it is not about.
pub const REWRITES: [Case; 23] = [
    Case {
        rewrites: &["name old.test new.example.test"],
        questions: &[("old.test", A), ("old.test", TXT), ("ns.example.test", A)],
        ..NONE
    },
    Case { rewrites: &["name exact gone.test gone.example.test"], questions: &[("gone.test", A)], ..NONE },
    Case {
        rewrites: &["name exact a.test alias.example.test"],
        questions: &[("a.test", A), ("a.test", CNAME)],
        ..NONE
    },
    Case { rewrites: &["name exact s.test sub.new.example.test"], questions: &[("s.test", A)], ..NONE },
    Case {
        rewrites: &["name prefix api new"],
        questions: &[("api.example.test", A), ("api2.example.test", A)],
        ..NONE
    },
    Case { rewrites: &["name prefix api new answer auto"], questions: &[("api.example.test", A)], ..NONE },
    Case {
        rewrites: &["name suffix .other.test .example.test"],
        questions: &[("alias.other.test", A), ("mail.other.test", MX)],
        ..NONE
    },
    Case {
        rewrites: &["name suffix .other.test .example.test answer auto"],
        questions: &[
            ("alias.other.test", A),
            ("mail.other.test", MX),
            ("_x._tcp.other.test", SRV),
            ("none.other.test", A),
        ],
        ..NONE
    },
    Case { rewrites: &["name substring other example"], questions: &[("new.other.test", A)], ..NONE },
    Case {
        rewrites: &["name substring other example answer auto"],
        questions: &[("alias.other.test", A)],
        ..NONE
    },
    Case {
        rewrites: &[r"name regex (.*)\.r\.test {1}.example.test"],
        questions: &[("new.r.test", A), ("r.test", A)],
        ..NONE
    },
    Case {
        rewrites: &[r"name regex (.*)\.r\.test {1}.example.test answer auto"],
        questions: &[("alias.r.test", A)],
        ..NONE
    },
    Case {
        rewrites: &[r"name regex (.*)\.r\.test {1}.example.test answer name (.*)\.example\.test {1}.r.test"],
        questions: &[("alias.r.test", A), ("mail.r.test", MX)],
        ..NONE
    },
    Case {
        rewrites: &[
            r"name regex (.*)\.r\.test {1}.example.test answer name (.*)\.example\.test {1}.r.test value (.*)\.example\.test {1}.r.test",
        ],
        questions: &[("alias.r.test", A), ("mail.r.test", MX), ("none.r.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["continue name old.test mid.test", "stop name mid.test new.example.test"],
        questions: &[("old.test", A), ("mid.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["name old.test mid.test", "name mid.test new.example.test"],
        questions: &[("old.test", A), ("mid.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["type ANY TXT", "type MX A"],
        questions: &[("text.example.test", ANY), ("new.example.test", MX), ("new.example.test", A)],
        ..NONE
    },
    Case { rewrites: &["class CH IN"], questions: &[("new.example.test", A)], ..NONE },
    Case {
        rewrites: &["ttl new.example.test 7", "ttl suffix .example.test 30-60"],
        questions: &[
            ("new.example.test", A),
            ("v4.example.test", A),
            ("none.example.test", A),
            ("ns.example.test", AAAA),
        ],
        ..NONE
    },
    Case {
        rewrites: &[r"ttl regex ^v4.* 400-", "ttl prefix new -9", "ttl substring alias 5"],
        questions: &[("v4.example.test", A), ("new.example.test", A), ("alias.example.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["rcode none.example.test NXDOMAIN NOERROR", "rcode suffix .example.test 3 REFUSED"],
        questions: &[("none.example.test", A), ("nil.example.test", A), ("new.example.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["cname exact new.example.test. v4.example.test."],
        questions: &[("alias.example.test", A), ("v4alias.example.test", A), ("new.example.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["cname suffix v4.example.test. new.example.test."],
        questions: &[("v4alias.example.test", A), ("v4alias.example.test", CNAME)],
        ..NONE
    },
];

/// The parts of `template`, and its place in the chain.
pub const TEMPLATES: [Case; 9] = [
    Case {
        templates: &[(
            "IN",
            "A",
            &["t.test"],
            &[
                &["match", r"^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)\.t\.test\.$"],
                &["answer", "{{ .Name }} 60 IN A 192.0.{{ .Group.a }}.{{ index .Match 2 }}"],
            ],
        )],
        questions: &[
            ("ip-2-9.t.test", A),
            ("IP-2-9.T.test", A),
            ("ip-2-9.t.test", AAAA),
            ("x.t.test", A),
            ("ip-999-9.t.test", A),
            ("new.example.test", A),
        ],
        ..NONE
    },
    Case {
        templates: &[
            (
                "IN",
                "A",
                &["t.test"],
                &[
                    &["match", "^a[.]"],
                    &["answer", "{{ .Name }} 60 A 192.0.2.1", "{{ .Name }} A 192.0.2.2"],
                    &["fallthrough"],
                ],
            ),
            (
                "ANY",
                "ANY",
                &["t.test"],
                &[
                    &["rcode", "NXDOMAIN"],
                    &[
                        "authority",
                        "{{ .Zone }} 60 {{ .Class }} SOA ns.{{ .Zone }} host.{{ .Zone }} (1 60 60 60 60)",
                    ],
                ],
            ),
        ],
        questions: &[("a.t.test", A), ("b.t.test", A), ("b.t.test", TXT), ("t.test", SOA)],
        ..NONE
    },
    Case {
        templates: &[("IN", "ANY", &["t.test"], &[&["rcode", "REFUSED"]])],
        questions: &[("a.t.test", A)],
        ..NONE
    },
    Case {
        templates: &[("IN", "ANY", &["t.test"], &[&["rcode", "SERVFAIL"]])],
        questions: &[("a.t.test", A)],
        ..NONE
    },
    Case {
        templates: &[(
            "IN",
            "A",
            &["t.test", "u.test"],
            &[
                &["match", "^x[.]"],
                &["answer", "{{ .Name }} 5 IN A 192.0.2.{{ .Question.Qtype }}"],
                &["fallthrough", "u.test"],
            ],
        )],
        questions: &[("x.t.test", A), ("y.t.test", A), ("y.u.test", A)],
        ..NONE
    },
    Case {
        templates: &[(
            "IN",
            "MX",
            &["t.test"],
            &[
                &["answer", "{{ .Name }} 60 IN MX 10 mx.{{ .Name }}"],
                &["additional", "mx.{{ .Name }} 60 IN A 192.0.2.3"],
            ],
        )],
        questions: &[("a.t.test", MX), ("a.t.test", A)],
        ..NONE
    },
    Case {
        templates: &[(
            "IN",
            "ANY",
            &["t.test"],
            &[&["answer", "{{ .Name }} 60 IN CNAME alias.example.test."]],
        )],
        questions: &[("a.t.test", A), ("a.t.test", AAAA), ("a.t.test", TXT)],
        ..NONE
    },
    Case {
        templates: &[
            (
                "IN",
                "AAAA",
                &["t.test"],
                &[
                    &["match", r"^h(?P<h>[0-9a-f]+)\."],
                    &["answer", "{{ .Name }} 60 IN AAAA 2001:db8::{{ .Group.h }}"],
                ],
            ),
            (
                "IN",
                "A",
                &["t.test"],
                &[
                    &["match", r"^h(?P<h>[0-9a-f]+)\."],
                    &["answer", "{{ .Name }} 60 IN A 10.0.0.{{ parseInt .Group.h 16 8 }}"],
                ],
            ),
        ],
        questions: &[("hff.t.test", AAAA), ("hff.t.test", A), ("h1ff.t.test", A)],
        ..NONE
    },
    Case {
        rewrites: &["name suffix .r.test .t.test answer auto"],
        templates: &[(
            "IN",
            "TXT",
            &["t.test"],
            &[&["answer", "{{ .Name }} 60 IN TXT \"{{ .Type }} of {{ .Name }}\""]],
        )],
        questions: &[("a.r.test", TXT), ("a.t.test", TXT)],
        ..NONE
    },
];

/// hosts with and without fallthrough, and behind a rewrite.
pub const HOSTS: [Case; 4] = [
    Case {
        hosts: Some((
            &[
                "192.0.2.7 a.h.test b.h.test",
                "192.0.2.8 a.h.test",
                "2001:db8::7 a.h.test",
                "192.0.2.9 outside.other",
            ],
            &["h.test", "2.0.192.in-addr.arpa"],
            None,
            true,
        )),
        questions: &[
            ("a.h.test", A),
            ("a.h.test", AAAA),
            ("b.h.test", AAAA),
            ("A.H.test", A),
            ("a.h.test", TXT),
            ("none.h.test", A),
            ("h.test", A),
            ("outside.other", A),
            ("7.2.0.192.in-addr.arpa", PTR),
            ("9.2.0.192.in-addr.arpa", PTR),
            ("99.2.0.192.in-addr.arpa", PTR),
            ("99.2.0.192.in-addr.arpa", A),
            ("new.example.test", A),
        ],
        ..NONE
    },
    Case {
        hosts: Some((
            &[
                "192.0.2.7 new.example.test # a comment",
                "nonsense new.example.test",
                "192.0.2.70 *.star.test",
            ],
            &["."],
            Some(&[]),
            false,
        )),
        questions: &[
            ("new.example.test", A),
            ("new.example.test", AAAA),
            ("v4.example.test", A),
            ("x.star.test", A),
            ("7.2.0.192.in-addr.arpa", PTR),
        ],
        ..NONE
    },
    Case {
        hosts: Some((&["192.0.2.7 a.h.test"], &["."], Some(&["example.test"]), true)),
        questions: &[
            ("a.h.test", A),
            ("b.h.test", A),
            ("v4.example.test", A),
            ("none.example.test", A),
            ("7.2.0.192.in-addr.arpa", PTR),
        ],
        ..NONE
    },
    Case {
        rewrites: &["name old.test a.h.test"],
        hosts: Some((&["192.0.2.7 a.h.test"], &["h.test"], None, true)),
        questions: &[("old.test", A), ("old.test", AAAA)],
        ..NONE
    },
];

/// dns64 with prefixes, with aliases, behind it the other rules. Not behind it: rewrite, which in CoreDNS leaves
/// the other name in the question that the client gets back.
pub const DNS64: [Case; 4] = [
    Case {
        dns64: Some(("64:ff9b::/96", false)),
        questions: &[
            ("v4.example.test", AAAA),
            ("v4alias.example.test", AAAA),
            ("new.example.test", AAAA),
            ("none.example.test", AAAA),
            ("text.example.test", AAAA),
            ("v4.example.test", A),
            ("alias.example.test", AAAA),
        ],
        ..NONE
    },
    Case {
        dns64: Some(("2001:db8:122::/48", true)),
        questions: &[("v4.example.test", AAAA), ("new.example.test", AAAA)],
        ..NONE
    },
    Case {
        dns64: Some(("64:ff9b::/96", false)),
        hosts: Some((&["192.0.2.7 a.h.test"], &["h.test"], None, true)),
        questions: &[("a.h.test", AAAA)],
        ..NONE
    },
    Case {
        dns64: Some(("64:ff9b::/96", false)),
        templates: &[("IN", "ANY", &["t.test"], &[&["answer", "{{ .Name }} 60 IN CNAME v4.example.test."]])],
        questions: &[("a.t.test", AAAA), ("a.t.test", A)],
        ..NONE
    },
];
