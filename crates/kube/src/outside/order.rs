//! Giving a command, and waiting for its answer.
//!
//! A release has one place for a command. Whoever finds another there that was not looked at yet waits for a moment, and nobody overwrites one
//! unseen: the write is guarded by the version that was read. An abort waits for nobody.
//!
//! If no controller answers in time, what moves traffic towards stable stays where it is and is done by the next controller; everything else is
//! withdrawn, because nobody wants a promotion hours later.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin_core::release::Action;
use tokio::time::{Instant, sleep};

use super::{MANAGER, Session};
use crate::{
    api::{ApiError, COMMAND, CommandStatus, Release, within},
    release::{Wish, annotation, pending},
};

/// How long a command of somebody else is given.
const FOR_OTHERS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Who asked, as the journal has it.
    pub by: String,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The release's state forbids it.
    #[error("{0}")]
    Refused(String),
    /// Nobody looked at it.
    #[error("no controller has answered within {} s: {how}; is `serin controller` running, and does it watch this namespace?", .waited.as_secs())]
    Unanswered {
        /// For how long.
        waited: Duration,
        /// What became of the command.
        how: String,
    },
    /// Another command took its place.
    #[error("another command took the place of this one before anybody looked at it; see `kubectl serin status` and try again")]
    Replaced,
    /// The API server does not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Gives a release a command, and waits for its answer for at most `patience`.
///
/// # Errors
/// Why it was not carried out.
pub async fn order(session: &Session, name: &str, wish: Wish, reason: Option<&str>, patience: Duration) -> Result<Ordered, OrderError> {
    let release = session.release(name).await?;
    // In an emergency a name matters less than what is to be done; who it was is in the audit log.
    let by = session.user().await.unwrap_or_else(|_| "somebody by kubectl".to_owned());
    let id = format!("{:016x}", rand::random::<u64>());
    let text = annotation(&id, wish, &by, reason);
    write(session, release, &text, wish).await?;
    let end = Instant::now() + patience;
    loop {
        let found = match session.release(name).await {
            Ok(found) => found,
            // An API server that is away for a moment is asked again.
            Err(error) if error.is_transient() && Instant::now() < end => {
                sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = answer(&found, &id) {
            return if answer.accepted { Ok(Ordered { by }) } else { Err(OrderError::Refused(answer.answer)) };
        }
        if command_of(&found) != Some(&text) {
            return Err(OrderError::Replaced);
        }
        if Instant::now() >= end {
            return give_up(session, found, &id, wish, patience, by).await;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Puts the command into its place.
async fn write(session: &Session, mut release: Release, text: &str, wish: Wish) -> Result<(), OrderError> {
    let end = Instant::now() + FOR_OTHERS;
    let is_urgent = wish == Wish::Action(Action::Abort);
    loop {
        let is_free = is_urgent || pending(&release).is_none();
        if is_free || Instant::now() >= end {
            match patch(session, &release, &Value::from(text)).await {
                Ok(()) => return Ok(()),
                Err(ApiError::Conflict(_)) if Instant::now() < end + FOR_OTHERS => {}
                Err(error) => return Err(error.into()),
            }
        }
        sleep(LOOK_AGAIN.mul_f64(0.25 + rand::random::<f64>() / 2.0)).await;
        release = session.release(release.name()).await?;
    }
}

/// Nobody has answered.
async fn give_up(session: &Session, release: Release, id: &str, wish: Wish, waited: Duration, by: String) -> Result<Ordered, OrderError> {
    let name = release.name().to_owned();
    if matches!(wish, Wish::Action(Action::Abort | Action::Reject | Action::Pause)) {
        let how = format!(
            "the command stays on the release and the next controller obeys it (`kubectl annotate rel {name} {COMMAND}-` withdraws it)"
        );
        return Err(OrderError::Unanswered { waited, how });
    }
    let mut release = release;
    for _ in 0..5 {
        match patch(session, &release, &Value::Null).await {
            Ok(()) => return Err(OrderError::Unanswered { waited, how: "the command was withdrawn".to_owned() }),
            Err(ApiError::Conflict(_)) => {
                release = session.release(&name).await?;
                if let Some(answer) = answer(&release, id) {
                    return if answer.accepted { Ok(Ordered { by }) } else { Err(OrderError::Refused(answer.answer)) };
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(OrderError::Unanswered { waited, how: format!("the command could not be withdrawn: `kubectl annotate rel {name} {COMMAND}-`") })
}

async fn patch(session: &Session, release: &Release, text: &Value) -> Result<(), ApiError> {
    let name = release.name();
    let patch = json!({"metadata": {"resourceVersion": release.metadata.resource_version, "annotations": {COMMAND: text}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    within(&format!("patch Release {}/{name}", session.namespace), session.releases().patch(name, &params, &Patch::Merge(patch)))
        .await
        .map(drop)
}

fn answer(release: &Release, id: &str) -> Option<CommandStatus> {
    release.status.as_ref()?.last_command.clone().filter(|last| last.id == id)
}

fn command_of(release: &Release) -> Option<&String> {
    release.metadata.annotations.as_ref()?.get(COMMAND)
}
