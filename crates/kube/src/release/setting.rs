//! What a run is about, what runs have in common, and the router that one has of it.

use std::sync::Arc;

use kube::Client;

use super::snapshot::Place;
use crate::{
    api::Release,
    controller::Recorder,
    route::{Fence, ObjectRouter, Owner, lens_of},
    watch::Watched,
    workload::Memory,
};

/// What runs of all releases share.
#[derive(Clone)]
pub struct Setting {
    /// The API server.
    pub client: Client,
    /// Every release.
    pub releases: Arc<Watched<Release>>,
    /// Every Deployment and Service.
    pub memory: Memory,
    /// Whether we lead.
    pub fence: Arc<dyn Fence>,
    /// The leadership's epoch.
    pub epoch: u64,
    /// Tells the cluster what happens.
    pub recorder: Recorder,
}

/// What a run is about.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) epoch: u64,
    pub(crate) document_hash: String,
    pub(crate) judged: String,
    pub(crate) place: Place,
    pub(crate) canary_replicas: i32,
}

/// The router of a run.
pub(crate) fn router(setting: &Setting, release: &Release, run: &Run) -> ObjectRouter {
    let traffic = &run.place.traffic;
    let namespace = traffic.namespace.as_deref().unwrap_or_else(|| release.namespace());
    let owner = Owner {
        release: release.uid().to_owned(),
        name: format!("{}/{}", release.namespace(), release.name()),
        run: run.number,
        epoch: run.epoch,
    };
    let fence = Arc::clone(&setting.fence);
    ObjectRouter::new(setting.client.clone(), namespace, lens_of(traffic, namespace), owner, fence)
}
