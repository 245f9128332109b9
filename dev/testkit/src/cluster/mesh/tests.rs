//! The translation of each kind of route, from YAML as people write it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{net::PodNetwork, parse},
    duration_ms,
    table::Door,
    translate::{Translation, translate},
    world::World,
};

const SERVICES: &str = r"
kind: Service
metadata: {namespace: shop, name: web}
spec: {ports: [{name: http, port: 80}]}
---
kind: Service
metadata: {namespace: shop, name: web-canary}
spec: {ports: [{name: http, port: 80}]}
---
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [192.0.2.1], conditions: {ready: true}, targetRef: {name: one}}
- {addresses: [192.0.2.2], conditions: {ready: true}, targetRef: {name: two}}
- {addresses: [192.0.2.3], conditions: {ready: false}, targetRef: {name: three}}
---
kind: Pod
metadata: {namespace: shop, name: one, labels: {version: v1}}
---
kind: Pod
metadata: {namespace: shop, name: two, labels: {version: v2}}
---
";

fn world(yaml: &str) -> World {
    let mut world = World::default();
    for object in parse(&format!("{SERVICES}{yaml}")) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let map = match object["kind"].as_str().unwrap() {
            "Service" => &mut world.services,
            "EndpointSlice" => &mut world.slices,
            "Pod" => &mut world.pods,
            "HTTPRoute" => &mut world.http_routes,
            "GRPCRoute" => &mut world.grpc_routes,
            "VirtualService" => &mut world.virtual_services,
            "DestinationRule" => &mut world.destination_rules,
            "Ingress" => &mut world.ingresses,
            "TraefikService" => &mut world.traefik_services,
            "IngressRoute" => &mut world.ingress_routes,
            "ReferenceGrant" => &mut world.reference_grants,
            kind => panic!("{kind}"),
        };
        map.insert((text("/metadata/namespace"), text("/metadata/name")), Arc::new(object));
    }
    world
}

fn translated(yaml: &str) -> Translation {
    translate(&world(yaml), &PodNetwork::reserve())
}

/// Match and destination of each route of a host: `prefix=/ x-canary -> shop/web/80:80 shop/web-canary/80:20`.
fn routes(translation: &Translation, door: Door, domain: &str) -> Vec<String> {
    let hosts = translation.routes[door.name()]["virtual_hosts"].as_array().unwrap().clone();
    let host = hosts.iter().find(|host| host["domains"][0] == domain).unwrap_or_else(|| panic!("no {domain} in {hosts:#?}"));
    host["routes"].as_array().unwrap().iter().map(line).collect()
}

fn line(route: &Value) -> String {
    let matched = &route["match"];
    let path = ["path", "prefix", "path_separated_prefix"].iter().find_map(|kind| Some(format!("{kind}={}", matched[kind].as_str()?)));
    let path = path.unwrap_or_else(|| format!("regex={}", matched["safe_regex"]["regex"]));
    let headers: String = matched["headers"].as_array().unwrap().iter().map(header).collect();
    let to = &route["route"];
    let clusters = to["weighted_clusters"]["clusters"].as_array();
    let parts: Option<Vec<String>> =
        clusters.map(|all| all.iter().map(|part| format!("{}:{}", part["name"].as_str().unwrap(), part["weight"])).collect());
    let answer = || format!("{}", route["direct_response"]["status"]);
    let one = || to["cluster"].as_str().map_or_else(answer, str::to_owned);
    format!("{path}{headers} -> {}", parts.map_or_else(one, |parts| parts.join(" ")))
}

fn header(header: &Value) -> String {
    let value = &header["string_match"];
    let value = value["exact"].as_str().or(value["prefix"].as_str()).or(value["safe_regex"]["regex"].as_str()).unwrap_or("*");
    let not = if header["invert_match"] == true { "!" } else { "" };
    format!(" {not}{}={value}", header["name"].as_str().unwrap())
}

#[test]
fn services_have_names_and_ready_endpoints() {
    let translation = translated("");
    for name in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web.shop:80"] {
        assert_eq!(routes(&translation, Door::Mesh, name), ["prefix=/ -> shop/web/80"]);
    }
    let endpoints: Vec<String> = translation.upstreams["shop/web/80"].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["192.0.2.1:8080", "192.0.2.2:8080"]);
    assert!(translation.upstreams["shop/web-canary/80"].endpoints.is_empty());
}

