//! A client of the program: datagrams and framed messages, with patience that ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::program::Program;
use crate::support::message;

/// Longer than the longest that any client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// A query with RD and without EDNS.
pub fn query(id: u16, name: &str, rtype: u16) -> Vec<u8> {
    message::query(id, 0x0100, &message::question(name, rtype), None)
}

/// The same with EDNS: UDP size and options.
pub fn edns_query(id: u16, name: &str, rtype: u16, size: u16, options: &[u8]) -> Vec<u8> {
    message::query(id, 0x0100, &message::question(name, rtype), Some(message::opt(size, 0, options)))
}

pub struct Udp(UdpSocket);

impl Udp {
    pub fn to(address: SocketAddr) -> Self {
        let own: IpAddr =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() };
        let socket = UdpSocket::bind((own, 0)).unwrap();
        // Answers from another address than the asked one do not reach a connected socket.
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub fn send(&self, query: &[u8]) {
        self.0.send(query).unwrap();
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_535];
        let len = self.0.recv(&mut buffer).expect("an answer");
        buffer.truncate(len);
        buffer
    }

    pub fn ask(&self, query: &[u8]) -> Vec<u8> {
        self.send(query);
        let answer = self.receive();
        assert_eq!(answer[..2], query[..2], "the id");
        answer
    }
}

pub struct Tcp(pub TcpStream);

impl Tcp {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// From another address of this machine.
    pub fn from(own: [u8; 4], address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket.into())
    }

    /// With room for very little that it has not read.
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket.into())
    }

    pub fn send(&mut self, query: &[u8]) {
        self.try_send(query).unwrap();
    }

    pub fn try_send(&mut self, query: &[u8]) -> io::Result<()> {
        self.0.write_all(&frame(query))
    }

    /// The next answer; `None` when the program has closed the connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 2];
        match self.0.read_exact(&mut len) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(e) => panic!("no answer: {e}"),
        }
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        self.0.read_exact(&mut message).unwrap();
        Some(message)
    }

    pub fn ask(&mut self, query: &[u8]) -> Vec<u8> {
        self.send(query);
        let answer = self.receive().expect("an answer");
        assert_eq!(answer[..2], query[..2], "the id");
        answer
    }
}

pub fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

impl Program {
    pub fn udp(&self) -> Udp {
        Udp::to(self.address)
    }

    pub fn tcp(&self) -> Tcp {
        Tcp::to(self.address)
    }
}
