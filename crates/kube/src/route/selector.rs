//! The selector of a plain Service: it leads to one version or the other, all at once.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use serin_core::WeightBps;

use super::lens::{Lens, LensError, Seen, kind, set};

/// A Service whose selector is changed.
#[derive(Debug, Clone)]
pub struct SelectorLens {
    /// The Service.
    pub service: String,
    /// Labels by which it selects stable's pods.
    pub stable: BTreeMap<String, String>,
    /// Labels by which it selects the canary's: the same names.
    pub canary: BTreeMap<String, String>,
}

impl Lens for SelectorLens {
    fn resource(&self) -> ApiResource {
        kind("", "v1", "Service", "services")
    }

    fn name(&self) -> &str {
        &self.service
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        let selector = selector(object);
        let has = |labels: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| selector.get(name).and_then(Value::as_str) == Some(value))
        };
        let weight = match (has(&self.stable), has(&self.canary)) {
            (true, _) => WeightBps::ZERO,
            (false, true) => WeightBps::FULL,
            (false, false) => {
                return Err(LensError::Other("its selector has neither stable's labels nor the canary's".to_owned()));
            }
        };
        Ok(Seen { weight, even: true, matches: false })
    }

    fn shifted(&self, object: &Value, weight: WeightBps, _matches: bool) -> Result<Value, LensError> {
        let labels = match weight {
            WeightBps::ZERO => &self.stable,
            WeightBps::FULL => &self.canary,
            other => return Err(LensError::NotHeld(other)),
        };
        let mut selector = selector(object);
        if selector.is_empty() {
            return Err(LensError::Other("it has no selector: its endpoints are somebody else's affair".to_owned()));
        }
        selector.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        let mut object = object.clone();
        if let Some(spec) = object.get_mut("spec") {
            set(spec, "selector", Value::Object(selector));
        }
        Ok(object)
    }

    fn check(&self, object: &Value) -> Result<(), LensError> {
        self.seen(object).map(drop)
    }

    /// Endpoints follow within moments, and nothing reports about it.
    fn accepted(&self, _object: &Value, _is_retreat: bool) -> Result<(), String> {
        Ok(())
    }

    fn hint(&self) -> String {
        let labels: Vec<String> = self.stable.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("the Service selects stable's pods before a release: {}", labels.join(", "))
    }
}

fn selector(object: &Value) -> Map<String, Value> {
    object.pointer("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> SelectorLens {
        let labels = |color: &str| BTreeMap::from([("color".to_owned(), color.to_owned())]);
        SelectorLens { service: "shop".to_owned(), stable: labels("blue"), canary: labels("green") }
    }

    #[test]
    fn it_is_all_or_nothing_and_other_labels_stay() {
        let blue = json!({"spec": {"selector": {"app": "shop", "color": "blue"}, "ports": [1]}});
        let green = lens().shifted(&blue, WeightBps::FULL, false).unwrap();
        assert_eq!(green, json!({"spec": {"selector": {"app": "shop", "color": "green"}, "ports": [1]}}));
        assert_eq!(lens().seen(&green).unwrap().weight, WeightBps::FULL);
        assert_eq!(lens().shifted(&green, WeightBps::ZERO, false).unwrap(), blue);
        let half = WeightBps::new(5_000).unwrap();
        assert_eq!(lens().shifted(&blue, half, false), Err(LensError::NotHeld(half)));
    }

    #[test]
    fn one_that_leads_to_neither_is_not_guessed_at() {
        for selector in [json!({"app": "shop"}), json!({"color": "red"}), json!(null)] {
            assert!(lens().check(&json!({"spec": {"selector": selector}})).is_err());
        }
        // Whatever it was made into, it can be led back to stable.
        let red = json!({"spec": {"selector": {"color": "red"}}});
        assert_eq!(lens().shifted(&red, WeightBps::ZERO, false).unwrap()["spec"]["selector"]["color"], "blue");
    }
}
