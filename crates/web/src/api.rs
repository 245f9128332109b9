//! Starting and stopping the API.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use serin_engine::serve::Server;
use tokio::{
    runtime::{Builder, Handle},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    ApiConfig, ApiError,
    limit::Limiter,
    metrics::{self, Measured},
    net::{Listeners, Places, accept},
    openapi,
    shared::Shared,
    tokens,
};

/// Threads for files and documents, beside the API's own.
const HELPERS: usize = 4;
/// How long the API may take to stop; requests under way get less.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running API. Dropping it tells it to stop and does not wait.
#[derive(Debug)]
pub struct Api {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    look: watch::Sender<u64>,
    tcp: Option<SocketAddr>,
}

impl Api {
    /// Listens and answers. Must be called within the runtime that the services run in.
    ///
    /// # Errors
    /// If the configuration would let in everyone or no one, or a listener cannot be bound.
    pub fn start(server: Server, config: &ApiConfig) -> Result<Self, ApiError> {
        config.check()?;
        let engine = Handle::try_current().map_err(|_| ApiError::NoRuntime)?;
        let listeners = Listeners::bind(config)?;
        let tcp = listeners.tcp.as_ref().map(|(_, address, _)| *address);
        let (stop, stopping) = watch::channel(false);
        let (over, ended) = oneshot::channel();
        let (look, asked) = watch::channel(0);
        let source = config.token_source.clone();
        let limits = config.limits;
        let shared = Arc::new(Shared {
            server,
            engine,
            rights: watch::Sender::new(Arc::new(config.rights())),
            limits,
            limiter: Limiter::new(&limits),
            streams: Places::new(limits.streams, limits.streams_per_identity),
            measured: Arc::new(Measured::default()),
            openapi: openapi::text().into(),
            stop: stopping,
        });
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HELPERS)
            .thread_name("serin-api-files")
            .build()
            .map_err(ApiError::Thread)?;
        let run = move || {
            runtime.block_on(async {
                let watching = tokio::spawn(metrics::watch(Arc::clone(&shared)));
                let following = source.map(|source| tokio::spawn(tokens::follow(source, Arc::clone(&shared), asked)));
                if let Err(error) = accept(listeners, shared).await {
                    tracing::error!(%error, "the API stopped answering");
                }
                watching.abort();
                if let Some(following) = following {
                    following.abort();
                }
            });
            // A helper may hang on a disk; the daemon does not wait for it.
            runtime.shutdown_background();
            let _ = over.send(());
        };
        thread::Builder::new().name("serin-api".to_owned()).spawn(run).map_err(ApiError::Thread)?;
        Ok(Self { stop, ended, look, tcp })
    }

    /// Where TCP clients connect; tells the port if 0 was configured.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Looks at once whether the file that tokens come from has changed, and reads it in any case. Does nothing without such a file.
    pub fn reread_tokens(&self) {
        self.look.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Accepts nothing more, lets requests under way end, closes event streams, and removes the socket. Takes a few seconds at most.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = timeout(STOP_PATIENCE, self.ended).await;
    }
}
