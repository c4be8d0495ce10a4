//! Zones that answer on some addresses only: the same name is another one for whoever asks elsewhere.

use std::net::SocketAddr;

use crate::client::{Udp, query};
use crate::program::{Program, free_port};
use crate::support::message::*;
use crate::support::scripted::Scripted;

/// What is heard when `name` is asked for there: the response code, and the last byte of the address.
fn heard(at: SocketAddr, name: &str) -> (u16, Option<u8>) {
    let reply = Udp::to(at).ask(&query(7, name, 1));
    (rcode(&reply), (rcode(&reply) == 0).then(|| reply[reply.len() - 1]))
}

#[test]
fn a_name_is_another_one_on_another_address_also_from_the_cache() {
    let [one, two, rest] = [1, 2, 3].map(Scripted::with_address);
    let port = free_port();
    let [first, second] = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
    let config = format!(
        "[listen]\naddresses = [\"{first}\", \"{second}\"]\nworkers = 1\n\
         [http]\nserve = [{{ address = \"127.0.0.1:0\" }}]\n\
         [[zone]]\nname = \"example\"\nlisten = [\"{first}\"]\nupstreams = [\"{}\"]\n\
         [[zone]]\nname = \"example\"\nupstreams = [\"{}\"]\n\
         [[zone]]\nname = \".\"\nlisten = [\"{second}\"]\nupstreams = [\"{}\"]\n",
        one.address, two.address, rest.address
    );
    let program = Program::start(&config);
    for _ in 0..2 {
        assert_eq!(heard(first, "www.example"), (0, Some(1)));
        assert_eq!(heard(second, "www.example"), (0, Some(2)));
        assert_eq!(heard(first, "www.test").0, 5, "REFUSED: no zone of this address holds it");
        assert_eq!(heard(second, "www.test"), (0, Some(3)));
    }
    let hits = |labels: &str| program.metric(&format!("hits_total{{{labels},kind=\"positive\"}}"));
    assert_eq!(hits(&format!("zone=\"example.\",listen=\"{first}\"")), 1.0);
    assert_eq!(hits("zone=\"example.\""), 1.0);
    assert_eq!(hits(&format!("zone=\".\",listen=\"{second}\"")), 1.0);
    assert_eq!(program.logged(&format!("zone example. (on {first}) asks tcp://{}", one.address)), 1);
}
