//! What is said of quotas, and of what may not be read.

use serde_json::json;

use super::*;
use crate::{
    release::fixture::{GATEWAY, memory, world},
    testing::{FakeApi, status},
};

fn quota(name: &str, scopes: &[&str], selected: &[&str], [hard, used]: [&str; 2]) -> ResourceQuota {
    let expressions: Vec<_> = selected.iter().map(|scope| json!({"scopeName": scope, "operator": "Exists"})).collect();
    let quota = json!({
        "metadata": {"name": name},
        "spec": {"scopes": scopes, "scopeSelector": {"matchExpressions": expressions}},
        "status": {"hard": {"pods": hard, "limits.cpu": "1"}, "used": {"pods": used}},
    });
    serde_json::from_value(quota).unwrap()
}

#[test]
fn a_quota_that_does_not_count_the_canarys_pods_refuses_nothing() {
    let full = ["2", "2"];
    for (scopes, selected, is_full) in [
        (&[][..], &[][..], true),
        (&["NotTerminating"], &[], true),
        (&["Terminating"], &[], false),
        (&["BestEffort"], &[], false),
        (&["NotTerminating", "NotBestEffort"], &[], false),
        (&[], &["NotTerminating"], true),
        (&[], &["PriorityClass"], false),
    ] {
        let found = room(&[quota("small", scopes, selected, full)], 1);
        assert_eq!(found.status == CheckStatus::Fail, is_full, "{scopes:?} {selected:?}: {found:?}");
    }
}

#[test]
fn a_quota_must_leave_room_for_what_the_canary_lacks() {
    let quotas = [quota("wide", &[], &[], ["10", "3"]), quota("small", &[], &[], ["5", "3"])];
    assert_eq!(room(&quotas, 2).status, CheckStatus::Pass);
    let short = room(&quotas, 3);
    assert_eq!(short.status, CheckStatus::Fail);
    assert_eq!(short.detail, "the ResourceQuota small leaves room for 2 more pods, the canary needs 3 more");
    // Made smaller than what runs: a canary that has all its pods asks for none.
    let over = [quota("small", &[], &[], ["1", "3"])];
    assert!(room(&over, 1).detail.contains("room for 0 more pods") && room(&over, 0).status == CheckStatus::Pass);
    let mut of_objects = quota("objects", &[], &[], ["9", "0"]);
    let status = json!({"hard": {"pods": "9", "count/pods": "4"}, "used": {"pods": "0", "count/pods": "3"}});
    of_objects.status = serde_json::from_value(status).unwrap();
    assert_eq!(left(&of_objects), Some(1), "the narrower one counts");
}

/// A namespace where all is well and the quota is used up, and the canary has this many of the two pods that it needs.
async fn shop(running: u8) -> (FakeApi, World) {
    let api = FakeApi::start().await;
    let template = |app: &str| json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "a", "image": "a:v1"}]}});
    for (name, replicas) in [("shop", 2), ("trial", running)] {
        let spec = json!({"replicas": 2, "template": template(name)});
        api.put(
            &format!("/apis/apps/v1/namespaces/shop/deployments/{name}"),
            json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec, "status": {"replicas": replicas}}),
        );
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}}});
        api.put(&format!("/api/v1/namespaces/shop/services/{name}"), service);
    }
    api.put("/api/v1/namespaces/shop", json!({"metadata": {"name": "shop"}}));
    let quotas = json!({"items": [quota("all", &[], &[], ["4", "4"])]});
    api.put("/api/v1/namespaces/shop/resourcequotas", quotas);
    api.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets", json!({"items": []}));
    let world = world(&api, GATEWAY, &memory(vec![], &[]));
    (api, world)
}

/// Names and details of the checks that fail.
async fn failed(world: &World) -> Vec<(String, String)> {
    let checks = checks(world).await.into_iter();
    checks.filter(|check| check.status == CheckStatus::Fail).map(|check| (check.name, check.detail)).collect()
}

#[tokio::test]
async fn pods_that_the_canary_has_need_no_more_room() {
    let (_api, world) = shop(2).await;
    assert_eq!(failed(&world).await, []);
    let (_api, world) = shop(1).await;
    let text = "the ResourceQuota all leaves room for 0 more pods, the canary needs 1 more".to_owned();
    assert_eq!(failed(&world).await, [("quota".to_owned(), text)]);
}

#[tokio::test]
async fn what_may_not_be_read_is_no_reason_to_look_away() {
    for (path, name) in [("deployments/shop", "workloads"), ("deployments/trial", "workloads"), ("services/trial", "services apart")] {
        let (api, world) = shop(2).await;
        api.fault(move |_, asked| asked.ends_with(path).then(|| status(403)));
        let failed = failed(&world).await;
        assert!(failed.len() == 1 && failed[0].0 == name && failed[0].1.contains("not allowed"), "{path}: {failed:?}");
    }
}
