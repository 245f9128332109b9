//! Bodies of answers: texts, echoed streams and runs of zero bytes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Any body that the app answers with.
pub(crate) type AppBody = UnsyncBoxBody<Bytes, hyper::Error>;

const CHUNK_BYTES: usize = 64 * 1024;
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// A body that is known in full.
pub(crate) fn text(text: impl Into<Bytes>) -> AppBody {
    Full::new(text.into()).map_err(never).boxed_unsync()
}

/// The body of a request, sent back as it comes in.
pub(crate) fn echo(incoming: Incoming) -> AppBody {
    incoming.boxed_unsync()
}

/// This many zero bytes, made as they are sent.
pub(crate) fn zeros(count: u64) -> AppBody {
    Zeros { left: count }.map_err(never).boxed_unsync()
}

fn never(impossible: Infallible) -> hyper::Error {
    match impossible {}
}

struct Zeros {
    left: u64,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = usize::try_from(self.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        if size == 0 {
            return Poll::Ready(None);
        }
        self.left -= size as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..size])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
