//! What runs of a service that could not be opened: whoever stops everything, or deletes the service, wants it stopped as well.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::{
    process::{kill_leftover, start_time_of},
    router::running_proxy,
    store::{StateFolder, Store},
};

/// Time for clients whose requests are under way: nobody can say which version they are at, or how long it may take.
const DRAIN_MS: u64 = 10_000;
/// What a proxy may take beyond that.
const SLACK: Duration = Duration::from_secs(2);
/// Time for processes to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How often a proxy that can only be watched is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A proxy that may have been told to stop already: it takes no connections any more, neither from clients nor from control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) pid: u32,
    /// With the pid it names the process for good.
    pub(super) start_time: u64,
    /// Time that it was given for requests under way, in milliseconds.
    pub(super) drain_ms: u64,
}

impl Ending {
    /// Returns when it is gone, or has had its time.
    async fn gone(self) {
        let ended = async {
            while start_time_of(self.pid) == Some(self.start_time) {
                sleep(LOOK_EVERY).await;
            }
        };
        let _ = timeout(Duration::from_millis(self.drain_ms).saturating_add(SLACK), ended).await;
    }
}

/// Stops proxy and processes as far as they are known, and says which are not. `ending`: what is known of the proxy.
pub(super) async fn stop(name: &str, path: &Path, ending: Option<Ending>) {
    let Ok(folder) = StateFolder::at(path) else { return };
    let drain_ms = ending.map_or(DRAIN_MS, |ending| ending.drain_ms);
    match running_proxy(&folder.proxy_socket()).await {
        Ok(Some(link)) => {
            let _ = link.shutdown(drain_ms).await;
            let _ = timeout(Duration::from_millis(drain_ms).saturating_add(SLACK), link.closed()).await;
            let _ = std::fs::remove_file(folder.route_table());
        }
        // The versions behind it answer what is under way.
        Ok(None) => {
            if let Some(ending) = ending {
                ending.gone().await;
            }
        }
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
