//! One host's conversation with the phone, sans-IO: greeting, keys, streams and their flow.
//!
//! ```text
//!   host                         phone
//!    CNXN ───────────────────────▶
//!        ◀─────────────────── AUTH    only when it wants a key
//!    AUTH ───────────────────────▶
//!        ◀─────────────────── CNXN
//!    OPEN(id, service) ──────────▶   Reaction::Start, then accept or refuse
//!        ◀────────── OKAY or CLSE
//!    WRTE ◀──────────────────▶ WRTE   one at a time each way, each answered by OKAY
//!    CLSE ◀──────────────────▶ CLSE
//! ```
//!
//! Whatever a host sends, the worst that happens is the end of its own connection.

use std::collections::{BTreeMap, VecDeque};

use super::packet::{Command, LONGEST_PAYLOAD, Packet, SMALLEST_LIMIT, VERSION};

/// What `AUTH` carries: a random token, its signature, a public key.
const AUTH_TOKEN: u32 = 1;
const AUTH_SIGNATURE: u32 = 2;
const AUTH_PUBLIC_KEY: u32 = 3;

/// Length of a token in bytes.
pub const TOKEN_BYTES: usize = 20;

/// Streams of one host at once.
const MOST_STREAMS: usize = 256;

/// Packets of one stream that may wait here; a host that heeds the flow has one.
const MOST_WAITING: usize = 2;

/// How the phone behaves towards hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Lets everybody in, as Redroid does.
    Open,
    /// Asks for keys and takes none.
    RefuseKeys,
    /// Asks for keys and takes the first public one.
    TakeFirstKey,
    /// Greets, and never says another word.
    FallSilent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the host's greeting.
    Greeting,
    /// Waits for a key.
    Authorising,
    /// Streams may be opened.
    Connected,
}

/// What follows from a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Send this.
    Send(Packet),
    /// Somebody wants this service on a new stream: accept or refuse it.
    Start {
        /// Number of the stream on this side.
        stream: u32,
        /// What is wanted, such as `shell,v2,raw:ls`.
        service: String,
    },
}

/// What a service finds on its stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Data, and the packet that acknowledges it.
    Data(Vec<u8>, Packet),
    /// Nothing yet.
    Nothing,
    /// The host has closed it.
    End,
}

/// What became of data for the host.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// Send this packet, which holds so many of the bytes.
    Send(Packet, usize),
    /// The host has not taken the last packet yet.
    NotYet,
    /// The host has closed the stream.
    Closed,
}

#[derive(Debug)]
struct Stream {
    /// Its number on the other side.
    remote: u32,
    incoming: VecDeque<Vec<u8>>,
    may_write: bool,
    closed: bool,
}

/// A host's end of the phone.
#[derive(Debug)]
pub struct Session {
    manner: Manner,
    banner: String,
    phase: Phase,
    longest: usize,
    streams: BTreeMap<u32, Stream>,
    last: u32,
}

impl Session {
    /// Before the first packet; `banner` is what the phone says of itself.
    pub fn new(manner: Manner, banner: String) -> Self {
        Self {
            manner,
            banner,
            phase: Phase::Greeting,
            longest: SMALLEST_LIMIT,
            streams: BTreeMap::new(),
            last: 0,
        }
    }

    /// Takes a packet. `token` draws a random token, when one is needed.
    pub fn receive(&mut self, packet: Packet, token: impl FnOnce() -> [u8; TOKEN_BYTES]) -> Option<Reaction> {
        match packet.command {
            Command::Connect => {
                // A host that begins anew has forgotten its streams.
                self.end();
                self.longest = (packet.second as usize).clamp(SMALLEST_LIMIT, LONGEST_PAYLOAD);
                Some(Reaction::Send(match self.manner {
                    Manner::Open | Manner::FallSilent => self.greet(),
                    Manner::RefuseKeys | Manner::TakeFirstKey => self.ask_for_key(token()),
                }))
            }
            Command::Authorise if self.phase == Phase::Authorising => match packet.first {
                AUTH_SIGNATURE => Some(Reaction::Send(self.ask_for_key(token()))),
                AUTH_PUBLIC_KEY if self.manner == Manner::TakeFirstKey => Some(Reaction::Send(self.greet())),
                _ => None,
            },
            _ if self.phase != Phase::Connected || self.manner == Manner::FallSilent => None,
            Command::Open => self.open(&packet),
            Command::Okay => {
                if let Some(stream) = self.between(&packet) {
                    stream.may_write = true;
                }
                None
            }
            Command::Write => self.incoming(packet).map(Reaction::Send),
            Command::Close => {
                // An answer to ours finds nobody any more.
                if let Some(stream) = self.between(&packet) {
                    stream.closed = true;
                }
                None
            }
            Command::Authorise | Command::Other(_) => None,
        }
    }

