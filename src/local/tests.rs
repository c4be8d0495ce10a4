//! Questions through the rules, with a script of replies behind them.

use proptest::prelude::*;

use super::*;
use crate::wire::header;

fn ask(name: &str, rtype: u16) -> Ask {
    let name = text::read(name).unwrap();
    Ask { name, rtype, class: 1, dnssec_ok: false, checking_disabled: false }
}

/// A reply: response code, and records in text for each section.
type Reply = (u16, &'static [&'static str], &'static [&'static str]);

fn reply(ask: &Ask, (code, answers, authority): Reply) -> Vec<u8> {
    let mut message = Message::answer(ask, code);
    message.flags |= header::AD;
    for (section, lines) in message.sections.iter_mut().zip([answers, authority]) {
        section.extend(lines.iter().map(|line| record::read(line).unwrap()));
    }
    message.write().unwrap()
}

/// What a message says: code, and each record of answer and authority in a word or two.
#[derive(Debug, PartialEq)]
struct Told {
    code: u16,
    records: Vec<String>,
    asked: Vec<(String, u16)>,
}

/// As if it had begun there.
fn begun(end: End) -> Begin {
    match end {
        End::Done(bytes) => Begin::Answer(bytes),
        End::Again(pending) => Begin::Ask(pending),
    }
}

/// Asks, with replies by name and type; others are NXDOMAIN. All names are of this zone.
fn play(settings: Settings, client: &Ask, replies: &[(&str, u16, Reply)]) -> (Message, Told) {
    let (local, mut asked) = (Local::new(settings), Vec::new());
    let mut begin = local.begin(client);
    let bytes = loop {
        let pending = match begin {
            Begin::Answer(bytes) => break bytes,
            Begin::Ask(pending) => pending,
        };
        if pending.is_lookup() {
            begin = begun(pending.here());
            continue;
        }
        let name = text::show(&pending.ask().name);
        let known = replies.iter().find(|(n, t, _)| *n == name && *t == pending.ask().rtype);
        let bytes = reply(pending.ask(), known.map_or((3, &[], &[]), |(_, _, reply)| *reply));
        asked.push((name, pending.ask().rtype));
        begin = begun(pending.reply(bytes));
    };
    let question = crate::wire::query::Question::read(&bytes[12..]).unwrap();
    assert_eq!((question.name(), question.rtype), (&*client.name, client.rtype), "the client's own question");
    let message = Message::read(&bytes, client).unwrap();
    let shown = |rr: &Rr| match rr.rtype {
        5 | 12 => format!("{} {} {}", text::show(&rr.owner), rr.ttl, text::show(&rr.data)),
        _ => format!("{} {} {}", text::show(&rr.owner), rr.ttl, rr.data.last().copied().unwrap_or(0)),
    };
    let records = message.sections[..2].iter().flatten().map(shown).collect();
    let code = message.code();
    (message, Told { code, records, asked })
}

use message::Rr;

fn told(code: u16, records: &[&str], asked: &[(&str, u16)]) -> Told {
    let asked = asked.iter().map(|&(name, rtype)| (name.to_owned(), rtype)).collect();
    Told { code, records: records.iter().map(|&r| r.to_owned()).collect(), asked }
}

fn rewrites(rules: &[&str]) -> Settings {
    let rule = |rule: &&str| Rewrite::from_words(&rule.split(' ').collect::<Vec<_>>()).unwrap();
    Settings { rewrites: rules.iter().map(rule).collect(), ..Settings::default() }
}

fn template(rtype: u16, zone: &str, answers: &[&str]) -> Template {
    let mut template = Template::new(1, rtype, Zones::parse([zone]).unwrap());
    template.sections[0].extend(answers.iter().map(|text| Rendering::new(text).unwrap()));
    template.check().unwrap();
    template
}

const A: Reply = (0, &["a.test. 30 A 192.0.2.1"], &[]);
const NO_AAAA: Reply = (0, &[], &["test. 20 SOA ns.test. host.test. 1 2 3 4 5"]);

