//! Hosts files: read once for all zones, beside the road and the pages, and again whenever they change.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::client::query;
use crate::program::{Program, config, wait_for};
use crate::support::message::*;
use crate::support::scripted::Scripted;

/// Response code and last byte of the address.
fn heard(program: &Program, name: &str) -> (u16, Option<u8>) {
    let answer = program.udp().ask(&query(1, name, 1));
    (rcode(&answer), records(&answer).first().map(|record| record.2[3]))
}

/// So many entries, `n0` below `zone` and so on, all with this address.
fn list(entries: usize, zone: &str, last: u8) -> String {
    let mut text = String::new();
    for n in 0..entries {
        let _ = writeln!(text, "192.0.2.{last} n{n}.{zone}");
    }
    text
}

/// Ends what others do until then, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn resident_megabytes(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// `count` zones below `zone`, each with the file, beside one for all other names.
fn zones(upstream: &Scripted, file: &Path, count: usize) -> String {
    let mut more = String::new();
    for n in 0..count {
        let _ = write!(
            more,
            "[[zone]]\nname = \"z{n}.zone\"\nupstreams = [\"{}\"]\n\
             hosts = {{ file = \"{}\", reload = \"1s\", fallthrough = [\".\"] }}\n",
            upstream.address,
            file.display()
        );
    }
    config(upstream, "", &more)
}

#[test]
fn a_large_file_of_many_zones_is_read_once_while_everything_goes_on() {
    const ENTRIES: usize = 50_000;
    let (upstream, directory) = (Scripted::good(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hosts");
    fs::write(&file, list(ENTRIES, "old.z63.zone", 1)).unwrap();
    let program = Program::start(&zones(&upstream, &file, 64));
    assert_eq!(heard(&program, "n9.old.z63.zone"), (0, Some(1)), "from the first answer on");
    assert_eq!(program.logged("hosts file read"), 1, "{:?}", program.log());
    let megabytes = resident_megabytes(&program);
    assert!(megabytes < 100, "{megabytes} MB: 64 tables have more than 200");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pages = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Relaxed) {
                assert_eq!(program.get("/health").0, 200);
                asked += 1;
            }
            asked
        });
        let end = End(&done);
        for last in 2..5 {
            let new = directory.path().join("new");
            fs::write(&new, list(ENTRIES, &format!("new{last}.z63.zone"), last)).unwrap();
            fs::rename(&new, &file).unwrap();
            let mut n = 0;
            wait_for("the new file", || {
                n += 1;
                assert_eq!(
                    heard(&program, &format!("x{last}-{n}.test")).0,
                    0,
                    "others are answered meanwhile"
                );
                // Another name each time: an answer from before is cached.
                heard(&program, &format!("n{n}.new{last}.z63.zone")).1 == Some(last)
            });
        }
        drop(end);
        assert!(pages.join().unwrap() > 3);
    });
}

#[test]
fn whichever_way_a_file_is_replaced_it_is_seen() {
    let (upstream, directory) = (Scripted::good(), tempfile::tempdir().unwrap());
    let at = |name: &str| directory.path().join(name);
    for (version, last) in [("v1", 1), ("v2", 2)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("hosts"), format!("192.0.2.{last} swapped{last}.z0.zone\n")).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/hosts", at("hosts")).unwrap();
    let program = Program::start(&zones(&upstream, &at("hosts"), 1));
    let sees = |what: &str, name: &str, last| {
        // An answer that is cached would hide it.
        wait_for(what, || program.logged("hosts file read") >= last);
        assert_eq!(heard(&program, name), (0, Some(last as u8)), "{what}");
    };
    sees("the first", "swapped1.z0.zone", 1);
    // As a ConfigMap is swapped.
    symlink("v2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    sees("a link that points elsewhere", "swapped2.z0.zone", 2);
    // In place, with the same size and the same time as before.
    let inside = at("v2").join("hosts");
    let before = inside.metadata().unwrap().modified().unwrap();
    fs::write(&inside, "192.0.2.3 swapped3.z0.zone\n").unwrap();
    fs::File::options().write(true).open(&inside).unwrap().set_modified(before).unwrap();
    sees("the same size and time", "swapped3.z0.zone", 3);
    // Cut and written again, several times within a second.
    let names: String = (0..1000).map(|n| format!(" n{n}.z0.zone")).collect();
    for last in [9, 8, 4] {
        fs::write(&inside, "").unwrap();
        fs::write(&inside, format!("192.0.2.{last}{names}\n")).unwrap();
    }
    let mut n = 0;
    wait_for("the last of several", || {
        n += 1;
        heard(&program, &format!("n{n}.z0.zone")).1 == Some(4)
    });
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again_and_its_entries_stay() {
    let (upstream, directory) = (Scripted::good(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hosts");
    fs::write(&file, "192.0.2.1 a.z0.zone b.z0.zone\n").unwrap();
    let mut program = Program::start(&zones(&upstream, &file, 1));
    assert_eq!(heard(&program, "a.z0.zone"), (0, Some(1)));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    program.wait_for_log("the hosts file cannot be read");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "192.0.2.2 c.z0.zone\n").unwrap();
    wait_for("the file that is readable again", || program.logged("hosts file read") >= 2);
    assert_eq!(heard(&program, "c.z0.zone"), (0, Some(2)));
}

#[test]
fn a_reload_waits_for_a_file_that_is_new() {
    let (upstream, directory) = (Scripted::good(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hosts");
    fs::write(&file, list(20_000, "new.z0.zone", 7)).unwrap();
    let program = Program::start(&config(&upstream, "", ""));
    program.rewrite(&zones(&upstream, &file, 1));
    wait_for("the entries", || {
        let (code, last) = heard(&program, "n9.new.z0.zone");
        assert_eq!(code, 0, "nobody hears of the time in between");
        last == Some(7)
    });
}
