//! Changes of Deployments while others change them, and while somebody else leads; and Deployments as memory has them: which can be used, and which
//! version each is.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Service;

use serin_engine::Pending;

use super::*;
use crate::{
    testing::{FakeApi, status},
    watch::{Selection, Watched, watch_all},
    workload::{ConfigDigest, Kept},
};

/// Leads for so many questions.
struct Leads(AtomicUsize);

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Box::pin(std::future::ready(left.is_ok()))
    }
}

/// A canary of no replicas whose first patches meet conflicts.
async fn pair(conflicts: usize, leads_for: usize) -> (FakeApi, Pair) {
    let api = FakeApi::start().await;
    let mut patches = 0;
    api.fault(move |method, path| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop-canary", "namespace": "shop", "resourceVersion": patches.to_string()},
            "spec": {"replicas": 0, "template": {}},
        });
        patches += usize::from(method == "PATCH");
        match method {
            "GET" if path.contains("shop-canary") => Some((200, deployment.to_string())),
            "PATCH" if patches <= conflicts => Some(status(409)),
            "PATCH" => Some((200, deployment.to_string())),
            _ => None,
        }
    });
    let (deployments, _) = watch_all(Api::all_with(api.client.clone(), &workloads(WorkloadKind::Deployment)), Selection::All);
    let (services, _) = watch_all(Api::all(api.client.clone()), Selection::All);
    let fence = Arc::new(Leads(AtomicUsize::new(leads_for)));
    let (config_maps, _) = watch_all(Api::all(api.client.clone()), Selection::All);
    let names = Names {
        release: "1".to_owned(),
        release_name: "shop/shop".to_owned(),
        namespace: "shop".to_owned(),
        canary_namespace: "shop".to_owned(),
        kinds: [WorkloadKind::Deployment; 2],
        stable: "shop".to_owned(),
        canary: "shop-canary".to_owned(),
        is_managed: false,
        services: None,
    };
    let pair =
        Pair::new(&api.client, &Memory { deployments, services, config_maps, ..memory(vec![], vec![]) }, names, BTreeSet::new(), fence);
    (api, pair)
}

#[tokio::test]
async fn a_conflict_is_read_again_and_tried_at_once() {
    let (api, pair) = pair(3, usize::MAX).await;
    pair.scale_canary(2).await.unwrap();
    let patches = api.bodies("PATCH");
    let versions: Vec<_> = patches.iter().map(|patch| patch["metadata"]["resourceVersion"].as_str().unwrap()).collect();
    assert_eq!(versions, ["0", "1", "2", "3"], "each over what was read last");
    assert!(patches.iter().all(|patch| patch["spec"] == json!({"replicas": 2})));
}

#[tokio::test]
async fn conflicts_without_end_are_an_error_that_may_pass() {
    let (api, pair) = pair(usize::MAX, usize::MAX).await;
    let Err(PairError::Api(error)) = pair.scale_canary(2).await else { panic!("no error of the API") };
    assert!(matches!(error, ApiError::Conflict(_)) && error.is_transient(), "{error}");
    assert_eq!(api.bodies("PATCH").len(), CONFLICTS as usize + 1);
}

#[tokio::test]
async fn whoever_does_not_lead_writes_nothing() {
    let (api, pair) = pair(0, 0).await;
    let error = pair.scale_canary(2).await.unwrap_err().to_string();
    assert!(error.contains("another controller leads"), "{error}");
    assert!(api.bodies("PATCH").is_empty());
}

#[tokio::test]
async fn whoever_leads_no_more_after_a_conflict_stops() {
    let (api, pair) = self::pair(usize::MAX, 2).await;
    assert!(pair.scale_canary(2).await.unwrap_err().to_string().contains("another controller leads"));
    assert_eq!(api.bodies("PATCH").len(), 2);
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let (api, pair) = self::pair(0, usize::MAX).await;
    pair.scale_canary(0).await.unwrap();
    assert!(api.bodies("PATCH").is_empty());
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn deployment(name: &str, selector: &Value, reads: &str) -> DynamicObject {
    object(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "selector": selector,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "envFrom": [{"configMapRef": {"name": reads}}]}]},
            },
        },
    }))
}

fn by_app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

fn config_map(name: &str, colour: &str, labels: &Value) -> ConfigDigest {
    object(json!({"metadata": {"name": name, "namespace": "shop", "labels": labels}, "data": {"colour": colour}}))
}

fn memory(deployments: Vec<DynamicObject>, config_maps: Vec<ConfigDigest>) -> Memory {
    let services = ["shop", "trial"]
        .map(|name| object::<Service>(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {"app": name}}})));
    Memory {
        deployments: Arc::new(Watched::of(deployments.into_iter().map(Kept::from).collect())),
        stateful_sets: Arc::new(Watched::of(vec![])),
        daemon_sets: Arc::new(Watched::of(vec![])),
        services: Arc::new(Watched::of(services.into())),
        config_maps: Arc::new(Watched::of(config_maps)),
    }
}

/// Nothing here asks an API server.
fn with_pair<T>(memory: &Memory, change: impl FnOnce(&mut Names), look: impl FnOnce(&Pair) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let text = str::to_owned;
    let mut names = Names {
        release: text("1"),
        release_name: text("shop/shop"),
        namespace: text("shop"),
        canary_namespace: text("shop"),
        kinds: [WorkloadKind::Deployment; 2],
        stable: text("shop"),
        canary: text("trial"),
        is_managed: false,
        services: Some(["shop", "trial"].map(|name| (text("shop"), text(name)))),
    };
    change(&mut names);
    look(&Pair::new(&client, memory, names, ["app".to_owned()].into(), Arc::new(Leads(AtomicUsize::new(0)))))
}

