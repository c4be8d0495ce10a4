//! The entries of a hosts file: an address, then its names; `#` begins a comment (hosts(5)).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::super::text;
use crate::limit::Limit;
use crate::regular;

/// Bytes of a hosts file. Lists of names to block have a few megabytes.
pub const HOSTS_FILE: Limit<u64> = Limit::new(0, 64 << 20, 64 << 20);
/// Entries of a hosts file, an address and a name each; those beyond are left out.
pub const HOSTS_ENTRIES: Limit<usize> = Limit::new(0, 1_000_000, 1_000_000);

/// Entries by name and by address.
#[derive(Clone, Debug, Default)]
pub struct Table {
    addresses: HashMap<Box<[u8]>, Vec<IpAddr>>,
    names: HashMap<IpAddr, Vec<Box<[u8]>>>,
    entries: usize,
    skipped: usize,
    left_out: usize,
}

/// Tables are the same that say the same of every name; in which order the names of one address stand does not matter.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let of = |table: &Self| (table.entries, table.skipped, table.left_out);
        self.addresses == other.addresses && of(self) == of(other)
    }
}

impl Eq for Table {}

impl Table {
    /// Reads a text. Lines that are no entries are skipped.
    pub fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(address) = words.next() else { continue };
            // The interface behind a percent sign says nothing in DNS.
            let address = address.split('%').next().unwrap_or_default().parse::<IpAddr>();
            let names: Vec<_> = words.map(text::read).collect();
            let Ok(address) = address.map(|address| address.to_canonical()) else {
                table.skipped += 1;
                continue;
            };
            table.skipped += usize::from(names.is_empty() || names.contains(&None));
            names.into_iter().flatten().for_each(|name| table.insert(address, name));
        }
        table
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is larger than [`HOSTS_FILE`].
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = regular::read(path, HOSTS_FILE.max)?;
        if bytes.len() as u64 > HOSTS_FILE.max {
            let why = format!("larger than {} bytes", HOSTS_FILE.max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn insert(&mut self, address: IpAddr, name: Box<[u8]>) {
        if self.entries >= HOSTS_ENTRIES.max {
            self.left_out += 1;
            return;
        }
        self.entries += 1;
        self.names.entry(address).or_default().push(name.clone());
        self.addresses.entry(name).or_default().push(address);
    }

    /// The addresses of a name (wire format, lower case), in order.
    pub fn addresses(&self, name: &[u8]) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    /// The entries as lines, an address and a name each, by name.
    pub fn lines(&self) -> Vec<String> {
        let mut names: Vec<_> = self.addresses.iter().collect();
        names.sort_unstable();
        let lines = names.into_iter().flat_map(|(name, addresses)| {
            let name = text::show(name);
            addresses.iter().map(move |address| format!("{address} {name}"))
        });
        lines.collect()
    }

    /// The names of an address, in order.
    pub fn names(&self, address: &IpAddr) -> &[Box<[u8]>] {
        self.names.get(address).map_or(&[], Vec::as_slice)
    }

    /// How many entries there are, an address and a name each.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Lines that have no address, or no name, or one that is none.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Entries beyond [`HOSTS_ENTRIES`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_other_lines_are_counted() {
        let table = Table::parse(
            "# a comment\n\n127.0.0.1 LocalHost localhost.localdomain # loopback\n::1\tlocalhost\r\n\
             fe80::1%eth0 link\n::ffff:192.0.2.1 mapped\nnot-an-address x\n192.0.2.7\n192.0.2.8 ok no..name\n\
             010.0.0.1 octal",
        );
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(table.addresses(b"\x09localhost\0"), [ip("127.0.0.1"), ip("::1")]);
        assert_eq!(table.addresses(b"\x04link\0"), [ip("fe80::1")]);
        assert_eq!(table.addresses(b"\x06mapped\0"), [ip("192.0.2.1")]);
        assert_eq!(table.names(&ip("127.0.0.1")).len(), 2);
        assert_eq!((table.entries(), table.skipped(), table.left_out()), (6, 4, 0));
    }

    #[test]
    fn a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        assert!(Table::read(&path).is_err());
        std::fs::write(&path, b"192.0.2.1 a\n\xff\xfe b\n").unwrap();
        let table = Table::read(&path).unwrap();
        assert_eq!((table.entries(), table.skipped()), (1, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_table(text in "\\PC*") {
            Table::parse(&text);
        }
    }
}
