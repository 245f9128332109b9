//! JSON lines over a stream, bounded in both directions.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest line that the proxy accepts, in bytes.
pub(crate) const MAX_TO_PROXY: usize = 1024 * 1024;
/// Longest line that control accepts, in bytes: all counters of 64 weights fit several times.
pub(crate) const MAX_FROM_PROXY: usize = 64 * 1024 * 1024;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    #[error("not a message of this protocol: {0}")]
    Garbage(#[from] serde_json::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads one message per line.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
    max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(stream: R, max: usize) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0, max }
    }

    /// Where it reads from.
    pub(crate) fn stream_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The next message. Nothing is lost if this is dropped before it is ready.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                return Ok(serde_json::from_slice(&line)?);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.max {
                return Err(WireError::TooLong(self.max));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}

/// Writes one message as a line.
pub(crate) async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), WireError> {
    stream.write_all(&line(message)?).await?;
    Ok(stream.flush().await?)
}

/// One message as a line.
pub(crate) fn line<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_where_they_end_and_never_grow_without_bound() {
        let mut reader = LineReader::new(&b"1\n22\nx\n12345678901\n"[..], 4);
        assert_eq!(reader.next::<u32>().await.unwrap(), 1);
        assert_eq!(reader.next::<u32>().await.unwrap(), 22);
        assert!(matches!(reader.next::<u32>().await, Err(WireError::Garbage(_))));
        let endless = tokio::io::repeat(b'a');
        assert!(matches!(LineReader::new(endless, 4).next::<u32>().await, Err(WireError::TooLong(4))));
        let mut cut = LineReader::new(&b"12"[..], 4);
        assert!(matches!(cut.next::<u32>().await, Err(WireError::Closed)));
    }
}
