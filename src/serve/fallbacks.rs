//! Where clients go without us: which of the servers that we ask are reached as they are written.
//!
//! The sleeping rows translate a client's query to a server of the cluster DNS. A Service's address would not do: the
//! kernel translates a connection once, so kube-proxy's own translation would never come after ours. Addresses from
//! `svc://` targets are pods by what they are. An address that the configuration names may be either; so we connect to
//! it, and ask connection tracking whether the connection went where it was sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::node::conntrack::{Conntrack, Protocol};
use crate::resolve::zones::Asked;

/// How long a server may take to accept.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the servers.
#[derive(Debug, Default)]
pub struct Fallbacks {
    /// Those that were reached as they are written. That a Service's address turns into a pod's is not heard of.
    direct: BTreeSet<SocketAddr>,
}

impl Fallbacks {
    /// Those of a zone's servers that clients can be sent to.
    pub async fn of(&mut self, asked: &Asked, ours: &[SocketAddr]) -> Vec<SocketAddr> {
        if !asked.pods.is_empty() {
            return asked.pods.clone();
        }
        let mut found = Vec::new();
        for &server in &asked.servers {
            // Nobody else reaches our loopback, and nothing is gained by being sent to ourselves.
            if server.ip().is_loopback() || ours.iter().any(|own| own.ip() == server.ip()) {
                continue;
            }
            if self.direct.contains(&server) || self.is_direct(server).await {
                found.push(server);
            }
        }
        found
    }

    async fn is_direct(&mut self, server: SocketAddr) -> bool {
        let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(server)).await else {
            debug!(
                "{server} does not accept connections now: it is not known whether clients can fall back to it"
            );
            return false;
        };
        let Ok(local) = stream.local_addr() else { return false };
        let entry = Conntrack::open().and_then(|mut table| table.lookup(Protocol::Tcp, local, server));
        // No entry: connections are not tracked here, so nothing is translated.
        let direct = entry.is_ok_and(|entry| entry.is_none_or(|entry| entry.translated_to().is_none()));
        if direct {
            self.direct.insert(server);
        }
        direct
    }
}
