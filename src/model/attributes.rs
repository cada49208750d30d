//! Netlink attributes as a value: what `sys` sends and `firewall` renders (kernel `include/uapi/linux/netlink.h`).

/// Set on attributes that hold attributes (`NLA_F_NESTED`).
pub const NESTED: u16 = 1 << 15;

/// A growing run of attributes, each padded to four bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// An empty run.
    pub fn new() -> Self {
        Self::default()
    }

    /// A run that starts with a family header (`ifinfomsg`, `rtmsg`, `nfgenmsg`), whose size is a multiple of four.
    pub fn after(header: &[u8]) -> Self {
        debug_assert_eq!(header.len() % 4, 0, "netlink headers are aligned");
        Self { bytes: header.to_vec() }
    }

    /// Appends one attribute of any content.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
        self
    }

    /// Appends a NUL-terminated string.
    pub fn put_str(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.put(kind, &payload)
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Appends 16 bits in the host's order.
    pub fn put_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends 32 bits in the host's order.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends 32 bits in network order, as nf_tables wants its numbers.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends 64 bits in network order.
    pub fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` puts into it.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_after(kind, &[], fill)
    }

    /// Appends a nested attribute whose content starts with a plain header (`VETH_INFO_PEER` holds an `ifinfomsg`).
    pub fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self.pad();
        self
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, for good.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Reads a run of attributes: each one's kind without its flag bits, and its content. Ends at the first that is torn.
pub fn iterate(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, payload))
    })
}

/// The content of the first attribute of a kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    iterate(bytes).find(|(k, _)| *k == kind).map(|(_, payload)| payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut attributes = Attributes::new();
        attributes.put_str(1, "eth0").put_u8(2, 7).nest(3, |inner| {
            inner.put_be32(4, 0x0102_0304);
        });
        let read: Vec<_> = iterate(attributes.as_bytes()).collect();
        assert_eq!(read[0], (1, &b"eth0\0"[..]));
        assert_eq!(read[1], (2, &[7][..]));
        assert_eq!(find(read[2].1, 4), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attributes.as_bytes().len() % 4, 0);
    }

    #[test]
    fn a_torn_run_ends_the_reading() {
        assert_eq!(iterate(&[9, 0, 1, 0, 5]).count(), 0);
        assert_eq!(iterate(&[1]).count(), 0);
        assert_eq!(iterate(&[0, 0, 1, 0]).count(), 0);
    }
}
