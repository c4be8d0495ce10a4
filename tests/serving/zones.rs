//! Names that lead from one zone to another: aliases of rules.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::client::query;
use crate::program::{Program, config, free_port};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Query, Scripted};

/// A server all of whose names have this address.
fn answering(last: u8) -> Scripted {
    Scripted::start(Order::AtOnce, move |query: &Query| {
        let question = question(&query.name, query.rtype);
        let answer = record(QNAME, 1, 300, &[192, 0, 2, last]);
        vec![Action::Message(message(word(&query.message, 0), REPLY, &question, [&[answer], &[], &[]]))]
    })
}

/// The response code, and the last byte of each record.
fn heard(at: SocketAddr, name: &str) -> (u16, Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send(&query(7, name, 1)).unwrap();
    let mut reply = [0; 512];
    let len = socket.recv(&mut reply).unwrap();
    let records = records(&reply[..len]);
    (rcode(&reply[..len]), records.iter().filter(|r| r.0 == 1).map(|r| r.2[3]).collect())
}

/// A zone with an alias from a template, one with an alias among its records, and two where they lead.
fn zones(other: &Scripted) -> String {
    format!(
        "[[zone]]\nname = \"made.test\"\nends_here = true\n\
         template = [{{ class = \"IN\", type = \"ANY\", zones = [\"made.test\"], \
         answer = [\"{{{{ .Name }}}} 60 IN CNAME www.other.test.\"] }}]\n\
         [[zone]]\nname = \"kept.test\"\nends_here = true\n\
         records = [\"a.kept.test 60 IN CNAME b.made.test\", \"r.kept.test 60 CNAME round.hosts.test\", \
         \"h.kept.test 60 IN CNAME h.hosts.test\", \"n.kept.test 60 IN CNAME n.hosts.test\"]\n\
         [[zone]]\nname = \"hosts.test\"\nends_here = true\n\
         records = [\"round.hosts.test CNAME r.kept.test\"]\n\
         hosts = {{ entries = [\"192.0.2.77 h.hosts.test\"] }}\n\
         [[zone]]\nname = \"other.test\"\nupstreams = [\"{}\"]\n",
        other.address
    )
}

#[test]
fn an_alias_is_followed_to_the_zone_that_its_name_is_in() {
    let (rest, other) = (answering(1), answering(2));
    let program = Program::start(&config(&rest, "", &zones(&other)));
    for _ in 0..2 {
        assert_eq!(heard(program.address, "x.made.test"), (0, vec![2]));
        assert_eq!(heard(program.address, "a.kept.test"), (0, vec![2]), "through two zones");
        assert_eq!(heard(program.address, "h.kept.test"), (0, vec![77]), "to rules that ask nobody");
    }
    assert_eq!(
        (other.asked("www.other.test"), rest.asked("www.other.test")),
        (2, 0),
        "the whole answer is kept"
    );
    assert_eq!(heard(program.address, "n.kept.test").0, 2, "an alias that leads to a failure is no answer");
    assert_eq!(heard(program.address, "r.kept.test").0, 2, "nor is one that leads round");
    assert_eq!(
        program.metric("rule_answers_total{zone=\"kept.test.\"}"),
        3.0,
        "h, n and r: nobody was asked"
    );
}

#[test]
fn a_name_that_a_rule_made_is_asked_where_it_belongs() {
    let [one, new, lone] = [1, 2, 3].map(answering);
    let port = free_port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let corefile = format!(
        ".:{port} {{\n  bind 127.0.0.1\n  ready 127.0.0.1:{}\n  rewrite name suffix .old.test .new.test answer auto\n  \
         forward new.test {} {{\n    force_tcp\n    except x.new.test\n  }}\n  forward . {} {{\n    force_tcp\n  }}\n}}\n\
         only.test:{port} {{\n  bind 127.0.0.1\n  rewrite name suffix .only.test .inside.test answer auto\n  \
         forward inside.test {} {{\n    force_tcp\n  }}\n}}\n",
        free_port(),
        new.address,
        one.address,
        lone.address
    );
    let program = Program::start_corefile(&corefile);
    for (name, expected) in [
        ("a.old.test", (0, vec![2])),
        ("a.new.test", (0, vec![2])),
        ("a.x.old.test", (0, vec![1])),
        ("a.test", (0, vec![1])),
        ("a.only.test", (0, vec![3])),
        ("only.test", (2, vec![])),
    ] {
        assert_eq!(heard(at, name), expected, "{name}");
    }
    assert_eq!((new.asked("a.new.test"), lone.asked("a.inside.test")), (2, 1));
    assert_eq!(program.logged("asks nobody; for what its rules make below inside.test."), 1);
}

#[test]
fn what_clients_share_does_not_depend_on_where_one_of_them_asks() {
    let (rest, other) = (answering(1), answering(2));
    let port = free_port();
    let [first, second] = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
    let config = format!(
        "[listen]\naddresses = [\"{first}\", \"{second}\"]\nworkers = 1\n\
         [http]\nserve = [{{ address = \"127.0.0.1:0\" }}]\n\
         [[zone]]\nname = \".\"\nupstreams = [\"{}\"]\nrecords = [\"a.test CNAME www.other.test\"]\n\
         [[zone]]\nname = \"other.test\"\nlisten = [\"{second}\"]\nupstreams = [\"{}\"]\n",
        rest.address, other.address
    );
    let program = Program::start(&config);
    assert_eq!(heard(second, "www.other.test"), (0, vec![2]));
    for at in [second, first] {
        assert_eq!(heard(at, "a.test"), (0, vec![1]), "the alias's own zone is asked");
    }
    drop(program);
}
