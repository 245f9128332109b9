//! The lens on rules as people write them, and on such that others changed.

use serin_spec::validated::KeyValue;

use super::*;

fn lens(declared: &[MatchRule]) -> GatewayLens {
    let services = Arms { stable: "checkout".to_owned(), canary: "checkout-canary".to_owned(), ..Arms::default() };
    GatewayLens { kind: GatewayKind::Http, route: "web".to_owned(), namespace: "shop".to_owned(), services, declared: declared.to_vec() }
}

fn seen(rules: &[Value], declared: &[MatchRule]) -> Result<Seen, LensError> {
    lens(declared).seen(&json!({"spec": {"rules": rules}}))
}

/// `matches`: whether declared matches are to be active.
fn shifted(rules: &[Value], weight: WeightBps, declared: &[MatchRule], matches: bool) -> Result<Vec<Value>, LensError> {
    let object = lens(declared).shifted(&json!({"spec": {"rules": rules, "hostnames": ["kept"]}}), weight, matches)?;
    assert_eq!(object["spec"]["hostnames"], json!(["kept"]));
    Ok(object["spec"]["rules"].as_array().unwrap().clone())
}

fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

fn header(name: &str, value: &str) -> MatchRule {
    MatchRule { headers: vec![KeyValue { name: name.to_owned(), value: value.to_owned() }], cookies: Vec::new() }
}

fn plain() -> Vec<Value> {
    vec![
        json!({"matches": [{"path": {"type": "PathPrefix", "value": "/static"}}], "backendRefs": [{"name": "files", "port": 80}]}),
        json!({
            "name": "main",
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "filters": [{"type": "RequestHeaderModifier"}],
            "backendRefs": [{"name": "checkout", "port": 80, "filters": ["kept"]}],
            "unknownToUs": {"a": 1},
        }),
    ]
}

#[test]
fn only_weights_change_and_the_canary_is_added_beside_stable() {
    let made = shifted(&plain(), bps(2_500), &[], false).unwrap();
    let mut expected = plain();
    expected[1]["backendRefs"] = json!([
        {"name": "checkout", "port": 80, "filters": ["kept"], "weight": 7_500},
        {"name": "checkout-canary", "port": 80, "filters": ["kept"], "weight": 2_500},
    ]);
    assert_eq!(made, expected);
    assert_eq!(seen(&made, &[]).unwrap(), Seen { weight: bps(2_500), even: true, matches: false });
    assert_eq!(shifted(&made, bps(2_500), &[], false).unwrap(), made);
}

#[test]
fn every_weight_is_read_back_as_it_was_written() {
    for weight in [0, 1, 50, 3_333, 9_999, 10_000] {
        let made = shifted(&plain(), bps(weight), &[], false).unwrap();
        assert_eq!(seen(&made, &[]).unwrap().weight, bps(weight));
    }
}

#[test]
fn a_share_is_what_the_weights_mean_whatever_their_sum() {
    let route = |stable: Value, canary: Value| vec![json!({"backendRefs": [stable, canary]})];
    let (stable, canary) = (json!({"name": "checkout"}), json!({"name": "checkout-canary"}));
    assert_eq!(seen(&route(stable.clone(), canary), &[]).unwrap().weight, bps(5_000));
    let third = json!({"name": "checkout-canary", "weight": 1});
    assert_eq!(seen(&route(json!({"name": "checkout", "weight": 2}), third), &[]).unwrap().weight, bps(3_334));
    // A canary with any weight at all is never read as none.
    let tiny = json!({"name": "checkout-canary", "weight": 1});
    assert_eq!(seen(&route(json!({"name": "checkout", "weight": 1_000_000}), tiny), &[]).unwrap().weight, bps(1));
    assert_eq!(seen(&[json!({"backendRefs": [stable]})], &[]).unwrap().weight, bps(0));
}

#[test]
fn rules_that_differ_count_as_the_largest() {
    let mut rules = shifted(&plain(), bps(500), &[], false).unwrap();
    rules.extend(shifted(&plain(), bps(5_000), &[], false).unwrap());
    assert_eq!(seen(&rules, &[]).unwrap(), Seen { weight: bps(5_000), even: false, matches: false });
}

