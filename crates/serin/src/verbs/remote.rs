//! What verbs that ask a server share: a runtime, a client, and exit codes for what goes wrong.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use http::StatusCode;
use serin_engine::{
    run::RunEnd,
    serve::{ServiceState, ServiceStatus},
};

use serin_web::model::Services;

use crate::{
    exit,
    output::{self, Output},
    render,
    server::{Client, ClientError, Events, Happened, ServerArg},
};

/// How often a release that is waited for is looked at, beside its events.
const LOOK: Duration = Duration::from_secs(2);
/// How long a server may be away, for an upgrade say, before nobody waits for its release any more.
const AWAY: Duration = Duration::from_secs(300);

/// Who knows services and their releases: a server, or a cluster.
pub(super) trait Backend {
    /// What happens there.
    type Happenings: Happenings;

    /// A service as it is.
    async fn service(&self, name: &str) -> Result<ServiceStatus, ClientError>;
    /// All services.
    async fn services(&self) -> Result<Services, ClientError>;
    /// What happens from now on, to one service or to all.
    async fn happenings(&self, service: Option<&str>) -> Result<Self::Happenings, ClientError>;
    /// How long a service may be [`Starting`](ServiceState::Starting) before that is an error of this kind; `None`: for ever.
    fn overdue(&self) -> Option<(Duration, ClientError)>;
}

/// What happens, as it happens.
pub(super) trait Happenings {
    /// The next event. Never ends by itself.
    async fn next(&mut self) -> Happened;
}

impl Backend for Client {
    type Happenings = Events;

    async fn service(&self, name: &str) -> Result<ServiceStatus, ClientError> {
        self.get(&format!("/v1/services/{name}")).await?.read()
    }

    async fn services(&self) -> Result<Services, ClientError> {
        self.get("/v1/services").await?.read()
    }

    async fn happenings(&self, service: Option<&str>) -> Result<Events, ClientError> {
        Events::open(self.clone(), service).await
    }

    fn overdue(&self) -> Option<(Duration, ClientError)> {
        None
    }
}

impl Happenings for Events {
    async fn next(&mut self) -> Happened {
        Self::next(self).await
    }
}

/// Asks a server, and says what went wrong if it does not answer or says no.
///
/// # Errors
/// If there is no runtime, or stdout cannot be written.
pub(super) fn with(server: &ServerArg, output: Output, ask: impl AsyncFnOnce(Client) -> anyhow::Result<u8>) -> anyhow::Result<ExitCode> {
    asked(output, async || match server.client() {
        Ok(client) => ask(client).await,
        Err(error) => Err(error.into()),
    })
}

/// Asks somebody, and says what went wrong.
///
/// # Errors
/// If there is no runtime, or stdout cannot be written.
pub(super) fn asked(output: Output, ask: impl AsyncFnOnce() -> anyhow::Result<u8>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(ask()) {
        Ok(code) => Ok(exit::code(code)),
        Err(error) => match error.downcast::<ClientError>() {
            Ok(refused) => Ok(exit::code(refuse(&refused, output)?)),
            Err(other) => Err(other),
        },
    }
}

/// Says why not. Gives the exit code.
fn refuse(error: &ClientError, output: Output) -> anyhow::Result<u8> {
    let code = match error {
        ClientError::Usage(_) | ClientError::Version { .. } => exit::USAGE,
        ClientError::Nobody { .. } | ClientError::Lost(_) | ClientError::Cluster(_) => exit::INTERNAL,
        // The same status as a document that is wrong, and the same code as a check of `serin run`.
        ClientError::Refused(_, body) if body.code == "preflight" => exit::PREFLIGHT,
        ClientError::Refused(status, _) => match *status {
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => exit::PREFLIGHT,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR | StatusCode::GATEWAY_TIMEOUT => exit::INTERNAL,
            _ => exit::USAGE,
        },
    };
    match (output, error) {
        (Output::Json, ClientError::Refused(_, body)) => {
            output::data(&serde_json::json!({"type": "error", "exit_code": code, "error": body}).to_string())?;
        }
        (Output::Json, other) => {
            output::data(&serde_json::json!({"type": "error", "exit_code": code, "error": {"message": other.to_string()}}).to_string())?;
        }
        (Output::Text, ClientError::Refused(_, body)) => {
            output::error(&error.to_string());
            let checks = body.checks.clone().and_then(|checks| serde_json::from_value::<Vec<_>>(checks).ok()).unwrap_or_default();
            render::end::checks(&checks, false).iter().for_each(|line| output::note(line));
        }
        (Output::Text, other) => output::error(&other.to_string()),
    }
    Ok(code)
}

