//! The built-in proxy as a router.
//!
//! The adapter holds what the route table should be and sends it as a whole on every change. The table is also kept in a
//! file, so that a proxy that died comes back with it before anyone can tell it anything.

mod beat;
mod found;
mod keeper;
mod proxy_process;
mod table;

pub use found::{bind_check, running_proxy, take_back};
pub use keeper::{LinkWatch, ProxyKeeper, ProxyLaunch};

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serin_core::{WeightBps, release::EffectId};
use serin_proxy::{
    ProxyLink,
    table::{Pool, RouteTable},
};
use tokio::{sync::watch, time::timeout};

use super::{Router, RouterError, Split};
use crate::Pending;

/// How long a change waits for a proxy that is being started.
const LINK_PATIENCE: Duration = Duration::from_secs(2);
/// How often a read-back sends the newest table to a proxy that serves an older one.
const READ_BACK_ATTEMPTS: usize = 3;

/// Drives the built-in proxy.
#[derive(Debug)]
pub struct EmbeddedRouter {
    table: Mutex<RouteTable>,
    /// The newest move that was begun.
    order: Mutex<EffectId>,
    /// The wish for matches, kept apart from the table: without a canary pool there is nothing to match to.
    matches: Vec<serin_proxy::table::MatchRule>,
    /// Likewise.
    preview: Option<SocketAddr>,
    kept: KeptTable,
    link: watch::Receiver<Option<Arc<ProxyLink>>>,
}

/// The file that a restarted proxy begins with.
#[derive(Debug)]
struct KeptTable {
    file: PathBuf,
    newest: Mutex<(u64, u64)>,
}

impl EmbeddedRouter {
    /// A router for this release that sends everything to stable.
    #[must_use]
    pub fn new(
        release: &serin_spec::validated::Release,
        epoch: u64,
        stable: Pool,
        file: PathBuf,
        link: watch::Receiver<Option<Arc<ProxyLink>>>,
    ) -> Self {
        let (table, matches) = table::initial(release, epoch, stable);
        Self {
            table: Mutex::new(table),
            order: Mutex::new(EffectId(0)),
            matches,
            preview: release.traffic.preview,
            kept: KeptTable { file, newest: Mutex::default() },
            link,
        }
    }

    /// Says which servers the canary has, without giving them traffic; `None`: there is no canary any more.
    ///
    /// # Errors
    /// If the proxy cannot be reached or refuses.
    pub async fn set_canary(&self, pool: Option<Pool>) -> Result<(), RouterError> {
        let table = self.change(|table| {
            if pool.is_none() {
                table.weight = WeightBps::ZERO;
                table.matches.clear();
                table.preview = None;
            }
            table.canary = pool;
        });
        self.send(table).await
    }

    /// Sets the table to begin with, before a proxy is there to be told: a new proxy reads it from the file, a running one
    /// gets it as soon as the link stands.
    pub fn prepare(&self, canary: Option<Pool>, split: Split) {
        let table = self.change(|table| {
            table.canary = canary;
            self.apply_split(table, split);
        });
        self.kept.keep(&table);
    }

    /// The newest table's epoch and version: counters of older tables say nothing about what was asked.
    #[must_use]
    pub fn version(&self) -> (u64, u64) {
        let table = self.lock();
        (table.epoch, table.version)
    }

    /// The canary's servers become the stable ones, in one swap.
    ///
    /// # Errors
    /// If the proxy cannot be reached or refuses.
    pub async fn make_canary_stable(&self) -> Result<(), RouterError> {
        let table = self.change(|table| {
            if let Some(pool) = table.canary.take() {
                table.stable = pool;
            }
            table.weight = WeightBps::ZERO;
            table.matches.clear();
            table.preview = None;
        });
        self.send(table).await
    }

    /// Sends the table once more, for a proxy that was started anew.
    ///
    /// # Errors
    /// If the proxy cannot be reached or refuses.
    pub async fn resend(&self) -> Result<(), RouterError> {
        let table = self.lock().clone();
        self.send(table).await
    }

    /// Without a canary everything goes to stable.
    fn apply_split(&self, table: &mut RouteTable, split: Split) {
        let Split { weight, matches, preview } = if table.canary.is_some() { split } else { Split::default() };
        table.weight = weight;
        table.matches = if matches { self.matches.clone() } else { Vec::new() };
        table.preview = self.preview.filter(|_| preview);
    }

    fn change(&self, change: impl FnOnce(&mut RouteTable)) -> RouteTable {
        let mut table = self.lock();
        change(&mut table);
        table.version += 1;
        table.clone()
    }

