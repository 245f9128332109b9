//! One service: a task that is in one of four conditions, and what it answers in each.
//!
//! - *Down*: it could not be opened. Whatever may pass by itself (a full disk, a version that does not come up) is tried again soon, what waits
//!   for people (a damaged store) now and then. A proxy that runs goes on with its last table, with nothing for the canary.
//! - *Standing*: one version serves.
//! - *Releasing*: a release is carried out by the same driver as in the foreground. It is stopped between two turns for every question.
//! - *Deleting*: it is stopped for good, see the module `deleting`.
//!
//! **A newer document** takes the place of the one being released as long as clients can simply go back: the release is aborted, and the new
//! one begins when traffic has returned. From the promotion on the canary serves everyone, and going back for the sake of something newer would
//! hurt: the new document is refused until the bake is over. Once the old version is merely kept, it is given up for the new release.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use serin_core::release::{Action, Check, Command};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::Retention;
use super::{
    Applied, Refused, ServiceState, ServiceStatus, Who,
    deleting::Deleting,
    events::Events,
    leftovers,
    opening::{self, Opened},
    passed,
    queue::Queued,
    releasing::{self, Releasing, Unrecorded},
    standing::{self, Standing},
    status::LastRun,
};
use crate::{preflight, run::Document, store::StateFolder, systemd::Sockets};

const ASKS: usize = 64;
/// How often a service that is down tries again.
const RETRY: Duration = Duration::from_secs(5);
/// The same if only people can help: to see that they did.
const RETRY_AFTER_PEOPLE: Duration = Duration::from_secs(20);
/// How often it says how it is without being asked.
pub(super) const PULSE: Duration = Duration::from_secs(1);

/// What every service needs of the server.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) serin_exe: PathBuf,
    pub(super) events: Arc<Events>,
    pub(super) sockets: Sockets,
    pub(super) retention: Retention,
}

/// How a service is reached.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) folder: PathBuf,
    status: watch::Receiver<ServiceStatus>,
}

impl Handle {
    /// Returns when the service's task has ended.
    pub(super) async fn gone(&self) {
        self.asks.closed().await;
    }

    /// As last published: what it is doing is always right, numbers are some seconds old.
    pub(super) fn status(&self) -> ServiceStatus {
        let mut status = self.status.borrow().clone();
        self.count_questions(&mut status);
        status
    }

