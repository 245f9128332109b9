//! `VirtualServices` as people write them.

use serin_spec::validated::KeyValue;

use super::*;

fn to(host: &str, subset: Option<&str>) -> Destination {
    Destination { host: host.to_owned(), subset: subset.map(str::to_owned) }
}

fn lens(stable: Destination, canary: Destination) -> IstioLens {
    IstioLens { virtual_service: "shop".to_owned(), namespace: "shop".to_owned(), stable, canary, routes: None, declared: Vec::new() }
}

fn subsets() -> IstioLens {
    lens(to("shop", Some("stable")), to("shop", Some("canary")))
}

fn rule(header: Option<(&str, &str)>, cookie: Option<(&str, &str)>) -> MatchRule {
    let pair = |(name, value): (&str, &str)| KeyValue { name: name.to_owned(), value: value.to_owned() };
    MatchRule { headers: header.map(pair).into_iter().collect(), cookies: cookie.map(pair).into_iter().collect() }
}

fn service(http: &Value) -> Value {
    json!({"spec": {"hosts": ["shop"], "http": http}})
}

fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

#[test]
fn subsets_of_one_host_and_two_hosts() {
    let before = service(&json!([
        {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "files"}}]},
        {"name": "main", "timeout": "5s", "route": [{"destination": {"host": "shop", "subset": "stable", "port": {"number": 80}}}]},
    ]));
    let after = subsets().shifted(&before, bps(500), false).unwrap();
    let expected = json!([
        {"destination": {"host": "shop", "subset": "stable", "port": {"number": 80}}, "weight": 95},
        {"destination": {"host": "shop", "subset": "canary", "port": {"number": 80}}, "weight": 5},
    ]);
    assert_eq!(after["spec"]["http"][1]["route"], expected);
    assert_eq!((&after["spec"]["http"][0], &after["spec"]["hosts"]), (&before["spec"]["http"][0], &before["spec"]["hosts"]));
    assert_eq!(subsets().seen(&after).unwrap(), Seen { weight: bps(500), even: true, matches: false });

    let hosts = lens(to("shop", None), to("shop-canary.other.svc.cluster.local", None));
    let whole_name = service(&json!([{"route": [{"destination": {"host": "shop.shop.svc.cluster.local"}}]}]));
    let after = hosts.shifted(&whole_name, bps(50), false).unwrap();
    let expected = json!([
        {"destination": {"host": "shop.shop.svc.cluster.local"}, "weight": 9_950},
        {"destination": {"host": "shop-canary.other.svc.cluster.local"}, "weight": 50},
    ]);
    assert_eq!(after["spec"]["http"][0]["route"], expected, "half a percent is no whole percent");
}

#[test]
fn a_single_destination_has_everything_and_one_without_a_weight_beside_others_nothing() {
    let canary_alone = service(&json!([{"route": [{"destination": {"host": "shop", "subset": "canary"}}]}]));
    assert!(matches!(subsets().seen(&canary_alone), Err(LensError::NoStable(_))));
    let stable_alone = service(&json!([{"route": [{"destination": {"host": "shop", "subset": "stable"}, "weight": 0}]}]));
    assert_eq!(subsets().seen(&stable_alone).unwrap().weight, bps(0));
    let both = service(&json!([{"route": [
        {"destination": {"host": "shop", "subset": "stable"}, "weight": 100},
        {"destination": {"host": "shop", "subset": "canary"}},
    ]}]));
    assert_eq!(subsets().seen(&both).unwrap().weight, bps(0));
}

