//! What the templates of both versions and their Services say before anything runs. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use serin_core::release::{Check, CheckStatus};

use super::check;
use crate::api::list;

/// What is needed for the checks.
pub(super) struct Facts<'a> {
    /// Stable's Deployment.
    pub(super) stable: &'a Value,
    /// The template that will be the canary's.
    pub(super) canary: &'a Value,
    /// Name and selector of the Service of each version, where each has one.
    pub(super) services: Option<[(String, BTreeMap<String, String>); 2]>,
}

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let stable = facts.stable.pointer("/spec/template").unwrap_or(&Value::Null);
    let mut checks = Vec::new();
    if let Some(services) = &facts.services {
        checks.push(apart(services, [stable, facts.canary]));
    }
    checks.push(images(facts.canary));
    checks.push(readiness(facts.canary));
    checks.push(rollout(facts.stable));
    checks
}

/// Each Service must lead to the pods of its own version and to no others, or weights would mean something else.
fn apart(services: &[(String, BTreeMap<String, String>); 2], templates: [&Value; 2]) -> Check {
    let selects = |service: usize, template: usize| {
        let labels = templates[template].pointer("/metadata/labels");
        let has =
            |(name, value): (&String, &String)| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str) == Some(value.as_str());
        services[service].1.iter().all(has)
    };
    let names = ["stable", "the canary"];
    let mut wrong = Vec::new();
    for arm in 0..2 {
        if !selects(arm, arm) {
            wrong.push(format!("the Service {} does not select the pods of {}", services[arm].0, names[arm]));
        }
        if selects(arm, 1 - arm) {
            wrong.push(format!("the Service {} selects the pods of {} as well", services[arm].0, names[1 - arm]));
        }
    }
    let hint = "the selector of each Service has a label whose value only the pods of its version have";
    made("services apart", &wrong, CheckStatus::Fail, "each Service leads to the pods of its own version only", hint)
}

/// A reference that can be moved may be another image when stable is given the judged template.
fn images(template: &Value) -> Check {
    let containers = ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(|at| list(template, at));
    let floating: Vec<String> = containers
        .filter_map(|container| container.get("image").and_then(Value::as_str))
        .filter(|image| {
            let name = image.rsplit('/').next().unwrap_or(image);
            !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"))
        })
        .map(|image| format!("the image {image} may be another one tomorrow"))
        .collect();
    let hint = "name a tag that is never moved, or a digest: what is judged and what stable gets in the end are to be the same";
    made("images", &floating, CheckStatus::Warn, "each has a tag or a digest", hint)
}

fn readiness(template: &Value) -> Check {
    let blind = list(template, "/spec/containers").filter(|container| container.get("readinessProbe").is_none_or(Value::is_null));
    let names: Vec<String> = blind.filter_map(|container| container.get("name").and_then(Value::as_str)).map(str::to_owned).collect();
    let all = list(template, "/spec/containers").count();
    let wrong = if all > 0 && names.len() == all {
        vec!["no container has a readiness probe: pods count as ready when they run".to_owned()]
    } else {
        vec![]
    };
    made("readiness", &wrong, CheckStatus::Warn, "pods say when they are ready", "give the container that serves a `readinessProbe`")
}

/// Stable gets the judged template at the end.
fn rollout(deployment: &Value) -> Check {
    let text = |at: &str| deployment.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let is_whole = |at: &str, whole: &str| text(at) == whole;
    let mut wrong = Vec::new();
    if text("/spec/strategy/type") == "Recreate" {
        wrong
            .push("stable's strategy is `Recreate`: at the end it has no pods for a moment, while the canary serves everything".to_owned());
    }
    if is_whole("/spec/strategy/rollingUpdate/maxUnavailable", "100%") {
        wrong.push(
            "stable's `maxUnavailable` is 100%: at the end all its pods may stop at once, while the canary serves everything".to_owned(),
        );
    }
    made(
        "stable's rollout",
        &wrong,
        CheckStatus::Warn,
        "stable takes over pod by pod",
        "`RollingUpdate` keeps pods of stable ready all the time",
    )
}

fn made(name: &str, wrong: &[String], bad: CheckStatus, good: &str, hint: &str) -> Check {
    if wrong.is_empty() {
        return check(name, CheckStatus::Pass, good.to_owned(), None);
    }
    check(name, bad, wrong.join("; "), Some(hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(app: &str, image: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": app, "team": "shop"}},
            "spec": {"containers": [{"name": "main", "image": image, "readinessProbe": {"httpGet": {"path": "/ready"}}}]},
        })
    }

    fn services(stable: &[(&str, &str)], canary: &[(&str, &str)]) -> Option<[(String, BTreeMap<String, String>); 2]> {
        let selector = |labels: &[(&str, &str)]| labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some([("shop".to_owned(), selector(stable)), ("shop-canary".to_owned(), selector(canary))])
    }

    fn found(
        stable: &Value,
        canary: &Value,
        services: Option<[(String, BTreeMap<String, String>); 2]>,
    ) -> Vec<(String, CheckStatus, String)> {
        let checks = checks(&Facts { stable, canary, services });
        checks.into_iter().filter(|check| check.status != CheckStatus::Pass).map(|check| (check.name, check.status, check.detail)).collect()
    }

    #[test]
    fn what_is_well_passes() {
        let stable = json!({"spec": {"template": template("shop", "a:v1"), "strategy": {"type": "RollingUpdate"}}});
        let canary = template("shop-canary", "registry:5000/a@sha256:0");
        assert_eq!(found(&stable, &canary, services(&[("app", "shop")], &[("app", "shop-canary")])), []);
    }

    #[test]
    fn a_service_that_leads_to_the_other_version_fails() {
        let stable = json!({"spec": {"template": template("shop", "a:v1")}});
        let canary = template("shop-canary", "a:v2");
        let wide = found(&stable, &canary, services(&[("team", "shop")], &[("app", "shop-canary")]));
        assert_eq!(wide.len(), 1);
        assert!(wide[0].1 == CheckStatus::Fail && wide[0].2 == "the Service shop selects the pods of the canary as well", "{wide:?}");
        let astray = found(&stable, &canary, services(&[("app", "shop")], &[("app", "other")]));
        assert_eq!(astray[0].2, "the Service shop-canary does not select the pods of the canary");
    }

    #[test]
    fn what_may_go_wrong_later_is_said() {
        let stable = json!({"spec": {"template": template("shop", "a:v1"), "strategy": {"type": "Recreate"}}});
        for (image, is_told) in [("a", true), ("a:latest", true), ("registry:5000/a", true), ("a:v2", false), ("registry:5000/a:v2", false)]
        {
            let names: Vec<String> = found(&stable, &template("shop-canary", image), None).into_iter().map(|(name, ..)| name).collect();
            assert_eq!(names.contains(&"images".to_owned()), is_told, "{image}");
            assert!(names.contains(&"stable's rollout".to_owned()));
        }
        let mut blind = template("shop-canary", "a:v2");
        blind["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
        assert!(found(&stable, &blind, None).iter().any(|(name, ..)| name == "readiness"));
    }
}
