//! One service: between releases, and during them.

use std::{path::PathBuf, sync::Arc};

use serin_core::release::Command;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Applied, Refused, ServiceState, ServiceStatus, Who, events::Events};
use crate::run::Document;

const ASKS: usize = 64;

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
    /// As last published.
    pub(super) fn status(&self) -> ServiceStatus {
        self.status.borrow().clone()
    }
}

/// What a service can be asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Status(oneshot::Sender<ServiceStatus>),
    Apply {
        document: Box<Document>,
        who: Who,
        again: bool,
        answer: oneshot::Sender<Result<Applied, Refused>>,
    },
    Retry {
        who: Who,
        answer: oneshot::Sender<Result<Applied, Refused>>,
    },
    Act {
        command: Command,
        answer: oneshot::Sender<Result<(), Refused>>,
    },
    Rollback {
        who: Who,
        answer: oneshot::Sender<Result<(), Refused>>,
    },
    /// Answered with the moment when everything is stopped, and where the journals stay.
    Delete {
        who: Who,
        answer: oneshot::Sender<Result<(oneshot::Receiver<()>, PathBuf), Refused>>,
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
    let _ = tools;
    start(document.release.name, folder)
}

/// A service of an earlier server.
pub(super) fn find_again(name: &str, folder: PathBuf, tools: Tools) -> Handle {
    let _ = tools;
    start(name.to_owned(), folder)
}

fn start(service: String, folder: PathBuf) -> Handle {
    let (asks, _) = mpsc::channel(ASKS);
    let status = ServiceStatus {
        service,
        state: ServiceState::Starting,
        fault: None,
        listen: String::new(),
        serving: String::new(),
        ready: None,
        replicas: 0,
        release: None,
        queued: None,
        last: None,
    };
    let (_, status) = watch::channel(status);
    Handle { asks, folder, status }
}
