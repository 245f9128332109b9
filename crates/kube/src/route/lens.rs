//! The rules of an HTTPRoute as data: which share the canary has, and the same rules with another share.
//!
//! A rule is ours to change if it names stable's Service. In it only the weights of the two Services change; the canary's is added beside stable's
//! where it is not there. For declared matches a copy of such a rule stands in front of it, with the headers added to its matches and the
//! canary as its only backend. It needs no marker: what sends requests with the declared headers to the canary alone is that rule.
//!
//! Everything that is not understood is left as it is, and what would make the share mean something else is refused: a rule that splits its
//! traffic with a third backend, or matches that the API could not hold.

use serde_json::{Value, json};
use serin_core::WeightBps;
use serin_spec::validated::MatchRule;

/// The most rules and the most matches in a rule that the Gateway API allows.
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;

/// The services of a release, and the namespace of their route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Stable's.
    pub stable: String,
    /// The canary's.
    pub canary: String,
    /// Where route and services are.
    pub namespace: String,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The canary's share: the largest, where rules differ.
    pub weight: WeightBps,
    /// Whether all rules give it the same share.
    pub even: bool,
    /// Whether the rules for declared matches are there.
    pub matches: bool,
}

/// Why a route cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LensError {
    /// No rule has stable's Service.
    #[error("no rule of the route names the service {0}")]
    NoStable(String),
    /// Weights would mean something else than the release's.
    #[error("rule {rule} splits its traffic with {other}, which is neither stable's nor the canary's service")]
    ThirdBackend {
        /// Position, from 0.
        rule: usize,
        /// The backend's name.
        other: String,
    },
    /// The declared matches do not fit.
    #[error("with the declared matches the route would have {0}, more than the Gateway API allows")]
    TooLarge(String),
}

/// Whether the rules can be used at all.
///
/// # Errors
/// Why not.
pub fn check(rules: &[Value], services: &Services, declared: &[MatchRule]) -> Result<(), LensError> {
    shifted(rules, services, WeightBps::ZERO, Some(declared)).map(drop)
}

/// What the rules do.
///
/// # Errors
/// If no rule has stable's Service any more, or one cannot be read.
pub fn seen(rules: &[Value], services: &Services, declared: &[MatchRule]) -> Result<Seen, LensError> {
    let mut shares = Vec::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !is_added(rule, services, declared)) {
        if let Some((_, canary, all)) = weights(rule, index, services)? {
            let share = if all == 0 { 0 } else { (canary * 10_000).div_ceil(all) };
            shares.push(u16::try_from(share).ok().and_then(|share| WeightBps::new(share).ok()).unwrap_or(WeightBps::FULL));
        }
    }
    let Some(weight) = shares.iter().copied().max() else { return Err(LensError::NoStable(services.stable.clone())) };
    let matches = rules.iter().any(|rule| is_added(rule, services, declared));
    Ok(Seen { weight, even: shares.iter().all(|share| *share == weight), matches })
}

/// The rules with this share. `matches`: the declared ones, if they are to be active.
///
/// # Errors
/// If they would not mean what was asked.
pub fn shifted(rules: &[Value], services: &Services, weight: WeightBps, matches: Option<&[MatchRule]>) -> Result<Vec<Value>, LensError> {
    shifted_from(rules, services, weight, matches, matches.unwrap_or_default())
}

/// Like [`shifted`]; `declared` are the matches of which rules may be there already.
pub(crate) fn shifted_from(
    rules: &[Value],
    services: &Services,
    weight: WeightBps,
    matches: Option<&[MatchRule]>,
    declared: &[MatchRule],
) -> Result<Vec<Value>, LensError> {
    let mut made = Vec::with_capacity(rules.len() + 1);
    let mut found = false;
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !is_added(rule, services, declared)) {
        if weights(rule, index, services)?.is_none() {
            made.push(rule.clone());
            continue;
        }
        found = true;
        let mut rule = rule.clone();
        set_weights(&mut rule, services, weight);
        if let Some(declared) = matches.filter(|declared| !declared.is_empty()) {
            made.push(in_front_of(&rule, services, declared)?);
        }
        made.push(rule);
    }
    if !found {
        return Err(LensError::NoStable(services.stable.clone()));
    }
    if made.len() > MOST_RULES.max(rules.len()) {
        return Err(LensError::TooLarge(format!("{} rules", made.len())));
    }
    Ok(made)
}

