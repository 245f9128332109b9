//! What an ended release left running because serin died while it was putting things away.

use std::time::Duration;

use super::RunError;
use crate::{
    process::{kill_leftover, leftover},
    router::running_proxy,
    store::{StateFolder, Store},
};

/// Time for things of an earlier release to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// Stops it: first the proxy, then the processes behind it.
pub(super) async fn clear(folder: &StateFolder, store: &Store, note: impl Fn(String)) -> Result<(), RunError> {
    let proxy = running_proxy(&folder.proxy_socket()).await.map_err(|error| RunError::Proxy { reason: error.to_string() })?;
    if let Some(link) = proxy {
        note(format!("stopping the proxy (pid {}) of an earlier release", link.hello().pid));
        let _ = link.shutdown(0).await;
        let _ = tokio::time::timeout(GRACE, link.closed()).await;
    }
    for record in store.processes()? {
        if leftover(&record) {
            note(format!("stopping {} (pid {}) of an earlier release", record.id, record.pid));
        }
        if kill_leftover(&record, GRACE).await {
            store.forget_process(&record.id)?;
        }
    }
    Ok(())
}