#[test]
fn declared_matches_stand_in_front_of_weights() {
    let mut lens = subsets();
    lens.declared = vec![rule(Some(("x-canary", "true")), None), rule(None, Some(("beta", "1.0")))];
    let before = service(
        &json!([{"name": "main", "match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "shop", "subset": "stable"}}]}]),
    );
    let after = lens.shifted(&before, bps(0), true).unwrap();
    let front = &after["spec"]["http"][0];
    let matches = json!([
        {"uri": {"prefix": "/"}, "headers": {"x-canary": {"exact": "true"}}},
        {"uri": {"prefix": "/"}, "headers": {"cookie": {"regex": "(.*;\\s*)?beta=1\\.0(;.*)?"}}},
    ]);
    assert_eq!(front["match"], matches);
    assert_eq!(front["route"], json!([{"destination": {"host": "shop", "subset": "canary"}, "weight": 100}]));
    assert_eq!(front.get("name"), None);
    assert!(lens.seen(&after).unwrap().matches);
    assert_eq!(lens.shifted(&after, bps(0), true).unwrap(), after, "repeated, it changes nothing");
    let back = lens.shifted(&after, bps(0), false).unwrap();
    assert_eq!(back["spec"]["http"].as_array().unwrap().len(), 1);
}

#[test]
fn a_match_never_becomes_wider_than_declared() {
    let with = |header: Value| {
        service(&json!([{"match": [{"headers": {"X-Canary": header}}], "route": [{"destination": {"host": "shop", "subset": "stable"}}]}]))
    };
    let mut lens = subsets();
    lens.declared = vec![rule(Some(("x-canary", "true")), None)];
    // The rule is about another value: nothing can meet both.
    assert!(matches!(lens.shifted(&with(json!({"exact": "false"})), bps(0), true), Err(LensError::Other(_))));
    assert_eq!(
        lens.shifted(&with(json!({"prefix": "t"})), bps(0), true),
        Err(LensError::HeaderTaken { rule: 0, header: "x-canary".to_owned() })
    );
    assert!(lens.shifted(&with(json!({"exact": "true"})), bps(0), true).is_ok());
}

#[test]
fn named_routes_only_if_they_are_named() {
    let mut lens = subsets();
    lens.routes = Some(vec!["eu".to_owned()]);
    let to_stable = json!([{"destination": {"host": "shop", "subset": "stable"}}]);
    let before = service(&json!([
        {"name": "eu", "match": [{"sourceLabels": {"region": "eu"}}], "route": to_stable},
        {"name": "rest", "route": to_stable},
    ]));
    let after = lens.shifted(&before, bps(2_000), false).unwrap();
    assert_eq!(after["spec"]["http"][0]["route"][1]["weight"], 20);
    assert_eq!(after["spec"]["http"][1], before["spec"]["http"][1]);
    assert_eq!(lens.seen(&after).unwrap(), Seen { weight: bps(2_000), even: true, matches: false });
    lens.routes = Some(vec!["us".to_owned()]);
    assert!(lens.check(&before).unwrap_err().to_string().contains("no route us"));
}

#[test]
fn a_release_is_for_some_regions_or_for_all() {
    let region = |name: &str| json!({"name": name, "match": [{"sourceLabels": {"region": name}}], "route": [{"destination": {"host": "shop", "subset": "stable"}}]});
    let before = service(&json!([region("eu"), region("us"), region("asia"), {"name": "rest", "route": region("eu")["route"]}]));
    let mut lens = subsets();
    let weights = |object: &Value| {
        let all = object["spec"]["http"].as_array().unwrap().iter();
        all.map(|rule| rule["route"][1]["weight"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(weights(&lens.shifted(&before, bps(2_000), false).unwrap()), [Some(20); 4], "all that lead to stable");
    lens.routes = Some(vec!["eu".to_owned(), "asia".to_owned()]);
    assert_eq!(lens.check(&before), Ok(()));
    let after = lens.shifted(&before, bps(2_000), false).unwrap();
    assert_eq!(weights(&after), [Some(20), None, Some(20), None]);
    for at in 0..4 {
        assert_eq!(after["spec"]["http"][at]["match"], before["spec"]["http"][at]["match"]);
    }
    // One region that somebody else moved is no share of the others.
    let mut uneven = after;
    uneven["spec"]["http"][2]["route"][1]["weight"] = json!(0);
    assert!(!lens.seen(&uneven).unwrap().even);
    // Declared matches are for the clients of those regions alone.
    lens.declared = vec![rule(Some(("x-canary", "true")), None)];
    let after = lens.shifted(&before, bps(0), true).unwrap();
    let rules = after["spec"]["http"].as_array().unwrap();
    assert_eq!(rules.len(), 6);
    let expected = json!([{"sourceLabels": {"region": "eu"}, "headers": {"x-canary": {"exact": "true"}}}]);
    assert_eq!(rules[0]["match"], expected);
    assert_eq!(rules[2], before["spec"]["http"][1], "us as it was");
    // A region that is not there would go on without its share.
    lens.routes = Some(vec!["eu".to_owned(), "africa".to_owned()]);
    assert!(lens.check(&before).unwrap_err().to_string().contains("no route africa"));
}

#[test]
fn what_was_added_goes_again_and_what_was_there_stays() {
    let mut lens = subsets();
    lens.declared = vec![rule(Some(("x-canary", "true")), None)];
    let to = |subset: &str, weight: u16| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight});
    let before = service(&json!([
        {"match": [{"uri": {"prefix": "/api"}}], "route": [to("stable", 100), to("canary", 0)]},
        {"route": [to("stable", 100)]},
    ]));
    let after = lens.shifted(&before, bps(2_000), true).unwrap();
    let added = lens.added(&before, &after);
    assert_eq!((added.len(), lens.without(&after, &added)), (1, after.clone()), "nothing that has a share is taken out");
    let back = lens.shifted(&after, bps(0), false).unwrap();
    assert_eq!(lens.without(&back, &added), before);
    assert_eq!(lens.without(&back, &[]), back);
}
