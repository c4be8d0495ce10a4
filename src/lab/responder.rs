//! The cluster DNS: two servers with one address each, as two CoreDNS pods have. They know every name.
//!
//! hickory-server answers, not code of our own: what sidestep is shown to work with should not be written by those who
//! wrote sidestep. It costs 150 KB of the binary (5 %).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Header, HeaderCounts, Metadata};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::place::Place;
use super::{Doing, Trouble};

/// When answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// At once.
    None,
    /// After [`SLOW`], as answers from far away do on a bad day: each after a time of its own.
    Slow,
}

/// How long a slow answer takes, in milliseconds: longer than the second for which the kernel remembers the loser of
/// a race, shorter than a client's patience.
const SLOW: Range<u64> = 1_100..2_500;
/// Seconds that an answer is good for.
const TTL: u32 = 30;
/// Longer than anything here takes.
const TCP_IDLE: Duration = Duration::from_secs(60);
/// Answers of one TCP connection that may wait to be written.
const TCP_PENDING: usize = 1024;

/// Two servers. They end when this is dropped.
pub(super) struct Responders {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Responders {
    /// Starts them in `place`, on port 53 of these addresses.
    pub fn start(place: &Place, addresses: &'static [Ipv4Addr], delay: Delay) -> Result<Self, Trouble> {
        let sockets = place.run(move || {
            let bound = addresses.iter().map(|&ip| bind((ip, 53).into())).collect::<io::Result<Vec<_>>>();
            bound.doing("starting the cluster DNS")
        })?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing("starting the cluster DNS")?;
        let thread = thread::Builder::new().name("cluster DNS".to_owned()).spawn(move || {
            // Its end, good or bad, is heard of by the clients.
            let _ = runtime.block_on(serve(sockets, delay, stopped));
        });
        let thread = thread.doing("starting a thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Responders {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

async fn serve(
    sockets: Vec<(UdpSocket, TcpListener)>,
    delay: Delay,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut server = Server::new(EveryName { delay });
    for (udp, tcp) in sockets {
        server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
        server.register_listener(tokio::net::TcpListener::from_std(tcp)?, TCP_IDLE, TCP_PENDING);
    }
    // Nothing is ever sent: it ends when nobody could send any more.
    let _ = stopped.await;
    Ok(())
}

/// One address for A and AAAA, nothing for other types.
struct EveryName {
    delay: Delay,
}

#[async_trait]
impl RequestHandler for EveryName {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, query: &Request, to: R) -> ResponseInfo {
        if self.delay == Delay::None {
            return respond(query, to).await;
        }
        // The server takes the next query of a TCP connection when this returns. CoreDNS answers them side by side, so
        // the waiting is done elsewhere, on a copy.
        if let Ok(copy) = Request::from_bytes(query.as_slice().to_vec(), query.src(), query.protocol()) {
            let pause = Duration::from_millis(rand::rng().random_range(SLOW));
            tokio::spawn(async move {
                sleep(pause).await;
                respond(&copy, to).await;
            });
        }
        said(query)
    }
}

async fn respond(query: &Request, mut to: impl ResponseHandler) -> ResponseInfo {
    let records: Vec<_> = answer(query).into_iter().collect();
    let metadata = Metadata::response_from_request(&query.metadata);
    let response = MessageResponseBuilder::from_message_request(query).build(metadata, &records, [], [], []);
    // A client that has gone is none of our business.
    to.send_response(response).await.unwrap_or_else(|_| said(query))
}

/// What the server is told of a response for its statistics, where it has not sent it itself.
fn said(query: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&query.metadata);
    Header { metadata, counts: HeaderCounts::default() }.into()
}

fn answer(query: &Request) -> Option<Record> {
    let question = query.request_info().ok()?.query;
    let data = match question.query_type() {
        RecordType::A => RData::A(A(Ipv4Addr::new(192, 0, 2, 1))),
        RecordType::AAAA => RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        _ => return None,
    };
    Some(Record::from_rdata(question.name().into(), TTL, data))
}
