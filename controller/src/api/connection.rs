//! One connection whose client has to take what it asked for: one that stops reading does not
//! keep its place among the connections for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may take not a single byte. What it sends has limits of its own: for the
/// head, for the body, and between two calls.
pub(super) const REST: Duration = Duration::from_secs(30);

/// A stream whose writes may not rest for longer than that.
pub(super) struct Connection<S> {
    stream: S,
    limit: Duration,
    rest: Pin<Box<Sleep>>,
    is_resting: bool,
}

impl<S> Connection<S> {
    /// Over `stream`; may be made inside of a runtime only.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, rest: Box::pin(sleep(limit)), is_resting: false }
    }

    /// What was done is passed on; what has to wait may do so only until the rest is over.
    fn bounded<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.is_resting = false;
            return done;
        }
        if !self.is_resting {
            self.is_resting = true;
            let end = Instant::now() + self.limit;
            self.rest.as_mut().reset(end);
        }
        ready!(self.rest.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.bounded(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.bounded(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_given_up_and_a_slow_one_is_not() {
        let (server, mut client) = duplex(16);
        let mut connection = Connection::new(server, REST);
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..10 {
                sleep(REST.mul_f64(0.9)).await;
                client.read_exact(&mut taken).await.unwrap();
            }
            client
        });
        connection.write_all(&[7; 160]).await.unwrap();
        let client = reader.await.unwrap();
        // Idle in between, for however long.
        sleep(REST * 10).await;
        let began = Instant::now();
        let error = connection.write_all(&[7; 160]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, REST.as_secs()));
        drop(client);
    }
}
