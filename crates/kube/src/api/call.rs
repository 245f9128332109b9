//! Calls of the API server: each is bounded in time, and errors are what the callers decide by.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::calls;

/// No call waits longer for an answer, watches excepted.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why a call was in vain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such object.
    #[error("{0}: not found")]
    NotFound(String),
    /// Somebody else changed the object meanwhile.
    #[error("{0}: changed by somebody else meanwhile")]
    Conflict(String),
    /// We may not do this.
    #[error("{0}: not allowed; the controller's ClusterRole must have it: {1}")]
    Forbidden(String, String),
    /// What was asked for is no longer kept: a list leads on.
    #[error("{0}: too old")]
    Expired(String),
    /// The server understood, and does not want it.
    #[error("{0}: refused: {1}")]
    Invalid(String, String),
    /// No answer, or none that says anything.
    #[error("{0}: {1}")]
    Unreachable(String, String),
}

impl ApiError {
    /// The lease is somebody else's: what was to be done is the new leader's to do.
    #[must_use]
    pub fn not_leading() -> Self {
        Self::Unreachable("the lease".to_owned(), "another controller leads now".to_owned())
    }

    /// In a word, for metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Conflict(_) => "conflict",
            Self::Forbidden(..) => "forbidden",
            Self::Expired(_) => "expired",
            Self::Invalid(..) => "invalid",
            Self::Unreachable(..) => "unreachable",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Expired(_) | Self::Unreachable(..))
    }

    /// Whether the controller tries again for a while. An API server that has just started does not know all roles yet, and roles are bound again:
    /// what is forbidden is tried again as well, where a person would want to be told at once.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is_transient() || matches!(self, Self::Forbidden(..))
    }
}

/// Makes a call. `what` names it in errors: `get HTTPRoute shop/checkout`.
///
/// # Errors
/// What the server answered, or that it did not in time.
pub async fn within<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    let began = Instant::now();
    let answer = ask(what, call).await;
    calls::ended(what, answer.as_ref().map_or_else(ApiError::word, |_| "ok"), began.elapsed());
    answer
}

async fn ask<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    let what = what.to_owned();
    let Ok(answer) = timeout(PATIENCE, call).await else {
        return Err(ApiError::Unreachable(what, "the API server did not answer in time".to_owned()));
    };
    answer.map_err(|error| match error {
        kube::Error::Api(status) => match status.code {
            404 => ApiError::NotFound(what),
            409 => ApiError::Conflict(what),
            410 => ApiError::Expired(what),
            401 | 403 => ApiError::Forbidden(what, status.message),
            400 | 405 | 413 | 415 | 422 => ApiError::Invalid(what, status.message),
            _ => ApiError::Unreachable(what, format!("{} {}", status.code, status.message)),
        },
        other => ApiError::Unreachable(what, other.to_string()),
    })
}