/// The weights of stable, of the canary and of both, if the rule is a release's to change.
fn weights(rule: &Value, index: usize, services: &Services) -> Result<Option<(u64, u64, u64)>, LensError> {
    let (mut stable, mut canary, mut is_ours) = (0_u64, 0_u64, false);
    let mut third = None;
    for backend in backends(rule) {
        let weight = backend.get("weight").and_then(Value::as_u64).unwrap_or(1);
        if services.is(backend, &services.stable) {
            is_ours = true;
            stable = stable.saturating_add(weight);
        } else if services.is(backend, &services.canary) {
            canary = canary.saturating_add(weight);
        } else {
            third = Some(backend.get("name").and_then(Value::as_str).unwrap_or("a backend without a name").to_owned());
        }
    }
    match third {
        _ if !is_ours => Ok(None),
        Some(other) => Err(LensError::ThirdBackend { rule: index, other }),
        None => Ok(Some((stable, canary, stable.saturating_add(canary)))),
    }
}

fn set_weights(rule: &mut Value, services: &Services, weight: WeightBps) {
    let Some(backends) = rule.get_mut("backendRefs").and_then(Value::as_array_mut) else { return };
    if !backends.iter().any(|backend| services.is(backend, &services.canary))
        && let Some(stable) = backends.iter().position(|backend| services.is(backend, &services.stable))
        && let Some(mut added) = backends.get(stable).cloned()
    {
        set(&mut added, "name", json!(services.canary));
        backends.insert(stable + 1, added);
    }
    // A Service that is named twice has its share once.
    let mut told = [false; 2];
    for backend in backends {
        let arm = if services.is(backend, &services.stable) { 0 } else { 1 };
        let share = if arm == 0 { weight.stable_bps() } else { weight.canary_bps() };
        let share = if std::mem::replace(&mut told[arm], true) { 0 } else { share };
        set(backend, "weight", json!(share));
    }
}

/// The rule that sends declared matches to the canary.
fn in_front_of(rule: &Value, services: &Services, declared: &[MatchRule]) -> Result<Value, LensError> {
    let own = rule.get("matches").and_then(Value::as_array).cloned().filter(|own| !own.is_empty()).unwrap_or_else(|| vec![json!({})]);
    let mut matches = Vec::new();
    for one in &own {
        for declared in declared {
            let mut headers = one.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
            let added = declared.headers.iter().map(|header| json!({"type": "Exact", "name": header.name, "value": header.value}));
            let added: Vec<Value> = added.filter(|header| !headers.iter().any(|own| is_same_header(own, header))).collect();
            headers.extend(added);
            let mut one = one.clone();
            set(&mut one, "headers", Value::Array(headers));
            matches.push(one);
        }
    }
    if matches.len() > MOST_MATCHES {
        return Err(LensError::TooLarge(format!("{} matches in a rule", matches.len())));
    }
    let mut made = rule.clone();
    if let Some(fields) = made.as_object_mut() {
        // Names of rules are unique.
        fields.remove("name");
    }
    let mut canary: Vec<Value> = backends(rule).filter(|backend| services.is(backend, &services.canary)).take(1).cloned().collect();
    canary.iter_mut().for_each(|backend| set(backend, "weight", json!(1)));
    set(&mut made, "matches", Value::Array(matches));
    set(&mut made, "backendRefs", Value::Array(canary));
    Ok(made)
}

/// Whether a rule is there for declared matches: it sends nothing but them to the canary alone.
fn is_added(rule: &Value, services: &Services, declared: &[MatchRule]) -> bool {
    let mut count = 0;
    let only_canary = backends(rule).inspect(|_| count += 1).all(|backend| services.is(backend, &services.canary));
    let matches = rule.get("matches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |one: &Value, declared: &MatchRule| {
        let headers = one.get("headers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        declared.headers.iter().all(|wanted| {
            let wanted = json!({"name": wanted.name, "value": wanted.value});
            headers.iter().any(|header| is_same_header(header, &wanted))
        })
    };
    count > 0 && only_canary && !matches.is_empty() && matches.iter().all(|one| declared.iter().any(|declared| has(one, declared)))
}

fn is_same_header(first: &Value, second: &Value) -> bool {
    let text = |header: &Value, field: &str| header.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_exact = |header: &Value| matches!(header.get("type").and_then(Value::as_str), None | Some("Exact"));
    text(first, "name").eq_ignore_ascii_case(&text(second, "name"))
        && text(first, "value") == text(second, "value")
        && is_exact(first)
        && is_exact(second)
}

fn backends(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten()
}

fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

impl Services {
    fn is(&self, backend: &Value, service: &str) -> bool {
        let text = |field: &str| backend.get(field).and_then(Value::as_str);
        text("name") == Some(service)
            && matches!(text("kind"), None | Some("Service"))
            && matches!(text("group"), None | Some(""))
            && text("namespace").is_none_or(|namespace| namespace == self.namespace)
    }
}

#[cfg(test)]
#[path = "lens_tests.rs"]
mod tests;
