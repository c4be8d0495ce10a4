//! Where clients go without us: which of the servers that we ask are reached as they are written.
//!
//! The sleeping rows translate a client's query to a server of the cluster DNS. A Service's address would not do: the
//! kernel translates a connection once, so kube-proxy's own translation would never come after ours. So we connect to
//! each server, and ask connection tracking whether the connection went where it was sent. Addresses from `svc://`
//! targets are taken for pods until that says otherwise (the name may be that of a Service with an address of its
//! own); an address that the configuration names is not taken for one until that has been seen.
//!
//! What is not known now (a name that is yet to be found out, a server that does not accept) leaves the rows as they
//! are. What the configuration does not name any more does not: that address may be somebody else's by then.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tracing::debug;

use crate::node::Fallback;
use crate::node::conntrack::{Conntrack, Protocol};
use crate::node::rules::UPSTREAM_MARK;
use crate::resolve::zones::Asked;

/// How long a server may take to accept.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the servers.
#[derive(Debug, Default)]
pub struct Fallbacks {
    /// Whether those that were reached were reached as they are written. That this changes is not heard of.
    direct: BTreeMap<SocketAddr, bool>,
}

impl Fallbacks {
    /// Those of a zone's servers that clients can be sent to. With `untracked` none of our connections to those behind
    /// `svc://` is to be tracked, so none is translated: they are pods if a connection to them can be made.
    pub async fn of(&mut self, asked: &Asked, ours: &[SocketAddr], untracked: bool) -> Fallback {
        let are_pods = !asked.pods.is_empty();
        let mut servers = if are_pods { asked.pods.clone() } else { asked.servers.clone() };
        // Nobody else reaches our loopback, and nothing is gained by being sent to ourselves.
        servers.retain(|server| !server.ip().is_loopback() && ours.iter().all(|own| own.ip() != server.ip()));
        self.direct.retain(|server, _| servers.contains(server));
        let unknown = servers.iter().filter(|server| !self.direct.contains_key(server));
        let mark = (are_pods && untracked).then_some(UPSTREAM_MARK);
        let found =
            join_all(unknown.map(async |&server| Some((server, is_direct(server, mark).await?)))).await;
        self.direct.extend(found.into_iter().flatten());
        servers.retain(|server| self.direct.get(server) != Some(&false));
        let is_sure = |server: &&SocketAddr| self.direct.contains_key(server) || (are_pods && !untracked);
        let sure: Vec<SocketAddr> = servers.iter().filter(is_sure).copied().collect();
        if !sure.is_empty() {
            Fallback::Known(sure)
        } else if asked.has_services && !are_pods {
            Fallback::Unheard
        } else if !servers.is_empty() {
            Fallback::InDoubt(servers)
        } else {
            Fallback::Known(Vec::new())
        }
    }
}

/// Whether connections to a server go where they are sent; `None` if it cannot be told now.
async fn is_direct(server: SocketAddr, mark: Option<u32>) -> Option<bool> {
    let Ok(Ok(stream)) = timeout(PATIENCE, connect(server, mark)).await else {
        debug!(
            "{server} does not accept connections now: it is not known whether clients can fall back to it"
        );
        return None;
    };
    if mark.is_some() {
        return Some(true); // past connection tracking, so past every translation
    }
    let mut table = Conntrack::open().ok()?;
    match table.lookup(Protocol::Tcp, stream.local_addr().ok()?, server).ok()? {
        Some(entry) => Some(entry.translated_to().is_none()),
        // Where nothing is tracked, nothing is translated. Else it was translated before it was tracked (Cilium does
        // so as a socket connects), or left untracked for a cache on this node that answers at a Service's address.
        None => (table.count().ok()? == Some(0)).then_some(true),
    }
}

/// Opens a connection, with a mark where rows are to know it.
async fn connect(server: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.connect(server).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known before anybody was asked, but for these servers, which were reached, as written or translated.
    fn found(direct: &[(&str, bool)], asked: &Asked) -> Fallback {
        let direct = direct.iter().map(|(server, is)| (server.parse().unwrap(), *is)).collect();
        let mut fallbacks = Fallbacks { direct };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fallbacks.of(asked, &["10.0.0.9:53".parse().unwrap()], false))
    }

    fn servers(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|server| server.parse().unwrap()).collect()
    }

    #[test]
    fn what_the_configuration_does_not_name_is_known_to_be_nobody() {
        let asked = Asked::default();
        assert_eq!(found(&[("10.0.0.1:53", true)], &asked), Fallback::Known(Vec::new()));
        let asked = Asked { servers: servers(&["10.0.0.1:53", "10.0.0.9:53", "127.0.0.1:53"]), ..asked };
        assert_eq!(
            found(&[("10.0.0.1:53", false)], &asked),
            Fallback::Known(Vec::new()),
            "translated, we, loopback"
        );
        assert_eq!(found(&[("10.0.0.1:53", true)], &asked), Fallback::Known(servers(&["10.0.0.1:53"])));
    }

    #[test]
    fn a_name_that_is_not_found_out_says_nothing() {
        let asked = Asked { servers: servers(&["10.0.0.1:53"]), has_services: true, ..Asked::default() };
        assert_eq!(found(&[("10.0.0.1:53", false)], &asked), Fallback::Unheard);
        let asked = Asked { pods: servers(&["10.0.0.2:53"]), ..asked };
        assert_eq!(found(&[("10.0.0.2:53", true)], &asked), Fallback::Known(servers(&["10.0.0.2:53"])));
        let no_pod = found(&[("10.0.0.2:53", false)], &asked);
        assert_eq!(no_pod, Fallback::Known(Vec::new()), "the name of a Service with an address of its own");
    }
}
