//! Whether we answer: a question to ourselves at every address we listen on, over UDP and over TCP.
//!
//! The question is `CH TXT` for a [name](own::probe_name) that nobody else asks for. It is refused on the spot, and is no
//! client's query to whoever counts and logs those. So the whole way from socket to socket is tried, and no upstream is
//! asked: a node whose upstreams are down is still healthy, and restarting it would only throw its cache away.
//!
//! On a node, a packet filter may send questions to our addresses elsewhere while we do not answer. Ours carry a mark
//! (SO_MARK, socket(7)) by which its rows know them, so that nobody but ourselves answers.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use crate::listen::own;

/// How long an answer from ourselves may take. A kubelet's probe waits 1 s unless told otherwise.
pub const ANSWER: Duration = Duration::from_secs(1);

/// The largest answer we look at, in bytes: without EDNS a UDP answer is no longer (RFC 1035 section 4.2.1),
/// and a refusal is short over TCP as well.
const ANSWER_SIZE: usize = 512;

/// Asks ourselves at each of these listen addresses, over UDP and TCP, all at once; done after [`ANSWER`] at
/// the latest. A wildcard address is asked on loopback. Says who failed, and how.
pub async fn ask_ourselves(addresses: &[SocketAddr], mark: Option<u32>) -> Result<(), Vec<String>> {
    let targets =
        addresses.iter().flat_map(|&a| [(reachable(a), Protocol::Udp), (reachable(a), Protocol::Tcp)]);
    let answers = join_all(targets.map(|(address, protocol)| ask(address, protocol, mark, ANSWER))).await;
    let failures: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// In a datagram.
    Udp,
    /// On a connection of its own.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Asks ourselves once, at one address; done after `patience`.
///
/// # Errors
/// Who failed, and how.
pub async fn ask_once(
    address: SocketAddr,
    protocol: Protocol,
    mark: Option<u32>,
    patience: Duration,
) -> Result<(), String> {
    ask(reachable(address), protocol, mark, patience).await
}

/// Where to ask for a listener: itself, or loopback for a wildcard.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// One question, one answer, or what went wrong in words.
async fn ask(
    address: SocketAddr,
    protocol: Protocol,
    mark: Option<u32>,
    patience: Duration,
) -> Result<(), String> {
    let name = protocol.to_string().to_lowercase();
    let (id, query) = question().map_err(|e| format!("{address}/{name}: no question could be made: {e}"))?;
    let exchange = async {
        match protocol {
            Protocol::Udp => over_udp(address, mark, id, &query).await,
            Protocol::Tcp => over_tcp(address, mark, id, &query).await,
        }
    };
    match timeout(patience, exchange).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(format!("{address}/{name}: {e}")),
        Err(_) => Err(format!("{address}/{name} did not answer within {patience:?}")),
    }
}

/// The question, with a random id.
fn question() -> Result<(u16, Vec<u8>), ProtoError> {
    let mut query = Query::query(Name::read(&mut BinDecoder::new(own::probe_name()))?, RecordType::TXT);
    query.set_query_class(DNSClass::CH);
    let mut message = Message::query();
    message.add_query(query);
    Ok((message.metadata.id, message.to_vec()?))
}

/// Whether this is an answer to our question: well formed, a response, our id, one question. What it says
/// does not matter.
fn is_answer(id: u16, bytes: &[u8]) -> bool {
    Message::from_vec(bytes).is_ok_and(|m| {
        m.metadata.id == id && m.metadata.message_type == MessageType::Response && m.queries.len() == 1
    })
}

/// Puts the mark on a socket's packets. It needs CAP_NET_ADMIN, which whoever made rows for it has.
fn carry(socket: &impl AsFd, mark: Option<u32>) -> io::Result<()> {
    mark.map_or(Ok(()), |mark| socket2::SockRef::from(socket).set_mark(mark))
}

/// Sends the query and waits for its answer; other datagrams are passed over.
async fn over_udp(address: SocketAddr, mark: Option<u32>, id: u16, query: &[u8]) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    carry(&socket, mark)?;
    // Connected, so that nobody else's datagrams come in and a closed port is heard of at once.
    socket.connect(address).await?;
    socket.send(query).await?;
    let mut buffer = [0; ANSWER_SIZE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(id, &buffer[..length]) {
            return Ok(());
        }
    }
}

