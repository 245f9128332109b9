//! Answers that say no: one shape for all of them, with a word for programs, a sentence for people and what to do next.

use http::{Method, StatusCode};
use serde_json::Value;
use serin_engine::serve::Refused;
use serin_spec::Diagnostics;

use crate::{
    Role,
    model::{ErrorAnswer, ErrorBody},
};

/// Why a request is not answered with what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) details: Option<Box<Details>>,
    /// For 405: what the route knows.
    pub(crate) allow: Option<String>,
    /// For 429 and 503: when to try again.
    pub(crate) retry_after_s: Option<u64>,
    /// Whether what is left of the request is not worth reading.
    pub(crate) close: bool,
}

/// What only a few problems come with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Details {
    diagnostics: Option<Value>,
    checks: Option<Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, details: None, allow: None, retry_after_s: None, close: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    pub(crate) fn unauthenticated(shown: bool) -> Self {
        let message = if shown { "the token is not known" } else { "a token is needed" };
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
            .hint("send `Authorization: Bearer TOKEN`; `serin token NAME` makes a token, and its hash goes into the daemon's configuration")
    }

    pub(crate) fn stranger() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "the socket is for the daemon's user and root")
            .hint("use that user, or `--server` with the daemon's TCP address and a token")
    }

    pub(crate) fn forbidden(has: Role, needs: Role) -> Self {
        let message = format!("this needs the role {}, yours is {}", needs.as_str(), has.as_str());
        Self::new(StatusCode::FORBIDDEN, "forbidden", message).hint("use a token with that role")
    }

    pub(crate) fn too_many(seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "too many requests").retry_after_s(seconds)
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "there is nothing at this path").hint("/v1/openapi.json lists what there is")
    }

    pub(crate) fn wrong_method(allow: String, tried: &Method) -> Self {
        // Only methods that HTTP knows are repeated.
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, Method::CONNECT];
        let tried = known.iter().find(|method| *method == tried).map_or("this method", Method::as_str);
        let message = format!("{tried} is not possible here, only {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub(crate) fn document(diagnostics: &Diagnostics) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-document", "the document is not valid")
            .hint("`serin check` shows what is wrong with the text at its place");
        let details = Details { diagnostics: serde_json::to_value(diagnostics).ok(), checks: None };
        Self { details: Some(Box::new(details)), ..problem }
    }

    pub(crate) fn late() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", "this took too long; it may be done all the same").retry_after_s(1)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong that never should; the daemon's log has more")
    }

    /// A run that there is not is told from other requests that make no sense.
    pub(crate) fn of_run(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(message) => Self::new(StatusCode::NOT_FOUND, "no-such-run", message),
            Refused::Conflict(message) => Self::new(StatusCode::NOT_FOUND, "no-such-run", message),
            other => other.into(),
        }
    }

    pub(crate) fn answer(&self) -> ErrorAnswer {
        let details = self.details.as_deref().cloned().unwrap_or_default();
        ErrorAnswer {
            error: ErrorBody {
                code: self.code.to_owned(),
                message: self.message.clone(),
                hint: self.hint.clone(),
                diagnostics: details.diagnostics,
                checks: details.checks,
            },
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, "no-such-service", message),
            Refused::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            Refused::Invalid(_) => Self::invalid(message),
            Refused::Preflight(checks) => {
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "preflight", message);
                let details = Details { checks: serde_json::to_value(checks).ok(), diagnostics: None };
                Self { details: Some(Box::new(details)), ..problem }
            }
            Refused::Store(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", message).retry_after_s(5),
            Refused::NoAnswer => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-answer", message).retry_after_s(5),
        }
    }
}
