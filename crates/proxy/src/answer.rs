//! Answers that the proxy itself makes: a short text that says what and why, and the cause in `x-serin-error`.
//!
//! They name an arm and an endpoint id at most; addresses and system errors stay in the log.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::body::ProxyBody;

const CAUSE: HeaderName = HeaderName::from_static("x-serin-error");

/// An answer of our own making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnAnswer {
    pub(crate) status: StatusCode,
    /// One word for machines, in `x-serin-error`.
    pub(crate) cause: &'static str,
    /// One sentence for people.
    pub(crate) text: String,
    /// Whether the connection ends with this answer, because what follows on it cannot be trusted or is not wanted.
    pub(crate) close: bool,
}

impl OwnAnswer {
    pub(crate) fn new(status: StatusCode, cause: &'static str, text: impl Into<String>) -> Self {
        Self { status, cause, text: text.into(), close: false }
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(crate) fn into_response(self) -> Response<ProxyBody> {
        let mut response = Response::new(ProxyBody::own(Bytes::from(format!("{}\n", self.text))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CAUSE, HeaderValue::from_static(self.cause));
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
