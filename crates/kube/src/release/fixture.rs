//! For tests: what a run acts on, with an API server in memory.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, AtomicU16, AtomicUsize},
    },
};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use serin_engine::source::{Keyring, Sources};
use serin_spec::{
    load_cluster,
    validated::{Measures, WorkloadKind},
};

use super::{effects::World, keys::ClusterKeys, snapshot::Place};
use crate::{
    api::Release,
    route::{Fence, ObjectRouter, Owner, lens_of},
    testing::{FakeApi, Leads},
    watch::Watched,
    workload::{Memory, Names, Pair},
};

/// Services `shop` and `trial` on the route `shop`.
pub(super) const GATEWAY: &str = r#"{"gatewayApi": {"route": "shop", "stableService": "shop", "canaryService": "trial"}}"#;

/// Deployments as they are, and the names of the Services that are there, all in the namespace `shop`.
pub(super) fn memory(deployments: Vec<Value>, services: &[&str]) -> Memory {
    let service = |name: &&str| json!({"metadata": {"name": name, "namespace": "shop"}});
    let services: Vec<Service> = services.iter().map(|name| serde_json::from_value(service(name)).unwrap()).collect();
    let mut memory = Memory::empty();
    memory.remember(
        WorkloadKind::Deployment,
        deployments.into_iter().map(|deployment| serde_json::from_value(deployment).unwrap()).collect(),
    );
    memory.services = Arc::new(Watched::of(services));
    memory
}

/// The first run of the release `shop` of the Deployments `shop` and `trial`, which judges the version `judged`. `traffic`: of its document.
pub(super) fn world(api: &FakeApi, traffic: &str, memory: &Memory) -> World {
    let document = format!(
        r#"{{"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {{"name": "shop"}}, "spec": {{
            "workload": {{"kubernetes": {{"stable": {{"deployment": "shop"}}, "canary": {{"deployment": "trial"}}}}}},
            "traffic": {traffic},
            "strategy": {{"canary": {{"stages": [{{"weight": 1, "hold": "1m"}}]}}}}}}}}"#
    );
    let release: Release = serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": "shop", "uid": "1"}})).unwrap();
    let place = Place::of(&load_cluster("shop", &document).unwrap().release);
    let fence: Arc<dyn Fence> = Arc::new(Leads);
    let owner = Owner { release: "1".to_owned(), name: "shop/shop".to_owned(), run: 1, epoch: 1 };
    let names = Names::of(&release, &place.workload, &place.traffic);
    let keys: Arc<dyn Keyring> = Arc::new(ClusterKeys::new(api.client.clone(), "shop"));
    World {
        client: api.client.clone(),
        router: ObjectRouter::new(api.client.clone(), "shop", lens_of(&place.traffic, "shop"), owner, Arc::clone(&fence)),
        pair: Pair::new(&api.client, memory, names, BTreeSet::new(), fence),
        place,
        namespace: "shop".to_owned(),
        stable_namespace: "shop".to_owned(),
        route_namespace: "shop".to_owned(),
        judged: "judged".to_owned(),
        canary_replicas: 0,
        unwanted: tokio::sync::watch::channel(false).0,
        stable_peak: AtomicI32::new(0),
        granted_bps: AtomicU16::new(0),
        weights: Vec::new(),
        scaling: tokio::sync::Mutex::default(),
        sizing: AtomicUsize::new(0),
        note: Mutex::default(),
        sources: Sources::new(&Measures::default(), &keys),
    }
}
