//! rewrite, template, hosts and dns64: CoreDNS with a Corefile and our rules in this process give the same
//! response code and the same records with the same TTLs, section by section, with one CoreDNS behind both.
//!
//! Each rule is written once, in a Corefile's words; CoreDNS reads them as they are.

mod cases;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use sidestep::local::{
    Begin, Dns64, End, Hosts, Local, Pattern, Prefix, Rendering, Rewrite, Settings, Table, Template, Zones,
    text,
};
use sidestep::upstream::message::Query;
use sidestep::upstream::{Ask, Transport};

use super::client::Client;
use super::servers::{address, coredns};
use super::turn;

const ZONE: &str = r#"$ORIGIN example.test.
$TTL 300
@ IN SOA ns hostmaster 1 7200 3600 86400 60
@ IN NS ns
ns IN A 192.0.2.1
new IN A 192.0.2.10
new IN AAAA 2001:db8::10
sub.new IN CNAME new
alias IN CNAME new
v4 IN A 192.0.2.20
v4 IN A 192.0.2.21
v4alias IN CNAME v4
mail IN MX 10 new
_x._tcp IN SRV 0 5 53 new
1-2.pool IN A 192.0.2.12
text IN TXT "one" "two words"
"#;

/// Rules, and what is asked: names and types.
struct Case {
    rewrites: &'static [&'static str],
    templates: &'static [Written],
    hosts: Option<HostsCase>,
    dns64: Option<(&'static str, bool)>,
    questions: &'static [(&'static str, RecordType)],
}

/// A template: class, type, zones, and lines of its block.
type Written = (&'static str, &'static str, &'static [&'static str], &'static [&'static [&'static str]]);
/// Inline entries, zones, fallthrough zones, further lines.
type HostsCase = (&'static [&'static str], &'static [&'static str], Option<&'static [&'static str]>, bool);

const NONE: Case = Case { rewrites: &[], templates: &[], hosts: None, dns64: None, questions: &[] };

impl Case {
    /// For CoreDNS.
    fn corefile(&self, upstream: SocketAddr) -> String {
        let quoted = |words: &[&str]| -> String {
            let quote = |w: &&str| format!("\"{}\"", w.replace('"', "\\\""));
            words.iter().map(quote).collect::<Vec<_>>().join(" ")
        };
        let mut lines: Vec<String> = self.rewrites.iter().map(|rule| format!("rewrite {rule}")).collect();
        for (class, rtype, zones, block) in self.templates {
            lines.push(format!("template {class} {rtype} {} {{", zones.join(" ")));
            lines.extend(block.iter().map(|line| match line {
                [key, rest @ ..] if *key != "rcode" && *key != "fallthrough" => {
                    format!("{key} {}", quoted(rest))
                }
                other => other.join(" "),
            }));
            lines.push("}".into());
        }
        if let Some((entries, zones, fall, reverse)) = &self.hosts {
            lines.push(format!("hosts no-such-file {} {{", zones.join(" ")));
            lines.extend(entries.iter().map(|&line| line.to_owned()));
            lines.extend((!reverse).then(|| "no_reverse".to_owned()));
            lines.extend(fall.map(|zones| format!("fallthrough {}", zones.join(" "))));
            lines.push("}".into());
        }
        if let Some((prefix, all)) = self.dns64 {
            let all = if all { "translate_all" } else { "" };
            lines.push(format!("dns64 {{\nprefix {prefix}\nallow_ipv4\n{all}\n}}"));
        }
        lines.push(format!("forward . {upstream}"));
        lines.join("\n ")
    }

