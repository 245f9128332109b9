//! What runs have in common, and the router that one has of it.

use std::sync::Arc;

use kube::{Client, api::DynamicObject};

use super::actor::Run;
use crate::{
    api::Release,
    controller::Recorder,
    route::{Fence, GatewayApiRoute, Owner, Services},
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
    /// Every HTTPRoute.
    pub routes: Arc<Watched<DynamicObject>>,
    /// Whether we lead.
    pub fence: Arc<dyn Fence>,
    /// The leadership's epoch.
    pub epoch: u64,
    /// Tells the cluster what happens.
    pub recorder: Recorder,
}

/// The router of a run.
pub(crate) fn router(setting: &Setting, release: &Release, run: &Run) -> GatewayApiRoute {
    let traffic = &run.place.traffic;
    let services = Services {
        stable: traffic.stable_service.clone(),
        canary: traffic.canary_service.clone(),
        namespace: traffic.namespace.clone().unwrap_or_else(|| release.namespace().to_owned()),
    };
    let owner = Owner {
        release: release.uid().to_owned(),
        name: format!("{}/{}", release.namespace(), release.name()),
        run: run.number,
        epoch: run.epoch,
    };
    let fence = Arc::clone(&setting.fence);
    GatewayApiRoute::new(setting.client.clone(), &traffic.route, services, traffic.matches.clone(), owner, fence)
}
