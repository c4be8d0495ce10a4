//! The order of start and stop: what must not be put up, what must stay, and what must go.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::dns::{Who, look_up};
use super::namespace::ip;
use super::network::{V4, V6, sh};
use super::program::{LINK, Program, UP, World};

const PATIENCE: Duration = Duration::from_secs(4);

/// A start that must fail: exit code 1, these words, and nothing is touched.
#[track_caller]
fn refuses(world: &World, command: Command, words: &[&str]) {
    let before = world.state();
    let mut program = world.spawn(command);
    let status = program.ended();
    let said = program.log();
    assert_eq!(status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert_eq!(world.state(), before, "{said}");
}

fn usual() -> Command {
    World::command(&World::flags())
}

#[test]
fn a_busy_port_installs_nothing() {
    let _turn = super::turn();
    let world = World::new();
    let udp = world.network.node.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    refuses(&world, usual(), &["169.254.20.10:53", "(udp)", "another program", "ss -lnp"]);
    drop(udp);
    let tcp = world.network.node.run(|| TcpListener::bind("0.0.0.0:53").unwrap());
    refuses(&world, usual(), &["169.254.20.10:53", "(tcp)"]);
    drop(tcp);
    let udp = world.network.node.run(|| UdpSocket::bind("[::]:53").unwrap());
    refuses(&world, usual(), &[":53", "(udp)"]);
    drop(udp);
    drop(world.run());
}

/// As in an update that starts the new pod first: the old one, node-cache's, has process ids of its own.
#[test]
fn a_program_that_is_not_to_be_seen_from_here_is_waited_for() {
    let _turn = super::turn();
    let world = World::new();
    let udp = world.network.node.run(|| {
        ip(&format!("addr add {V4}/32 dev lo"));
        UdpSocket::bind((V4, 53)).unwrap()
    });
    let mut program = world.spawn(World::within(
        "exec unshare --pid --fork --kill-child --mount-proc \"$@\" --http=127.0.0.1:9353",
    ));
    let http = world.network.node.run(|| TcpListener::bind("0.0.0.0:9353").unwrap());
    program.wait_for("169.254.20.10:53 (udp) is held by a process that is not to be seen from here");
    drop(udp);
    program.wait_for("9353 (tcp) is held by");
    drop(http);
    program.wait_for(UP);
}

#[test]
fn a_second_instance_ends_and_the_first_one_serves() {
    let _turn = super::turn();
    let world = World::new();
    let program = world.run();
    refuses(&world, usual(), &["169.254.20.10:53", "sidestep"]);
    // At other addresses, it would still be the same link and tables.
    let mut flags = World::flags();
    flags.retain(|flag| !flag.starts_with("--node-address"));
    flags.push("--node-address=169.254.20.11".to_owned());
    refuses(&world, World::command(&flags), &[&format!("process {}", program.id()), LINK]);
    // At another link, it would still be the same node's rules, whatever packet filter it has them in.
    flags.push("--interface=other".to_owned());
    for firewall in ["auto", "nftables", "iptables"] {
        let mut command = World::command(&flags);
        command.arg(format!("--firewall={firewall}"));
        refuses(&world, command, &[&format!("process {}", program.id()), "the rules of this node"]);
    }
    world.network.pod.run(|| assert_eq!(look_up(V4, "n.cluster.local", PATIENCE), Some(Who::Sidestep)));
}

#[test]
fn a_configuration_error_installs_nothing() {
    let _turn = super::turn();
    let world = World::new();
    let command = world.configured("interface = \"a name that is too long\"", &["tcp://10.2.0.2:53"]);
    refuses(&world, command, &["sidestep.toml", "interface"]);
}

#[test]
fn without_the_right_to_nothing_is_installed() {
    let _turn = super::turn();
    let world = World::new();
    let weak = "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin -- \"$@\"";
    refuses(&world, World::within(weak), &["CAP_NET_ADMIN", "--firewall none"]);
    refuses(&world, World::within(&format!("{weak} --firewall=none")), &["CAP_NET_ADMIN", "--link none"]);
}

#[test]
fn without_iptables_nothing_is_installed() {
    let _turn = super::turn();
    let world = World::new();
    let mut command = usual();
    command.arg("--firewall=iptables").env("PATH", world.directory.path());
    refuses(&world, command, &["no iptables found", "install", "--firewall nftables"]);
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let _turn = super::turn();
    let world = World::new();
    world.network.node.run(|| ip(&format!("addr add {V4}/32 dev cluster")));
    refuses(&world, usual(), &[V4, "cluster"]);
    world.network.node.run(|| {
        ip(&format!("addr del {V4}/32 dev cluster"));
        ip(&format!("link add {LINK} type veth peer name other"))
    });
    refuses(&world, usual(), &[LINK, "--interface"]);
}

#[test]
fn a_small_limit_of_descriptors_and_a_run_that_is_read_only_do_no_harm() {
    let _turn = super::turn();
    let world = World::new();
    for script in [
        "ulimit -n 64; exec \"$@\"",
        "ulimit -n 256; exec \"$@\"",
        "exec unshare -m sh -ec 'mount -t tmpfs -o ro none /run; ! touch /run/x 2>/dev/null; exec \"$@\"' sh \"$@\"",
    ] {
        let mut program = world.up(World::within(script));
        let asks = |who: Who| {
            world.network.pod.run(move || {
                for i in 0..200 {
                    let name = format!("n{i}.cluster.local");
                    assert_eq!(look_up(V4, &name, PATIENCE), Some(who), "lookup {i}: {script}");
                }
            });
        };
        asks(Who::Sidestep);
        program.end(Signal::KILL);
        asks(Who::Cluster);
    }
}

/// What it asks for is enough for UDP, whatever else comes.
#[test]
fn too_small_a_limit_of_descriptors_is_said_with_the_one_that_will_do() {
    let _turn = super::turn();
    let world = World::new();
    let limited = |limit: u64| World::within(&format!("ulimit -n {limit}; exec \"$@\" --workers 2"));
    refuses(
        &world,
        limited(24),
        &["limit of open files is 24", "need at least", "ulimit -n", "LimitNOFILE="],
    );
    let mut program = world.spawn(limited(24));
    program.ended();
    let said = program.log();
    let needed = said.split("need at least ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    refuses(&world, limited(needed - 1), &["need at least"]);
    let program = world.up(limited(needed));
    world.network.pod.run(|| {
        for i in 0..200 {
            let name = format!("n{i}.cluster.local");
            assert_eq!(look_up(V4, &name, PATIENCE), Some(Who::Sidestep), "lookup {i}");
        }
    });
    assert!(!program.log().contains("Too many open files"), "{}", program.log());
}

#[test]
fn killed_at_any_moment_of_its_start_it_leaves_one_set_of_everything() {
    let _turn = super::turn();
    let world = World::new();
    let empty = world.state();
    let mut program = world.run();
    let right = world.state();
    program.end(Signal::KILL);
    for i in 0..20 {
        let mut program = world.spawn(usual());
        sleep(Duration::from_micros(2500 * i + u64::from(rand::random::<u16>()) / 30));
        program.end(Signal::KILL);
    }
    let mut program = world.run();
    assert_eq!(world.state(), right);
    let links = world.network.node.run(|| ip("-o link show type bridge"));
    assert_eq!(links.lines().count(), 1, "{links}");
    program.end(Signal::TERM);
    assert!(world.teardown().0);
    assert_eq!(world.state(), empty);
}

#[test]
fn a_signal_is_heard_whichever_thread_it_is_sent_to() {
    let _turn = super::turn();
    let world = World::new();
    let mut program = world.run();
    // The kernel sends it to any of them while the main thread starts another, and then to the first that there is.
    let (node, _) = threads(&program).into_iter().find(|(_, name)| name == "node").unwrap();
    kill_process(Pid::from_raw(node).unwrap(), Signal::TERM).unwrap();
    assert_eq!(program.ended().code(), Some(0), "{}", program.log());
}

#[test]
fn teardown_leaves_the_rows_of_iptables_to_a_process_that_lives() {
    let _turn = super::turn();
    let world = World::new();
    let mut flags = World::flags();
    flags.push("--firewall=iptables".to_owned());
    let program = world.up(World::command(&flags));
    let right = world.state();
    for link in [LINK, "other"] {
        let (well, said) = world.teardown_of(link);
        assert!(!well && said.contains(&format!("process {}", program.id())), "{link}: {said}");
        assert_eq!(world.state(), right);
    }
    // What went is what was there, row by row.
    drop(program);
    let saved = world.network.node.run(|| sh("iptables-nft-save; ip6tables-nft-save"));
    let rows = saved.lines().filter(|line| line.starts_with("-A")).count();
    let (well, said) = world.teardown();
    assert!(well && said.contains(&format!("removed: iptables: {rows} rules")), "{rows}: {saved}\n{said}");
}

/// node-cache after a rollback holds the same link and the same rules.
#[test]
fn teardown_leaves_link_and_rules_to_another_program_that_answers_there() {
    let _turn = super::turn();
    let world = World::new();
    let empty = world.state();
    for firewall in ["nftables", "iptables"] {
        let mut flags = World::flags();
        flags.push(format!("--firewall={firewall}"));
        world.up(World::command(&flags)).end(Signal::KILL);
        let left = world.state();
        let refuses = |who: &str| {
            let (well, said) = world.teardown();
            let words = ["nothing is removed", who, &format!("(process {})", std::process::id())];
            assert!(!well && words.iter().all(|word| said.contains(word)), "{said}");
            assert_eq!(world.state(), left, "{said}");
        };
        let udp = world.network.node.run(|| UdpSocket::bind((V4, 53)).unwrap());
        refuses("169.254.20.10:53 (udp)");
        drop(udp);
        let tcp = world.network.node.run(|| TcpListener::bind((V6, 53)).unwrap());
        refuses("[fd00:53::10]:53 (tcp)");
        drop(tcp);
        let everywhere = world.network.node.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        refuses("169.254.20.10:53 (udp)");
        drop(everywhere);
        // Others at other addresses are none of its business.
        let elsewhere = world.network.node.run(|| UdpSocket::bind("127.0.0.53:53").unwrap());
        let (well, said) = world.teardown();
        assert!(well && said.contains("removed: "), "{said}");
        // iptables leaves its chains behind, empty.
        let rows = world.network.node.run(|| sh("iptables-save; ip6tables-save"));
        assert!(!rows.contains("-A ") && !world.state().contains(LINK), "{rows}");
        assert!(firewall == "iptables" || world.state() == empty, "{}", world.state());
        drop(elsewhere);
    }
}

#[test]
fn the_end_leaves_link_and_sleeping_rows_and_teardown_nothing() {
    let _turn = super::turn();
    let world = World::new();
    let empty = world.state();
    let mut program = world.run();
    let right = world.state();
    let (well, said) = world.teardown();
    assert!(!well && said.contains(&format!("process {}", program.id())), "{said}");
    assert_eq!(world.state(), right, "a process that runs keeps what it holds");
    let status = program.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{}", program.log());
    let tables = world.network.node.run(|| sh("nft list tables"));
    assert!(tables.contains("sidestep-failopen") && !tables.contains("inet sidestep\n"), "{tables}");
    let link = world.network.node.run(|| ip(&format!("addr show dev {LINK}")));
    assert!(link.contains(V4) && link.contains(V6), "{link}");
    for expected in ["removed: ", "nothing of sidestep is here"] {
        let (well, said) = world.teardown();
        assert!(well && said.contains(expected), "{said}");
        assert_eq!(world.state(), empty);
    }
    let mut flags = World::flags();
    flags.push("--teardown-on-exit".to_owned());
    let mut program = world.up(World::command(&flags));
    assert_ne!(world.state(), empty);
    assert_eq!(program.end(Signal::TERM).code(), Some(0));
    assert_eq!(world.state(), empty, "{}", program.log());
}

/// Stops one thread of a process, and it alone, until this thread ends.
#[allow(unsafe_code)]
fn hang(thread: i32) {
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: neither request reads or writes memory of ours; what they do is done to the other process.
        let done = unsafe { libc::ptrace(request, thread, 0, 0) };
        assert_eq!(done, 0, "ptrace: {}", std::io::Error::last_os_error());
    }
}

/// Waits for the end of a thread that hangs: a process that has ended is seen to have once its traced threads are.
#[allow(unsafe_code)]
fn ended(thread: i32) {
    let end = Instant::now() + Duration::from_secs(10);
    let mut status = 0;
    loop {
        // SAFETY: `status` is ours and lives longer than the call.
        let waited = unsafe { libc::waitpid(thread, &mut status, libc::__WALL | libc::WNOHANG) };
        if waited == thread && (libc::WIFEXITED(status) || libc::WIFSIGNALED(status)) {
            return;
        }
        assert!(Instant::now() < end, "the thread is still there");
        sleep(Duration::from_millis(5));
    }
}

fn threads(program: &Program) -> Vec<(i32, String)> {
    let folder = format!("/proc/{}/task", program.id());
    let thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap();
        (entry.file_name().to_str().unwrap().parse().unwrap(), name.trim().to_owned())
    };
    std::fs::read_dir(folder).unwrap().map(thread).collect()
}

#[test]
fn a_serving_thread_that_hangs_ends_the_process_and_pods_fall_back() {
    let _turn = super::turn();
    let world = World::new();
    let flags = ["tcp://10.2.0.2:53", "tcp://[fd02::2]:53"];
    let mut program = world.up(world.configured("watchdog = \"2s\"", &flags));
    let found = threads(&program);
    let &(worker, _) =
        found.iter().find(|(_, name)| name.contains("worker")).unwrap_or_else(|| panic!("{found:?}"));
    hang(worker);
    let start = Instant::now();
    ended(worker);
    let status = program.ended();
    println!("ended {:?} after a thread hung", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(1));
    let said = program.log();
    assert!(
        said.contains("has not turned for 2s") || said.contains("not answered our own questions"),
        "{said}"
    );
    assert!(said.contains("so that clients reach the cluster DNS without it"), "{said}");
    world.network.pod.run(|| {
        for address in [V4, V6] {
            assert_eq!(look_up(address, "n.cluster.local", PATIENCE), Some(Who::Cluster), "{address}");
        }
    });
}
