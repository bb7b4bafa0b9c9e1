//! A listener whose connections do not wait for ever on clients that do not read.
//!
//! What is sent to a client that has stopped reading waits in its connection, and whoever sends is not asked for more, so nobody
//! else would notice: a stream of events to a dead client would stay open until the process ends. Here such a connection breaks
//! once nothing could be written to it for a while. Costs a look at a flag for every write; a timer only for one that waits.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A listener whose clients must read.
#[derive(Debug)]
pub(crate) struct Patient<L> {
    listener: L,
    patience: Duration,
}

impl<L> Patient<L> {
    /// Breaks connections of `listener` to which nothing could be written for this long.
    pub(crate) fn new(listener: L, patience: Duration) -> Self {
        Self { listener, patience }
    }
}

impl<L: Listener> Listener for Patient<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        (Connection { io, patience: self.patience, waiting: None }, address)
    }

    fn local_addr(&self) -> Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection whose client must read.
#[derive(Debug)]
pub(crate) struct Connection<I> {
    io: I,
    patience: Duration,
    /// Until when it waits for the client, while it does.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<I: AsyncWrite + Unpin> Connection<I> {
    fn written<T>(&mut self, written: Poll<Result<T>>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_millis(200);

    fn pair() -> (Connection<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (server, client) = tokio::io::duplex(1024);
        (Connection { io: server, patience: PATIENCE, waiting: None }, client)
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut() {
        let (mut connection, _client) = pair();
        let error = connection.write_all(&[0; 4096]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_client_is_not_cut_as_long_as_it_reads() {
        let (mut connection, mut client) = pair();
        let reading = tokio::spawn(async move {
            let mut read = 0;
            let mut buffer = [0; 1024];
            while read < 4096 {
                sleep(PATIENCE * 2 / 3).await;
                read += client.read(&mut buffer).await.unwrap();
            }
        });
        connection.write_all(&[0; 4096]).await.expect("it is read in time");
        reading.await.unwrap();
    }
}