#[test]
fn declared_matches_stand_in_front_and_go_again() {
    let declared = [header("x-canary", "true"), header("x-team", "us")];
    let made = shifted(&plain(), bps(500), &declared, true).unwrap();
    assert_eq!(made.len(), 3);
    let added = &made[1];
    assert_eq!(added["backendRefs"], json!([{"name": "checkout-canary", "port": 80, "filters": ["kept"], "weight": 1}]));
    assert_eq!((added.get("name"), &added["filters"]), (None, &plain()[1]["filters"]));
    let matches = added["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 2);
    assert_eq!(matches[0]["path"]["value"], "/");
    assert_eq!(matches[0]["headers"], json!([{"type": "Exact", "name": "x-canary", "value": "true"}]));
    assert!(seen(&made, &declared).unwrap().matches);
    assert_eq!(shifted(&made, bps(500), &declared, true).unwrap(), made, "repeated, it changes nothing");
    let back = shifted(&made, bps(0), &declared, false).unwrap();
    assert_eq!(back.len(), 2);
    assert_eq!(seen(&back, &declared).unwrap(), Seen { weight: bps(0), even: true, matches: false });
}

#[test]
fn somebody_elses_rule_for_the_canary_is_left_alone() {
    let mut rules = plain();
    rules.insert(0, json!({"matches": [{"headers": [{"name": "x-other", "value": "1"}]}], "backendRefs": [{"name": "checkout-canary"}]}));
    let made = shifted(&rules, bps(500), &[header("x-canary", "true")], true).unwrap();
    assert_eq!(made[0], rules[0]);
    assert_eq!(made.len(), 4);
}

#[test]
fn what_weights_could_not_mean_is_refused() {
    let mut rules = plain();
    rules[1]["backendRefs"].as_array_mut().unwrap().push(json!({"name": "legacy"}));
    assert_eq!(shifted(&rules, bps(500), &[], false), Err(LensError::ThirdBackend { rule: 1, other: "legacy".to_owned() }));
    assert_eq!(shifted(&plain()[..1], bps(500), &[], false), Err(LensError::NoStable("the service checkout".to_owned())));
    assert_eq!(seen(&plain()[..1], &[]), Err(LensError::NoStable("the service checkout".to_owned())));
    let many: Vec<Value> = (0..9).flat_map(|_| plain()).collect();
    assert!(matches!(shifted(&many, bps(500), &[header("a", "b")], true), Err(LensError::TooLarge(_))));
}

#[test]
fn a_service_of_the_same_name_elsewhere_is_another_one() {
    let rules = vec![json!({"backendRefs": [{"name": "checkout", "namespace": "other"}]})];
    assert!(matches!(seen(&rules, &[]), Err(LensError::NoStable(_))));
    let rules = vec![json!({"backendRefs": [{"name": "checkout", "namespace": "shop", "kind": "Service", "group": ""}]})];
    assert_eq!(seen(&rules, &[]).unwrap().weight, bps(0));
}

#[test]
fn a_match_never_becomes_wider_than_declared() {
    // Of two conditions about one header gateways obey the first only.
    let with = |header: Value| vec![json!({"matches": [{"headers": [header]}], "backendRefs": [{"name": "checkout"}]})];
    let declared = [header("x-canary", "true")];
    let other = with(json!({"name": "X-Canary", "value": "false"}));
    assert!(matches!(shifted(&other, bps(0), &declared, true), Err(LensError::Other(_))), "nothing can meet both");
    let beside = [other, plain()].concat();
    assert_eq!(shifted(&beside, bps(0), &declared, true).unwrap().len(), 4, "only where something can");
    let pattern = with(json!({"name": "x-canary", "type": "RegularExpression", "value": "t.*"}));
    assert_eq!(shifted(&pattern, bps(0), &declared, true), Err(LensError::HeaderTaken { rule: 0, header: "x-canary".to_owned() }));
    let same = with(json!({"name": "x-canary", "value": "true"}));
    assert_eq!(shifted(&same, bps(0), &declared, true).unwrap()[0]["matches"], same[0]["matches"]);
}

#[test]
fn what_was_added_goes_again_and_what_was_there_stays() {
    let declared = [header("x-canary", "true")];
    let lens = lens(&declared);
    let object = |rules: &[Value]| json!({"spec": {"rules": rules}});
    let mut before = plain();
    before[1]["backendRefs"][0]["weight"] = json!(10_000);
    // Another rule has the canary's backend, as its owner wrote it.
    let given = json!([{"name": "checkout", "port": 80, "weight": 10_000}, {"name": "checkout-canary", "port": 80, "weight": 0}]);
    before.push(json!({"matches": [{"path": {"type": "PathPrefix", "value": "/api"}}], "backendRefs": given}));
    let before = object(&before);
    let shifted = lens.shifted(&before, bps(2_500), true).unwrap();
    let added = lens.added(&before, &shifted);
    assert_eq!(added.len(), 1);
    assert_eq!(lens.without(&shifted, &added), shifted, "nothing that has a share is taken out");
    let back = lens.shifted(&shifted, bps(0), false).unwrap();
    assert_eq!(lens.added(&shifted, &back), [""; 0]);
    assert_eq!(lens.without(&back, &added), before);
    assert_eq!(lens.without(&back, &[]), back);
    // Somebody has put another rule in front and changed a filter meanwhile.
    let mut edited = back;
    edited["spec"]["rules"].as_array_mut().unwrap().insert(0, json!({"backendRefs": [{"name": "files", "port": 80}]}));
    edited["spec"]["rules"][2]["filters"] = json!([]);
    let made = lens.without(&edited, &added);
    assert_eq!(made["spec"]["rules"][2]["backendRefs"], before["spec"]["rules"][1]["backendRefs"]);
    assert_eq!(made["spec"]["rules"][3], before["spec"]["rules"][2]);
}

#[test]
fn of_two_rules_that_match_the_same_nothing_is_taken() {
    let lens = lens(&[]);
    let stable = json!({"name": "checkout", "port": 80, "weight": 10_000});
    let canary = json!({"name": "checkout-canary", "port": 80, "weight": 0});
    let before = json!({"spec": {"rules": [{"backendRefs": [stable, canary]}, {"backendRefs": [stable]}]}});
    let after = lens.shifted(&before, bps(500), false).unwrap();
    assert_eq!(lens.added(&before, &after), [""; 0]);
}

#[test]
fn services_of_one_name_in_two_namespaces_are_two_versions() {
    let services =
        Arms { stable: "web".to_owned(), canary: "web".to_owned(), stable_namespace: None, canary_namespace: Some("trial".to_owned()) };
    let lens = GatewayLens { services, ..lens(&[]) };
    let shifted = |backends: Value| {
        let object = lens.shifted(&json!({"spec": {"rules": [{"backendRefs": backends}]}}), bps(500), false).unwrap();
        assert_eq!(lens.seen(&object).unwrap().weight, bps(500));
        object["spec"]["rules"][0]["backendRefs"].clone()
    };
    let both = json!([{"name": "web", "port": 80, "weight": 9_500}, {"name": "web", "namespace": "trial", "port": 80, "weight": 500}]);
    assert_eq!(shifted(json!([{"name": "web", "port": 80}])), both);
    assert_eq!(shifted(both.clone()), both);
    // Stable elsewhere, the canary beside the route.
    let services = Arms { stable_namespace: Some("prod".to_owned()), canary_namespace: None, ..lens.services.clone() };
    let lens = GatewayLens { services, ..lens };
    let made =
        lens.shifted(&json!({"spec": {"rules": [{"backendRefs": [{"name": "web", "namespace": "prod", "port": 80}]}]}}), bps(500), false);
    let made = made.unwrap()["spec"]["rules"][0]["backendRefs"].clone();
    assert_eq!(
        made,
        json!([{"name": "web", "namespace": "prod", "port": 80, "weight": 9_500}, {"name": "web", "port": 80, "weight": 500}])
    );
    assert!(lens.seen(&json!({"spec": {"rules": [{"backendRefs": [{"name": "web"}]}]}})).is_err(), "the canary alone leads not to stable");
}
