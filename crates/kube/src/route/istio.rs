//! `VirtualServices` of Istio. Two versions are two hosts, or two subsets of one.
//!
//! Routes are tried in their order, so that those for declared matches stand in front. Cookies are a part of one header, which is matched by a
//! regular expression. A single destination of a route has everything, whatever its weight.

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use serin_core::WeightBps;
use serin_spec::validated::{Destination, MatchRule};

use super::{
    lens::{Lens, LensError, Seen, items, kind, set, text},
    rules::{self, Arm, Dialect},
};

/// Istio has no limits of its own; these keep the object far below what the API server takes.
const MOST: [usize; 2] = [256, 256];

/// A `VirtualService`.
#[derive(Debug, Clone)]
pub struct IstioLens {
    /// The object.
    pub virtual_service: String,
    /// Where it is.
    pub namespace: String,
    /// Stable's destination.
    pub stable: Destination,
    /// The canary's.
    pub canary: Destination,
    /// Names of the routes that are the release's; `None`: all that lead to stable.
    pub routes: Option<Vec<String>>,
    /// Declared matches.
    pub declared: Vec<MatchRule>,
}

impl Lens for IstioLens {
    fn resource(&self) -> ApiResource {
        kind("networking.istio.io", "v1", "VirtualService", "virtualservices")
    }

    fn name(&self) -> &str {
        &self.virtual_service
    }

    fn has_matches(&self) -> bool {
        !self.declared.is_empty()
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        rules::seen(http(object), self, &self.declared)
    }

    fn shifted(&self, object: &Value, weight: WeightBps, matches: bool) -> Result<Value, LensError> {
        let made = rules::shifted(http(object), self, weight, &self.declared, matches)?;
        Ok(with(object, made))
    }

    fn added(&self, before: &Value, after: &Value) -> Vec<String> {
        rules::added(http(before), http(after), self, &self.declared)
    }

    fn without(&self, object: &Value, added: &[String]) -> Value {
        with(object, rules::without(http(object), self, added))
    }

    /// Also whether each route that is named is there: one that is missing would go on without its share.
    fn check(&self, object: &Value) -> Result<(), LensError> {
        for name in self.routes.iter().flatten() {
            let mut named = http(object).iter().filter(|rule| text(rule, "name") == name);
            let to_stable = |rule: &Value| items(rule, "route").iter().any(|backend| self.arm(backend) == Some(Arm::Stable));
            if !named.any(to_stable) {
                return Err(LensError::Other(format!("it has no route {name} that leads to {}", self.stable())));
            }
        }
        self.shifted(object, WeightBps::ZERO, self.has_matches()).map(drop)
    }

    fn hint(&self) -> String {
        format!("the release names a VirtualService with an HTTP route to {}", self.stable())
    }
}

impl Dialect for IstioLens {
    fn backends(&self) -> &'static str {
        "route"
    }

    fn matches(&self) -> &'static str {
        "match"
    }

    fn is_rule(&self, rule: &Value) -> bool {
        self.routes.as_ref().is_none_or(|names| names.iter().any(|name| name == text(rule, "name")))
    }

    fn arm(&self, backend: &Value) -> Option<Arm> {
        let destination = backend.get("destination")?;
        let is = |arm: &Destination| {
            self.whole(text(destination, "host")) == self.whole(&arm.host)
                && text(destination, "subset") == arm.subset.as_deref().unwrap_or_default()
        };
        if is(&self.stable) {
            return Some(Arm::Stable);
        }
        is(&self.canary).then_some(Arm::Canary)
    }

    fn called<'a>(&self, backend: &'a Value) -> &'a str {
        backend.pointer("/destination/host").and_then(Value::as_str).unwrap_or("a destination without a host")
    }

    fn stable(&self) -> String {
        match &self.stable.subset {
            Some(subset) => format!("the subset {subset} of {}", self.stable.host),
            None => format!("the host {}", self.stable.host),
        }
    }

    fn make_canary(&self, backend: &mut Value) {
        let Some(destination) = backend.get_mut("destination") else { return };
        set(destination, "host", json!(self.canary.host));
        match &self.canary.subset {
            Some(subset) => set(destination, "subset", json!(subset)),
            None => drop(destination.as_object_mut().and_then(|fields| fields.remove("subset"))),
        }
    }

    fn weight_without(&self, backends: usize) -> u64 {
        if backends == 1 { 100 } else { 0 }
    }

    /// In percent where that is exact: older versions of Istio want a sum of 100.
    fn weights(&self, weight: WeightBps) -> [u64; 2] {
        let (stable, canary) = (u64::from(weight.stable_bps()), u64::from(weight.canary_bps()));
        if canary.is_multiple_of(100) { [stable / 100, canary / 100] } else { [stable, canary] }
    }

    fn narrowed(&self, own: &Value, declared: &MatchRule) -> Result<Option<Value>, String> {
        let mut headers: Map<String, Value> = own.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, wanted) in conditions(declared) {
            match headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(&name)) {
                None => drop(headers.insert(name, wanted)),
                Some((_, own)) if *own == wanted => {}
                Some((_, own)) if own.get("exact").is_some() && wanted.get("exact").is_some() => return Ok(None),
                Some(_) => return Err(name),
            }
        }
        let mut made = own.clone();
        set(&mut made, "headers", Value::Object(headers));
        Ok(Some(made))
    }

    fn has(&self, own: &Value, declared: &MatchRule) -> bool {
        let headers = own.get("headers").and_then(Value::as_object);
        conditions(declared).iter().all(|(name, wanted)| {
            headers.is_some_and(|headers| headers.iter().any(|(own, value)| own.eq_ignore_ascii_case(name) && value == wanted))
        })
    }

    fn most(&self) -> [usize; 2] {
        MOST
    }
}

impl IstioLens {
    /// A host with its domain: short names are looked up in the namespace of the `VirtualService`.
    fn whole(&self, host: &str) -> String {
        if host.contains('.') { host.to_owned() } else { format!("{host}.{}.svc.cluster.local", self.namespace) }
    }
}

/// Declared conditions as Istio's.
fn conditions(declared: &MatchRule) -> Vec<(String, Value)> {
    let headers = declared.headers.iter().map(|header| (header.name.clone(), json!({"exact": header.value})));
    let cookies = declared.cookies.iter().map(|cookie| {
        let (name, value) = (escaped(&cookie.name), escaped(&cookie.value));
        ("cookie".to_owned(), json!({"regex": format!("(.*;\\s*)?{name}={value}(;.*)?")}))
    });
    headers.chain(cookies).collect()
}

fn escaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()|[]{}^$".contains(character) {
            made.push('\\');
        }
        made.push(character);
    }
    made
}

fn with(object: &Value, made: Vec<Value>) -> Value {
    let mut object = object.clone();
    if let Some(spec) = object.get_mut("spec") {
        set(spec, "http", Value::Array(made));
    }
    object
}

fn http(object: &Value) -> &[Value] {
    object.get("spec").map(|spec| items(spec, "http")).unwrap_or_default()
}

#[cfg(test)]
#[path = "istio_tests.rs"]
mod tests;