#[test]
fn without_rules_a_reply_goes_on_byte_for_byte() {
    let local = Local::new(Settings { dns64: Some(Dns64::default()), ..rewrites(&["name b.test c.test"]) });
    let Begin::Ask(pending) = local.begin(&ask("a.test.", 1)) else { panic!("it is to be asked") };
    assert_eq!(pending.ask(), &ask("a.test.", 1));
    let End::Done(same) = pending.reply(b"not a message".to_vec()) else { panic!("one question") };
    assert_eq!(same, b"not a message");
    // Also where it was looked at.
    let aaaa = ask("a.test.", 28);
    let mut odd = reply(&aaaa, (0, &["A.test. 30 AAAA 2001:db8::1"], &[]));
    odd[2] |= 0x40;
    let Begin::Ask(pending) = local.begin(&aaaa) else { panic!("it is to be asked") };
    let End::Done(same) = pending.reply(odd.clone()) else { panic!("one question") };
    assert_eq!(same, odd);
}

#[test]
fn a_made_aaaa_is_of_the_question_that_the_client_asked() {
    let settings = Settings { dns64: Some(Dns64::default()), ..rewrites(&["name old.test a.test"]) };
    let replies = [("a.test.", 1, A), ("a.test.", 28, NO_AAAA)];
    let (message, said) = play(settings, &ask("old.test.", 28), &replies);
    assert_eq!(said, told(0, &["old.test. 20 1"], &[("a.test.", 28), ("a.test.", 1)]));
    assert_eq!(message.sections[0][0].rtype, 28);
    assert_eq!(message.flags & header::AD, 0, "nobody vouches for it");
}

#[test]
fn dns64_keeps_what_is_said_of_the_name() {
    let dns64 = || Settings { dns64: Some(Dns64::default()), ..Settings::default() };
    let aaaa = ask("a.test.", 28);
    let (_, gone) = play(dns64(), &aaaa, &[]);
    assert_eq!(gone, told(3, &[], &[("a.test.", 28)]), "NXDOMAIN is for all types");
    let failed = (2, &[][..], &[][..]);
    let (_, said) = play(dns64(), &aaaa, &[("a.test.", 28, failed), ("a.test.", 1, A)]);
    assert_eq!(said, told(0, &["a.test. 30 1"], &[("a.test.", 28), ("a.test.", 1)]));
    let (_, said) = play(dns64(), &aaaa, &[("a.test.", 28, NO_AAAA), ("a.test.", 1, failed)]);
    assert_eq!(said.code, 2);
    let (_, said) = play(dns64(), &aaaa, &[("a.test.", 28, NO_AAAA), ("a.test.", 1, NO_AAAA)]);
    assert_eq!((said.code, said.records.len()), (0, 1), "no data, and its SOA");
}

#[test]
fn rules_are_turned_back_the_last_first() {
    let settings = rewrites(&["continue name a.test b.test", "continue ttl b.test 7", "name b.test c.test"]);
    let replies =
        [("c.test.", 1, (0, &["c.test. 30 A 192.0.2.1", "x.c.test. 5 CNAME c.test."][..], &[][..]))];
    let (_, said) = play(settings, &ask("a.test.", 1), &replies);
    assert_eq!(said, told(0, &["a.test. 7 1", "x.a.test. 7 a.test."], &[("c.test.", 1)]));
}

#[test]
fn a_name_that_is_none_ends_in_servfail() {
    let settings = rewrites(&["name regex (.*) {1}..{1}"]);
    let (_, said) = play(settings, &ask("a.test.", 1), &[]);
    assert_eq!(said, told(2, &[], &[]));
}

#[test]
fn aliases_are_followed_and_not_for_ever() {
    let alias = || Settings {
        templates: vec![template(255, "t.test", &["{{ .Name }} 9 IN CNAME a.test."])],
        ..Settings::default()
    };
    let (_, said) = play(alias(), &ask("x.t.test.", 1), &[("a.test.", 1, A)]);
    assert_eq!(said, told(0, &["x.t.test. 9 a.test.", "a.test. 30 1"], &[("a.test.", 1)]));
    let (_, said) = play(alias(), &ask("x.t.test.", 16), &[]);
    assert_eq!(said, told(0, &["x.t.test. 9 a.test."], &[]), "other types are not followed");
    let round = Settings {
        templates: vec![template(255, "t.test", &["{{ .Name }} 9 IN CNAME {{ .Name }}"; 2])],
        ..Settings::default()
    };
    let (_, said) = play(round, &ask("x.t.test.", 1), &[]);
    assert!((2..64).contains(&said.records.len()), "{}", said.records.len());
}

