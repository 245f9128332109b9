//! Many services at once, for good: what `serin serve` is made of.
//!
//! Every service has a state folder of its own below the server's, with the same journal, lock, latch and proxy as a release in the
//! foreground, and a task of its own: a disk, a router or a store that fails stops one service and no other.
//!
//! - `server`: the services by name, and what can be asked of them.
//! - `service`: one service and the conditions that it can be in. `opening`: how it begins, `standing`: between releases, `releasing`: during
//!   them, `deleting`: its end, `version`: which version serves, `queue`: the document that waits, `leftovers`: what runs of one that could not be opened.
//! - `events`: what happened lately, over all services.
//! - `status`: how a service is, as data.

mod deleting;
mod events;
mod leftovers;
mod opening;
mod queue;
mod releasing;
mod server;
mod service;
mod standing;
mod status;
mod version;

pub use events::{EventId, ServerEvent, Subscription};
pub use server::{Server, ServerConfig};
pub use status::{LastRun, ServiceState, ServiceStatus};

use serin_core::release::{Check, CheckStatus};

use crate::store::{ReleaseRow, StoreError};

/// Who asks for something, and why. Both are journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A name that the caller cannot choose: of a token, or of a user of the system.
    pub name: String,
    /// Why, if said. Without control characters and at most 200 of them.
    pub reason: Option<String>,
}

/// How much of the past is kept, per service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs whose journals are kept, at least 1.
    pub runs: u32,
    /// How long they are kept, in milliseconds.
    pub keep_ms: u64,
}

/// What became of a document that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The service was not known: its stable version is being started, then the release begins.
    Created,
    /// A release begins.
    Begun,
    /// There is nothing to do: this very document is being released, or was released last, however that ended.
    Unchanged {
        /// Which of these, and how to release it once more.
        why: String,
    },
    /// Another release of the service is taken back first; this one begins when that has ended.
    Supersedes {
        /// What is taken back: name, run and how it stood.
        what: String,
    },
}

/// Why something that was asked for is not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No service of this name.
    #[error("there is no service called {name}{}", hint(.known))]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are, at most ten.
        known: Vec<String>,
    },
    /// The service is in a state that forbids it. The text says which, and what can be done instead.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for makes no sense for this service.
    #[error("{0}")]
    Invalid(String),
    /// Checks before a release failed.
    #[error("preflight failed: {}", crate::run::failed(.0))]
    Preflight(Vec<Check>),
    /// The store of the service failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service does not answer: its disk may hang.
    #[error("the service does not answer; see its logs")]
    NoAnswer,
}

/// A run of a service with its journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The run as the store knows it.
    pub row: ReleaseRow,
    /// Its journal, or the part of it that was asked for.
    pub journal: Vec<serin_core::release::Entry>,
}

/// Checks of a document, unless one of them failed.
fn passed(checks: Vec<Check>) -> Result<Vec<Check>, Refused> {
    if checks.iter().any(|check| check.status == CheckStatus::Fail) { Err(Refused::Preflight(checks)) } else { Ok(checks) }
}

fn hint(known: &[String]) -> String {
    if known.is_empty() { "; `serin apply` creates one".to_owned() } else { format!("; there are: {}", known.join(", ")) }
}