    /// For us.
    fn settings(&self) -> Settings {
        let rewrite = |rule: &&str| Rewrite::from_words(&rule.split(' ').collect::<Vec<_>>()).unwrap();
        let zones = |names: &[&'static str]| Zones::parse(names.iter().copied()).unwrap();
        let fall = |names: &[&'static str]| if names.is_empty() { Zones::all() } else { zones(names) };
        let template = |&(class, rtype, of, block): &Written| {
            let (class, rtype) = (text::record_class(class).unwrap(), text::record_type(rtype).unwrap());
            let mut template = Template::new(class, rtype, zones(of));
            for line in block {
                let (key, rest) = line.split_first().unwrap();
                let section = ["answer", "authority", "additional"].iter().position(|section| section == key);
                match (*key, section) {
                    (_, Some(section)) => {
                        template.sections[section]
                            .extend(rest.iter().map(|text| Rendering::new(text).unwrap()));
                    }
                    ("match", _) => {
                        template.patterns.extend(rest.iter().map(|text| Pattern::new(text).unwrap()))
                    }
                    ("rcode", _) => template.rcode = text::response_code(rest[0]).unwrap(),
                    ("fallthrough", _) => template.fallthrough = fall(rest),
                    _ => panic!("{key}"),
                }
            }
            template
        };
        let settings = Settings {
            rewrites: self.rewrites.iter().map(rewrite).collect(),
            templates: self.templates.iter().map(template).collect(),
            hosts: self.hosts.map(|(entries, of, falls, reverse)| Hosts {
                inline: Table::parse(&entries.join("\n")),
                fallthrough: falls.map(fall).unwrap_or_default(),
                reverse,
                ..Hosts::new(zones(of))
            }),
            dns64: self.dns64.map(|(prefix, translate_all)| Dns64 {
                prefix: Prefix::parse(prefix).unwrap(),
                allow_ipv4: true,
                translate_all,
            }),
            ..Settings::default()
        };
        settings.check().unwrap();
        settings
    }

    /// Asks both.
    fn compare(&self, upstream: SocketAddr) {
        let theirs = coredns(address(), &[(".", &self.corefile(upstream))], &[]);
        let ours = Local::new(self.settings());
        let mut client = Client::new(theirs.address);
        for &(name, rtype) in self.questions {
            let what = format!("{name} {rtype} by {}", self.corefile(upstream));
            let expected = client.ask(name, rtype).unwrap();
            let answer = resolve(&ours, name, rtype, upstream);
            assert_eq!(Shown::of(&answer), Shown::of(&expected), "{what}");
            assert_eq!(answer.queries.len(), 1, "{what}");
            let asked = answer.queries[0].name().to_lowercase();
            assert_eq!(asked.to_string(), format!("{}.", name.to_lowercase()), "{what}");
        }
    }
}

/// What our rules give, with `upstream` behind them.
fn resolve(local: &Arc<Local>, name: &str, rtype: RecordType, upstream: SocketAddr) -> Message {
    let name = text::read(name).unwrap();
    let ask = Ask { name, rtype: rtype.into(), class: 1, dnssec_ok: false, checking_disabled: false };
    let mut pending = match local.begin(&ask) {
        Begin::Answer(answer) => return Message::from_vec(&answer).unwrap(),
        Begin::Ask(pending) => pending,
    };
    loop {
        if pending.is_lookup() {
            match pending.here() {
                End::Done(answer) => return Message::from_vec(&answer).unwrap(),
                End::Again(next) => pending = next,
            }
            continue;
        }
        let mut query = Vec::new();
        Query::new(pending.ask()).write(7, Transport::Udp, &mut query);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&query, upstream).unwrap();
        let mut reply = vec![0; 4096];
        let length = socket.recv(&mut reply).unwrap();
        reply.truncate(length);
        match pending.reply(reply) {
            End::Done(answer) => return Message::from_vec(&answer).unwrap(),
            End::Again(next) => pending = next,
        }
    }
}

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
struct Shown {
    rcode: String,
    /// Answer, authority and additional section without OPT, each sorted.
    sections: [BTreeSet<String>; 3],
}

impl Shown {
    fn of(message: &Message) -> Self {
        let section = |records: &[hickory_proto::rr::Record]| records.iter().map(shown).collect();
        let sections = [&message.answers, &message.authorities, &message.additionals];
        Self {
            rcode: message.metadata.response_code.to_string(),
            sections: sections.map(|records| section(records)),
        }
    }
}

/// A record in lower case, as its names may come in any.
fn shown(record: &hickory_proto::rr::Record) -> String {
    let owner: &Name = &record.name;
    format!("{owner} {} {} {}", record.ttl, record.record_type(), record.data).to_lowercase()
}

fn compare_all(cases: &[Case]) {
    let _turn = turn();
    let zone = ("example.test", "file zone");
    let upstream =
        coredns(address(), &[zone, (".", "template ANY ANY {\n rcode NXDOMAIN\n }")], &[("zone", ZONE)]);
    for case in cases {
        case.compare(upstream.address);
    }
}

#[test]
fn rewrites_are_coredns_rewrites() {
    compare_all(&cases::REWRITES);
}

#[test]
fn templates_are_coredns_templates() {
    compare_all(&cases::TEMPLATES);
}

#[test]
fn hosts_are_coredns_hosts() {
    compare_all(&cases::HOSTS);
}

#[test]
fn dns64_is_coredns_dns64() {
    compare_all(&cases::DNS64);
}