/// Shows what happens until the release of a service is over, and gives its exit code. A release that waits for a person ends the wait too.
/// `newer_than`: the number of the last run before the one that is waited for, 0 if there was none: should none come, it could not begin.
pub(super) async fn wait(backend: &impl Backend, name: &str, newer_than: Option<i64>, output: Output) -> anyhow::Result<u8> {
    let mut events = backend.happenings(Some(name)).await?;
    let mut look = tokio::time::interval(LOOK);
    let (mut answered, mut beginning) = (Instant::now(), Instant::now());
    let mut told = None;
    loop {
        tokio::select! {
            happened = events.next() => show(&happened, output)?,
            _ = look.tick() => {
                let status = match backend.service(name).await {
                    Ok(status) => status,
                    Err(error) if !may_pass(&error) || answered.elapsed() >= AWAY => return Err(error.into()),
                    // A server that is being restarted answers again in a moment.
                    Err(_) => continue,
                };
                answered = Instant::now();
                // Whoever says what it waits for has looked at it.
                if status.state != ServiceState::Starting || status.fault.is_some() {
                    beginning = answered;
                }
                if status.state == ServiceState::Starting && status.fault != told {
                    status.fault.iter().for_each(|why| output::note(why));
                    told.clone_from(&status.fault);
                }
                if let Some((patience, error)) = backend.overdue().filter(|(patience, _)| beginning.elapsed() >= *patience) {
                    tracing::debug!(?patience, "nothing begins");
                    return Err(error.into());
                }
                let Some(code) = ended(&status) else { continue };
                let last = status.last.as_ref().map_or(0, |last| last.number);
                if status.state == ServiceState::Serving && newer_than.is_some_and(|number| last <= number) {
                    output::error("the release could not begin; `serin get` and the server's events say why");
                    return Ok(exit::PREFLIGHT);
                }
                return Ok(code);
            }
        }
    }
}

/// Whether asking once more may help: not if the service is gone, or the token is not good any more.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Nobody { .. } | ClientError::Lost(_) | ClientError::Cluster(_) => true,
        ClientError::Refused(status, _) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        ClientError::Usage(_) | ClientError::Version { .. } => false,
    }
}

/// The exit code that a service's state means for whoever waits for its release; `None` while it goes on.
pub(super) fn ended(status: &ServiceStatus) -> Option<u8> {
    match status.state {
        ServiceState::Starting => None,
        ServiceState::Releasing => status.release.as_ref().is_some_and(|release| release.wait.operator).then_some(exit::NEEDS_OPERATOR),
        ServiceState::Failed | ServiceState::Deleting => Some(exit::INTERNAL),
        ServiceState::Serving if status.queued.is_some() => None,
        ServiceState::Serving => Some(status.last.as_ref().map_or(exit::SUCCEEDED, |last| exit::of_end(&last.end))),
    }
}

/// Shows something that happened.
pub(super) fn show(happened: &Happened, output: Output) -> std::io::Result<()> {
    match (happened, output) {
        (Happened::Event(event), Output::Json) => output::data(&serde_json::to_string(event).unwrap_or_default()),
        (Happened::Event(event), Output::Text) if event.head.is_empty() && event.text.is_empty() => Ok(()),
        (Happened::Event(event), Output::Text) => output::data(&render::lines::server_event(event)),
        (Happened::Missed, _) => {
            output::note("some events were missed; `serin history` has them");
            Ok(())
        }
        (Happened::Broken(why), _) => {
            output::note(&format!("the connection to the server broke ({why}); trying again"));
            Ok(())
        }
    }
}

/// How a release that is over ended, for people.
pub(super) fn end_words(end: &RunEnd) -> String {
    match end {
        RunEnd::RolledBack { cause } => format!("rolled back: {}", cause.text),
        other => other.word().to_owned(),
    }
}
