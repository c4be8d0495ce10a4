#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod ask;
#[path = "../support/message.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod message;
#[path = "../node/namespace.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod namespace;
#[path = "../real/process.rs"]
#[allow(dead_code, reason = "other test binaries use the rest")]
mod process;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn explore() {
    let _turn = turn();
    let run = |program: std::path::PathBuf| {
        let world = world::World::new();
        let mut command = world.command(&program, &["-setupiptables=false"]);
        command.env("SIDESTEP_X", "1");
        let process = world::start(&world.node, "cache", command, world.directory.path());
        let out = world.node.run(|| {
            for _ in 0..100 {
                if ask::ask("www.corp.test NS")["rcode"] == "NOERROR" { break }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            let mut out = Vec::new();
            for question in ask::questions() {
                for turn in ["first", "again"] {
                    out.push((format!("{question} {turn}"), ask::ask(question)));
                }
            }
            out
        });
        println!("{}", process.log());
        out
    };
    let theirs = run(std::env::var_os("SIDESTEP_NODE_CACHE").unwrap().into());
    let ours = run(env!("CARGO_BIN_EXE_sidestep").into());
    for ((q, t), (_, o)) in theirs.iter().zip(&ours) {
        println!("Q {q}\n    {t:?}");
        let keys: std::collections::BTreeSet<_> = t.keys().chain(o.keys()).collect();
        for k in keys { if t.get(k) != o.get(k) { println!("D {q} | {k} | {:?} | {:?}", t.get(k), o.get(k)); } }
    }
}