#[test]
fn an_http_route_with_weights_and_the_more_exact_match_first() {
    let translation = translated(
        r"
kind: HTTPRoute
metadata: {namespace: shop, name: web, generation: 3}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.example]
  rules:
  - backendRefs: [{name: web, port: 80, weight: 80}, {name: web-canary, port: 80, weight: 20}]
  - matches: [{headers: [{name: X-Canary, value: 'true'}]}, {path: {type: Exact, value: /new}}]
    backendRefs: [{name: web-canary, port: 80}]
  - matches: [{path: {value: /old/}, method: POST}]
    backendRefs: [{name: web, port: 80, weight: 0}]
",
    );
    assert_eq!(
        routes(&translation, Door::Gateway, "shop.example"),
        [
            "path=/new -> shop/web-canary/80",
            "path_separated_prefix=/old :method=POST -> 500",
            "prefix=/ x-canary=true -> shop/web-canary/80",
            "prefix=/ -> shop/web/80:80 shop/web-canary/80:20",
        ]
    );
    // Not in the mesh: its parent is a gateway.
    assert_eq!(routes(&translation, Door::Mesh, "web.shop"), ["prefix=/ -> shop/web/80"]);
}

#[test]
fn a_route_of_a_service_replaces_it_in_the_mesh() {
    let translation = translated(
        r"
kind: HTTPRoute
metadata: {namespace: shop, name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules: [{backendRefs: [{name: web-canary, port: 80}]}]
",
    );
    assert_eq!(routes(&translation, Door::Mesh, "web.shop.svc:80"), ["prefix=/ -> shop/web-canary/80"]);
    assert_eq!(routes(&translation, Door::Mesh, "web-canary.shop"), ["prefix=/ -> shop/web-canary/80"]);
}

#[test]
fn the_status_of_a_route_says_what_is_missing() {
    let world = world(
        r"
kind: HTTPRoute
metadata: {namespace: shop, name: web, generation: 7}
spec:
  parentRefs: [{name: gateway}]
  rules: [{backendRefs: [{name: web, port: 80}, {name: gone, port: 80}]}]
",
    );
    let route = world.http_routes.values().next().unwrap();
    let parents = super::http_route::parents(&world, ("HTTPRoute", "shop"), route, "c", "now");
    let conditions = parents[0]["conditions"].as_array().unwrap();
    assert_eq!((&conditions[0]["type"], &conditions[0]["status"]), (&json!("Accepted"), &json!("True")));
    assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&json!("False"), &json!("BackendNotFound")));
    assert!(conditions.iter().all(|condition| condition["observedGeneration"] == 7));
    let mut told = Value::clone(route);
    told["status"]["parents"] = parents.clone();
    // What does not change keeps its time.
    assert_eq!(super::http_route::parents(&world, ("HTTPRoute", "shop"), &told, "c", "later"), parents);
}

#[test]
fn a_service_in_another_namespace_needs_a_grant() {
    const ROUTE: &str = r"
kind: HTTPRoute
metadata: {namespace: edge, name: web}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: web, namespace: shop, port: 80}]}]
---
";
    let grant = |from: &str| {
        let text = "{kind: ReferenceGrant, metadata: {namespace: shop, name: edge}, spec: {from: [{group: gateway.networking.k8s.io, \
                    kind: HTTPRoute, namespace: FROM}], to: [{group: '', kind: Service}]}}";
        translated(&format!("{ROUTE}{}", text.replace("FROM", from)))
    };
    assert_eq!(routes(&translated(ROUTE), Door::Gateway, "shop.example"), routes(&grant("other"), Door::Gateway, "shop.example"));
    assert_eq!(routes(&grant("edge"), Door::Gateway, "shop.example"), ["prefix=/ -> shop/web/80"]);
    assert_ne!(routes(&grant("other"), Door::Gateway, "shop.example"), ["prefix=/ -> shop/web/80"]);
}

#[test]
fn a_grpc_route_is_a_path() {
    let translation = translated(
        r"
kind: GRPCRoute
metadata: {namespace: shop, name: web}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [grpc.example]
  rules: [{matches: [{method: {service: a.B, method: C}}, {method: {service: a.B}}], backendRefs: [{name: web, port: 80}]}]
",
    );
    assert_eq!(routes(&translation, Door::Gateway, "grpc.example"), ["path=/a.B/C -> shop/web/80", "prefix=/a.B/ -> shop/web/80"]);
}

#[test]
fn a_virtual_service_with_subsets_keeps_its_order() {
    let translation = translated(
        r"
kind: DestinationRule
metadata: {namespace: shop, name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
kind: VirtualService
metadata: {namespace: shop, name: web}
spec:
  hosts: [web, shop.example]
  http:
  - match:
    - headers: {x-canary: {exact: 'true'}, x-user: {regex: .*beta.*}}
      withoutHeaders: {x-no: {}}
    - sourceLabels: {region: eu}
    route: [{destination: {host: web.shop.svc.cluster.local, subset: v2}}]
  - timeout: 1.5s
    route:
    - {destination: {host: web, subset: v1}, weight: 90}
    - {destination: {host: web, subset: v2}, weight: 10}
    - {destination: {host: web, subset: v3}, weight: 0}
",
    );
    for domain in ["web.shop", "web.shop.svc:80", "shop.example"] {
        assert_eq!(
            routes(&translation, Door::Mesh, domain),
            [
                "prefix=/ x-canary=true x-user=.*beta.* !x-no=* -> shop/web/80/v2",
                "prefix=/ x-source-labels=(.*,)?region=eu(,.*)? -> shop/web/80/v2",
                "prefix=/ -> shop/web/80/v1:90 shop/web/80/v2:10",
            ],
            "{domain}"
        );
    }
    let endpoints: Vec<_> = translation.upstreams["shop/web/80/v2"].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["192.0.2.2:8080"]);
}

