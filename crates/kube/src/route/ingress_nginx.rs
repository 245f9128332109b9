//! The canary's Ingress of ingress-nginx: its share and its matches are annotations.
//!
//! ingress-nginx obeys `canary-by-header`, then `canary-by-cookie`, then `canary-weight`. What sends requests to the canary that the document
//! does not declare is refused: the share would mean something else.

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use serin_core::WeightBps;
use serin_spec::validated::{Arms, MatchRule};

use super::lens::{Lens, LensError, Seen, items, kind, set};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";
const BY_HEADER: &str = "canary-by-header";
const BY_VALUE: &str = "canary-by-header-value";
const BY_COOKIE: &str = "canary-by-cookie";
const WEIGHT: &str = "canary-weight";
const TOTAL: &str = "canary-weight-total";
/// Annotations that send requests to the canary or keep them from it.
const DECIDING: [&str; 4] = [BY_HEADER, BY_VALUE, "canary-by-header-pattern", BY_COOKIE];
/// The total if none is said.
const DEFAULT_TOTAL: u64 = 100;
/// The total that holds every share.
const FINE_TOTAL: u64 = 10_000;

/// The canary's Ingress.
#[derive(Debug, Clone)]
pub struct IngressNginxLens {
    /// The object.
    pub canary_ingress: String,
    /// The services.
    pub services: Arms,
    /// The declared match: at most one, with one header or one cookie.
    pub declared: Vec<MatchRule>,
}

impl Lens for IngressNginxLens {
    fn resource(&self) -> ApiResource {
        kind("networking.k8s.io", "v1", "Ingress", "ingresses")
    }

    fn name(&self) -> &str {
        &self.canary_ingress
    }

    fn has_matches(&self) -> bool {
        !self.declared.is_empty()
    }

    fn seen(&self, object: &Value) -> Result<Seen, LensError> {
        let said = annotations(object);
        // Without this, it is an Ingress like any other, of which ingress-nginx takes the older one.
        if of(&said, "canary") != Some("true") {
            return Err(LensError::Other(format!("its annotation {PREFIX}canary is not \"true\"")));
        }
        let number = |name: &str, default: u64| of(&said, name).map_or(Some(default), |text| text.parse::<u64>().ok());
        let (Some(weight), Some(total)) = (number(WEIGHT, 0), number(TOTAL, DEFAULT_TOTAL)) else {
            return Err(LensError::Other(format!("{PREFIX}{WEIGHT} or {PREFIX}{TOTAL} is no number")));
        };
        let share = weight.saturating_mul(10_000).checked_div(total).unwrap_or(0).min(10_000);
        // A share of next to nothing is never read as none.
        let share = if weight > 0 { share.max(1) } else { share };
        let weight = u16::try_from(share).ok().and_then(|share| WeightBps::new(share).ok()).unwrap_or(WeightBps::FULL);
        Ok(Seen { weight, even: true, matches: DECIDING.iter().any(|name| of(&said, name).is_some_and(|value| !value.is_empty())) })
    }

    fn shifted(&self, object: &Value, weight: WeightBps, matches: bool) -> Result<Value, LensError> {
        self.seen(object)?;
        let mut said = annotations(object);
        let ours = self.deciding();
        let foreign = DECIDING
            .iter()
            .find(|name| of(&said, name).is_some() && !ours.iter().any(|(our, value)| our == *name && of(&said, name) == Some(value)));
        if let Some(name) = foreign {
            return Err(LensError::Other(format!(
                "its annotation {PREFIX}{name} decides who sees the canary already; remove it, or declare it as `match`"
            )));
        }
        let bps = u64::from(weight.canary_bps());
        let total = of(&said, TOTAL).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_TOTAL);
        let total = if (bps * total).is_multiple_of(10_000) {
            total
        } else {
            said.insert(format!("{PREFIX}{TOTAL}"), json!(FINE_TOTAL.to_string()));
            FINE_TOTAL
        };
        said.insert(format!("{PREFIX}{WEIGHT}"), json!((bps * total / 10_000).to_string()));
        for (name, value) in ours {
            if matches {
                said.insert(format!("{PREFIX}{name}"), json!(value));
            } else {
                said.remove(&format!("{PREFIX}{name}"));
            }
        }
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata") {
            set(metadata, "annotations", Value::Object(said));
        }
        Ok(object)
    }

    fn check(&self, object: &Value) -> Result<(), LensError> {
        self.shifted(object, WeightBps::ZERO, self.has_matches())?;
        let rules = object.get("spec").map(|spec| items(spec, "rules")).unwrap_or_default();
        let paths = rules.iter().flat_map(|rule| rule.get("http").map(|http| items(http, "paths")).unwrap_or_default());
        let mut services = paths.map(|path| path.pointer("/backend/service/name").and_then(Value::as_str).unwrap_or_default()).peekable();
        if services.peek().is_none() {
            return Err(LensError::Other("it has no rule with a path".to_owned()));
        }
        match services.find(|name| *name != self.services.canary) {
            Some(other) => {
                Err(LensError::Other(format!("it leads to the service {other:?}, not to the canary's, {}", self.services.canary)))
            }
            None => Ok(()),
        }
    }

    /// ingress-nginx reports addresses, not what it has taken.
    fn accepted(&self, _object: &Value, _is_retreat: bool) -> Result<(), String> {
        Ok(())
    }

    fn hint(&self) -> String {
        format!(
            "the canary's Ingress has the host and path of stable's, the annotation {PREFIX}canary: \"true\", and the service {}",
            self.services.canary
        )
    }
}

