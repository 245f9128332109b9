//! Answers on their way to the client.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    model::{API_VERSION, VERSION_HEADER},
    problem::Problem,
};

/// What a route answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(Vec<u8>),
    Text {
        kind: &'static str,
        text: Bytes,
    },
    /// An empty answer with what the path allows.
    Options {
        allow: String,
    },
    /// Server-sent events.
    Events(mpsc::Receiver<Bytes>),
    /// JSON with another status than 200.
    Status(StatusCode, Vec<u8>),
}

/// A body: whole, or as it comes.
pub(crate) enum ApiBody {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

/// Something as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Answer, Problem> {
    bytes(value).map(Answer::Json)
}

pub(crate) fn bytes(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Problem::internal()
    })
}

impl Answer {
    pub(crate) fn response(self) -> Response<ApiBody> {
        const JSON: &str = "application/json";
        match self {
            Self::Json(body) => whole(StatusCode::OK, JSON, body.into()),
            Self::Status(status, body) => whole(status, JSON, body.into()),
            Self::Text { kind, text } => whole(StatusCode::OK, kind, text),
            Self::Options { allow } => {
                let mut response = Response::new(ApiBody::Whole(None));
                *response.status_mut() = StatusCode::NO_CONTENT;
                insert(&mut response, header::ALLOW, &allow);
                finish(response)
            }
            Self::Events(events) => {
                let mut response = Response::new(ApiBody::Stream(events));
                insert(&mut response, header::CONTENT_TYPE, "text/event-stream");
                // For a reverse proxy that would collect events before it passes them on.
                response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
                finish(response)
            }
        }
    }
}

impl Problem {
    pub(crate) fn response(&self) -> Response<ApiBody> {
        let body = serde_json::to_vec(&self.answer()).unwrap_or_default();
        let mut response = whole(self.status, "application/json", body.into());
        if self.status == StatusCode::UNAUTHORIZED {
            insert(&mut response, header::WWW_AUTHENTICATE, "Bearer realm=\"serin\"");
        }
        if let Some(allow) = &self.allow {
            insert(&mut response, header::ALLOW, allow);
        }
        if let Some(seconds) = self.retry_after_s {
            insert(&mut response, header::RETRY_AFTER, &seconds.to_string());
        }
        if self.close {
            insert(&mut response, header::CONNECTION, "close");
        }
        response
    }
}

fn whole(status: StatusCode, kind: &str, body: Bytes) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::Whole(Some(body)));
    *response.status_mut() = status;
    insert(&mut response, header::CONTENT_TYPE, kind);
    finish(response)
}

/// What every answer says: which API this is, and that nobody is to keep or reinterpret it.
fn finish(mut response: Response<ApiBody>) -> Response<ApiBody> {
    insert(&mut response, header::HeaderName::from_static(VERSION_HEADER), &API_VERSION.to_string());
    insert(&mut response, header::CACHE_CONTROL, "no-store");
    insert(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn insert(response: &mut Response<ApiBody>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(events) => events.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
