//! What all workers share: the table that is served, endpoints, counters.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use serin_core::{
    WeightBps,
    traffic::{Arm, by_arm},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    access_log::LogWriter,
    activity::Activity,
    assign::Assigner,
    counters::{Counters, Era, Snapshot},
    endpoint::ArmEndpoints,
    lock,
    preview::Door,
    protocol::{Speaks, Stats},
    seen::SeenClients,
    table::RouteTable,
};

/// A table in service.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) table: RouteTable,
    pub(crate) assigner: Assigner,
    /// By `Arm::index`; the canary's is empty if there is none.
    pub(crate) arms: [ArmEndpoints; 2],
    /// Of sticky releases, at this weight.
    pub(crate) clients: Option<Arc<SeenClients>>,
    /// What requests of this table belong to.
    pub(crate) era: Arc<Era>,
}

impl Live {
    pub(crate) fn arm(&self, arm: Arm) -> &ArmEndpoints {
        &self.arms[arm.index()]
    }

    fn in_flight(&self) -> [u64; 2] {
        by_arm(|arm| self.era.in_flight[arm.index()].load(Relaxed))
    }
}

/// Changes with everything that [`Stats`] tell of, and costs less than those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    counted: u64,
    /// Whether an age is told, which changes by itself.
    open: bool,
    tables: u64,
    endpoints: (u64, u64),
    in_flight: [u64; 2],
    others: [u64; 3],
}