    /// Adds what waits in the queue to what the service has put aside.
    pub(super) fn count_questions(&self, status: &mut ServiceStatus) {
        status.questions_waiting += self.asks.max_capacity().saturating_sub(self.asks.capacity()) as u64;
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
    /// What would become of a document, with the checks made for it.
    DryRun {
        document: Box<Document>,
        answer: Answer<(Applied, Vec<Check>)>,
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
    /// Answered when it is recorded, with where the journals will be. When everything is stopped, the service is gone.
    Delete {
        who: Who,
        answer: Answer<PathBuf>,
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
    let service = Service {
        name,
        path: folder.clone(),
        tools,
        asks: asked,
        deferred: VecDeque::new(),
        status: status_in,
        last: None,
        queued: None,
        unrecorded: None,
    };
    tokio::spawn(service.run(declared));
    Handle { asks, folder, status }
}

/// A status that knows nothing yet.
pub(super) fn empty(service: &str, state: ServiceState, listen: String) -> ServiceStatus {
    let service = service.to_owned();
    let serving = String::new();
    ServiceStatus {
        service,
        state,
        fault: None,
        listen,
        serving,
        ready: None,
        replicas: 0,
        release: None,
        queued: None,
        last: None,
        questions_waiting: 0,
    }
}

/// A service's task.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) tools: Tools,
    asks: mpsc::Receiver<Ask>,
    /// What was asked while the service was being opened, and can only be answered after that.
    deferred: VecDeque<Ask>,
    pub(super) status: watch::Sender<ServiceStatus>,
    pub(super) last: Option<LastRun>,
    pub(super) queued: Option<Queued>,
    /// The end of a release that the store could not take yet.
    pub(super) unrecorded: Option<Unrecorded>,
}

/// What a service is doing.
pub(super) enum Condition {
    Down(Box<Down>),
    Standing(Box<Standing>),
    Releasing(Box<Releasing>),
    Deleting(Box<Deleting>),
    Gone,
}

/// Why a service is not up.
pub(super) struct Down {
    pub(super) fault: String,
    /// Whether it may pass by itself.
    pub(super) passes: bool,
    /// Whether nothing is known that serves, so that any document may say it.
    pub(super) blank: bool,
    /// The document that declared it, if it was never up.
    pub(super) declared: Option<Document>,
}

impl Service {
    async fn run(mut self, declared: Option<Document>) {
        let mut condition = self.open(declared).await;
        loop {
            condition = match condition {
                Condition::Down(down) => self.down(*down).await,
                Condition::Standing(standing) => self.stand(*standing).await,
                Condition::Releasing(releasing) => self.release(*releasing).await,
                Condition::Deleting(deleting) => self.delete(*deleting).await,
                Condition::Gone => return,
            };
        }
    }

    /// Something that people want to know.
    pub(super) fn note(&self, text: String) {
        self.tools.events.publish(crate::process::now(), &self.name, None, (String::new(), text), None);
    }

    /// What is asked next: first what had to wait. Whoever stopped waiting for an answer is not obeyed any more.
    pub(super) async fn next_ask(&mut self) -> Option<Ask> {
        loop {
            let ask = match self.deferred.pop_front() {
                Some(ask) => ask,
                None => self.asks.recv().await?,
            };
            if !ask.is_forgotten() {
                return Some(ask);
            }
        }
    }

    /// Opens the service. It takes as long as its version takes to become ready; meanwhile it answers.
    async fn open(&mut self, declared: Option<Document>) -> Condition {
        if let Some(deleting) = Deleting::found(&self.path) {
            return Condition::Deleting(Box::new(deleting));
        }
        let is_new = declared.is_some();
        let opening = opening::open(self.name.clone(), self.path.clone(), self.tools.clone(), declared);
        tokio::pin!(opening);
        let mut stopping = Vec::new();
        let condition = loop {
            tokio::select! {
                opened = &mut opening => break self.opened(opened),
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return Condition::Gone };
                    if ask.is_forgotten() {
                        continue;
                    }
                    match ask {
                        Ask::Apply { document, who, answer } if is_new && self.queued.is_none() => {
                            // Begins as soon as there is something to begin beside.
                            let _ = answer.send(self.keep(*document, who));
                        }
                        Ask::DryRun { document, answer } if is_new && self.queued.is_none() => drop(answer.send(self.foresee_first(&document))),
                        Ask::Apply { .. } | Ask::DryRun { .. } | Ask::Retry { .. } if self.deferred.len() < ASKS => {
                            self.deferred.push_back(ask);
                            self.status.send_modify(|status| status.questions_waiting = self.deferred.len() as u64);
                        }
                        // What was started so far is found again by whoever opens the service next.
                        Ask::Detach { answer } => {
                            let _ = answer.send(());
                            return Condition::Gone;
                        }
                        // Only what is known can be stopped.
                        Ask::Stop { answer } => stopping.push(answer),
                        other => refuse(other, &self.status.borrow(), "the service is being started"),
                    }
                }
            }
        };
        if stopping.is_empty() {
            return condition;
        }
        match condition {
            Condition::Standing(standing) => standing::stop(*standing).await,
            Condition::Releasing(releasing) => releasing::stop(*releasing).await,
            Condition::Down(_) => leftovers::stop(&self.name, &self.path, None).await,
            // Neither is what opening leads to.
            Condition::Deleting(_) | Condition::Gone => {}
        }
        for answer in stopping {
            let _ = answer.send(());
        }
        Condition::Gone
    }

    /// What would become of a document that says what serves. Whether its address is free is seen when it is opened: its own proxy may have it.
    fn foresee_first(&self, document: &Document) -> Result<(Applied, Vec<Check>), Refused> {
        let checks = passed(preflight::static_checks(&document.release, &document.dir, &self.path, true))?;
        Ok((Applied::Begun, checks))
    }

