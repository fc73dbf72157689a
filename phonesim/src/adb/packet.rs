//! One packet of the ADB transport: a header of six little-endian words, then the payload.
//! Sans-IO: whoever has the bytes asks here what they mean.
//!
//! Layout and constants as in AOSP `adb/protocol.txt` and `adb/types.h`.

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 24;

/// Longest payload that either side may send, in bytes.
pub const LONGEST_PAYLOAD: usize = 1024 * 1024;

/// Longest payload of hosts that do not say otherwise, in bytes.
pub const SMALLEST_LIMIT: usize = 4096;

/// The protocol version spoken here: the first in which checksums are not looked at.
pub const VERSION: u32 = 0x0100_0001;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Says who one is.
    Connect,
    /// Asks for a key, or shows one.
    Authorise,
    /// Opens a stream to a service.
    Open,
    /// The last packet of a stream was taken.
    Okay,
    /// Data of a stream.
    Write,
    /// Ends a stream.
    Close,
    /// Anything else, such as the request for TLS.
    Other(u32),
}

const fn word(name: [u8; 4]) -> u32 {
    u32::from_le_bytes(name)
}

const NAMES: [(u32, Command); 6] = [
    (word(*b"CNXN"), Command::Connect),
    (word(*b"AUTH"), Command::Authorise),
    (word(*b"OPEN"), Command::Open),
    (word(*b"OKAY"), Command::Okay),
    (word(*b"WRTE"), Command::Write),
    (word(*b"CLSE"), Command::Close),
];

impl Command {
    fn of(word: u32) -> Self {
        NAMES.iter().find(|(name, _)| *name == word).map_or(Self::Other(word), |(_, command)| *command)
    }

    fn word(self) -> u32 {
        if let Self::Other(word) = self {
            return word;
        }
        NAMES.iter().find(|(_, command)| *command == self).map_or(0, |(name, _)| *name)
    }
}

/// Why bytes are no packet. There is no way back to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The last word is not the complement of the first.
    #[error("these bytes are no ADB packet")]
    NoPacket,
    /// The payload is longer than anybody may send.
    #[error("a packet announces {0} bytes, at most {LONGEST_PAYLOAD} are allowed")]
    TooLong(u32),
}

/// A header, with the length of the payload that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    command: Command,
    first: u32,
    second: u32,
    /// Bytes that follow.
    pub length: usize,
}

impl Header {
    /// Reads a header. Its checksum is not looked at, as from this version on nobody does.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, PacketError> {
        let mut words = [0; 6];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [command, first, second, length, _checksum, magic] = words;
        if magic != !command {
            return Err(PacketError::NoPacket);
        }
        if length as usize > LONGEST_PAYLOAD {
            return Err(PacketError::TooLong(length));
        }
        Ok(Self { command: Command::of(command), first, second, length: length as usize })
    }

    /// The packet of this header and the payload that followed it.
    pub fn with(self, payload: Vec<u8>) -> Packet {
        Packet { command: self.command, first: self.first, second: self.second, payload }
    }
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it is for.
    pub command: Command,
    /// First argument; of streams the sender's number.
    pub first: u32,
    /// Second argument; of streams the receiver's number.
    pub second: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet without a payload.
    pub fn bare(command: Command, first: u32, second: u32) -> Self {
        Self { command, first, second, payload: Vec::new() }
    }

    /// As it goes over the wire, with a checksum for whoever still looks at it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let checksum = self.payload.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        let command = self.command.word();
        let words = [command, self.first, self.second, self.payload.len() as u32, checksum, !command];
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        for word in words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> [u8; HEADER_BYTES] {
        bytes[..HEADER_BYTES].try_into().unwrap()
    }

    #[test]
    fn a_packet_goes_over_the_wire_and_back() {
        for (_, command) in NAMES {
            let packet = Packet { command, first: 1, second: u32::MAX, payload: b"shell:x\0".to_vec() };
            let bytes = packet.to_bytes();
            let read = Header::parse(&header(&bytes)).unwrap();
            assert_eq!(read.length, 8);
            assert_eq!(read.with(bytes[HEADER_BYTES..].to_vec()), packet);
        }
    }

    #[test]
    fn the_greeting_is_the_one_of_the_books() {
        let packet = Packet {
            command: Command::Connect,
            first: VERSION,
            second: 0x10_0000,
            payload: b"host::".into(),
        };
        let bytes = packet.to_bytes();
        assert_eq!(&bytes[..4], b"CNXN");
        assert_eq!(&bytes[4..8], [1, 0, 0, 1]);
        assert_eq!(&bytes[12..16], [6, 0, 0, 0]);
        assert_eq!(&bytes[20..24], [0xbc, 0xb1, 0xa7, 0xb1]);
    }

    #[test]
    fn garbage_and_giants_are_refused() {
        assert_eq!(Header::parse(&[0x41; HEADER_BYTES]), Err(PacketError::NoPacket));
        let mut bytes = header(&Packet::bare(Command::Write, 1, 2).to_bytes());
        bytes[12..16].copy_from_slice(&0x0010_0001_u32.to_le_bytes());
        assert_eq!(Header::parse(&bytes), Err(PacketError::TooLong(0x0010_0001)));
        // Unknown, but a packet: to be passed over.
        let stranger = Packet::bare(Command::Other(7), 0, 0).to_bytes();
        assert_eq!(Header::parse(&header(&stranger)).unwrap().with(vec![]).command, Command::Other(7));
    }
}