    /// The file is written after a living proxy was told: nothing may delay traffic on its way to stable. Should everything
    /// die in between, the next owner sends a table of its own, made from the journal and the latch. A proxy that is being
    /// started finds the new table in the file.
    async fn send(&self, table: RouteTable) -> Result<(), RouterError> {
        if self.link.borrow().is_none() {
            self.kept.keep(&table);
        }
        let sent = match self.link().await {
            Ok(link) => link.apply(table.clone()).await.map(|_| ()).map_err(|error| table::router_error(&error)),
            Err(error) => Err(error),
        };
        self.kept.keep(&table);
        match sent {
            // A newer table of ours overtook this one, and every table holds all changes before it.
            Err(RouterError::Refused(_)) if self.version() > (table.epoch, table.version) => Ok(()),
            sent => sent,
        }
    }

    /// The link, waited for while the proxy starts.
    async fn link(&self) -> Result<Arc<ProxyLink>, RouterError> {
        let mut link = self.link.clone();
        let waited = timeout(LINK_PATIENCE, link.wait_for(Option::is_some)).await;
        let linked = waited.ok().and_then(Result::ok).and_then(|link| link.clone());
        linked.ok_or_else(|| RouterError::Unreachable("the proxy is being started".to_owned()))
    }

    /// The weight that the proxy serves, if it serves the newest table. One that does not know previews serves another than it was told.
    async fn served(&self) -> Result<Option<WeightBps>, RouterError> {
        let served = self.link().await?.current_table().await.map_err(|error| table::router_error(&error))?;
        let wanted = self.lock().clone();
        let is_newest = |served: &RouteTable| {
            let (theirs, ours) = ((served.epoch, served.version), (wanted.epoch, wanted.version));
            theirs > ours || (theirs == ours && served.preview == wanted.preview)
        };
        Ok(served.filter(is_newest).map(|served| served.weight))
    }

    fn lock(&self) -> MutexGuard<'_, RouteTable> {
        // A panic elsewhere does not make the table wrong: it is only ever replaced field by field with valid values.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router for EmbeddedRouter {
    fn shift(&self, order: EffectId, split: Split) -> Pending<'_, Result<(), RouterError>> {
        Box::pin(async move {
            let table = {
                // Held until the table is changed: two moves take their versions in their order.
                let mut newest = self.order.lock().unwrap_or_else(PoisonError::into_inner);
                if order < *newest {
                    return Ok(());
                }
                if self.lock().canary.is_none() && (!split.weight.is_zero() || split.preview) {
                    return Err(RouterError::Refused("the canary has no servers".to_owned()));
                }
                if split.preview && self.preview.is_none() {
                    return Err(RouterError::Refused("the document has no preview address".to_owned()));
                }
                *newest = order;
                self.change(|table| self.apply_split(table, split))
            };
            self.send(table).await
        })
    }

    /// The whole table is what is proven, matches included: a proxy that still serves an older one has not taken the weight.
    fn read_back(&self) -> Pending<'_, Result<WeightBps, RouterError>> {
        Box::pin(async move {
            // Another change may come between sending and reading, such as the one that greets a new link.
            for _ in 0..READ_BACK_ATTEMPTS {
                if let Some(weight) = self.served().await? {
                    return Ok(weight);
                }
                self.resend().await?;
            }
            let served = self.served().await?;
            served.ok_or_else(|| RouterError::Unreachable("it still serves an older route table".to_owned()))
        })
    }
}

impl KeptTable {
    /// Replaces the file, unless a newer table is in it already. Without room for the new one the old one is removed: a proxy
    /// that finds no table waits for control, one that finds an old table might send traffic to a canary that lost it.
    ///
    /// A disk that hangs holds this service up and no other: the runtime is told that the thread waits for it.
    fn keep(&self, table: &RouteTable) {
        tokio::task::block_in_place(|| self.replace_file(table));
    }

    fn replace_file(&self, table: &RouteTable) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let version = (table.epoch, table.version);
        if version < *newest {
            return;
        }
        *newest = version;
        let fresh = self.file.with_extension("new");
        let text = serde_json::to_vec(table).map_err(std::io::Error::from);
        let written = text.and_then(|text| fs::write(&fresh, text)).and_then(|()| fs::rename(&fresh, &self.file));
        if let Err(error) = written {
            let _ = fs::remove_file(&self.file);
            tracing::warn!(file = %self.file.display(), %error, "the route table could not be kept for a restart of the proxy");
        }
    }
}
