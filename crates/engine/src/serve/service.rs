//! One service: a task that is in one of three conditions, and what it answers in each.
//!
//! - *Down*: it could not be opened. Whatever passes by itself (a full disk, a version that does not come up) is tried again; what does not
//!   (a damaged store) waits for people. A proxy that runs goes on with its last table, with nothing for the canary.
//! - *Standing*: one version serves.
//! - *Releasing*: a release is carried out by the same driver as in the foreground. It is stopped between two turns for every question.
//!
//! **A newer document** takes the place of the one being released as long as clients can simply go back: the release is aborted, and the new
//! one begins when traffic has returned. From the promotion on the canary serves everyone, and going back for the sake of something newer would
//! hurt: the new document is refused until the bake is over. Once the old version is merely kept, it is given up for the new release.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serin_core::release::Command;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Applied, Refused, ServiceState, ServiceStatus, Who,
    events::Events,
    opening::{self, Opened},
    queue::Queued,
    releasing::Releasing,
    standing::Standing,
    status::LastRun,
};
use crate::{run::Document, store::StateFolder};

const ASKS: usize = 64;
/// How often a service that is down tries again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it says how it is without being asked.
pub(super) const PULSE: Duration = Duration::from_secs(1);

/// What every service needs of the server.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) serin_exe: PathBuf,
    pub(super) events: Arc<Events>,
}

/// How a service is reached.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) folder: PathBuf,
    status: watch::Receiver<ServiceStatus>,
}

impl Handle {
    /// As last published: what it is doing is always right, numbers are some seconds old.
    pub(super) fn status(&self) -> ServiceStatus {
        self.status.borrow().clone()
    }
}

/// What becomes of something that was asked.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// What a service can be asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Status(oneshot::Sender<ServiceStatus>),
    Apply {
        document: Box<Document>,
        who: Who,
        answer: Answer<Applied>,
    },
    Retry {
        who: Who,
        answer: Answer<Applied>,
    },
    Act {
        command: Command,
        answer: Answer<()>,
    },
    Rollback {
        who: Who,
        answer: Answer<()>,
    },
    /// Answered with the moment when everything is stopped, and where the journals stay.
    Delete {
        who: Who,
        answer: Answer<(oneshot::Receiver<()>, PathBuf)>,
    },
    Detach {
        answer: oneshot::Sender<()>,
    },
    Stop {
        answer: oneshot::Sender<()>,
    },
}

/// A service that is not known yet: its stable version is started and serves.
pub(super) fn create(folder: PathBuf, document: Document, tools: Tools) -> Handle {
    start(document.release.name.clone(), folder, Some(document), tools)
}

/// A service of an earlier server.
pub(super) fn find_again(name: &str, folder: PathBuf, tools: Tools) -> Handle {
    start(name.to_owned(), folder, None, tools)
}

fn start(name: String, folder: PathBuf, declared: Option<Document>, tools: Tools) -> Handle {
    let (asks, asked) = mpsc::channel(ASKS);
    let listen = declared.as_ref().map_or_else(String::new, |document| document.release.traffic.listen.to_string());
    let (status_in, status) = watch::channel(empty(&name, ServiceState::Starting, listen));
    let service = Service { name, path: folder.clone(), tools, asks: asked, status: status_in, last: None, queued: None };
    tokio::spawn(service.run(declared));
    Handle { asks, folder, status }
}

/// A status that knows nothing yet.
pub(super) fn empty(service: &str, state: ServiceState, listen: String) -> ServiceStatus {
    let service = service.to_owned();
    let serving = String::new();
    ServiceStatus { service, state, fault: None, listen, serving, ready: None, replicas: 0, release: None, queued: None, last: None }
}

/// A service's task.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) tools: Tools,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) status: watch::Sender<ServiceStatus>,
    pub(super) last: Option<LastRun>,
    pub(super) queued: Option<Queued>,
}

/// What a service is doing.
pub(super) enum Condition {
    Down(Down),
    Standing(Box<Standing>),
    Releasing(Box<Releasing>),
    Gone,
}

