//! One host's connection, shared by the thread that reads it and those of its services.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::packet::{HEADER_BYTES, Header, Packet};
use super::session::{Reaction, Session, TOKEN_BYTES, Taken, Written};

/// The host has closed the stream, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has closed the stream")]
pub struct Closed;

/// A connection and its conversation.
#[derive(Debug)]
pub struct Connection {
    session: Mutex<Session>,
    changed: Condvar,
    socket: TcpStream,
    /// One packet at a time.
    writing: Mutex<()>,
}

impl Connection {
    /// Serves one host until it goes. `serve` gets each service that is asked for, with its
    /// channel once that is accepted; it says by its answer whether there is such a service.
    pub fn run(
        socket: TcpStream,
        session: Session,
        serve: impl Fn(&str) -> Option<Box<dyn FnOnce(Channel) + Send>>,
    ) -> io::Result<()> {
        let connection = Arc::new(Self {
            session: Mutex::new(session),
            changed: Condvar::new(),
            socket,
            writing: Mutex::new(()),
        });
        let ended = connection.read(serve);
        connection.session().end();
        connection.changed.notify_all();
        // Whoever still writes must not wait for a host that is gone.
        let _ = connection.socket.shutdown(Shutdown::Both);
        ended
    }

    fn read(
        self: &Arc<Self>,
        serve: impl Fn(&str) -> Option<Box<dyn FnOnce(Channel) + Send>>,
    ) -> io::Result<()> {
        loop {
            let mut header = [0; HEADER_BYTES];
            match (&self.socket).read_exact(&mut header) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            let header = Header::parse(&header).map_err(io::Error::other)?;
            let mut payload = vec![0; header.length];
            (&self.socket).read_exact(&mut payload)?;
            let reaction = self.session().receive(header.with(payload), token);
            match reaction {
                None => {}
                Some(Reaction::Send(packet)) => self.send(&packet)?,
                Some(Reaction::Start { stream, service }) => self.start(stream, serve(&service))?,
            }
            self.changed.notify_all();
        }
    }

    fn start(
        self: &Arc<Self>,
        stream: u32,
        service: Option<Box<dyn FnOnce(Channel) + Send>>,
    ) -> io::Result<()> {
        let Some(service) = service else {
            let refusal = self.session().refuse(stream);
            return refusal.map_or(Ok(()), |packet| self.send(&packet));
        };
        let acceptance = self.session().accept(stream);
        if let Some(packet) = acceptance {
            self.send(&packet)?;
        }
        let channel = Channel(Arc::new(OpenChannel { connection: Arc::clone(self), stream }));
        super::thread("service", move || {
            service(channel.clone());
            // Others may still hold it, waiting for what will not come.
            channel.close();
        })
        .map(drop)
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, packet: &Packet) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.socket).write_all(&packet.to_bytes())
    }

    /// Waits until `look` finds something.
    fn until<T>(&self, mut look: impl FnMut(&mut Session) -> Option<T>) -> T {
        let mut session = self.session();
        loop {
            if let Some(found) = look(&mut session) {
                return found;
            }
            session = self.changed.wait(session).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A token that nobody has signed before. Nothing depends on its quality: no signature of
/// it is ever checked.
fn token() -> [u8; TOKEN_BYTES] {
    let mut token = [0; TOKEN_BYTES];
    if let Ok(mut random) = File::open("/dev/urandom") {
        let _ = random.read_exact(&mut token);
    }
    token
}

/// One service's stream. The last clone that goes closes it.
#[derive(Debug, Clone)]
pub struct Channel(Arc<OpenChannel>);

#[derive(Debug)]
struct OpenChannel {
    connection: Arc<Connection>,
    stream: u32,
}

impl Channel {
    /// What the host sent next; waits for it. `None`: the host has closed the stream.
    pub fn take(&self) -> Option<Vec<u8>> {
        let OpenChannel { connection, stream } = &*self.0;
        let taken = connection.until(|session| match session.take(*stream) {
            Taken::Data(data, acknowledgement) => Some(Some((data, acknowledgement))),
            Taken::Nothing => None,
            Taken::End => Some(None),
        });
        let (data, acknowledgement) = taken?;
        // A host that cannot be told is gone; its data still counts.
        let _ = connection.send(&acknowledgement);
        Some(data)
    }

    /// Sends all of it; waits for the host to take what went before.
    pub fn send(&self, mut bytes: &[u8]) -> Result<(), Closed> {
        let OpenChannel { connection, stream } = &*self.0;
        while !bytes.is_empty() {
            let written = connection.until(|session| match session.write(*stream, bytes) {
                Written::Send(packet, length) => Some(Ok((packet, length))),
                Written::NotYet => None,
                Written::Closed => Some(Err(Closed)),
            });
            let (packet, length) = written?;
            connection.send(&packet).map_err(|_| Closed)?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Waits until either side has closed the stream.
    pub fn wait_for_close(&self) {
        let OpenChannel { connection, stream } = &*self.0;
        connection.until(|session| session.is_closed(*stream).then_some(()));
    }

    /// Closes it, for all who share it.
    pub fn close(&self) {
        self.0.close();
    }
}

impl OpenChannel {
    fn close(&self) {
        let packet = self.connection.session().close(self.stream);
        if let Some(packet) = packet {
            let _ = self.connection.send(&packet);
        }
        self.connection.changed.notify_all();
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        self.close();
    }
}
