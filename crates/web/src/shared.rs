//! What every request needs.

use std::sync::Arc;

use bytes::Bytes;
use serin_engine::serve::Server;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinError, spawn_blocking},
};

use crate::{
    config::{Limits, Rights},
    limit::Limiter,
    metrics::Measured,
    net::Places,
    problem::Problem,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: Server,
    /// Where the services run. Whatever may start something is done there, because tasks stay in the runtime that they were born in.
    pub(crate) engine: Handle,
    /// Changes with the tokens.
    pub(crate) rights: watch::Sender<Arc<Rights>>,
    pub(crate) limits: Limits,
    pub(crate) limiter: Limiter,
    pub(crate) streams: Places<String>,
    pub(crate) measured: Arc<Measured>,
    pub(crate) openapi: Bytes,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Shared {
    /// Returns when the API is to stop.
    pub(crate) async fn stopped(&self) {
        // An error means that whoever could say so is gone.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Does something where the services run. It goes on there if the client goes away: half an order would be none.
    pub(crate) async fn on_engine<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
        self.engine.spawn(work).await.map_err(|error| failed(&error))
    }

    /// Reads files or computes for long, without holding up other requests.
    pub(crate) async fn aside<T: Send + 'static>(&self, work: impl FnOnce(&Server) -> T + Send + 'static) -> Result<T, Problem> {
        let server = self.server.clone();
        spawn_blocking(move || work(&server)).await.map_err(|error| failed(&error))
    }
}

/// Work that panicked, or that was begun while the daemon stops.
pub(crate) fn failed(error: &JoinError) -> Problem {
    if error.is_cancelled() {
        return Problem::new(http::StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is stopping").retry_after_s(1);
    }
    tracing::error!(%error, "a request failed in a way that none should");
    Problem::internal()
}
