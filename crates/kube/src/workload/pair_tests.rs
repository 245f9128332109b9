//! Deployments as memory has them: which can be used, and which version each is. No API server is asked.

use serin_engine::Pending;

use super::*;

struct Leads;

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(true))
    }
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
    Memory { deployments: Watched::fixed(deployments), services: Watched::fixed(services), config_maps: Watched::fixed(config_maps) }
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
        stable: text("shop"),
        canary: text("trial"),
        is_managed: false,
        service_namespace: text("shop"),
        stable_service: text("shop"),
        canary_service: text("trial"),
    };
    change(&mut names);
    look(&Pair::new(&client, memory, names, Arc::new(Leads)))
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
    assert!(refused(|names| names.service_namespace = "other".to_owned()).contains("namespace of the release"));
    assert!(refused(|names| names.stable_service = "none".to_owned()).contains("no Service"));
    assert!(refused(|names| names.stable_service = "trial".to_owned()).contains("does not select"));
    assert!(refused(|names| names.stable = "none".to_owned()).contains("no Deployment"));
}

#[test]
fn a_new_content_is_another_version_unless_it_is_not_tracked() {
    let versions = |colour: &str, labels: &Value, noted: bool| {
        let mut stable = deployment("shop", &by_app("shop"), "settings");
        let first = memory(vec![stable.clone()], vec![config_map("settings", "blue", &json!({}))]);
        let hash = first.config_stamp("shop", "shop").unwrap();
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
    let memory = Memory { config_maps: Watched::unlisted(), ..memory(all, vec![]) };
    assert!(matches!(with_pair(&memory, |_| {}, Pair::versions), Err(PairError::NotYet(_))));
    assert_eq!(with_pair(&memory, |_| {}, Pair::candidate), None);
}