#[test]
fn selectors_that_cannot_be_compared_are_refused() {
    let check = |canary: Value| {
        let memory = memory(vec![deployment("shop", &by_app("shop"), "a"), deployment("trial", &canary, "a")], vec![]);
        with_pair(&memory, |_| {}, Pair::check)
    };
    assert_eq!(check(by_app("trial")), Ok(()));
    assert!(matches!(check(by_app("shop")), Err(PairError::SameSelector(..))));
    assert!(check(json!({})).unwrap_err().to_string().contains("every pod"));
    let expressions = json!({"matchLabels": {"app": "trial"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]});
    assert!(check(expressions).unwrap_err().to_string().contains("matchExpressions"));
}

#[test]
fn a_canary_without_its_service_is_lost_if_stable_can_be_reached() {
    // Ready replicas and Services of stable and of the canary.
    let is_lost = |ready: [u8; 2], has: [bool; 2], change: fn(&mut Names)| {
        let ready = ["shop", "trial"].into_iter().zip(ready).map(|(name, ready)| {
            let mut deployment = deployment(name, &by_app(name), "a");
            deployment.data["status"] = json!({"readyReplicas": ready});
            deployment
        });
        let mut memory = memory(ready.collect(), vec![]);
        let there = memory.services.all().into_iter().filter(|service| has[usize::from(service.metadata.name.as_deref() == Some("trial"))]);
        memory.services = Arc::new(Watched::of(there.map(|service| Service::clone(&service)).collect()));
        with_pair(&memory, change, Pair::is_canary_lost)
    };
    for (ready, has, expected) in [
        ([1, 1], [true, true], false),
        ([1, 0], [true, true], true),
        ([1, 1], [true, false], true),
        // Nobody else serves.
        ([0, 0], [true, true], false),
        ([1, 1], [false, false], false),
        ([1, 0], [false, true], false),
    ] {
        assert_eq!(is_lost(ready, has, |_| {}), expected, "{ready:?} {has:?}");
    }
    assert!(!is_lost([1, 1], [false, false], |names| names.services = None), "the router needs none");
    let all = ["shop", "trial"].map(|name| deployment(name, &by_app(name), "a"));
    let memory = Memory { services: Arc::new(Watched::unlisted()), ..memory(all.into(), vec![]) };
    assert!(with_pair(&memory, |_| {}, Pair::stables_service_gone).is_none(), "what was not listed yet is not gone");
}

fn at_services(names: &mut Names, namespace: &str, stable: &str) {
    names.services = Some([stable, "trial"].map(|name| (namespace.to_owned(), name.to_owned())));
}

#[test]
fn what_is_released_in_place_is_where_the_release_is_and_behind_its_service() {
    let check = |change: fn(&mut Names)| {
        let memory = memory(vec![deployment("shop", &by_app("shop"), "a")], vec![]);
        let managed = |names: &mut Names| {
            names.is_managed = true;
            change(names);
        };
        with_pair(&memory, managed, Pair::check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let refused = |change| check(change).unwrap_err().to_string();
    assert!(refused(|names| at_services(names, "other", "shop")).contains("namespace of the release"));
    assert!(refused(|names| at_services(names, "shop", "none")).contains("no Service"));
    assert!(refused(|names| at_services(names, "shop", "trial")).contains("does not select"));
    assert!(refused(|names| names.services = None).contains("names no Service"));
    assert!(refused(|names| names.stable = "none".to_owned()).contains("no Deployment"));
}

#[test]
fn a_new_content_is_another_version_unless_it_is_not_tracked() {
    let versions = |colour: &str, labels: &Value, noted: bool| {
        let mut stable = deployment("shop", &by_app("shop"), "settings");
        let first = memory(vec![stable.clone()], vec![config_map("settings", "blue", &json!({}))]);
        let hash = first.config_stamp(WorkloadKind::Deployment, "shop", "shop").unwrap();
        if noted {
            stable.metadata.annotations = Some([(crate::api::CONFIG.to_owned(), hash)].into());
        }
        let all = vec![stable, deployment("trial", &by_app("trial"), "settings")];
        let memory = memory(all, vec![config_map("settings", colour, labels)]);
        let (stable, canary, _) = with_pair(&memory, |_| {}, Pair::versions).unwrap();
        stable == canary
    };
    assert!(versions("blue", &json!({}), true));
    assert!(!versions("green", &json!({}), true));
    assert!(versions("green", &json!({"serin.dev/track": "disabled"}), true));
    assert!(versions("green", &json!({}), false), "nobody knows what stable has read");
}

#[test]
fn what_is_not_listed_yet_is_waited_for() {
    let all = vec![deployment("shop", &by_app("shop"), "a"), deployment("trial", &by_app("trial"), "a")];
    let memory = Memory { config_maps: Arc::new(Watched::unlisted()), ..memory(all, vec![]) };
    assert!(matches!(with_pair(&memory, |_| {}, Pair::versions), Err(PairError::NotYet(_))));
    assert_eq!(with_pair(&memory, |_| {}, Pair::candidate), None);
}
