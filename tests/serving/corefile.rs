//! A Corefile as it is: its blocks, its plugins, and what is read again when it changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Udp, query};
use crate::program::{Program, free_port, wait_for};
use crate::support::message::*;
use crate::support::scripted::Scripted;

/// What is heard when `name` is asked for there: the response code, the TTL and the last byte of the address.
fn heard(at: SocketAddr, name: &str) -> (u16, Option<(u32, u8)>) {
    let reply = Udp::to(at).ask(&query(7, name, 1));
    let answer = records(&reply).first().map(|(_, ttl, data)| (*ttl, data[data.len() - 1]));
    (rcode(&reply), answer)
}

#[test]
fn blocks_answer_as_their_plugins_say() {
    let [cluster, outside] = [1, 2].map(Scripted::with_address);
    let (port, http) = (free_port(), free_port());
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let text = |rest: &str| {
        format!(
            "(common) {{\n  errors\n  loop\n  reload\n  bind 127.0.0.1\n  prometheus 127.0.0.1:{http}\n}}\n\
             cluster.local:{port} {{\n  import common\n  ready 127.0.0.1:{http}\n  cache {{\n    success 9984 30\n    \
             denial 9984 5\n  }}\n  rewrite name exact old.cluster.local new.cluster.local\n  \
             forward . {} {{\n    force_tcp\n    except dev.cluster.local\n  }}\n}}\n\
             example:{port} {{\n  import common\n  cache 20\n  hosts /nonexistent {{\n    192.0.2.77 db.example\n    \
             fallthrough\n  }}\n  forward . {} {{\n    force_tcp\n  }}\n}}\n{rest}",
            cluster.address, outside.address
        )
    };
    let program = Program::start_corefile(&text(""));
    assert_eq!(heard(at, "www.cluster.local"), (0, Some((30, 1))));
    assert_eq!(heard(at, "old.cluster.local"), (0, Some((30, 1))));
    assert!(
        cluster.seen().iter().any(|query| query.name == "new.cluster.local"),
        "it was asked for the new name"
    );
    assert_eq!(heard(at, "db.example"), (0, Some((20, 77))));
    assert_eq!(heard(at, "www.example"), (0, Some((20, 2))));
    assert_eq!(heard(at, "www.test"), (5, None), "no block holds it");
    let start = Instant::now();
    assert_eq!(heard(at, "x.dev.cluster.local"), (2, None), "nobody is asked for it");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(program.logged("zone dev.cluster.local. asks nobody"), 1);
    program
        .rewrite(&text(&format!("test:{port} {{\n  bind 127.0.0.1\n  forward . {}\n}}\n", outside.address)));
    wait_for("the new block", || heard(at, "www.test").0 != 5);
    let http = free_port();
    let changed = text(&format!(
        "test:{port} {{\n  bind 127.0.0.1\n  health 127.0.0.1:{http}\n  forward . {}\n}}\n",
        outside.address
    ));
    let line = changed.lines().position(|line| line.contains("health")).unwrap() + 1;
    program.rewrite(&changed);
    wait_for("the line that needs a restart", || {
        program.logged(": this change takes effect at the next start") > 0
    });
    let told = format!("/Corefile:{line}:10: this change takes");
    assert_eq!(program.logged(&told), 1, "{:?}", program.log());
    program.rewrite(&text("cahce {\n  cahce\n}\n"));
    wait_for("the refusal", || program.logged("unknown plugin `cahce`; did you mean `cache`?") > 0);
    assert_eq!(heard(at, "www.cluster.local").0, 0);
}
