//! Changes of Deployments while others change them, and while somebody else leads; and Deployments as memory has them: which can be used, and which
//! version each is.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Service;

use serin_engine::Pending;

use super::*;
use crate::{
    fake_api::FakeApi,
    watch::{Selection, Watched, watch_all},
    workload::ConfigDigest,
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
    let patches = AtomicUsize::new(0);
    let api = FakeApi::start(move |asked| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop-canary", "namespace": "shop", "resourceVersion": patches.load(Ordering::SeqCst).to_string()},
            "spec": {"replicas": 0, "template": {}},
        });
        match asked.method.as_str() {
            "GET" if asked.path.contains("shop-canary") => (200, deployment),
            "PATCH" if patches.fetch_add(1, Ordering::SeqCst) < conflicts => FakeApi::refusal(409),
            "PATCH" => (200, deployment),
            _ => FakeApi::refusal(404),
        }
    })
    .await;
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
    let pair = Pair::new(&api.client, &Memory { deployments, services, config_maps, ..memory(vec![], vec![]) }, names, BTreeSet::new(), fence);
    (api, pair)
}

#[tokio::test]
async fn a_conflict_is_read_again_and_tried_at_once() {
    let (api, pair) = pair(3, usize::MAX).await;
    pair.scale_canary(2).await.unwrap();
    let patches = api.asked("PATCH");
    let versions: Vec<_> = patches.iter().map(|one| one.body["metadata"]["resourceVersion"].as_str().unwrap()).collect();
    assert_eq!(versions, ["0", "1", "2", "3"], "each over what was read last");
    assert!(patches.iter().all(|one| one.body["spec"] == json!({"replicas": 2})));
}

#[tokio::test]
async fn conflicts_without_end_are_an_error_that_may_pass() {
    let (api, pair) = pair(usize::MAX, usize::MAX).await;
    let Err(PairError::Api(error)) = pair.scale_canary(2).await else { panic!("no error of the API") };
    assert!(matches!(error, ApiError::Conflict(_)) && error.is_transient(), "{error}");
    assert_eq!(api.asked("PATCH").len(), CONFLICTS as usize + 1);
}

#[tokio::test]
async fn whoever_does_not_lead_writes_nothing() {
    let (api, pair) = pair(0, 0).await;
    let error = pair.scale_canary(2).await.unwrap_err().to_string();
    assert!(error.contains("another controller leads"), "{error}");
    assert_eq!(api.asked("PATCH"), []);
}

#[tokio::test]
async fn whoever_leads_no_more_after_a_conflict_stops() {
    let (api, pair) = self::pair(usize::MAX, 2).await;
    assert!(pair.scale_canary(2).await.unwrap_err().to_string().contains("another controller leads"));
    assert_eq!(api.asked("PATCH").len(), 2);
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let (api, pair) = self::pair(0, usize::MAX).await;
    pair.scale_canary(0).await.unwrap();
    assert_eq!(api.asked("PATCH"), []);
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
        deployments: Arc::new(Watched::of(deployments)),
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
