//! Any object with a weight in a field, as the document describes it. The fields must be there: what an object of an unknown kind would mean with a
//! field more cannot be known.

use kube::api::ApiResource;
use serde_json::{Value, json};
use serin_core::WeightBps;
use serin_spec::validated::CustomRouter;

use super::lens::{Lens, LensError, Seen, kind};

/// An object with a weight in a field.
#[derive(Debug, Clone)]
pub struct CustomLens(pub CustomRouter);

impl Lens for CustomLens {
    fn resource(&self) -> ApiResource {
        kind(&self.0.group, &self.0.version, &self.0.kind, &self.0.plural)
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        let canary = number(object, &self.0.canary_weight)?;
        let all = match &self.0.stable_weight {
            Some(stable) => number(object, stable)?.saturating_add(canary),
            None => self.0.total.into(),
        };
        let share = if all == 0 { 0 } else { canary.saturating_mul(10_000).div_ceil(all).min(10_000) };
        let weight = u16::try_from(share).ok().and_then(|share| WeightBps::new(share).ok()).unwrap_or(WeightBps::FULL);
        Ok(Seen { weight, even: true, matches: false })
    }

    fn shifted(&self, object: &Value, weight: WeightBps, _matches: bool) -> Result<Value, LensError> {
        let total = u64::from(self.0.total);
        let of_total = u64::from(weight.canary_bps()) * total;
        if !of_total.is_multiple_of(10_000) {
            return Err(LensError::NotHeld(weight));
        }
        let canary = of_total / 10_000;
        let mut object = object.clone();
        put(&mut object, &self.0.canary_weight, canary)?;
        if let Some(stable) = &self.0.stable_weight {
            put(&mut object, stable, total - canary)?;
        }
        Ok(object)
    }

    fn hint(&self) -> String {
        format!("the release names the field {} of an object of kind {}, with a number", self.0.canary_weight, self.0.kind)
    }
}

fn number(object: &Value, at: &str) -> Result<u64, LensError> {
    let found = object.pointer(at).ok_or_else(|| LensError::Other(format!("there is no field {at}")))?;
    let read = found.as_u64().or_else(|| found.as_str()?.trim().parse().ok());
    read.ok_or_else(|| LensError::Other(format!("the field {at} is no whole number: {found}")))
}

/// As it is written there: a number, or a number as text.
fn put(object: &mut Value, at: &str, value: u64) -> Result<(), LensError> {
    number(object, at)?;
    if let Some(field) = object.pointer_mut(at) {
        *field = if field.is_string() { json!(value.to_string()) } else { json!(value) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(stable: Option<&str>, canary: &str, total: u32) -> CustomLens {
        CustomLens(CustomRouter {
            group: "projectcontour.io".to_owned(),
            version: "v1".to_owned(),
            kind: "HTTPProxy".to_owned(),
            plural: "httpproxies".to_owned(),
            name: "shop".to_owned(),
            canary_weight: canary.to_owned(),
            stable_weight: stable.map(str::to_owned),
            total,
        })
    }

    #[test]
    fn the_fields_hold_the_weights_as_they_are_written() {
        let proxy = json!({"spec": {"routes": [{"services": [{"name": "a", "weight": 100}, {"name": "b", "weight": 0}]}]}});
        let lens_of_proxy = lens(Some("/spec/routes/0/services/0/weight"), "/spec/routes/0/services/1/weight", 100);
        let made = lens_of_proxy.shifted(&proxy, WeightBps::new(2_500).unwrap(), false).unwrap();
        assert_eq!(made["spec"]["routes"][0]["services"], json!([{"name": "a", "weight": 75}, {"name": "b", "weight": 25}]));
        assert_eq!(lens_of_proxy.seen(&made).unwrap().weight.canary_bps(), 2_500);
        let annotated = json!({"metadata": {"annotations": {"example.org/weight": "0"}}});
        let of_annotation = lens(None, "/metadata/annotations/example.org~1weight", 1_000);
        let made = of_annotation.shifted(&annotated, WeightBps::new(50).unwrap(), false).unwrap();
        assert_eq!(made["metadata"]["annotations"]["example.org/weight"], "5");
        assert_eq!(of_annotation.seen(&made).unwrap().weight.canary_bps(), 50);
    }

    #[test]
    fn what_is_not_there_or_cannot_be_held_is_refused() {
        let object = json!({"spec": {"weight": 0, "text": "much"}});
        assert!(lens(None, "/spec/other", 100).check(&object).unwrap_err().to_string().contains("no field /spec/other"));
        assert!(lens(None, "/spec/text", 100).check(&object).unwrap_err().to_string().contains("no whole number"));
        let half_percent = WeightBps::new(50).unwrap();
        assert_eq!(lens(None, "/spec/weight", 100).shifted(&object, half_percent, false), Err(LensError::NotHeld(half_percent)));
    }
}
