//! `serin controller`: watches, leads if it may, and keeps a task for every release that is under way.
//!
//! A standby watches everything from the start, so that taking over is a matter of the lease alone. What it would do is decided in `decide` from
//! memory; `reign` does it for as long as the lease holds (`adopt`: for Deployments that are released in place). A leader that loses the lease drops its tasks: what they had decided is in the
//! statuses, and moves of traffic that are under way are ordered by the notes on the routes.

mod adopt;
mod decide;
mod fence;
mod recorder;
mod reign;
mod series;
mod stamp;
mod vitals;

pub use decide::{Known, Unknown, Verdict, decide};
pub use recorder::Recorder;
pub use vitals::Vitals;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, core::NamespaceResourceScope};
use serin_spec::validated::WorkloadKind;
use tokio::sync::watch;

use vitals::{Begun, Pulse};

use crate::{
    api::Release,
    lease::{Leadership, LeaseKeeper, LeaseName},
    watch::{Selection, WatchTask, Watched, watch_all},
    workload::{ConfigDigest, Kept, Memory, workloads},
};

/// How long a shutdown waits for the lease to be let go.
const LET_GO_WITHIN: Duration = Duration::from_secs(3);

/// How long the first list of what not every release needs is waited for.
const REST_WITHIN: Duration = Duration::from_secs(5);

/// Where releases are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One namespace: a Role there is enough.
    Namespace(String),
    /// All of them.
    Cluster,
}

/// What a controller needs to know.
#[derive(Clone)]
pub struct Config {
    /// Where releases are looked for.
    pub scope: Scope,
    /// The lease among its replicas.
    pub lease: LeaseName,
    /// Says how it is.
    pub vitals: Arc<Vitals>,
}

/// Everything that is watched.
pub(crate) struct Eyes {
    pub(crate) releases: Arc<Watched<Release>>,
    pub(crate) memory: Memory,
    _tasks: Vec<WatchTask>,
}

/// Runs until `stop` says so, then lets the lease go.
pub async fn run(client: Client, config: Config, mut stop: watch::Receiver<bool>) {
    let keeper = LeaseKeeper::new(client.clone(), config.lease.clone());
    let keeping = tokio::spawn(keeper.clone().keep());
    let eyes = Eyes::open(&client, &config.scope);
    config.vitals.begin(eyes.begun(keeper.leadership()));
    tokio::select! {
        () = eyes.synced() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let mut leadership = keeper.leadership();
    while !*stop.borrow() {
        let leads = *leadership.borrow_and_update();
        match leads {
            None => {
                tokio::select! {
                    _ = leadership.changed() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
            Some(leads) => {
                tracing::info!(epoch = leads.epoch, "leading");
                tokio::select! {
                    () = reign::reign(&client, &eyes, &keeper, leads, &config) => {}
                    _ = leadership.wait_for(|now| *now != Some(leads)) => tracing::warn!("leading no longer"),
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
    }
    keeping.abort();
    if let Err(error) = tokio::time::timeout(LET_GO_WITHIN, keeper.release()).await.unwrap_or(Ok(())) {
        tracing::warn!(%error, "the lease could not be let go; it runs out by itself");
    }
}

impl Eyes {
    fn open(client: &Client, scope: &Scope) -> Self {
        let (releases, first) = watch_all(api::<Release>(client, scope), Selection::All);
        let (services, second) = watch_all(api::<Service>(client, scope), Selection::All);
        let kept = |kind| {
            let resource = workloads(kind);
            let api = match scope {
                Scope::Namespace(namespace) => Api::<Kept>::namespaced_with(client.clone(), namespace, &resource),
                Scope::Cluster => Api::<Kept>::all_with(client.clone(), &resource),
            };
            watch_all(api, Selection::All)
        };
        let (deployments, third) = kept(WorkloadKind::Deployment);
        let (config_maps, fourth) = watch_all(api::<ConfigDigest>(client, scope), Selection::All);
        let (stateful_sets, fifth) = kept(WorkloadKind::StatefulSet);
        let (daemon_sets, sixth) = kept(WorkloadKind::DaemonSet);
        let memory = Memory { deployments, stateful_sets, daemon_sets, services, config_maps };
        Self { releases, memory, _tasks: vec![first, second, third, fourth, fifth, sixth] }
    }

    fn begun(&self, leadership: watch::Receiver<Option<Leadership>>) -> Begun {
        let watches: Vec<(&'static str, Arc<dyn Pulse>)> = vec![
            ("releases", Arc::clone(&self.releases) as Arc<dyn Pulse>),
            ("deployments", Arc::clone(&self.memory.deployments) as Arc<dyn Pulse>),
            ("statefulsets", Arc::clone(&self.memory.stateful_sets) as Arc<dyn Pulse>),
            ("daemonsets", Arc::clone(&self.memory.daemon_sets) as Arc<dyn Pulse>),
            ("services", Arc::clone(&self.memory.services) as Arc<dyn Pulse>),
            ("configmaps", Arc::clone(&self.memory.config_maps) as Arc<dyn Pulse>),
        ];
        Begun { releases: Arc::clone(&self.releases), watches, leadership }
    }

    async fn synced(&self) {
        self.releases.synced().await;
        self.memory.deployments.synced().await;
        self.memory.services.synced().await;
        // Where they may not be read, as by a role that is older than this program, what needs none of them is released all the same.
        let rest = async {
            self.memory.config_maps.synced().await;
            self.memory.stateful_sets.synced().await;
            self.memory.daemon_sets.synced().await;
        };
        let _ = tokio::time::timeout(REST_WITHIN, rest).await;
    }
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        Scope::Cluster => Api::all(client.clone()),
    }
}