/// Why a service is not up.
pub(super) struct Down {
    pub(super) fault: String,
    /// Whether it may pass by itself.
    pub(super) passes: bool,
    /// The document that declared it, if it was never up.
    pub(super) declared: Option<Document>,
}

impl Service {
    async fn run(mut self, declared: Option<Document>) {
        let mut condition = self.open(declared).await;
        loop {
            condition = match condition {
                Condition::Down(down) => self.down(down).await,
                Condition::Standing(standing) => self.stand(*standing).await,
                Condition::Releasing(releasing) => self.release(*releasing).await,
                Condition::Gone => return,
            };
        }
    }

    /// Something that people want to know.
    pub(super) fn note(&self, text: String) {
        self.tools.events.publish(crate::process::now(), &self.name, None, (String::new(), text), None);
    }

    /// Opens the service. It takes as long as its version takes to become ready; meanwhile it answers.
    async fn open(&mut self, declared: Option<Document>) -> Condition {
        let opening = opening::open(self.name.clone(), self.path.clone(), self.tools.clone(), declared);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return self.opened(opened),
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return Condition::Gone };
                    match ask {
                        Ask::Apply { document, who, answer } => {
                            // Begins as soon as there is something to begin beside.
                            self.queued = Some(Queued { document: *document, who });
                            let _ = answer.send(Ok(Applied::Begun));
                        }
                        // What was started so far is found again by whoever opens the service next.
                        Ask::Detach { answer } | Ask::Stop { answer } => {
                            let _ = answer.send(());
                            return Condition::Gone;
                        }
                        other => refuse(other, &self.status.borrow(), "the service is being started"),
                    }
                }
            }
        }
    }

    fn opened(&mut self, opened: Opened) -> Condition {
        let Opened { condition, last } = opened;
        self.last = last.or_else(|| self.last.take());
        if self.queued.is_none()
            && let Some(folder) = StateFolder::existing(&self.path)
        {
            self.queued = Queued::kept(&folder);
        }
        condition
    }

    async fn down(&mut self, down: Down) -> Condition {
        let listen = self.status.borrow().listen.clone();
        let mut status = empty(&self.name, ServiceState::Failed, listen);
        status.fault = Some(down.fault.clone());
        status.last = self.last.clone();
        status.queued = self.queued.as_ref().map(Queued::words);
        self.status.send_replace(status);
        self.note(down.fault.clone());
        let retry_at = Instant::now() + RETRY;
        loop {
            let ask = tokio::select! {
                () = tokio::time::sleep_until(retry_at), if down.passes => return self.open(down.declared).await,
                ask = self.asks.recv() => ask,
            };
            match ask {
                None => return Condition::Gone,
                Some(Ask::Detach { answer } | Ask::Stop { answer }) => {
                    let _ = answer.send(());
                    return Condition::Gone;
                }
                // A service that was never up takes what people think is right now.
                Some(Ask::Apply { document, who, answer }) if down.declared.is_some() => {
                    let declared = (*document).clone();
                    self.queued = Some(Queued { document: *document, who });
                    let _ = answer.send(Ok(Applied::Begun));
                    return self.open(Some(declared)).await;
                }
                Some(Ask::Delete { who, answer }) if down.declared.is_some() => {
                    self.note(format!("deleted by {}", who.name));
                    let (stopped, moment) = oneshot::channel();
                    let _ = answer.send(Ok((moment, self.path.clone())));
                    drop(stopped);
                    return Condition::Gone;
                }
                Some(other) => refuse(other, &self.status.borrow(), &down.fault),
            }
        }
    }
}

/// Answers what cannot be done now.
pub(super) fn refuse(ask: Ask, status: &ServiceStatus, why: &str) {
    let conflict = || Refused::Conflict(format!("{why}; nothing was changed"));
    match ask {
        Ask::Status(answer) => drop(answer.send(status.clone())),
        Ask::Apply { answer, .. } | Ask::Retry { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Act { answer, .. } | Ask::Rollback { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Delete { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Detach { answer } | Ask::Stop { answer } => drop(answer.send(())),
    }
}
