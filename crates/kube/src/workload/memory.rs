//! What is known of a cluster's workloads, Services and `ConfigMaps` without asking.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use serin_spec::validated::{ClusterRouter, ClusterTraffic, WorkloadKind};

use super::{
    Kept,
    config::{self, ConfigDigest},
};
use crate::watch::Watched;

/// See the module.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Every Deployment.
    pub deployments: Arc<Watched<Kept>>,
    /// Every StatefulSet.
    pub stateful_sets: Arc<Watched<Kept>>,
    /// Every DaemonSet.
    pub daemon_sets: Arc<Watched<Kept>>,
    /// Every Service.
    pub services: Arc<Watched<Service>>,
    /// Every `ConfigMap`, as digests.
    pub config_maps: Arc<Watched<ConfigDigest>>,
}

impl Memory {
    /// Without anything, for those who ask once and do not watch.
    pub(crate) fn empty() -> Self {
        Self {
            deployments: Arc::new(Watched::of(Vec::new())),
            stateful_sets: Arc::new(Watched::of(Vec::new())),
            daemon_sets: Arc::new(Watched::of(Vec::new())),
            services: Arc::new(Watched::of(Vec::new())),
            config_maps: Arc::new(Watched::of(Vec::new())),
        }
    }

    /// These and no others are the workloads of a kind.
    pub(crate) fn remember(&mut self, kind: WorkloadKind, found: Vec<DynamicObject>) {
        let all = Arc::new(Watched::of(found.into_iter().map(Kept::from).collect()));
        match kind {
            WorkloadKind::Deployment => self.deployments = all,
            WorkloadKind::StatefulSet => self.stateful_sets = all,
            WorkloadKind::DaemonSet => self.daemon_sets = all,
        }
    }

    /// Every workload of a kind.
    #[must_use]
    pub fn workloads(&self, kind: WorkloadKind) -> &Arc<Watched<Kept>> {
        match kind {
            WorkloadKind::Deployment => &self.deployments,
            WorkloadKind::StatefulSet => &self.stateful_sets,
            WorkloadKind::DaemonSet => &self.daemon_sets,
        }
    }

    /// A Deployment, as a whole: for looking into a few of them.
    #[must_use]
    pub fn deployment(&self, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.deployments.get(namespace, name).map(|kept| kept.whole())
    }

    /// Names of the labels by which a router tells the versions' pods apart. `namespace`: of the release.
    #[must_use]
    pub fn labels_of(&self, traffic: &ClusterTraffic, namespace: &str) -> BTreeSet<String> {
        if let ClusterRouter::Service { stable, .. } | ClusterRouter::Replicas { stable, .. } = &traffic.router {
            return stable.keys().cloned().collect();
        }
        let mut names = BTreeSet::new();
        for (elsewhere, service) in traffic.services().into_iter().flatten() {
            if let Some(found) = self.services.get(elsewhere.as_deref().unwrap_or(namespace), &service) {
                names.extend(found.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default().into_keys());
            }
        }
        names
    }

    /// The hash of what a workload's template reads: changes whenever that does.
    #[must_use]
    pub fn config_stamp(&self, kind: WorkloadKind, namespace: &str, name: &str) -> Option<String> {
        let found = self.workloads(kind).get(namespace, name)?;
        config::hash_of(found.reads(), &self.config_maps, namespace).ok().flatten()
    }
}