impl IngressNginxLens {
    /// The annotations of the declared match.
    fn deciding(&self) -> Vec<(&'static str, String)> {
        let headers = self.declared.iter().flat_map(|rule| &rule.headers);
        let cookies = self.declared.iter().flat_map(|rule| &rule.cookies);
        let headers = headers.flat_map(|header| [(BY_HEADER, header.name.clone()), (BY_VALUE, header.value.clone())]);
        headers.chain(cookies.map(|cookie| (BY_COOKIE, cookie.name.clone()))).collect()
    }
}

fn annotations(object: &Value) -> Map<String, Value> {
    object.pointer("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn of<'a>(annotations: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    annotations.get(&format!("{PREFIX}{name}")).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serin_spec::validated::KeyValue;

    use super::*;

    fn lens(header: Option<(&str, &str)>) -> IngressNginxLens {
        let pair = |(name, value): (&str, &str)| KeyValue { name: name.to_owned(), value: value.to_owned() };
        IngressNginxLens {
            canary_ingress: "shop-canary".to_owned(),
            services: Arms { stable: "shop".to_owned(), canary: "shop-canary".to_owned(), ..Arms::default() },
            declared: header.map(|header| MatchRule { headers: vec![pair(header)], cookies: Vec::new() }).into_iter().collect(),
        }
    }

    fn ingress(annotations: &[(&str, &str)]) -> Value {
        let mut all = Map::from_iter([(format!("{PREFIX}canary"), json!("true")), ("owner".to_owned(), json!("somebody"))]);
        all.extend(annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))));
        let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "shop-canary", "port": {"number": 80}}}});
        json!({"metadata": {"annotations": all}, "spec": {"rules": [{"host": "shop.example", "http": {"paths": [path]}}]}})
    }

    fn bps(weight: u16) -> WeightBps {
        WeightBps::new(weight).unwrap()
    }

    #[test]
    fn every_share_is_held_in_percent_where_that_is_exact() {
        for (weight, shown, total) in [(0, "0", None), (500, "5", None), (50, "50", Some("10000")), (10_000, "100", None)] {
            let made = lens(None).shifted(&ingress(&[]), bps(weight), false).unwrap();
            let said = annotations(&made);
            assert_eq!((of(&said, WEIGHT), of(&said, TOTAL), said["owner"].as_str()), (Some(shown), total, Some("somebody")));
            assert_eq!(lens(None).seen(&made).unwrap(), Seen { weight: bps(weight), even: true, matches: false });
        }
        let thousand = lens(None).shifted(&ingress(&[(TOTAL, "1000")]), bps(50), false).unwrap();
        assert_eq!(of(&annotations(&thousand), WEIGHT), Some("5"), "of a total that is there");
        assert_eq!(lens(None).seen(&ingress(&[(WEIGHT, "1"), (TOTAL, "1000000")])).unwrap().weight, bps(1));
    }

    #[test]
    fn a_declared_header_comes_and_goes() {
        let lens = lens(Some(("x-canary", "yes")));
        let with = lens.shifted(&ingress(&[]), bps(500), true).unwrap();
        assert_eq!((of(&annotations(&with), BY_HEADER), of(&annotations(&with), BY_VALUE)), (Some("x-canary"), Some("yes")));
        assert!(lens.seen(&with).unwrap().matches);
        let without = lens.shifted(&with, bps(0), false).unwrap();
        assert!(!lens.seen(&without).unwrap().matches);
    }

    #[test]
    fn what_would_send_others_to_the_canary_is_refused() {
        let refused = |object: &Value| lens(Some(("x-canary", "yes"))).check(object).unwrap_err().to_string();
        assert!(refused(&ingress(&[(BY_COOKIE, "beta")])).contains("canary-by-cookie"));
        assert!(refused(&ingress(&[(BY_HEADER, "x-other")])).contains("canary-by-header"));
        let mut elsewhere = ingress(&[]);
        elsewhere["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!("shop");
        assert!(refused(&elsewhere).contains("\"shop\""));
        let mut plain = ingress(&[]);
        plain["metadata"]["annotations"] = json!({});
        assert!(refused(&plain).contains("canary is not"));
        assert_eq!(lens(None).check(&ingress(&[])), Ok(()));
    }
}
