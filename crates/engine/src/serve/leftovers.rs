//! What runs of a service that could not be opened: whoever stops everything, or deletes the service, wants it stopped as well.

use std::{path::Path, time::Duration};

use tokio::time::timeout;

use crate::{
    process::kill_leftover,
    router::running_proxy,
    store::{StateFolder, Store},
};

/// Time for clients whose requests are under way: nobody can say which version they are at, or how long it may take.
const DRAIN_MS: u64 = 10_000;
/// What a proxy may take beyond that.
const SLACK: Duration = Duration::from_secs(2);
/// Time for processes to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// Stops proxy and processes as far as they are known, and says which are not.
pub(super) async fn stop(name: &str, path: &Path) {
    let Ok(folder) = StateFolder::at(path) else { return };
    match running_proxy(&folder.proxy_socket()).await {
        Ok(Some(link)) => {
            let _ = link.shutdown(DRAIN_MS).await;
            let _ = timeout(Duration::from_millis(DRAIN_MS) + SLACK, link.closed()).await;
            let _ = std::fs::remove_file(folder.route_table());
        }
        Ok(None) => {}
        Err(error) => tracing::error!(service = name, %error, "the proxy could not be told to stop"),
    }
    if StateFolder::existing(path).is_none() {
        return;
    }
    let opened = tokio::task::block_in_place(|| Store::open(&folder).and_then(|store| Ok((store.processes()?, store))));
    let (records, store) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return tracing::error!(service = name, %error, "its processes are not known; look for {} in their environment", path.display());
        }
    };
    for record in records {
        if kill_leftover(&record, GRACE).await {
            let _ = store.forget_process(&record.id);
        }
    }
}
