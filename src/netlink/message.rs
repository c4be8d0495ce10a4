//! Messages: a header of 16 bytes, a fixed part that the family defines, and attributes (type, length, value),
//! each padded to four bytes. Headers are in the host's byte order; what attributes hold, their users decide.

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// NLA_F_NESTED.
const NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK: the type without its two flags.
const TYPE: u16 = 0x3fff;

/// A message that is being built. Length, sequence number and port are filled in when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub(super) Vec<u8>);

impl Message {
    /// A message of this type; `flags` are NLM_F_* besides NLM_F_REQUEST, which is always set. `fixed` is what
    /// the family puts before the attributes (`ifinfomsg`, `nfgenmsg`).
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        const NLM_F_REQUEST: u16 = 1;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.0.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Adds a text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.close(start);
        self
    }

    /// Adds a number in the host's byte order, as rtnetlink has it.
    pub fn native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in the network's byte order, as nfnetlink has it.
    pub fn network(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // What we build is far below 64 KiB; a longer attribute would be refused by the kernel as malformed.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The same as if the kernel had sent it: for tests of what reads replies.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> Reply {
        let mut message = self.clone();
        let mut replies = Reply::all(message.seal(0, 0));
        replies.remove(0)
    }

    /// Its bytes as they are sent.
    pub(super) fn seal(&mut self, sequence: u32, flags: u16) -> &[u8] {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | flags;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.0
    }
}

/// A message from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// Whom it answers; an event answers nobody.
    pub sequence: u32,
    /// The port of the socket that asked for it, or whose request an event tells of; zero is the kernel's own.
    pub port: u32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The fixed part of so many bytes, filled with zeros if the kernel sent fewer.
    pub fn fixed<const N: usize>(&self) -> [u8; N] {
        let mut fixed = [0; N];
        let length = self.body.len().min(N);
        fixed[..length].copy_from_slice(&self.body[..length]);
        fixed
    }

    /// The attributes behind a fixed part of `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Attributes<'_> {
        Attributes(self.body.get(fixed.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The messages in what one read returned; a damaged rest is passed over.
    pub(super) fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
            let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _, _, _] = *header;
            let length = u32::from_ne_bytes([a, b, c, d]) as usize;
            let Some(body) = bytes.get(HEADER..length) else { break };
            all.push(Self {
                kind: u16::from_ne_bytes(kind),
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
                port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
                body: body.to_vec(),
            });
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        all
    }
}

/// Walks through attributes: their type, without its flags, and their value. A damaged rest is passed over.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes in the value of a nested one.
    pub fn within(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// The value of the first attribute of this type.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }

    /// The attributes in the first one of this type; none if there is none.
    pub fn nested(self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }

    /// A number in the network's byte order (nfnetlink).
    pub fn network(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A long number in the network's byte order (nfnetlink).
    pub fn network64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A number in the host's byte order (rtnetlink).
    pub fn native(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// A text, without its terminating zero.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<ATTRIBUTE>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// One attribute by itself, as bytes: for values that are lists of them.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut message = Message(Vec::new());
    message.put(kind, value);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut message = Message::new(16, 0x400, &[7; 5]);
        message.text(3, "abc").native(4, 0x01020304).nest(18, |m| {
            m.network(1, 5).put(2, &[]);
        });
        let bytes = message.seal(9, 4).to_vec();
        assert_eq!(bytes.len() % 4, 0);
        let [reply] = &Reply::all(&bytes)[..] else { panic!("one message") };
        assert_eq!((reply.kind, reply.flags, reply.sequence), (16, 0x405, 9));
        assert_eq!(reply.fixed::<5>(), [7; 5]);
        let attributes = reply.attributes(5);
        assert_eq!(attributes.text(3), Some("abc"));
        assert_eq!(attributes.native(4), Some(0x01020304));
        assert_eq!(attributes.nested(18).network(1), Some(5));
        assert_eq!(attributes.nested(18).get(2), Some(&[][..]));
        assert_eq!(attributes.count(), 3);
    }

    #[test]
    fn damaged_bytes_end_the_walk_and_nothing_else() {
        let mut message = Message::new(16, 0, &[]);
        message.put(1, &[1; 9]).put(2, &[2; 3]);
        let whole = message.seal(1, 0).to_vec();
        for cut in 0..whole.len() {
            for reply in Reply::all(&whole[..cut]) {
                assert!(reply.attributes(0).count() <= 2);
            }
            assert!(Attributes::within(&whole[..cut]).count() <= cut);
        }
        // A length of zero would go round for ever.
        assert_eq!(Attributes::within(&[0; 64]).count(), 0);
        assert_eq!(Reply::all(&[0; 64]).len(), 0);
    }
}
