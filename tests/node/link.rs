//! The link: made, adopted, repaired, removed. `ip` is the oracle.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sidestep::node::link::{Events, Link, Removed, Up, teardown};
use sidestep::node::{Drift, DriftKind, Fault, FaultKind, LinkKind};
use tokio::time::timeout;

use super::namespace::{alone, ip, try_ip};

const NAME: &str = "nodelocaldns";

fn addresses() -> [IpAddr; 2] {
    ["169.254.20.10".parse().unwrap(), "fd00:10::10".parse().unwrap()]
}

fn link(kind: LinkKind) -> Link {
    Link::new(NAME, kind, &addresses())
}

fn up(kind: LinkKind) -> Link {
    let mut link = link(kind);
    link.up().unwrap();
    link
}

/// All addresses on a link but the loopback's own, as `ip` shows them.
fn shown(name: &str) -> Vec<String> {
    let lines = ip(&format!("-o address show dev {name}"));
    let addresses = lines.lines().map(|line| line.split_whitespace().nth(3).unwrap().to_owned());
    let mut all: Vec<_> = addresses.filter(|a| !["127.0.0.1/8", "::1/128"].contains(&&**a)).collect();
    all.sort();
    all
}

/// The link stands as it should, and addresses of either family can be bound and reached at once.
fn assert_stands(name: &str) {
    assert_eq!(shown(name), ["169.254.20.10/32", "fd00:10::10/128"]);
    let link = ip(&format!("-d link show dev {name}"));
    assert!(link.contains(",UP"), "{link}");
    assert_eq!(link.contains("alias sidestep"), name != "lo", "{link}");
    for address in addresses() {
        let server = UdpSocket::bind((address, 0)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = UdpSocket::bind((address, 0)).unwrap();
        client.send_to(b"?", server.local_addr().unwrap()).unwrap();
        let from = server.recv_from(&mut [0; 1]).unwrap().1;
        assert_eq!(from, client.local_addr().unwrap());
    }
}

fn fault<T: std::fmt::Debug>(result: Result<T, Fault>, says: &[&str]) {
    let fault = result.unwrap_err();
    assert_eq!(fault.kind, FaultKind::LinkAdd);
    for part in says {
        assert!(fault.what.contains(part), "{part:?} is not in: {fault}");
    }
}

fn has_dummy() -> bool {
    let has = try_ip("link add probe type dummy").is_ok();
    if has {
        ip("link del probe");
    }
    has
}

#[test]
fn auto_is_a_dummy_or_else_a_bridge() {
    alone(|| {
        let expected = if has_dummy() { LinkKind::Dummy } else { LinkKind::Bridge };
        let mut link = link(LinkKind::Auto);
        assert_eq!(link.up().unwrap().kind, expected);
        let shown = ip(&format!("-d link show dev {NAME}"));
        assert!(shown.contains(if expected == LinkKind::Dummy { "dummy" } else { "bridge" }), "{shown}");
        assert_stands(NAME);
        assert_eq!(link.up().unwrap(), Up { kind: expected, done: vec![] });
        assert_eq!(link.check().unwrap(), []);
    });
}

#[test]
fn a_type_that_the_kernel_lacks_is_said_so() {
    alone(|| match has_dummy() {
        true => assert_eq!(up(LinkKind::Dummy).up().unwrap().kind, LinkKind::Dummy),
        false => {
            fault(link(LinkKind::Dummy).up(), &[NAME, "a dummy", "no links of this type", "--link auto"]);
            assert!(try_ip(&format!("link show dev {NAME}")).is_err(), "nothing is left of the try");
        }
    });
}

#[test]
fn a_bridge_stands_and_a_second_time_changes_nothing() {
    alone(|| {
        let mut link = link(LinkKind::Bridge);
        let first = link.up().unwrap();
        assert_eq!(first.kind, LinkKind::Bridge);
        assert_eq!(first.done, [format!("link {NAME} was not there: made a bridge")]);
        assert_stands(NAME);
        // A restart finds it as it was left.
        for mut link in [link, self::link(LinkKind::Bridge), self::link(LinkKind::Auto)] {
            assert_eq!(link.up().unwrap().done, [""; 0]);
            assert_eq!(link.check().unwrap(), []);
        }
    });
}

#[test]
fn a_tun_goes_with_its_process() {
    alone(|| {
        let mut link = link(LinkKind::Tun);
        assert_eq!(link.up().unwrap().kind, LinkKind::Tun);
        assert_stands(NAME);
        assert!(ip(&format!("link show dev {NAME}")).contains("LOWER_UP"), "it has a carrier");
        assert_eq!(link.up().unwrap().done, [""; 0]);
        fault(self::link(LinkKind::Tun).up(), &[NAME, "a tun that another process holds"]);
        fault(self::link(LinkKind::Auto).up(), &[NAME, "a tun that another process holds"]);
        assert_stands(NAME);
        drop(link);
        assert!(try_ip(&format!("link show dev {NAME}")).is_err());
    });
}

#[test]
fn without_a_link_of_ours_the_addresses_must_be_there() {
    alone(|| {
        let said = ["169.254.20.10, fd00:10::10", "--link none", "ip address add fd00:10::10/128 dev lo"];
        fault(link(LinkKind::None).up(), &said);
        ip("address add 169.254.20.10/32 dev lo");
        let fault = link(LinkKind::None).up().unwrap_err();
        assert!(!fault.what.contains("169.254.20.10"), "{fault}");
        ip("-6 route add local fd00:10::/64 dev lo");
        assert_eq!(link(LinkKind::None).up().unwrap(), Up { kind: LinkKind::None, done: vec![] });
    });
}

#[test]
fn addresses_on_loopback_are_ours_only_if_we_put_them_there() {
    alone(|| {
        ip("address add 192.0.2.1/32 dev lo");
        ip("address add 169.254.20.10/32 dev lo");
        let mut link = link(LinkKind::Loopback);
        let done = link.up().unwrap().done;
        assert_eq!(done, ["address fd00:10::10 was not on lo: added"]);
        assert_eq!(link.check().unwrap(), []);
        let removed = teardown(NAME, &addresses()).unwrap().removed;
        assert_eq!(removed, ["address fd00:10::10 on lo"]);
        assert_eq!(shown("lo"), ["169.254.20.10/32", "192.0.2.1/32"]);
    });
}

#[test]
fn loopback_that_is_down_is_set_up() {
    alone(|| {
        ip("link set lo down");
        up(LinkKind::Loopback);
        assert_stands("lo");
    });
}

#[test]
fn a_link_that_is_down_and_has_the_addresses_is_adopted() {
    alone(|| {
        // As node-cache leaves its dummy.
        ip(&format!("link add {NAME} type bridge"));
        ip(&format!("address add 169.254.20.10/32 dev {NAME}"));
        let index = ip(&format!("-o link show dev {NAME}")).split(':').next().unwrap().to_owned();
        let mut link = link(LinkKind::Auto);
        assert_eq!(
            link.up().unwrap().done,
            [format!("link {NAME} was there without our mark, a bridge: adopted")]
        );
        assert_stands(NAME);
        assert!(ip(&format!("-o link show dev {NAME}")).starts_with(&format!("{index}:")), "the same link");
        assert_eq!(link.check().unwrap(), []);
    });
}

/// What others do, and what it is called when it has been put right.
const DISTURBANCES: [(&str, DriftKind, &str); 7] = [
    ("address del 169.254.20.10/32 dev NAME", DriftKind::Address, "169.254.20.10 was not on NAME"),
    ("address del fd00:10::10/128 dev NAME", DriftKind::Address, "fd00:10::10 was not on NAME"),
    (
        "address del fd00:10::10/128 dev NAME; address add fd00:10::10/64 dev NAME",
        DriftKind::Address,
        "was on NAME as fd00:10::10/64",
    ),
    ("link set NAME down", DriftKind::Link, "was down"),
    ("link set NAME down; link set NAME name other", DriftKind::Link, "was not there"),
    ("link del NAME", DriftKind::Link, "was not there"),
    ("link del NAME; link add NAME type bridge", DriftKind::Link, "was"),
];

fn ips(script: &str) {
    script.replace("NAME", NAME).split("; ").for_each(|command| drop(ip(command)));
}

/// Waits for events, as an event loop does; whether they came in time.
fn within(events: &Events, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// Until no more events come: the kernel tells of a carrier some moments later.
fn quiet(events: &mut Events) {
    while within(events, Duration::from_millis(50)) {
        events.changed().unwrap();
    }
}

fn is_repaired_at_once(kind: LinkKind, disturbances: &[(&str, DriftKind, &str)]) {
    let mut events = Events::open(NAME, &addresses()).unwrap();
    let mut link = up(kind);
    assert!(events.changed().unwrap(), "the link came");
    quiet(&mut events);
    for &(script, drift, says) in disturbances {
        ips(script);
        assert!(within(&events, Duration::from_secs(10)), "no event after: {script}");
        assert!(events.changed().unwrap(), "it is not about us: {script}");
        let drifts = link.check().unwrap();
        let [Drift { kind, what }] = &drifts[..] else { panic!("{script}: {drifts:?}") };
        assert_eq!(*kind, drift, "{script}: {what}");
        assert!(what.contains(&says.replace("NAME", NAME)), "{script}: {what}");
        assert_stands(NAME);
        assert_eq!(link.check().unwrap(), [], "after: {script}");
        assert!(try_ip("link show dev other").is_err(), "it is ours, whatever its name");
        quiet(&mut events);
    }
}

#[test]
fn what_is_done_to_a_bridge_is_put_right_at_once() {
    alone(|| is_repaired_at_once(LinkKind::Bridge, &DISTURBANCES));
}

#[test]
fn what_is_done_to_a_tun_is_put_right_at_once() {
    // Another's tun of our name cannot be told from another process of ours; a bridge is replaced.
    alone(|| is_repaired_at_once(LinkKind::Tun, &DISTURBANCES));
}

#[test]
fn what_is_done_to_the_link_that_auto_found_is_put_right_at_once() {
    alone(|| is_repaired_at_once(LinkKind::Auto, &DISTURBANCES[..6]));
}

#[test]
fn an_event_loop_wakes() {
    alone(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut link = link(LinkKind::Bridge);
        let mut events = Events::open(NAME, &addresses()).unwrap();
        let long = Duration::from_secs(10);
        runtime.block_on(async {
            link.up().unwrap();
            for _ in 0..3 {
                timeout(long, events.heard()).await.expect("it is told").unwrap();
                while timeout(Duration::from_millis(50), events.heard()).await.is_ok() {}
                ips("link add far type veth peer name farther; link del far");
                assert!(
                    timeout(Duration::from_millis(50), events.heard()).await.is_err(),
                    "it is not about us"
                );
                ips("address del 169.254.20.10/32 dev NAME; address add 169.254.20.10/32 dev NAME");
            }
        });
    });
}

#[test]
fn several_addresses_are_several_drifts() {
    alone(|| {
        let mut link = up(LinkKind::Bridge);
        ips("address flush dev NAME");
        let drifts = link.check().unwrap();
        assert_eq!(drifts.len(), 2);
        assert!(drifts.iter().all(|drift| drift.kind == DriftKind::Address));
        assert_stands(NAME);
    });
}

#[test]
fn what_others_do_elsewhere_is_no_event_of_ours() {
    alone(|| {
        up(LinkKind::Bridge);
        let mut events = Events::open(NAME, &addresses()).unwrap();
        ips("link add far type veth peer name farther; link set far up; address add 192.0.2.1/24 dev far");
        ips("address add 2001:db8::1/64 dev far; link del far");
        assert!(within(&events, Duration::from_secs(10)));
        assert!(!events.changed().unwrap());
    });
}

#[test]
fn a_link_of_our_name_that_is_somebody_elses_is_left_alone() {
    let cases: [(&str, &[&str]); 6] = [
        ("link add NAME type veth peer name far", &["it is of type veth"]),
        ("link add lower type bridge; link add NAME link lower type macvlan", &["it is of type macvlan"]),
        (
            "link add NAME type bridge; link add port type veth peer name far; link set port master NAME",
            &["it has ports: port"],
        ),
        (
            "link add NAME type bridge; link add port type veth peer name far; link set port master NAME; \
             link set NAME alias sidestep",
            &["it has ports: port"],
        ),
        ("link add NAME type bridge; address add 192.0.2.1/24 dev NAME", &["another address, 192.0.2.1/24"]),
        ("link add NAME type bridge; link set NAME alias theirs", &["calls it \"theirs\""]),
    ];
    for (script, says) in cases {
        alone(move || {
            ips(script);
            let before = (ip("link"), ip("address"));
            for kind in [LinkKind::Auto, LinkKind::Bridge, LinkKind::Tun] {
                fault(
                    link(kind).up(),
                    &[says, &[NAME, "is not ours", "--interface", "ip link del"][..]].concat(),
                );
            }
            let removed = teardown(NAME, &addresses()).unwrap();
            assert_eq!(removed.removed, [""; 0]);
            assert!(removed.left[0].contains(says[0]), "{removed:?}");
            assert_eq!((ip("link"), ip("address")), before, "after: {script}");
        });
    }
}

#[test]
fn an_address_that_another_interface_holds_names_the_interface() {
    alone(|| {
        ips("link add far type veth peer name farther; address add 169.254.20.10/16 dev far");
        for kind in [LinkKind::Auto, LinkKind::Bridge, LinkKind::Tun, LinkKind::Loopback] {
            fault(
                link(kind).up(),
                &["169.254.20.10", "interface far", "ip address del 169.254.20.10/16 dev far"],
            );
        }
        assert!(try_ip(&format!("link show dev {NAME}")).is_err(), "found before anything was made");
        let what = link(LinkKind::None).up().unwrap_err().what;
        assert!(what.contains("no interface has fd00:10::10,"), "it may stand anywhere: {what}");
        ips("link set far name kube-ipvs0");
        fault(link(LinkKind::Bridge).up(), &["kube-ipvs0", "IPVS"]);
    });
}

#[test]
fn an_address_on_loopback_is_in_the_way_unless_it_may_be_there() {
    alone(|| {
        ips("address add 169.254.20.10/32 dev lo");
        fault(link(LinkKind::Bridge).up(), &["interface lo", "--link lo"]);
        up(LinkKind::Auto);
        assert_stands(NAME);
        assert_eq!(shown("lo"), ["169.254.20.10/32"]);
    });
}

#[test]
fn ours_moves_with_the_setting() {
    alone(|| {
        let kinds =
            [LinkKind::Loopback, LinkKind::Bridge, LinkKind::Loopback, LinkKind::Auto, LinkKind::Loopback];
        for kind in kinds {
            up(kind);
            let (here, there) = if kind == LinkKind::Loopback { ("lo", NAME) } else { (NAME, "lo") };
            assert_stands(here);
            let left = if there == "lo" {
                shown("lo")
            } else {
                try_ip(&format!("link show dev {NAME}")).into_iter().collect()
            };
            assert_eq!(left, [""; 0]);
            assert_eq!(link(kind).up().unwrap().done, [""; 0]);
        }
        let tun = up(LinkKind::Tun);
        assert_stands(NAME);
        drop(tun);
        up(LinkKind::Bridge);
        let mut tun = link(LinkKind::Tun);
        assert_eq!(tun.up().unwrap().done, [format!("link {NAME} was a bridge: made a tun")]);
        assert_stands(NAME);
    });
}

#[test]
fn addresses_of_an_earlier_configuration_go_at_the_start_and_not_while_we_run() {
    alone(|| {
        let earlier: [IpAddr; 3] =
            ["169.254.20.10", "169.254.25.10", "fd00::99"].map(|address| address.parse().unwrap());
        for kind in [LinkKind::Bridge, LinkKind::Loopback] {
            Link::new(NAME, kind, &earlier).up().unwrap();
            let carrier = if kind == LinkKind::Loopback { "lo" } else { NAME };
            let mut link = link(kind);
            let done = link.up().unwrap().done;
            assert_eq!(done.len(), 3, "one came, two went: {done:?}");
            assert_stands(carrier);
            ips(&format!("address add 192.0.2.7/32 dev {carrier}"));
            assert_eq!(link.check().unwrap(), []);
            assert!(shown(carrier).contains(&"192.0.2.7/32".to_owned()));
            ips(&format!("address del 192.0.2.7/32 dev {carrier}"));
        }
    });
}

/// What is there carries what clients live by: it is given up only for something that can be had.
#[test]
fn a_link_stays_if_the_type_that_is_wanted_cannot_be_had() {
    alone(|| {
        up(LinkKind::Bridge);
        let index = || ip(&format!("-o link show dev {NAME}")).split(':').next().unwrap().to_owned();
        let before = index();
        if !has_dummy() {
            fault(link(LinkKind::Dummy).up(), &[NAME, "a dummy", "--link auto"]);
        }
        // No tun: there is no device, or no right to it.
        let busy = "mount --bind /dev/null /dev/net/tun";
        let held = std::process::Command::new("unshare")
            .args(["-m", "sh", "-ec", &format!("{busy}; exec \"$@\""), "sh"])
            .arg(super::program::sidestep())
            .args(["--node-address=169.254.20.10", "--upstream=tcp://127.0.0.1:9", "--link=tun"])
            .output()
            .unwrap();
        let said = String::from_utf8(held.stderr).unwrap();
        assert_eq!(held.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot make link nodelocaldns, a tun"), "{said}");
        assert_eq!(index(), before, "the same link");
        assert_stands(NAME);
        assert!(try_ip("link show dev sidestep-trial").is_err(), "nothing is left of the try");
    });
}

#[test]
fn an_earlier_link_of_another_name_gives_its_addresses() {
    alone(|| {
        Link::new("earlier", LinkKind::Bridge, &addresses()).up().unwrap();
        let done = up(LinkKind::Bridge).check().unwrap();
        assert_eq!(done, []);
        assert_stands(NAME);
        assert_eq!(shown("earlier"), [""; 0]);
    });
}

#[test]
fn removed_twice_without_an_error() {
    alone(|| {
        let nothing = Removed::default();
        assert_eq!(teardown(NAME, &[]).unwrap(), nothing);
        for kind in [LinkKind::Bridge, LinkKind::Tun, LinkKind::Loopback] {
            let mut held = up(kind);
            // As a later run does it, which knows the name alone.
            let removed = teardown(NAME, &[]).unwrap();
            let lines = if kind == LinkKind::Loopback { 2 } else { 1 };
            assert_eq!((removed.removed.len(), removed.left.len()), (lines, 0), "{removed:?}");
            assert!(try_ip(&format!("link show dev {NAME}")).is_err());
            assert_eq!(shown("lo"), [""; 0]);
            assert_eq!(teardown(NAME, &[]).unwrap(), nothing);
            assert_eq!(held.down().unwrap(), nothing);
            held.up().unwrap();
            assert_eq!(held.down().unwrap().removed.len(), lines);
            assert_eq!(held.down().unwrap(), nothing);
        }
        ips("link add NAME type bridge");
        assert_eq!(teardown(NAME, &[]).unwrap().removed.len(), 1, "killed before it was marked");
    });
}

#[test]
fn without_the_right_it_is_said_what_to_do() {
    alone(|| {
        up(LinkKind::Bridge);
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        let with_right = capabilities(None).unwrap();
        set_capabilities(None, sets).unwrap();
        let standing = (link(LinkKind::Bridge).up(), link(LinkKind::Auto).check(), teardown("other", &[]));
        let removed = teardown(NAME, &[]);
        let others = [LinkKind::Auto, LinkKind::Bridge, LinkKind::Tun]
            .map(|kind| Link::new("other", kind, &["192.0.2.1".parse().unwrap()]).up());
        let lo = Link::new("other", LinkKind::Loopback, &["192.0.2.1".parse().unwrap()]).up();
        set_capabilities(None, with_right).unwrap();
        assert_eq!(standing.0.unwrap().done, [""; 0], "there was nothing to do");
        assert_eq!((standing.1.unwrap(), standing.2.unwrap()), (vec![], Removed::default()));
        for other in others {
            fault(other, &["cannot make link other", "CAP_NET_ADMIN", "--link none"]);
        }
        fault(lo, &["192.0.2.1 on lo", "CAP_NET_ADMIN"]);
        let faults = removed.unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].what.contains("cannot remove it") && faults[0].what.contains("CAP_NET_ADMIN"));
        assert_stands(NAME);
    });
}

#[test]
fn ipv6_that_is_switched_off_is_said_so() {
    alone(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        fault(link(LinkKind::Bridge).up(), &["fd00:10::10", "IPv6 is switched off", "disable_ipv6=0"]);
        Link::new(NAME, LinkKind::Bridge, &addresses()[..1]).up().unwrap();
        assert_eq!(shown(NAME), ["169.254.20.10/32"]);
    });
}

#[test]
fn a_family_that_is_switched_off_while_we_run_does_not_keep_the_other_from_being_repaired() {
    alone(|| {
        let [v4, v6] = addresses();
        let mut link = Link::new(NAME, LinkKind::Bridge, &[v6, v4]);
        link.up().unwrap();
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6"), "1").unwrap();
        ip(&format!("address del {v4}/32 dev {NAME}"));
        fault(link.check(), &["fd00:10::10", "IPv6 is switched off"]);
        assert_eq!(shown(NAME), ["169.254.20.10/32"]);
    });
}
