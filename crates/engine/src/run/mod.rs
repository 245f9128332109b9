//! One release in the foreground: from a valid document to its end.
//!
//! [`run`] prepares the state folder and the proxy, drives the release until it is over, and puts away what it started. If
//! an earlier run of the same document was interrupted, it goes on where that one was: processes and proxy are adopted,
//! nothing is restarted.
//!
//! - `start`: everything before the first decision. Nothing is started that a refusal would have to take back.
//! - `driver`: the loop of inputs, journal and effects.
//! - `finish`: everything after the last decision.

pub(crate) mod clock;
pub(crate) mod driver;
pub(crate) mod effects;
pub(crate) mod feed;
mod finish;
pub(crate) mod ledger;
mod leftovers;
mod meter;
mod preview;
mod report;
mod resume;
pub(crate) mod socket;
pub(crate) mod start;
mod status;

pub use clock::RunClock;
pub use feed::Feed;
pub use meter::ArmTotals;
pub use preview::Checking;
pub use report::{RunEnd, RunReport, TimelineEntry};
pub use socket::{AskError, Request, Response, ask, login_name, plain};
pub use status::{ArmReport, StageReport, StageState, StatusReport, left_ms};

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serin_core::release::{Check, Entry};
use serin_spec::{Diagnostics, validated::Release};
use tokio::sync::mpsc;

use crate::{store::StoreError, systemd::Sockets};

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The document: where it came from, its text, and what it means.
    pub document: Document,
    /// The state folder.
    pub state: PathBuf,
    /// The running binary, for the proxy and for `{{serin}}`.
    pub serin_exe: PathBuf,
    /// Go on serving after the release ended, until interrupted.
    pub keep_serving: bool,
    /// How long to wait for a person before giving up with everything left running; `None`: for ever.
    pub operator_patience: Option<Duration>,
    /// Listening sockets that were opened for this process.
    pub sockets: Sockets,
}

/// A valid release document.
#[derive(Debug, Clone)]
pub struct Document {
    /// File name as given, for messages.
    pub name: String,
    /// Where it is, for whoever takes the release over later, perhaps from another folder.
    pub origin: String,
    /// The text.
    pub text: String,
    /// What relative paths in it start from.
    pub dir: PathBuf,
    /// What it means.
    pub release: Release,
}

impl Document {
    /// A document that the store kept: relative paths start from where it came from.
    ///
    /// # Errors
    /// Everything that this version finds wrong with it.
    pub fn reread(origin: &str, text: String) -> Result<Self, Diagnostics> {
        let release = serin_spec::load(origin, &text)?.release;
        let parent = Path::new(origin).parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        Ok(Self { name: origin.to_owned(), origin: origin.to_owned(), text, dir, release })
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A journal entry.
    Entry {
        /// The entry.
        entry: Box<Entry>,
        /// Two or three words and the details; `None` for bookkeeping.
        words: Option<(String, String)>,
    },
    /// Something outside of the journal that people want to know.
    Note(String),
}

/// Why a release did not get as far as its first decision, or could not be carried on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A check failed before anything was started.
    #[error("preflight failed: {}", failed(.0))]
    Preflight(Vec<Check>),
    /// The state folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state folder holds an interrupted release of another document.
    #[error(
        "{folder} holds an interrupted release: {name}, begun from {document}; run that document again to bring it to its end, or choose another folder with --state"
    )]
    OtherRelease {
        /// The folder.
        folder: String,
        /// The interrupted release.
        name: String,
        /// Its document.
        document: String,
    },
    /// A proxy serves this state folder, but it cannot be talked to.
    #[error("a proxy serves this state folder, but {reason}; wait or stop it by hand (`ss -xlp` shows its pid), then run again")]
    Proxy {
        /// What happened instead.
        reason: String,
    },
    /// Interrupted before the release began; everything was stopped again.
    #[error("interrupted before the release began")]
    Interrupted,
    /// Something that should always work did not.
    #[error("{0}")]
    Internal(String),
}

pub(crate) fn failed(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| check.status == serin_core::release::CheckStatus::Fail);
    failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("; ")
}

/// Runs a release to its end. Each message on `interrupts` is one Ctrl-C: the first ends the release safely, the second
/// stops everything at once.
///
/// # Errors
/// If the release could not begin. How a release that began ended is in the [`RunReport`].
pub async fn run(config: RunConfig, feed: Feed, mut interrupts: mpsc::Receiver<()>) -> Result<RunReport, RunError> {
    let started = start::start(&config, &feed, &mut interrupts).await?;
    let mut driver = driver::Driver::new(started, feed);
    let ended = driver.drive(&mut interrupts, config.operator_patience).await;
    Ok(finish::finish(driver, ended, &config, &mut interrupts).await)
}
