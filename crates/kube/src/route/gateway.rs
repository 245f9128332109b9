//! Routes of the Gateway API: `HTTPRoute` and `GRPCRoute`, whose rules are written alike.

use kube::api::ApiResource;
use serde_json::{Value, json};
use serin_core::WeightBps;
use serin_spec::validated::{Arms, GatewayKind, MatchRule};

use super::{
    lens::{Lens, LensError, Seen, conditions, items, kind, set, text},
    rules::{self, Arm, Dialect},
};

/// The most rules and the most matches in a rule that the Gateway API allows.
const MOST: [usize; 2] = [16, 64];

/// A route of the Gateway API.
#[derive(Debug, Clone)]
pub struct GatewayLens {
    /// HTTP or gRPC.
    pub kind: GatewayKind,
    /// The route.
    pub route: String,
    /// Where the route is, and services without a namespace of their own.
    pub namespace: String,
    /// The services.
    pub services: Arms,
    /// Declared matches.
    pub declared: Vec<MatchRule>,
}

impl Lens for GatewayLens {
    fn resource(&self) -> ApiResource {
        match self.kind {
            GatewayKind::Http => kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            GatewayKind::Grpc => kind("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes"),
        }
    }

    fn name(&self) -> &str {
        &self.route
    }

    fn has_matches(&self) -> bool {
        !self.declared.is_empty()
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        rules::seen(route_rules(object), self, &self.declared)
    }

    fn shifted(&self, object: &Value, weight: WeightBps, matches: bool) -> Result<Value, LensError> {
        let made = rules::shifted(route_rules(object), self, weight, &self.declared, matches)?;
        Ok(with(object, made))
    }

    fn added(&self, before: &Value, after: &Value) -> Vec<String> {
        rules::added(route_rules(before), route_rules(after), self, &self.declared)
    }

    fn without(&self, object: &Value, added: &[String]) -> Value {
        with(object, rules::without(route_rules(object), self, added))
    }

    /// Every gateway that reports about the route.
    fn accepted(&self, object: &Value, is_retreat: bool) -> Result<(), String> {
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        let parents = object.pointer("/status/parents").and_then(Value::as_array).into_iter().flatten();
        for parent in parents {
            let controller = parent.get("controllerName").and_then(Value::as_str).unwrap_or("a gateway");
            let types: &[&str] = if is_retreat { &["Accepted"] } else { &["Accepted", "ResolvedRefs"] };
            conditions(Some(parent), generation, controller, types)?;
        }
        Ok(())
    }

    fn hint(&self) -> String {
        format!("the release names a route with a rule for stable's service, {}", self.services.stable)
    }
}

impl Dialect for GatewayLens {
    fn backends(&self) -> &'static str {
        "backendRefs"
    }

    fn matches(&self) -> &'static str {
        "matches"
    }

    fn arm(&self, backend: &Value) -> Option<Arm> {
        let field = |name: &str| backend.get(name).and_then(Value::as_str);
        let is_service = matches!(field("kind"), None | Some("Service")) && matches!(field("group"), None | Some(""));
        let (namespace, name) = (field("namespace").unwrap_or(&self.namespace), field("name")?);
        let is = |service: &str, home: &Option<String>| is_service && name == service && namespace == self.home(home);
        let Arms { stable, canary, stable_namespace, canary_namespace } = &self.services;
        if is(stable, stable_namespace) {
            return Some(Arm::Stable);
        }
        is(canary, canary_namespace).then_some(Arm::Canary)
    }

    fn called<'a>(&self, backend: &'a Value) -> &'a str {
        backend.get("name").and_then(Value::as_str).unwrap_or("a backend without a name")
    }

    fn stable(&self) -> String {
        format!("the service {}", self.services.stable)
    }

    fn make_canary(&self, backend: &mut Value) {
        set(backend, "name", json!(self.services.canary));
        let home = self.home(&self.services.canary_namespace);
        if home != self.namespace {
            set(backend, "namespace", json!(home));
        } else if let Some(fields) = backend.as_object_mut() {
            fields.remove("namespace");
        }
    }

    fn weight_without(&self, _backends: usize) -> u64 {
        1
    }

    fn narrowed(&self, own: &Value, declared: &MatchRule) -> Result<Option<Value>, String> {
        let mut headers = items(own, "headers").to_vec();
        for wanted in &declared.headers {
            // Of two conditions about one header, gateways obey the first only.
            match headers.iter().find(|own| text(own, "name").eq_ignore_ascii_case(&wanted.name)) {
                None => headers.push(json!({"type": "Exact", "name": wanted.name, "value": wanted.value})),
                Some(own) if !is_exact(own) => return Err(wanted.name.clone()),
                Some(own) if text(own, "value") != wanted.value => return Ok(None),
                Some(_) => {}
            }
        }
        let mut made = own.clone();
        set(&mut made, "headers", Value::Array(headers));
        Ok(Some(made))
    }

    fn has(&self, own: &Value, declared: &MatchRule) -> bool {
        declared.headers.iter().all(|wanted| {
            let is =
                |own: &Value| text(own, "name").eq_ignore_ascii_case(&wanted.name) && text(own, "value") == wanted.value && is_exact(own);
            items(own, "headers").iter().any(is)
        })
    }

    fn most(&self) -> [usize; 2] {
        MOST
    }
}

impl GatewayLens {
    /// Where a service is: beside the route, unless it is said.
    fn home<'a>(&'a self, elsewhere: &'a Option<String>) -> &'a str {
        elsewhere.as_deref().unwrap_or(&self.namespace)
    }
}

fn is_exact(header: &Value) -> bool {
    matches!(header.get("type").and_then(Value::as_str), None | Some("Exact"))
}

fn with(object: &Value, made: Vec<Value>) -> Value {
    let mut object = object.clone();
    if let Some(spec) = object.get_mut("spec") {
        set(spec, "rules", Value::Array(made));
    }
    object
}

fn route_rules(object: &Value) -> &[Value] {
    object.get("spec").map(|spec| items(spec, "rules")).unwrap_or_default()
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
