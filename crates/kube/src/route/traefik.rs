//! Weighted `TraefikServices`: one rule without matches.

use kube::api::ApiResource;
use serde_json::{Value, json};
use serin_core::WeightBps;
use serin_spec::validated::{Arms, MatchRule};

use super::{
    lens::{Lens, LensError, Seen, kind, set, text},
    rules::{self, Arm, Dialect},
};

/// A `TraefikService`.
#[derive(Debug, Clone)]
pub struct TraefikLens {
    /// The object.
    pub traefik_service: String,
    /// Where it and the services are.
    pub namespace: String,
    /// The services.
    pub services: Arms,
}

impl Lens for TraefikLens {
    fn resource(&self) -> ApiResource {
        kind("traefik.io", "v1alpha1", "TraefikService", "traefikservices")
    }

    fn name(&self) -> &str {
        &self.traefik_service
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        rules::seen(&weighted(object), self, &[])
    }

    fn shifted(&self, object: &Value, weight: WeightBps, _matches: bool) -> Result<Value, LensError> {
        let made = rules::shifted(&weighted(object), self, weight, &[], false)?;
        Ok(with(object, made))
    }

    fn added(&self, before: &Value, after: &Value) -> Vec<String> {
        rules::added(&weighted(before), &weighted(after), self, &[])
    }

    fn without(&self, object: &Value, added: &[String]) -> Value {
        with(object, rules::without(&weighted(object), self, added))
    }

    /// Traefik reports nothing about them.
    fn accepted(&self, _object: &Value, _is_retreat: bool) -> Result<(), String> {
        Ok(())
    }

    fn hint(&self) -> String {
        format!("the release names a TraefikService with `weighted` and the service {}", self.services.stable)
    }
}

impl Dialect for TraefikLens {
    fn backends(&self) -> &'static str {
        "services"
    }

    fn matches(&self) -> &'static str {
        "matches"
    }

    fn arm(&self, backend: &Value) -> Option<Arm> {
        let field = |name: &str| backend.get(name).and_then(Value::as_str);
        let is_service =
            matches!(field("kind"), None | Some("Service")) && field("namespace").is_none_or(|namespace| namespace == self.namespace);
        match field("name") {
            Some(name) if is_service && name == self.services.stable => Some(Arm::Stable),
            Some(name) if is_service && name == self.services.canary => Some(Arm::Canary),
            _ => None,
        }
    }

    fn called<'a>(&self, backend: &'a Value) -> &'a str {
        text(backend, "name")
    }

    fn stable(&self) -> String {
        format!("the service {}", self.services.stable)
    }

    fn make_canary(&self, backend: &mut Value) {
        set(backend, "name", json!(self.services.canary));
    }

    fn weight_without(&self, _backends: usize) -> u64 {
        1
    }

    fn narrowed(&self, _own: &Value, _declared: &MatchRule) -> Result<Option<Value>, String> {
        Ok(None)
    }

    fn has(&self, _own: &Value, _declared: &MatchRule) -> bool {
        false
    }

    fn most(&self) -> [usize; 2] {
        [1, 1]
    }
}

fn with(object: &Value, made: Vec<Value>) -> Value {
    let mut object = object.clone();
    if let (Some(spec), Some(made)) = (object.get_mut("spec"), made.into_iter().next()) {
        set(spec, "weighted", made);
    }
    object
}

fn weighted(object: &Value) -> Vec<Value> {
    object.pointer("/spec/weighted").cloned().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> TraefikLens {
        let services = Arms { stable: "shop".to_owned(), canary: "shop-canary".to_owned(), ..Arms::default() };
        TraefikLens { traefik_service: "shop".to_owned(), namespace: "shop".to_owned(), services }
    }

    #[test]
    fn weights_change_and_nothing_else() {
        let before =
            json!({"spec": {"weighted": {"sticky": {"cookie": {}}, "services": [{"name": "shop", "port": 80, "passHostHeader": true}]}}});
        let after = lens().shifted(&before, WeightBps::new(500).unwrap(), false).unwrap();
        let services = json!([
            {"name": "shop", "port": 80, "passHostHeader": true, "weight": 9_500},
            {"name": "shop-canary", "port": 80, "passHostHeader": true, "weight": 500},
        ]);
        assert_eq!(after, json!({"spec": {"weighted": {"sticky": {"cookie": {}}, "services": services}}}));
        assert_eq!(lens().seen(&after).unwrap().weight.canary_bps(), 500);
    }

    #[test]
    fn what_was_added_goes_and_what_was_there_stays() {
        let object = |services: Value| json!({"spec": {"weighted": {"services": services}}});
        let bare = object(json!([{"name": "shop", "port": 80, "weight": 10_000}]));
        let shifted = lens().shifted(&bare, WeightBps::new(500).unwrap(), false).unwrap();
        let added = lens().added(&bare, &shifted);
        assert_eq!(lens().without(&shifted, &added), shifted, "it has a share");
        let back = lens().shifted(&shifted, WeightBps::ZERO, false).unwrap();
        assert_eq!((lens().without(&back, &added), lens().added(&shifted, &back)), (bare, vec![]));
        assert_eq!(lens().without(&back, &[]), back, "it was given");
    }

    #[test]
    fn one_that_is_not_weighted_or_leads_elsewhere_is_refused() {
        assert!(matches!(lens().check(&json!({"spec": {"mirroring": {"name": "shop"}}})), Err(LensError::NoStable(_))));
        let third = json!({"spec": {"weighted": {"services": [{"name": "shop"}, {"name": "other", "kind": "TraefikService"}]}}});
        assert!(matches!(lens().check(&third), Err(LensError::ThirdBackend { .. })));
    }
}
