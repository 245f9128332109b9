//! What is known of a cluster's Deployments, Services and `ConfigMaps` without asking.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use serin_spec::validated::{ClusterRouter, ClusterTraffic};

use super::{
    KeptDeployment,
    config::{self, ConfigDigest},
};
use crate::watch::Watched;

/// See the module.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Every Deployment.
    pub deployments: Arc<Watched<KeptDeployment>>,
    /// Every Service.
    pub services: Arc<Watched<Service>>,
    /// Every `ConfigMap`, as digests.
    pub config_maps: Arc<Watched<ConfigDigest>>,
}

impl Memory {
    /// A Deployment, as a whole: for looking into a few of them.
    #[must_use]
    pub fn deployment(&self, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.deployments.get(namespace, name).map(|kept| kept.whole())
    }

    /// Names of the labels by which a router tells the versions' pods apart. `namespace`: of the release.
    #[must_use]
    pub fn labels_of(&self, traffic: &ClusterTraffic, namespace: &str) -> BTreeSet<String> {
        if let ClusterRouter::Service { stable, .. } = &traffic.router {
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

    /// The hash of what a Deployment's template reads: changes whenever that does.
    #[must_use]
    pub fn config_stamp(&self, namespace: &str, deployment: &str) -> Option<String> {
        let found = self.deployments.get(namespace, deployment)?;
        config::hash_of(found.reads(), &self.config_maps, namespace).ok().flatten()
    }
}
