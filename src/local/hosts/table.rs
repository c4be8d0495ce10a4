//! The entries of a hosts file: an address, then its names; `#` begins a comment (hosts(5)).
//!
//! Entries stand in the order in which they were written, with the bytes of all names in one piece; names and addresses
//! are found by halving two lists of places. Lists of names to block have hundreds of thousands of entries, and a miss
//! has the time for some twenty comparisons.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

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
    /// In the order written.
    entries: Vec<Entry>,
    /// Their names, one behind the other: wire format, lower case.
    bytes: Vec<u8>,
    /// Places in `entries`, by name; those of one name as they were written.
    by_name: Vec<u32>,
    /// The same by address.
    by_address: Vec<u32>,
    skipped: usize,
    left_out: usize,
    modified: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    address: IpAddr,
    /// Where its name begins and how long it is.
    at: u32,
    len: u8,
}

/// Tables are the same that have the same entries in the same order. Where these were read, and what was no entry there,
/// makes no difference to any answer.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.bytes == other.bytes
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
            let Ok(address) = address.map(|address| address.to_canonical()) else {
                table.skipped += 1;
                continue;
            };
            let before = table.entries.len() + table.left_out;
            let mut whole = true;
            for name in words.map(text::read) {
                match name {
                    Some(name) => table.push(address, &name),
                    None => whole = false,
                }
            }
            let named = table.entries.len() + table.left_out > before;
            table.skipped += usize::from(!(whole && named));
        }
        table.sort();
        table
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is larger than [`HOSTS_FILE`].
    pub fn read(path: &Path) -> io::Result<Self> {
        let (bytes, modified) = regular::read_dated(path, HOSTS_FILE.max)?;
        if bytes.len() as u64 > HOSTS_FILE.max {
            let why = format!("larger than {} bytes", HOSTS_FILE.max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(Self { modified, ..Self::parse(&String::from_utf8_lossy(&bytes)) })
    }

    fn push(&mut self, address: IpAddr, name: &[u8]) {
        let at = u32::try_from(self.bytes.len());
        let (Ok(at), Ok(len), true) = (at, u8::try_from(name.len()), self.entries.len() < HOSTS_ENTRIES.max)
        else {
            self.left_out += 1;
            return;
        };
        self.bytes.extend_from_slice(name);
        self.entries.push(Entry { address, at, len });
    }

    /// Puts the places into order, and gives back what was taken for growth.
    fn sort(&mut self) {
        self.entries.shrink_to_fit();
        self.bytes.shrink_to_fit();
        let places: Vec<u32> = (0..self.entries.len() as u32).collect();
        let (mut by_name, mut by_address) = (places.clone(), places);
        // Stable sorts: entries that are alike stay as they were written.
        by_name.sort_by(|&a, &b| self.name_at(a).cmp(self.name_at(b)));
        by_address.sort_by_key(|&place| self.address_at(place));
        (self.by_name, self.by_address) = (by_name, by_address);
    }

    fn name_at(&self, place: u32) -> &[u8] {
        let Entry { at, len, .. } = self.entries[place as usize];
        &self.bytes[at as usize..][..usize::from(len)]
    }

    fn address_at(&self, place: u32) -> IpAddr {
        self.entries[place as usize].address
    }

    /// The addresses of a name (wire format, lower case), in the order written.
    pub fn addresses(&self, name: &[u8]) -> impl Iterator<Item = IpAddr> {
        let first = self.by_name.partition_point(|&place| self.name_at(place) < name);
        let places = self.by_name[first..].iter().take_while(move |&&place| self.name_at(place) == name);
        places.map(|&place| self.address_at(place))
    }

    /// The names of an address, in the order written.
    pub fn names(&self, address: IpAddr) -> impl Iterator<Item = &[u8]> {
        let first = self.by_address.partition_point(|&place| self.address_at(place) < address);
        let places =
            self.by_address[first..].iter().take_while(move |&&place| self.address_at(place) == address);
        places.map(|&place| self.name_at(place))
    }

    /// The entries as lines in the order written, an address and a name each.
    pub fn lines(&self) -> Vec<String> {
        let places = 0..self.entries.len() as u32;
        places
            .map(|place| format!("{} {}", self.address_at(place), text::show(self.name_at(place))))
            .collect()
    }

    /// How many entries there are, an address and a name each.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Lines that have no address, or no name, or one that is none.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Entries beyond [`HOSTS_ENTRIES`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// When the file that was read had changed last; `None` if there was none.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn entries_are_read_and_other_lines_are_counted() {
        let table = Table::parse(
            "# a comment\n\n127.0.0.1 LocalHost localhost.localdomain # loopback\n::1\tlocalhost\r\n\
             fe80::1%eth0 link\n::ffff:192.0.2.1 mapped\nnot-an-address x\n192.0.2.7\n192.0.2.8 ok no..name\n\
             010.0.0.1 octal",
        );
        let addresses = |name: &[u8]| table.addresses(name).collect::<Vec<_>>();
        assert_eq!(addresses(b"\x09localhost\0"), [ip("127.0.0.1"), ip("::1")]);
        assert_eq!(addresses(b"\x04link\0"), [ip("fe80::1")]);
        assert_eq!(addresses(b"\x06mapped\0"), [ip("192.0.2.1")]);
        assert!(addresses(b"\x05octal\0").is_empty());
        assert_eq!(table.names(ip("127.0.0.1")).count(), 2);
        assert_eq!((table.entries(), table.skipped(), table.left_out()), (6, 4, 0));
        assert_eq!(
            Table::parse("x y\n192.0.2.1 a\nz"),
            Table::parse("192.0.2.1 a"),
            "what is no entry is no matter"
        );
    }

    #[test]
    fn entries_stay_in_the_order_written() {
        let text = "192.0.2.2 z.test\n192.0.2.1 z.test\n192.0.2.2 a.test m.test\n192.0.2.1 a.test";
        let table = Table::parse(text);
        let names: Vec<_> = table.names(ip("192.0.2.2")).map(text::show).collect();
        assert_eq!(names, ["z.test.", "a.test.", "m.test."]);
        assert_eq!(
            table.addresses(b"\x01z\x04test\0").collect::<Vec<_>>(),
            [ip("192.0.2.2"), ip("192.0.2.1")]
        );
        assert_eq!(table.lines()[..2], ["192.0.2.2 z.test.", "192.0.2.1 z.test."]);
        assert_eq!(Table::parse(&table.lines().join("\n")), table, "what is printed is read as the same");
        assert_ne!(Table::parse("192.0.2.2 a.test z.test"), Table::parse("192.0.2.2 z.test a.test"));
    }

    #[test]
    fn a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        assert!(Table::read(&path).is_err());
        std::fs::write(&path, b"192.0.2.1 a\n\xff\xfe b\n").unwrap();
        let table = Table::read(&path).unwrap();
        assert_eq!((table.entries(), table.skipped()), (1, 1));
        assert_eq!(table.modified(), path.metadata().unwrap().modified().ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_table(text in "\\PC*") {
            Table::parse(&text);
        }
    }
}