    /// The connection is gone: every stream ends.
    pub fn end(&mut self) {
        self.phase = Phase::Greeting;
        for stream in self.streams.values_mut() {
            stream.closed = true;
        }
    }

    /// The service was found.
    pub fn accept(&mut self, stream: u32) -> Option<Packet> {
        let remote = self.streams.get_mut(&stream).map(|stream| {
            stream.may_write = true;
            stream.remote
        })?;
        Some(Packet::bare(Command::Okay, stream, remote))
    }

    /// There is no such service.
    pub fn refuse(&mut self, stream: u32) -> Option<Packet> {
        let stream = self.streams.remove(&stream)?;
        Some(Packet::bare(Command::Close, 0, stream.remote))
    }

    /// Takes what has come on a stream.
    pub fn take(&mut self, number: u32) -> Taken {
        let Some(stream) = self.streams.get_mut(&number) else { return Taken::End };
        match stream.incoming.pop_front() {
            Some(data) => Taken::Data(data, Packet::bare(Command::Okay, number, stream.remote)),
            None if stream.closed => Taken::End,
            None => Taken::Nothing,
        }
    }

    /// Writes as much as one packet holds.
    pub fn write(&mut self, number: u32, bytes: &[u8]) -> Written {
        let length = bytes.len().min(self.longest);
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.closed && stream.may_write => {
                stream.may_write = false;
                let payload = bytes[..length].to_vec();
                let packet =
                    Packet { command: Command::Write, first: number, second: stream.remote, payload };
                Written::Send(packet, length)
            }
            Some(stream) if !stream.closed => Written::NotYet,
            _ => Written::Closed,
        }
    }

    /// Whether the host has closed a stream, or it is forgotten.
    pub fn is_closed(&self, number: u32) -> bool {
        self.streams.get(&number).is_none_or(|stream| stream.closed)
    }

    /// The service has ended.
    pub fn close(&mut self, number: u32) -> Option<Packet> {
        let stream = self.streams.remove(&number)?;
        (self.phase == Phase::Connected).then(|| Packet::bare(Command::Close, number, stream.remote))
    }

    fn greet(&mut self) -> Packet {
        self.phase = Phase::Connected;
        Packet {
            command: Command::Connect,
            first: VERSION,
            second: LONGEST_PAYLOAD as u32,
            payload: self.banner.clone().into_bytes(),
        }
    }

    fn ask_for_key(&mut self, token: [u8; TOKEN_BYTES]) -> Packet {
        self.phase = Phase::Authorising;
        Packet { command: Command::Authorise, first: AUTH_TOKEN, second: 0, payload: token.to_vec() }
    }

    fn open(&mut self, packet: &Packet) -> Option<Reaction> {
        let remote = packet.first;
        if remote == 0 {
            return None;
        }
        if self.streams.len() >= MOST_STREAMS {
            return Some(Reaction::Send(Packet::bare(Command::Close, 0, remote)));
        }
        let name = packet.payload.split(|byte| *byte == 0).next().unwrap_or_default();
        let service = String::from_utf8_lossy(name).into_owned();
        // Numbers come round again after 4 thousand million streams; 0 is none.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.streams.contains_key(&self.last) {
                break;
            }
        }
        let stream = Stream { remote, incoming: VecDeque::new(), may_write: false, closed: false };
        self.streams.insert(self.last, stream);
        Some(Reaction::Start { stream: self.last, service })
    }

    fn incoming(&mut self, packet: Packet) -> Option<Packet> {
        let Some(stream) = self.between(&packet) else {
            // For a stream that has ended: the host may not know yet.
            return Some(Packet::bare(Command::Close, 0, packet.first));
        };
        if stream.closed {
            return None;
        }
        if stream.incoming.len() >= MOST_WAITING {
            stream.closed = true;
            return None;
        }
        stream.incoming.push_back(packet.payload);
        None
    }

    /// The stream that a packet is about, if both its numbers fit.
    fn between(&mut self, packet: &Packet) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(&packet.second)?;
        (packet.first == 0 || stream.remote == packet.first).then_some(stream)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