#[test]
fn an_alias_whose_target_fails_is_no_answer() {
    let failed = [("a.test.", 1, (2, &[][..], &[][..]))];
    let alias = template(255, "t.test", &["{{ .Name }} 9 IN CNAME a.test."]);
    let settings = Settings { templates: vec![alias], ..Settings::default() };
    let (_, said) = play(settings.clone(), &ask("x.t.test.", 1), &failed);
    assert_eq!(said, told(2, &[], &[("a.test.", 1)]), "kept as an answer, it would outlast the failure");
    let settings = Settings { rewrites: rewrites(&["rcode a.test SERVFAIL NXDOMAIN"]).rewrites, ..settings };
    let (_, said) = play(settings, &ask("x.t.test.", 1), &failed);
    assert_eq!((said.code, said.records.len()), (0, 1), "unless a rule takes the failure for something else");
}

#[test]
fn dns64_vouches_for_no_answer_that_it_changed() {
    let both = (0, &["a.test. 5 AAAA ::ffff:192.0.2.1", "a.test. 5 AAAA 2001:db8::7"][..], &[][..]);
    let settings = Settings { dns64: Some(Dns64::default()), ..Settings::default() };
    let (message, said) = play(settings, &ask("a.test.", 28), &[("a.test.", 28, both)]);
    assert_eq!(said.records, ["a.test. 5 7"]);
    assert_eq!(message.flags & header::AD, 0);
}

#[test]
fn an_alias_that_points_elsewhere_is_followed_from_there() {
    let settings = rewrites(&["cname regex (.*)\\.old\\. {1}.new."]);
    let replies = [
        ("a.test.", 1, (0, &["a.test. 5 CNAME b.old.", "b.old. 5 A 192.0.2.9"][..], &[][..])),
        ("b.new.", 1, (0, &["b.new. 5 A 192.0.2.3"][..], &[][..])),
    ];
    let (_, said) = play(settings, &ask("a.test.", 1), &replies);
    assert_eq!(said, told(0, &["a.test. 5 b.new.", "b.new. 5 3"], &[("a.test.", 1), ("b.new.", 1)]));
}

#[test]
fn where_nobody_is_behind_the_rules_a_question_ends() {
    let settings = Settings { ends_here: true, ..rewrites(&["rcode a.test SERVFAIL NXDOMAIN"]) };
    let (_, said) = play(settings.clone(), &ask("b.test.", 1), &[]);
    assert_eq!(said, told(2, &[], &[]));
    let (_, said) = play(settings, &ask("a.test.", 1), &[]);
    assert_eq!(said, told(3, &[], &[]));
}

#[test]
fn the_hosts_file_is_heard_when_it_is_read() {
    let local = Local::new(Settings { hosts: Some(Hosts::new(Zones::all())), ..Settings::default() });
    let code = || match local.begin(&ask("a.test.", 1)) {
        Begin::Answer(bytes) => bytes[3] & 0x0f,
        Begin::Ask(_) => panic!("without fallthrough nobody is asked"),
    };
    assert_eq!(code(), 2);
    local.set_hosts(Table::parse("192.0.2.1 a.test"));
    assert_eq!(code(), 0);
}

#[test]
fn an_extended_error_and_its_words_are_given() {
    let mut refuses = template(1, "t.test", &[]);
    (refuses.rcode, refuses.error) = (3, Some((15, "blocked".into())));
    let settings = Settings { templates: vec![refuses], ..Settings::default() };
    let (message, _) = play(settings, &ask("t.test.", 1), &[]);
    assert_eq!(&*message.sections[2][0].data, b"\0\x0f\0\x09\0\x0fblocked");
}

#[test]
fn dns64_is_for_all_clients_of_a_zone_or_for_none() {
    let six = Settings { dns64: Some(Dns64::default()), ..Settings::default() };
    assert_eq!(six.for_clients(false, true), Ok(six.clone()));
    assert_eq!(six.for_clients(true, false), Ok(Settings::default()));
    assert!(six.for_clients(true, true).is_err());
    let both =
        Settings { dns64: Some(Dns64 { allow_ipv4: true, ..Dns64::default() }), ..Settings::default() };
    assert_eq!(both.for_clients(true, true), Ok(both.clone()));
}

