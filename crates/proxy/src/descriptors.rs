//! Descriptors that travel along with messages over a unix socket.
//!
//! A descriptor comes with the first byte of its message, so it is there when the message has been read. Only one is kept at a
//! time: what nobody asked for is closed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, Interest, ReadBuf},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The reading half of a unix socket, which takes a descriptor that comes along.
#[derive(Debug)]
pub(crate) struct DescriptorReader {
    stream: OwnedReadHalf,
    received: Option<OwnedFd>,
}

impl DescriptorReader {
    pub(crate) fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, received: None }
    }

    /// The newest descriptor that came and was not taken.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.received.take()
    }
}

impl AsyncRead for DescriptorReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, received } = &mut *self;
        let stream: &UnixStream = (*stream).as_ref();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_io(Interest::READABLE, || receive(stream, buf.initialize_unfilled(), received)) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Writes `message` with a descriptor on its first byte.
pub(crate) async fn send(stream: &mut OwnedWriteHalf, message: &[u8], descriptor: impl AsFd) -> io::Result<()> {
    let socket: &UnixStream = (*stream).as_ref();
    let sent = socket.async_io(Interest::WRITABLE, || {
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no space for a descriptor"));
        }
        Ok(sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = sent.await?;
    stream.write_all(message.get(sent..).unwrap_or_default()).await
}

fn receive(stream: &UnixStream, buffer: &mut [u8], received: &mut Option<OwnedFd>) -> io::Result<usize> {
    // More than this is closed by the system.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary {
            for descriptor in descriptors {
                *received = Some(descriptor);
            }
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_descriptor_is_there_when_its_message_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, _keep) = ours.into_split();
        let (_theirs, mut writer) = theirs.into_split();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut reader = DescriptorReader::new(reader);
        writer.write_all(b"before").await.unwrap();
        let mut word = [0; 6];
        reader.read_exact(&mut word).await.unwrap();
        assert!(reader.take_descriptor().is_none());
        // Longer than what one call may take.
        let long = vec![b'x'; 1 << 20];
        let (sent, read) = tokio::join!(send(&mut writer, &long, &listener), async {
            let mut all = vec![0; 1 << 20];
            reader.read_exact(&mut all).await.map(|_| all)
        });
        sent.unwrap();
        assert_eq!(read.unwrap(), long);
        drop(listener);
        let received = TcpListener::from(reader.take_descriptor().unwrap());
        assert!(reader.take_descriptor().is_none());
        assert_eq!(received.local_addr().unwrap(), address);
        TcpStream::connect(address).unwrap();
    }
}