/// Sends the query and reads one message (RFC 1035 section 4.2.2).
async fn over_tcp(address: SocketAddr, mark: Option<u32>, id: u16, query: &[u8]) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    carry(&socket, mark)?;
    let mut stream = socket.connect(address).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    // One write, so one segment: there is no reason to make ourselves wait for the second half.
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut buffer = [0; ANSWER_SIZE];
    let Some(answer) = buffer.get_mut(..length) else {
        return Err(io::Error::other(format!("the answer is too long ({length} bytes)")));
    };
    stream.read_exact(answer).await?;
    if is_answer(id, answer) { Ok(()) } else { Err(io::Error::other("that is no answer to the question")) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// A UDP and a TCP listener at one port of this address.
    async fn listeners(ip: IpAddr) -> (UdpSocket, TcpListener, SocketAddr) {
        for _ in 0..50 {
            let tcp = TcpListener::bind((ip, 0)).await.unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                return (udp, tcp, address);
            }
        }
        panic!("no port is free for both protocols");
    }

    /// The query as a REFUSED response.
    fn refused(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[3] = 5;
        answer
    }

    /// Answers one query over UDP: each of the datagrams that `with` makes of it.
    async fn answer_udp(socket: &UdpSocket, with: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        for datagram in with(&buffer[..length]) {
            socket.send_to(&datagram, from).await.unwrap();
        }
    }

    /// Answers one query over TCP with what `with` makes of it, then closes.
    async fn answer_tcp(listener: &TcpListener, with: impl Fn(&[u8]) -> Vec<u8>) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut query).await.unwrap();
        let answer = with(&query);
        stream.write_u16(answer.len() as u16).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }

    /// Asks ourselves while somebody answers like this, once over each protocol.
    fn asked(
        ip: IpAddr,
        udp_answers: impl Fn(&[u8]) -> Vec<Vec<u8>>,
        tcp_answer: impl Fn(&[u8]) -> Vec<u8>,
    ) -> (SocketAddr, Result<(), Vec<String>>) {
        run(async {
            let (udp, tcp, address) = listeners(ip).await;
            let addresses = [address];
            let (said, (), ()) = tokio::join!(
                ask_ourselves(&addresses, None),
                answer_udp(&udp, udp_answers),
                answer_tcp(&tcp, tcp_answer),
            );
            (address, said)
        })
    }

    #[test]
    fn a_refusal_is_an_answer() {
        assert_eq!(asked(Ipv4Addr::LOCALHOST.into(), |q| vec![refused(q)], refused).1, Ok(()));
    }

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        assert_eq!(asked(Ipv4Addr::UNSPECIFIED.into(), |q| vec![refused(q)], refused).1, Ok(()));
        assert_eq!(reachable("[::]:53".parse().unwrap()), "[::1]:53".parse().unwrap());
    }

    #[test]
    fn an_answer_has_our_id_and_our_question() {
        let (id, query) = question().unwrap();
        let answer = refused(&query);
        assert!(is_answer(id, &answer));
        assert!(!is_answer(id ^ 1, &answer));
        assert!(!is_answer(id, &query), "a query");
        assert!(!is_answer(id, &answer[..answer.len() - 1]), "cut short");
        let mut none = answer[..12].to_vec();
        none[5] = 0;
        assert!(!is_answer(id, &none), "no question");
    }

    #[test]
    fn over_udp_anything_but_the_answer_is_passed_over() {
        let many = |query: &[u8]| {
            let mut other_id = refused(query);
            other_id[0] ^= 0xff;
            vec![vec![1, 2, 3], query.to_vec(), other_id, refused(query)]
        };
        assert_eq!(asked(Ipv4Addr::LOCALHOST.into(), many, refused).1, Ok(()));
    }

    #[test]
    fn over_tcp_a_wrong_answer_is_a_failure() {
        let (address, said) = asked(Ipv4Addr::LOCALHOST.into(), |q| vec![refused(q)], <[u8]>::to_vec);
        assert_eq!(said, Err(vec![format!("{address}/tcp: that is no answer to the question")]));
    }

    #[test]
    fn silence_is_named_and_bounded() {
        run(async {
            // Both sockets are open, so nothing is refused; nobody reads them.
            let (_udp, _tcp, address) = listeners(Ipv4Addr::LOCALHOST.into()).await;
            let started = Instant::now();
            let said = ask_ourselves(&[address, address], None).await.unwrap_err();
            assert!(started.elapsed() < ANSWER * 2, "they are asked at once");
            assert_eq!(said.len(), 4);
            assert_eq!(said[0], format!("{address}/udp did not answer within 1s"));
            assert_eq!(said[1], format!("{address}/tcp did not answer within 1s"));
        });
    }

    #[test]
    fn a_closed_port_is_heard_of_at_once() {
        run(async {
            let (udp, tcp, address) = listeners(Ipv4Addr::LOCALHOST.into()).await;
            drop((udp, tcp));
            let started = Instant::now();
            let said = ask_ourselves(&[address], None).await.unwrap_err();
            assert!(started.elapsed() < ANSWER);
            assert_eq!(said.len(), 2);
            assert!(said.iter().all(|s| s.contains("refused")), "{said:?}");
        });
    }
}