    /// Keeps a document until it can begin.
    fn keep(&mut self, document: Document, who: Who) -> Result<Applied, Refused> {
        let queued = Queued { document, who };
        queued.keep(&StateFolder::create(&self.path)?)?;
        self.queued = Some(queued);
        Ok(Applied::Begun)
    }

    fn opened(&mut self, opened: Opened) -> Condition {
        let Opened { condition, last } = opened;
        self.last = last.or_else(|| self.last.take());
        if self.queued.is_none()
            && let Some(folder) = StateFolder::existing(&self.path)
        {
            self.queued = Queued::kept(&folder);
            // A process that died between the record of a run and this file.
            let begun = |queued: &Queued| matches!(&condition, Condition::Releasing(releasing) if releasing.is_of(&queued.document) && releasing.has_just_begun());
            if self.queued.take_if(|queued| begun(queued)).is_some() {
                Queued::forget(&folder);
            }
        }
        condition
    }

    async fn down(&mut self, down: Down) -> Condition {
        let listen = self.status.borrow().listen.clone();
        let is_news = self.status.borrow().fault.as_ref() != Some(&down.fault);
        let mut status = empty(&self.name, ServiceState::Failed, listen);
        status.fault = Some(down.fault.clone());
        status.last = self.last.clone();
        status.queued = self.queued.as_ref().map(Queued::words);
        self.status.send_replace(status);
        if is_news {
            tracing::error!(service = self.name, "{}", down.fault);
            self.note(down.fault.clone());
        }
        let retry_at = Instant::now() + if down.passes { RETRY } else { RETRY_AFTER_PEOPLE };
        loop {
            let ask = tokio::select! {
                () = tokio::time::sleep_until(retry_at) => return self.open(down.declared).await,
                ask = self.next_ask() => ask,
            };
            match ask {
                None => return Condition::Gone,
                Some(Ask::Detach { answer }) => {
                    let _ = answer.send(());
                    return Condition::Gone;
                }
                Some(Ask::Stop { answer }) => {
                    leftovers::stop(&self.name, &self.path, None).await;
                    let _ = answer.send(());
                    return Condition::Gone;
                }
                // A service that was never up takes what people think is right now.
                Some(Ask::Apply { document, who, answer }) if down.blank || down.declared.is_some() => {
                    let declared = (*document).clone();
                    let kept = self.keep(*document, who);
                    let takes = kept.is_ok();
                    let _ = answer.send(kept);
                    if takes {
                        return self.open(Some(declared)).await;
                    }
                }
                Some(Ask::DryRun { document, answer }) if down.blank || down.declared.is_some() => {
                    let _ = answer.send(self.foresee_first(&document));
                }
                Some(Ask::Delete { who, answer }) => {
                    if let Some(deleting) = self.begin_deleting(None, &who, answer) {
                        return Condition::Deleting(Box::new(deleting));
                    }
                }
                Some(other) => refuse(other, &self.status.borrow(), &down.fault),
            }
        }
    }
}

impl Ask {
    /// Whether nobody waits for the answer any more.
    fn is_forgotten(&self) -> bool {
        match self {
            Self::Apply { answer, .. } | Self::Retry { answer, .. } => answer.is_closed(),
            Self::DryRun { answer, .. } => answer.is_closed(),
            Self::Delete { answer, .. } => answer.is_closed(),
            // Going back is right however late.
            Self::Act { command, answer } => command.action != Action::Abort && answer.is_closed(),
            Self::Rollback { .. } | Self::Status(_) | Self::Detach { .. } | Self::Stop { .. } => false,
        }
    }
}

/// Answers what cannot be done now.
pub(super) fn refuse(ask: Ask, status: &ServiceStatus, why: &str) {
    let conflict = || Refused::Conflict(format!("{why}; nothing was changed"));
    match ask {
        Ask::Status(answer) => drop(answer.send(status.clone())),
        Ask::Apply { answer, .. } | Ask::Retry { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::DryRun { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Act { answer, .. } | Ask::Rollback { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Delete { answer, .. } => drop(answer.send(Err(conflict()))),
        Ask::Detach { answer } | Ask::Stop { answer } => drop(answer.send(())),
    }
}
