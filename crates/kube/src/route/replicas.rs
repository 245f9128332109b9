//! A Service in front of both versions, where the canary's share is its part of the ready pods.
//!
//! The selector says which versions it leads to: stable's labels beside the common ones, the canary's, or neither, which is both. So everything is
//! taken from the canary by one write, however many pods it has. How many those are in between is not in the object: the share that they were
//! made for stands in the note, and whoever makes and counts them is `release::ratio`.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use serin_core::WeightBps;

use super::{
    decision::Decision,
    lens::{Lens, LensError, Seen, kind, set},
};
use crate::api::DECISION;

/// A Service whose endpoints are of both versions.
#[derive(Debug, Clone)]
pub struct ReplicaLens {
    /// The Service.
    pub service: String,
    /// Labels that stable's pods have and the canary's have not.
    pub stable: BTreeMap<String, String>,
    /// Labels of the canary's pods: the same names.
    pub canary: BTreeMap<String, String>,
}

impl Lens for ReplicaLens {
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
        let is_both = !self.stable.keys().any(|name| selector.contains_key(name));
        let weight = if has(&self.stable) {
            WeightBps::ZERO
        } else if has(&self.canary) {
            WeightBps::FULL
        } else if is_both {
            noted(object).ok_or_else(|| LensError::Other("its selector leads to the pods of both versions".to_owned()))?
        } else {
            return Err(LensError::Other("its selector has neither stable's labels nor the canary's".to_owned()));
        };
        Ok(Seen { weight, even: true, matches: false })
    }

    fn shifted(&self, object: &Value, weight: WeightBps, _matches: bool) -> Result<Value, LensError> {
        let mut selector = selector(object);
        selector.retain(|name, _| !self.stable.contains_key(name));
        if selector.is_empty() {
            let why = "its selector has no label beside those that tell the versions apart: it could not lead to both";
            return Err(LensError::Other(why.to_owned()));
        }
        let own = match weight {
            WeightBps::ZERO => Some(&self.stable),
            WeightBps::FULL => Some(&self.canary),
            _ => None,
        };
        selector.extend(own.into_iter().flatten().map(|(name, value)| (name.clone(), json!(value))));
        let mut object = object.clone();
        if let Some(spec) = object.get_mut("spec") {
            set(spec, "selector", Value::Object(selector));
        }
        Ok(object)
    }

    fn check(&self, object: &Value) -> Result<(), LensError> {
        self.shifted(object, WeightBps::ZERO, false)?;
        self.seen(object).map(drop)
    }

    /// Endpoints are counted where the share is read back.
    fn accepted(&self, _object: &Value, _is_retreat: bool) -> Result<(), String> {
        Ok(())
    }

    fn hint(&self) -> String {
        let labels: Vec<String> = self.stable.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("before a release the Service selects stable's pods alone, by a label of both versions and by {}", labels.join(", "))
    }
}

/// The share that the replicas were made for: of the note, if it is one that leads to both.
fn noted(object: &Value) -> Option<WeightBps> {
    let note = Decision::read(object.pointer("/metadata/annotations")?.get(DECISION)?.as_str())?;
    let weight = WeightBps::new(note.weight).ok()?;
    (!note.done && !weight.is_zero() && weight != WeightBps::FULL).then_some(weight)
}

fn selector(object: &Value) -> Map<String, Value> {
    object.pointer("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> ReplicaLens {
        let labels = |track: &str| BTreeMap::from([("track".to_owned(), track.to_owned())]);
        ReplicaLens { service: "shop".to_owned(), stable: labels("stable"), canary: labels("canary") }
    }

    fn bps(weight: u16) -> WeightBps {
        WeightBps::new(weight).unwrap()
    }

    #[test]
    fn the_selector_leads_to_one_version_or_to_both() {
        let at_rest = json!({"spec": {"selector": {"app": "shop", "track": "stable"}, "ports": [1]}});
        assert_eq!(lens().check(&at_rest), Ok(()));
        let selector = |weight| lens().shifted(&at_rest, weight, false).unwrap()["spec"]["selector"].clone();
        assert_eq!(selector(bps(2_500)), json!({"app": "shop"}));
        assert_eq!(selector(WeightBps::FULL), json!({"app": "shop", "track": "canary"}));
        let both = lens().shifted(&at_rest, bps(2_500), false).unwrap();
        assert_eq!(lens().shifted(&both, WeightBps::ZERO, false).unwrap(), at_rest, "back, with all else as it was");
    }

    #[test]
    fn the_share_of_both_is_that_of_the_note() {
        let note = |weight: u16, done: bool| {
            let note = Decision {
                release: "r".into(),
                name: "shop/shop".into(),
                run: 1,
                epoch: 1,
                order: 1,
                weight,
                matches: false,
                retreated: false,
                handed_over: false,
                done,
                added: Vec::new(),
            };
            let object = json!({"metadata": {"annotations": {DECISION: note.text()}}, "spec": {"selector": {"app": "shop"}}});
            lens().seen(&object).map(|seen| seen.weight)
        };
        assert_eq!(note(2_500, false), Ok(bps(2_500)));
        // A note of one version, or of a run that is over, says nothing of both.
        assert!(note(0, false).is_err() && note(10_000, false).is_err() && note(2_500, true).is_err());
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed_at() {
        for selector in [json!({"app": "shop"}), json!({"app": "shop", "track": "red"}), json!({"track": "stable"}), json!(null)] {
            assert!(lens().check(&json!({"spec": {"selector": selector}})).is_err(), "{selector}");
        }
    }
}