#[test]
fn a_virtual_service_of_hosts_and_of_what_is_not_there() {
    let translation = translated(
        r"
kind: VirtualService
metadata: {namespace: other, name: web}
spec:
  hosts: [web.shop.svc.cluster.local]
  http:
  - match: [{uri: {prefix: /none}}]
    route: [{destination: {host: none}}]
  - route: [{destination: {host: web.shop}, weight: 50}, {destination: {host: web-canary.shop, port: {number: 80}}, weight: 50}]
",
    );
    assert_eq!(
        routes(&translation, Door::Mesh, "web.shop"),
        ["prefix=/none -> does-not-exist", "prefix=/ -> shop/web/80:50 shop/web-canary/80:50"]
    );
}

#[test]
fn an_ingress_and_its_canary() {
    let ingress = |name: &str, annotations: &str, service: &str| {
        format!(
            "
kind: Ingress
metadata: {{namespace: shop, name: {name}, annotations: {{{annotations}}}}}
spec: {{ingressClassName: nginx, rules: [{{host: shop.example, http: {{paths: [
  {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}
---
"
        )
    };
    let main = ingress("main", "", "web");
    let prefix = "nginx.ingress.kubernetes.io/canary";
    let with = |annotations: &[(&str, &str)]| {
        let all: String = annotations.iter().map(|(name, value)| format!(", {prefix}-{name}: '{value}'")).collect();
        let yaml = format!("{main}{}", ingress("canary", &format!("{prefix}: 'true'{all}"), "web-canary"));
        routes(&translated(&yaml), Door::Nginx, "shop.example")
    };
    assert_eq!(with(&[("weight", "20")]), ["prefix=/ -> shop/web/80:80 shop/web-canary/80:20"]);
    assert_eq!(with(&[("weight", "1"), ("weight-total", "1000")]), ["prefix=/ -> shop/web/80:999 shop/web-canary/80:1"]);
    assert_eq!(with(&[("weight", "100")]), ["prefix=/ -> shop/web-canary/80"]);
    assert_eq!(
        with(&[("by-header", "X-Canary"), ("by-cookie", "beta")]),
        [
            "prefix=/ x-canary=always -> shop/web-canary/80",
            "prefix=/ x-canary=never -> shop/web/80",
            "prefix=/ cookie=(.*;\\s*)?beta=always(;.*)? -> shop/web-canary/80",
            "prefix=/ cookie=(.*;\\s*)?beta=never(;.*)? -> shop/web/80",
            "prefix=/ -> shop/web/80",
        ]
    );
    assert_eq!(with(&[("by-header", "X-Canary"), ("by-header-value", "me")])[0], "prefix=/ x-canary=me -> shop/web-canary/80");
    assert_eq!(routes(&translated(&main), Door::Nginx, "shop.example"), ["prefix=/ -> shop/web/80"]);
}

#[test]
fn traefik_services_multiply_their_weights() {
    let translation = translated(
        r"
kind: IngressRoute
metadata: {namespace: shop, name: web}
spec: {routes: [{match: 'Host(`shop.example`) && PathPrefix(`/a`)', services: [{kind: TraefikService, name: outer}]}, {match: 'Other(`x`)'}]}
---
kind: TraefikService
metadata: {namespace: shop, name: outer}
spec: {weighted: {services: [{name: web, port: 80, weight: 3}, {kind: TraefikService, name: inner, weight: 2}]}}
---
kind: TraefikService
metadata: {namespace: shop, name: inner}
spec: {weighted: {services: [{name: web-canary, port: 80, weight: 1}, {name: web, port: 80, weight: 0}]}}
",
    );
    assert_eq!(routes(&translation, Door::Traefik, "shop.example"), ["prefix=/a -> shop/web/80:3 shop/web-canary/80:2"]);
}

#[test]
fn durations_of_go() {
    for (text, ms) in [("1.5s", Some(1500)), ("1m30s", Some(90_000)), ("250ms", Some(250)), ("1", None), ("1x", None)] {
        assert_eq!(duration_ms(text), ms, "{text}");
    }
}
