//! An element of `http.serve`: an address, and the paths that it serves.

use std::net::SocketAddr;

use super::element::Element;
use super::keys::{self, Keys};
use super::problem::{Fault, Wrong};
use super::{HttpListener, HttpPath};

/// The element while it is read.
pub(super) struct WrittenListener {
    /// Missing until it is read.
    pub address: Option<SocketAddr>,
    pub paths: Vec<HttpPath>,
}

impl Default for WrittenListener {
    fn default() -> Self {
        Self { address: None, paths: HttpPath::ALL.to_vec() }
    }
}

impl Element for WrittenListener {
    type Value = HttpListener;
    const KEY: &'static str = "http.serve";
    const EXAMPLE: &'static str = "write { address = \"127.0.0.1:9353\" }";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::http_listener(self, keys)
    }

    fn finish(self) -> Result<HttpListener, Wrong> {
        let without = || Wrong::new("an entry without an address", Self::EXAMPLE);
        Ok(HttpListener { address: self.address.ok_or_else(without)?, paths: self.paths })
    }

    fn of(listener: &HttpListener) -> Self {
        Self { address: Some(listener.address), paths: listener.paths.clone() }
    }
}
