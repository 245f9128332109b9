//! How a second terminal talks to a running release: a unix socket in the state folder, one JSON request per connection.
//!
//! Only the folder's user (and root) can reach it. Requests and connections are bounded in size, number and time, and a
//! command is answered once it was accepted or refused.

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serin_core::release::{Action, Command};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

use super::StatusReport;

const MOST_BYTES: u64 = 64 * 1024;
const MOST_CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked of a running release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How is it?
    Status,
    /// Do this.
    Command {
        /// What.
        action: Action,
        /// What who asks is called, in case the system has no name for the user id, which the kernel tells.
        by: String,
        /// Why, if said.
        reason: Option<String>,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// How it is.
    Status(Box<StatusReport>),
    /// The command was carried out or is on its way.
    Accepted,
    /// The command was refused, or the request could not be understood.
    Refused(String),
}

/// Why a running release could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing runs with this state folder.
    #[error("no release is running in {folder}")]
    NotRunning {
        /// The folder.
        folder: String,
    },
    /// It did not answer.
    #[error("the release does not answer: {0}")]
    NoAnswer(String),
}

/// A command on its way to the driver.
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Response>,
}

/// Asks the release that runs with this control socket.
///
/// # Errors
/// If there is none or it does not answer within five seconds.
pub async fn ask(socket: &Path, request: &Request) -> Result<Response, AskError> {
    let folder = socket.parent().unwrap_or(socket).display().to_string();
    let stream = UnixStream::connect(socket).await.map_err(|_| AskError::NotRunning { folder })?;
    let lost = |error: std::io::Error| AskError::NoAnswer(error.to_string());
    let talk = async {
        let (reader, mut writer) = stream.into_split();
        let mut line = serde_json::to_vec(request).map_err(|error| AskError::NoAnswer(error.to_string()))?;
        line.push(b'\n');
        writer.write_all(&line).await.map_err(lost)?;
        let mut answer = String::new();
        // Status reports are larger than requests, but bounded as well.
        BufReader::new(reader.take(64 * MOST_BYTES)).read_line(&mut answer).await.map_err(lost)?;
        serde_json::from_str(&answer).map_err(|error| AskError::NoAnswer(error.to_string()))
    };
    timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(AskError::NoAnswer("it took too long".to_owned())))
}

/// Answers requests until dropped with its task.
pub(crate) async fn serve(listener: UnixListener, status: watch::Receiver<Option<StatusReport>>, commands: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: the next attempt needs one to be free again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (status, commands) = (status.clone(), commands.clone());
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, answer(stream, &status, &commands)).await;
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, status: &watch::Receiver<Option<StatusReport>>, commands: &mpsc::Sender<Asked>) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(MOST_BYTES)).read_line(&mut line).await?;
    let response = match serde_json::from_str(&line) {
        Ok(Request::Status) => match status.borrow().clone() {
            Some(report) => Response::Status(Box::new(report)),
            None => Response::Refused("the release has not begun yet".to_owned()),
        },
        Ok(Request::Command { action, by, reason }) => {
            let by = format!("{} (uid {uid})", login_name(uid).unwrap_or_else(|| plain(&by)));
            pass_on(commands, Command { action, by, reason: reason.map(|text| plain(&text)) }).await
        }
        Err(error) => Response::Refused(format!("the request cannot be understood: {error}; do both sides have the same version?")),
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn pass_on(commands: &mpsc::Sender<Asked>, command: Command) -> Response {
    let gone = || Response::Refused("the release has just ended".to_owned());
    let (answer, answered) = oneshot::channel();
    if commands.send(Asked { command, answer }).await.is_err() {
        return gone();
    }
    answered.await.unwrap_or_else(|_| gone())
}

/// The system's name for a user. Users that a directory service knows are named by themselves.
#[must_use]
pub fn login_name(uid: u32) -> Option<String> {
    named(&std::fs::read_to_string("/etc/passwd").ok()?, uid)
}

/// A line is `name:password:uid:…`.
fn named(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?;
    line.split(':').next().filter(|name| !name.is_empty()).map(plain)
}

/// Names and reasons end up in terminals and reports: no control characters, and not without end.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_their_uid() {
        let passwd = "root:x:0:0:root:/:/bin/sh\ndeploy:x:1000:1000::/srv/deploy:/bin/sh\n";
        assert_eq!(named(passwd, 1000).as_deref(), Some("deploy"));
        assert_eq!(named(passwd, 100), None);
    }

    #[test]
    fn names_and_reasons_are_inert_and_short() {
        assert_eq!(plain("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 200);
    }
}