#[test]
fn rules_that_cannot_be_followed_are_refused_at_their_word() {
    for (rule, word) in [
        ("", None),
        ("bogus a b", Some(0)),
        ("continue bogus a b", Some(1)),
        ("edns0 local set 0xffee 0x61", Some(0)),
        ("answer name a b", Some(0)),
        ("name a", None),
        ("name fuzzy a b", Some(1)),
        ("name regex ( b", Some(2)),
        ("name regex (a) {2}", Some(3)),
        ("name exact a..b c", Some(2)),
        ("name a.test b..test", Some(2)),
        ("name exact a b c", Some(4)),
        ("name exact a b answer", Some(4)),
        ("name exact a b answer other", Some(5)),
        ("name exact a b answer name ( b", Some(6)),
        ("name regex a b answer auto name a b", Some(4)),
        ("type A", None),
        ("type A BOGUS", Some(2)),
        ("class IN XX", Some(2)),
        ("ttl a 5-4", Some(2)),
        ("ttl a -", Some(2)),
        ("ttl a x", Some(2)),
        ("ttl suffix a 5 6", None),
        ("rcode a NOERROR BADVERS", Some(3)),
        ("cname regex ( b", Some(2)),
        ("cname a b..c", Some(2)),
    ] {
        let words: Vec<_> = rule.split_whitespace().collect();
        let refused = Rewrite::from_words(&words).unwrap_err();
        assert_eq!(refused.word, word, "{rule}: {refused}");
        assert!(!refused.hint.is_empty());
    }
}

#[test]
fn templates_whose_parts_do_not_go_together_are_refused() {
    for (pattern, answer) in [
        ("^(?P<a>.*)$", "{{ .Name }} 60 IN A {{ .Group.b }}"),
        ("^(.*)$", "{{ .Name }} 60 IN A {{ index .Match 2 }}"),
        (".*", "{{ .Name }} 60 IN A 192.0.2"),
        (".*", "{{ .Name }} 60 IN BOGUS x"),
        (".*", "{{ .Name }}{{ .Name }}"),
    ] {
        let mut template = Template::new(1, 1, Zones::all());
        template.patterns.push(Pattern::new(pattern).unwrap());
        template.sections[0].push(Rendering::new(answer).unwrap());
        assert!(template.check().is_err(), "{pattern} {answer}");
    }
    let settings = Settings { templates: vec![template(1, "a", &[]); 257], ..Settings::default() };
    assert!(settings.check().unwrap_err().what.contains("257"));
}

/// Rules of every kind, for every name.
fn everything() -> Settings {
    let rules = [
        "continue name regex ^(.)(.*) {2}{1}",
        "continue name suffix . . answer auto",
        "continue name substring a. b.a. answer name (.*)b {1}",
        "continue ttl regex . 5-6",
        "continue cname regex (.*) x.{1}",
    ];
    let mut hosts = Hosts::new(Zones::all());
    hosts.fallthrough = Zones::all();
    let mut falls = template(16, ".", &["{{ .Name }} 9 IN TXT \"{{ .Name }}\""]);
    falls.fallthrough = Zones::all();
    Settings {
        templates: vec![falls, template(5, ".", &["{{ .Name }} 9 CNAME x.{{ .Name }}"])],
        records: Some(Records::parse(["x. 60 IN CNAME y.z."]).unwrap()),
        hosts: Some(hosts),
        dns64: Some(Dns64::default()),
        ..rewrites(&rules)
    }
}

fn name() -> impl Strategy<Value = Box<[u8]>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..63), 0..4).prop_map(|labels| {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(label.len() as u8);
            wire.extend(label.to_ascii_lowercase());
        }
        wire.push(0);
        wire.into()
    })
}

proptest! {
    #[test]
    fn no_name_and_no_reply_stops_us(
        name in name(),
        rtype in prop_oneof![Just(1u16), Just(28), Just(16), Just(12), Just(5), any::<u16>()],
        class in prop_oneof![Just(1u16), any::<u16>()],
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..400,
        byte: u8,
    ) {
        let client = Ask { name, rtype, class, dnssec_ok: false, checking_disabled: false };
        let local = Local::new(everything());
        let mut begin = local.begin(&client);
        for turn in 0..32 {
            let Begin::Ask(pending) = begin else { break };
            // Noise, a good reply, and one with a bent byte, in turns.
            let good = (0, &["x. 5 CNAME y.test.", "y.test. 5 A 192.0.2.1", "s. SRV 1 2 3 t."][..], NO_AAAA.2);
            let mut bytes = reply(pending.ask(), good);
            match turn % 3 {
                0 if noise.len() % 2 == 0 => bytes.clone_from(&noise),
                1 => {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
                _ => {}
            }
            begin = begun(if pending.is_lookup() && turn % 2 == 0 { pending.here() } else { pending.reply(bytes) });
        }
        prop_assert!(matches!(begin, Begin::Answer(_)), "it comes to an end");
    }
}
