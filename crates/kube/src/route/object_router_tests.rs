//! What is seen of a route, as its object says; nothing is asked of a server.

use serin_spec::validated::{Arms, GatewayKind};

use super::{super::GatewayLens, *};

const UID: &str = "1";

struct NobodyAsks;

impl Fence for NobodyAsks {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

/// After it has written a share of 20 %, as version 5.
fn router() -> ObjectRouter {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
    let services = Arms { stable: "shop".into(), canary: "shop-canary".into(), ..Arms::default() };
    let lens = GatewayLens { kind: GatewayKind::Http, route: "shop".into(), namespace: "shop".into(), services, declared: Vec::new() };
    let owner = Owner { release: "r".into(), name: "shop/shop".into(), run: 1, epoch: 3 };
    let router = ObjectRouter::new(client, "shop", Arc::new(lens), owner, Arc::new(NobodyAsks));
    router.expect(WeightBps::new(2_000).unwrap(), false);
    router.latest.store(7, Ordering::SeqCst);
    router.wrote(&route(UID, 5, Some(7), Some(2_000)), 7);
    router
}

/// `order`: of the note; `canary`: its weight, or a route without stable's service.
fn route(uid: &str, version: u64, order: Option<u64>, canary: Option<u16>) -> DynamicObject {
    let note = |order| Decision {
        release: "r".into(),
        name: "shop/shop".into(),
        run: 1,
        epoch: 3,
        order,
        weight: 2_000,
        matches: false,
        retreated: false,
        handed_over: false,
        done: false,
        added: Vec::new(),
    };
    let annotations = order.map(|order| json!({DECISION: note(order).text()}));
    let backends = canary.map_or_else(
        || json!([{"name": "other", "port": 80}]),
        |canary| json!([{"name": "shop", "port": 80, "weight": 10_000 - canary}, {"name": "shop-canary", "port": 80, "weight": canary}]),
    );
    let object = json!({
        "metadata": {"name": "shop", "uid": uid, "resourceVersion": version.to_string(), "annotations": annotations},
        "spec": {"rules": [{"backendRefs": backends}]},
    });
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn an_edit_by_hand_is_seen_with_and_without_our_note() {
    let router = router();
    let seen = |uid: &str, version, order, canary| router.seen(&route(uid, version, order, canary)).map(WeightBps::canary_bps);
    assert_eq!(seen(UID, 5, Some(7), Some(2_000)), Some(2_000), "as it was written");
    assert_eq!(seen(UID, 4, Some(6), Some(500)), None, "memory lags behind");
    assert_eq!(seen(UID, 6, Some(7), Some(5_000)), Some(5_000), "weights alone");
    assert_eq!(seen(UID, 6, None, Some(5_000)), Some(5_000), "replaced with all annotations");
    assert_eq!(seen(UID, 6, Some(2), Some(5_000)), Some(5_000), "an old dump");
    assert_eq!(seen("2", 1, None, Some(5_000)), Some(5_000), "deleted and created again");
    assert_eq!(seen("2", 1, None, None), Some(10_000), "without stable");
    // The next move is on its way: it meets what is there itself.
    router.latest.store(8, Ordering::SeqCst);
    assert_eq!(seen(UID, 6, None, Some(5_000)), None);
}

#[tokio::test]
async fn a_route_that_is_gone_proves_that_traffic_is_back_and_nothing_else() {
    let router = router();
    assert!(router.share_of_none().is_err());
    router.expect(WeightBps::ZERO, true);
    assert!(router.share_of_none().is_err());
    router.expect(WeightBps::ZERO, false);
    assert_eq!(router.share_of_none().unwrap(), WeightBps::ZERO);
}

#[tokio::test]
async fn a_gateway_that_does_not_find_the_canary_is_no_hindrance_to_a_retreat() {
    let with = |kind: &str, status: &str, observed: i64| {
        let condition = json!({"type": kind, "status": status, "reason": "BackendNotFound", "observedGeneration": observed});
        let mut route = route(UID, 5, Some(7), Some(0));
        route.metadata.generation = Some(5);
        route.data["status"] = json!({"parents": [{"controllerName": "c", "conditions": [condition]}]});
        route
    };
    for (kind, status, observed, raise, retreat) in [
        ("Accepted", "True", 5, true, true),
        ("Accepted", "False", 5, false, false),
        ("Accepted", "True", 4, false, false),
        ("ResolvedRefs", "False", 5, false, true),
    ] {
        let route = whole(&with(kind, status, observed));
        let accepted = |is_retreat| router().lens.accepted(&route, is_retreat).is_ok();
        assert_eq!((accepted(false), accepted(true)), (raise, retreat), "{kind} {status} {observed}");
    }
}

#[tokio::test]
async fn a_run_leaves_no_backend_that_it_has_brought_and_no_other_is_touched() {
    let router = router();
    let (ours, given) = (json!([{"name": "shop", "port": 80, "weight": 10_000}]), Some(0));
    for (backends, is_kept) in [(Some(ours), false), (None, true)] {
        let mut now = route(UID, 5, None, given);
        if let Some(backends) = backends {
            now.data["spec"]["rules"][0]["backendRefs"] = backends;
        }
        let before = now.clone();
        let mut write = |order: u64, weight: u16, done: bool| {
            let wish = Wish { weight: WeightBps::new(weight).unwrap(), matches: false, preview: false, handed_over: false, done };
            let patch = router.patch(&now, decision(&now).as_ref(), order, wish).unwrap().unwrap();
            now = serde_json::from_value(crate::api::merged(&whole(&now), &patch)).unwrap();
            now.clone()
        };
        let raised = write(1, 2_000, false);
        assert_eq!(decision(&raised).unwrap().added.is_empty(), is_kept);
        let more = write(2, 5_000, false);
        assert_eq!(decision(&more).unwrap().added, decision(&raised).unwrap().added);
        assert_eq!(write(3, 0, false).data["spec"]["rules"][0]["backendRefs"].as_array().unwrap().len(), 2, "the run is not over yet");
        let over = write(4, 0, true);
        assert_eq!(over.data["spec"], before.data["spec"]);
        assert!(decision(&over).unwrap().added.is_empty());
        // Without a share before, as when a release goes that has not begun yet, nothing is brought either.
        assert_eq!(write(5, 0, true).data["spec"], before.data["spec"]);
    }
}
