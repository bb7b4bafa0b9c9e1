//! One keep-alive HTTP/1.1 connection, as cheap as a client can be: one write, one read, and of the answer only the status
//! and the length are understood. Answers must carry a content-length, as those of both servers do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 16 * 1024;
/// How much of a body is kept to be shown when an answer is not the expected one.
const EXCERPT_BYTES: usize = 600;

/// A connection.
#[derive(Debug)]
pub(in crate::cli::bench) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// The part of the last body that came in the same read as its head, within `buffer`.
    body_seen: std::ops::Range<usize>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(in crate::cli::bench) struct Response {
    /// Its status.
    pub(in crate::cli::bench) status: u16,
    /// Its header, as it came.
    head: Vec<u8>,
    /// Its body.
    body: Vec<u8>,
}

impl Response {
    /// The body of a 2xx answer; any other answer is an error that shows it.
    pub(in crate::cli::bench) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            anyhow::bail!("answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// A header's value; `name` in lower case.
    pub(in crate::cli::bench) fn header(&self, name: &str) -> Option<&str> {
        lines(&self.head)
            .find_map(|line| header_value(line, name.as_bytes()))
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What of an answer must be understood.
struct Head {
    status: u16,
    /// Where the body begins.
    length: usize,
    content_length: usize,
}

impl Connection {
    /// Connects.
    pub(in crate::cli::bench) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), body_seen: 0..0 })
    }

    /// Sends a request and reads the answer to its end; tells its status.
    pub(in crate::cli::bench) async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let (head, filled) = self.read_head().await?;
        let end = head.length + head.content_length;
        self.body_seen = head.length..filled.min(end);
        let mut left = end.checked_sub(filled).ok_or_else(|| broken("more came than was asked for"))?;
        if left > 0 {
            // Keep the excerpt where it is, read the rest over what lies behind it.
            let scratch = (head.length + EXCERPT_BYTES).min(filled);
            self.body_seen.end = scratch;
            while left > 0 {
                let room = self.buffer.get_mut(scratch..).ok_or_else(|| broken("the header is too long"))?;
                let most = room.len().min(left);
                left -= read_some(&mut self.stream, room.get_mut(..most).unwrap_or_default()).await?;
            }
        }
        Ok(head.status)
    }

    /// Sends a request and keeps the whole answer.
    pub(in crate::cli::bench) async fn call(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        let (head, filled) = self.read_head().await?;
        let seen = self.buffer.get(..filled).unwrap_or_default();
        let (header, body) = seen.split_at_checked(head.length).unwrap_or_default();
        let (header, mut body) = (header.to_vec(), body.to_vec());
        let seen = body.len();
        body.resize(head.content_length, 0);
        self.stream.read_exact(body.get_mut(seen..).unwrap_or_default()).await?;
        Ok(Response { status: head.status, head: header, body })
    }

    /// The beginning of the last answer's body.
    pub(in crate::cli::bench) fn last_body(&self) -> String {
        String::from_utf8_lossy(self.buffer.get(self.body_seen.clone()).unwrap_or_default()).into_owned()
    }

    /// Reads until the header is whole; tells how much of the buffer is filled.
    async fn read_head(&mut self) -> io::Result<(Head, usize)> {
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).filter(|room| !room.is_empty());
            filled += read_some(&mut self.stream, room.ok_or_else(|| broken("the header is too long"))?).await?;
            if let Some(head) = parse(self.buffer.get(..filled).unwrap_or_default())? {
                return Ok((head, filled));
            }
        }
    }
}

async fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    match stream.read(room).await? {
        0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
        count => Ok(count),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn header_value<'line>(line: &'line [u8], name: &[u8]) -> Option<&'line [u8]> {
    let (own, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    own.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The header, once it is there whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut status = None;
    let mut content_length = None;
    let mut length = 0;
    for line in lines(bytes) {
        length += line.len() + 2;
        if length > bytes.len() {
            return Ok(None);
        }
        if line.is_empty() {
            let status = status.ok_or_else(|| broken("the answer has no status"))?;
            let content_length = content_length.ok_or_else(|| broken("the answer has no content-length"))?;
            return Ok(Some(Head { status, length, content_length }));
        }
        if status.is_none() {
            let code = line.get(9..12).filter(|_| line.starts_with(b"HTTP/1.1 ")).and_then(number);
            status = Some(code.and_then(|code| u16::try_from(code).ok()).ok_or_else(|| broken("not HTTP/1.1"))?);
        } else if matches!(line.first(), Some(b'c' | b'C'))
            && let Some(value) = header_value(line, b"content-length")
        {
            content_length = Some(number(value).ok_or_else(|| broken("the content-length is no number"))?);
        }
    }
    Ok(None)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\nx: y\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn an_answer_is_understood_once_its_header_is_whole_and_not_before() {
        let header = ANSWER.len() - 2;
        for length in 0..header {
            assert!(parse(&ANSWER[..length]).expect("no error").is_none(), "{length}");
        }
        let head = parse(&ANSWER[..header]).expect("no error").expect("a header");
        assert_eq!((head.status, head.length, head.content_length), (201, header, 2));
    }

    #[test]
    fn an_answer_without_a_length_or_a_status_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SMTP\r\n\r\n").is_err());
    }

    #[test]
    fn a_header_is_found_by_its_name_in_any_case() {
        let response = Response { status: 200, head: ANSWER[..ANSWER.len() - 2].to_vec(), body: b"{}".to_vec() };
        assert_eq!(response.header("content-length"), Some("2"));
        assert_eq!(response.header("content"), None);
    }
}
