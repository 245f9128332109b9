//! A cluster as one who knows services: each is a `Release` object.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use serin_core::Timestamp;
use serin_engine::serve::{ServerEvent, ServiceStatus};
use serin_kube::{
    api::{ApiError, Release},
    outside::{Access, Lines, Look, Session, look, service},
    watch::{Selection, WatchTask, Watched, watch_all},
};
use serin_web::model::{ErrorBody, Explanation, Services};
use tokio::time::timeout;

use crate::{
    output,
    server::{ClientError, Happened},
    verbs::remote::{Backend, Happenings},
};

/// How long a controller may take to look at something new.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);
/// How long the first list may take.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

/// The releases of a namespace, or of all.
pub(super) struct Cluster {
    pub(super) session: Session,
    of_all: bool,
    /// That something may not be read was said.
    is_told: AtomicBool,
}

/// What happens to releases.
pub(crate) struct ClusterEvents {
    releases: Arc<Watched<Release>>,
    changes: tokio::sync::watch::Receiver<u64>,
    lines: Lines,
    only: Option<String>,
    of_all: bool,
    queue: VecDeque<Happened>,
    _task: WatchTask,
}

impl Cluster {
    /// Finds the cluster.
    ///
    /// # Errors
    /// If nothing says where it is.
    pub(super) async fn open(access: &Access, of_all: bool) -> Result<Self, ClientError> {
        Ok(Self { session: Session::open(access).await?, of_all, is_told: AtomicBool::new(false) })
    }

    /// Why a release is as it is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) async fn explanation(&self, name: &str) -> Result<Explanation, ClientError> {
        let mut told = serin_web::explanation(&self.service(name).await?);
        for next in &mut told.next {
            next.command = match next.command.as_str() {
                "serin apply release.yaml" => "kubectl apply -f release.yaml".to_owned(),
                command => format!("kubectl {command}"),
            };
        }
        Ok(told)
    }

    fn shown(&self, release: &Release, look: &Look) -> ServiceStatus {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut status = service(release, look, Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)));
        if self.of_all {
            status.service = full_name(release);
        }
        status
    }
}

impl Backend for Cluster {
    type Happenings = ClusterEvents;

    async fn service(&self, name: &str) -> Result<ServiceStatus, ClientError> {
        let release = self.session.release(name).await.map_err(|error| api_error(error, &self.session.namespace, name))?;
        let look = look(&self.session, &release).await;
        if let Some(blind) = look.blind.as_ref().filter(|_| !self.is_told.swap(true, Ordering::Relaxed)) {
            output::note(blind);
        }
        Ok(self.shown(&release, &look))
    }

    async fn services(&self) -> Result<Services, ClientError> {
        let all = self.session.all(self.of_all).await.map_err(|error| api_error(error, &self.session.namespace, ""))?;
        Ok(Services { services: all.iter().map(|release| self.shown(release, &Look::of_status(release))).collect() })
    }

    async fn happenings(&self, service: Option<&str>) -> Result<ClusterEvents, ClientError> {
        let api = if self.of_all { self.session.releases_of_all() } else { self.session.releases() };
        let selection = service.map_or(Selection::All, |name| Selection::Name(name.to_owned()));
        let (releases, task) = watch_all(api, selection);
        let mut changes = releases.changes();
        if timeout(LISTED_WITHIN, releases.synced()).await.is_err() {
            return Err(ClientError::Cluster(
                "the releases could not be listed in time; to watch needs the verbs list and watch".to_owned(),
            ));
        }
        changes.mark_unchanged();
        let mut lines = Lines::default();
        releases.all().iter().for_each(|release| lines.know(release));
        Ok(ClusterEvents {
            releases,
            changes,
            lines,
            only: service.map(str::to_owned),
            of_all: self.of_all,
            queue: VecDeque::new(),
            _task: task,
        })
    }

    fn overdue(&self) -> Option<(Duration, ClientError)> {
        let seconds = LOOKED_AT_WITHIN.as_secs();
        let text = format!(
            "no controller has looked at the release for {seconds} s; is `serin controller` running, and does it watch the namespace {}?",
            self.session.namespace
        );
        Some((LOOKED_AT_WITHIN, ClientError::Cluster(text)))
    }
}

impl Happenings for ClusterEvents {
    async fn next(&mut self) -> Happened {
        loop {
            if let Some(happened) = self.queue.pop_front() {
                return happened;
            }
            if self.changes.changed().await.is_err() {
                return Happened::Broken("nothing is watched any more".to_owned());
            }
            let mut events: Vec<ServerEvent> = Vec::new();
            for release in self.releases.all() {
                if self.only.as_deref().is_some_and(|only| only != release.name()) {
                    continue;
                }
                let news = self.lines.look(&release);
                if news.missed {
                    self.queue.push_back(Happened::Missed);
                }
                let name = if self.of_all { full_name(&release) } else { release.name().to_owned() };
                events.extend(news.events.into_iter().map(|event| ServerEvent { service: name.clone(), ..event }));
            }
            events.sort_by_key(|event| event.at);
            self.queue.extend(events.into_iter().map(|event| Happened::Event(Box::new(event))));
        }
    }
}

fn full_name(release: &Release) -> String {
    format!("{}/{}", release.namespace(), release.name())
}

/// What the API server has said, as errors of the verbs.
pub(super) fn api_error(error: ApiError, namespace: &str, release: &str) -> ClientError {
    match error {
        ApiError::NotFound(_) => {
            let hint = "`kubectl serin get -A` shows all there are; without the resource there are none: see docs/cluster.md";
            refusal(StatusCode::NOT_FOUND, "no-such-service", format!("there is no release {namespace}/{release}"), Some(hint))
        }
        ApiError::Forbidden(what, why) => {
            let hint = "commands need the verb patch on releases.serin.dev, everything else get, list and watch";
            refusal(StatusCode::FORBIDDEN, "forbidden", format!("{what}: not allowed: {why}"), Some(hint))
        }
        ApiError::Invalid(what, why) => refusal(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("{what}: refused: {why}"), None),
        ApiError::Conflict(_) | ApiError::Expired(_) | ApiError::Unreachable(..) => ClientError::Cluster(error.to_string()),
    }
}

/// An answer that says no.
pub(super) fn refusal(status: StatusCode, code: &str, message: String, hint: Option<&str>) -> ClientError {
    let body = ErrorBody { code: code.to_owned(), message, hint: hint.map(str::to_owned), diagnostics: None, checks: None };
    ClientError::Refused(status, Box::new(body))
}