impl Mark {
    /// Whether there is something to tell since `seen`.
    pub(crate) fn is_news(&self, seen: &Self) -> bool {
        self.open || self != seen
    }
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) instance: String,
    pub(crate) live: ArcSwapOption<Live>,
    applying: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) rescued: AtomicU64,
    pub(crate) own_errors: AtomicU64,
    pub(crate) unsupported: AtomicU64,
    pub(crate) log: LogWriter,
    pub(crate) activity: Activity,
    pub(crate) speaks: Speaks,
    /// A copy of the listening socket, for control; gone once the proxy stops.
    listener: Mutex<Option<Arc<TcpListener>>>,
    /// False while standing by.
    pub(crate) accepting: watch::Sender<bool>,
    /// The preview address.
    pub(crate) preview: watch::Sender<Door>,
    /// Changes with every new table.
    pub(crate) table_changes: watch::Sender<u64>,
    /// Set once: stop accepting, and cut off what is still in flight at this moment.
    pub(crate) shutdown: watch::Sender<Option<Instant>>,
    /// Whether `shutdown` is set, for every answer to ask.
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    /// `listener`: what control may have a copy of. `accepting`: whether connections are accepted from the start.
    pub(crate) fn new(workers: usize, speaks: Speaks, listener: TcpListener, accepting: bool) -> Self {
        Self {
            instance: format!("{:032x}", rand::random::<u128>()),
            live: ArcSwapOption::empty(),
            applying: Mutex::new(()),
            counters: Counters::new(workers),
            rescued: AtomicU64::new(0),
            own_errors: AtomicU64::new(0),
            unsupported: AtomicU64::new(0),
            log: LogWriter::default(),
            activity: Activity::default(),
            speaks,
            listener: Mutex::new(Some(Arc::new(listener))),
            accepting: watch::Sender::new(accepting),
            preview: watch::Sender::new(Door::default()),
            table_changes: watch::Sender::new(0),
            shutdown: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    /// Serves `table` from now on, unless it is older than the one in service.
    ///
    /// # Errors
    /// Why it is refused, for people; the table before stays in service.
    pub(crate) fn apply(&self, table: RouteTable) -> Result<WeightBps, String> {
        self.put_in_service(table, self.is_standby())
    }

    /// Serves `table` from the first request on, with its preview address as soon as that can be had.
    ///
    /// # Errors
    /// Why it cannot be served, for people.
    pub(crate) fn begin_with(&self, table: RouteTable) -> Result<WeightBps, String> {
        self.put_in_service(table, true)
    }

    fn put_in_service(&self, table: RouteTable, preview_may_wait: bool) -> Result<WeightBps, String> {
        table.validate().map_err(|error| error.to_string())?;
        let _one_at_a_time = lock(&self.applying);
        let before = self.live.load_full();
        if let Some(before) = &before {
            let (old, new) = ((before.table.epoch, before.table.version), (table.epoch, table.version));
            if new == old && before.table == table {
                return Ok(table.weight);
            }
            if new == old {
                return Err(format!(
                    "a different table with epoch {} and version {} is in service; give the new one a higher version",
                    old.0, old.1
                ));
            }
            if new < old {
                return Err(format!(
                    "it is older than the table in service (epoch {}, version {}); another owner took over, read the table first",
                    old.0, old.1
                ));
            }
        }
        let door = Door::wanted(table.preview, &self.preview.borrow(), preview_may_wait)?;
        let weight = table.weight;
        self.counters.weight_in_force(weight);
        self.log.configure(table.access_log.clone());
        let live = live_table(table, before.as_deref());
        self.counters.replicas_in_force(&live.arm(Arm::Stable).endpoints);
        self.counters.era_in_force(&live.era);
        self.live.store(Some(Arc::new(live)));
        self.preview.send_replace(door);
        self.table_changes.send_modify(|changes| *changes += 1);
        self.activity.happened();
        Ok(weight)
    }

    /// Epoch and version of the table in service.
    pub(crate) fn table_id(&self) -> Option<(u64, u64)> {
        self.live.load().as_ref().map(|live| (live.table.epoch, live.table.version))
    }

    /// All counters.
    pub(crate) fn stats(&self) -> Stats {
        let live = self.live.load_full();
        let (epoch, version) = live.as_ref().map_or((0, 0), |live| (live.table.epoch, live.table.version));
        let endpoints = live.iter().flat_map(|live| {
            Arm::BOTH.into_iter().flat_map(move |arm| live.arm(arm).endpoints.iter().map(move |endpoint| endpoint.stats(arm)))
        });
        let Snapshot { cells, open, replicas } = self.counters.snapshot();
        Stats {
            instance: self.instance.clone(),
            epoch,
            version,
            weight: live.as_ref().map_or(WeightBps::ZERO, |live| live.table.weight),
            cells,
            open,
            replicas,
            in_flight: live.as_ref().map_or([0, 0], |live| live.in_flight()),
            endpoints: endpoints.collect(),
            rescued: self.rescued.load(Relaxed),
            own_errors: self.own_errors.load(Relaxed),
            unsupported: self.unsupported.load(Relaxed),
        }
    }

    /// Where [`stats`](Self::stats) stand, cheaply.
    pub(crate) fn mark(&self) -> Mark {
        let (counted, open) = self.counters.mark();
        let live = self.live.load();
        let endpoints = live.iter().flat_map(|live| live.arms.iter().flat_map(|arm| &arm.endpoints));
        Mark {
            counted,
            open,
            tables: *self.table_changes.borrow(),
            endpoints: endpoints.map(|endpoint| endpoint.mark()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
            in_flight: live.as_ref().map_or([0, 0], |live| live.in_flight()),
            others: [&self.rescued, &self.own_errors, &self.unsupported].map(|count| count.load(Relaxed)),
        }
    }

    /// The listening socket; `None` once the proxy stops.
    pub(crate) fn listener(&self) -> Option<Arc<TcpListener>> {
        lock(&self.listener).clone()
    }

    /// Whether it stands by.
    pub(crate) fn is_standby(&self) -> bool {
        !*self.accepting.borrow()
    }

    /// Stops accepting now; what is still in flight at `deadline` is cut off. An earlier deadline wins.
    pub(crate) fn stop(&self, deadline: Instant) {
        // The port refuses connections, or leaves them to a successor, as soon as no worker accepts them any more.
        lock(&self.listener).take();
        self.stopping.store(true, Relaxed);
        self.shutdown.send_modify(|current| *current = Some(current.map_or(deadline, |old| old.min(deadline))));
    }

    /// Time without a byte after which a connection is given up, in milliseconds.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.live.load().as_ref().map_or(60_000, |live| live.table.timeouts.idle_ms)
    }
}

/// Endpoints keep their state when they stay, and take it along when they change arms.
fn live_table(table: RouteTable, before: Option<&Live>) -> Live {
    let arms = by_arm(|arm| {
        let (pool, other_pool) = match arm {
            Arm::Stable => (Some(&table.stable), table.canary.as_ref()),
            Arm::Canary => (table.canary.as_ref(), Some(&table.stable)),
        };
        let other = match arm {
            Arm::Stable => Arm::Canary,
            Arm::Canary => Arm::Stable,
        };
        let Some(pool) = pool else {
            return ArmEndpoints::default();
        };
        ArmEndpoints::new(pool, |id, address| {
            let before = before?;
            let stays_there =
                other_pool.is_some_and(|pool| pool.endpoints.iter().any(|endpoint| endpoint.id == id && endpoint.address == address));
            let moved = || if stays_there { None } else { before.arm(other).find(id, address) };
            before.arm(arm).find(id, address).or_else(moved)
        })
    });
    let known = before.and_then(|before| before.clients.as_ref());
    let clients = table.sticky.is_some().then(|| SeenClients::at_weight(&table.salt, table.weight, known));
    let era = match before {
        // The canary is gone: whatever comes after it has nothing to do with it.
        Some(before) if before.table.canary.is_some() && table.canary.is_none() => Arc::new(before.era.next()),
        Some(before) => Arc::clone(&before.era),
        None => Arc::default(),
    };
    Live { assigner: Assigner::new(&table), table, arms, clients, era }
}
