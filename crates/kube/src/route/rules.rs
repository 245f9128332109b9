//! Lists of rules, each with backends that have weights, as routes of the Gateway API, `VirtualServices` of Istio and `TraefikServices` have them:
//! which share the canary has, and the same rules with another share.
//!
//! A rule is ours to change if it names stable. In it only the weights of the two versions change; the canary's backend is added beside stable's
//! where it is not there. For declared matches a copy of such a rule stands in front of it, with the headers added to its matches and the
//! canary as its only backend. It needs no marker: what sends requests with the declared headers to the canary alone is that rule.
//!
//! Rules into which the canary's backend was put are known by what they match and by their names, so that it can be taken out of these again
//! and of no others, also after somebody has added rules or changed their filters.
//!
//! Everything that is not understood is left as it is, and what would make the share mean something else is refused: a rule that splits its
//! traffic with a third backend, or matches that the API could not hold. A declared match that a rule's own matches exclude is left out of
//! that rule: a match that lost one of its conditions would send others to the canary.

use std::{collections::BTreeSet, fmt::Debug};

use serde_json::{Value, json};
use serin_core::WeightBps;
use serin_spec::validated::MatchRule;
use sha2::{Digest as _, Sha256};

use super::lens::{LensError, Seen, items, set};

/// How one kind of router writes its rules.
pub(super) trait Dialect: Debug + Send + Sync {
    /// The field of a rule in which its backends are.
    fn backends(&self) -> &'static str;
    /// The field of a rule in which its matches are, of which any is enough.
    fn matches(&self) -> &'static str;
    /// Whether a rule may be the release's, if it names stable.
    fn is_rule(&self, _rule: &Value) -> bool {
        true
    }
    /// Which version a backend is.
    fn arm(&self, backend: &Value) -> Option<Arm>;
    /// What people call a backend.
    fn called<'a>(&self, backend: &'a Value) -> &'a str;
    /// What stable is called.
    fn stable(&self) -> String;
    /// Makes a copy of stable's backend the canary's.
    fn make_canary(&self, backend: &mut Value);
    /// What a backend without a weight has, beside so many others.
    fn weight_without(&self, backends: usize) -> u64;
    /// Weights of stable and canary that mean this share.
    fn weights(&self, weight: WeightBps) -> [u64; 2] {
        [weight.stable_bps().into(), weight.canary_bps().into()]
    }
    /// One match with the declared conditions added. `Ok(None)`: no request can meet both.
    fn narrowed(&self, own: &Value, declared: &MatchRule) -> Result<Option<Value>, String>;
    /// Whether a match has the declared conditions.
    fn has(&self, own: &Value, declared: &MatchRule) -> bool;
    /// The most rules and the most matches in a rule.
    fn most(&self) -> [usize; 2];
}

/// Which version something leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Stable,
    Canary,
}

/// What the rules do.
///
/// # Errors
/// If none leads to stable any more, or one cannot be read.
pub(super) fn seen(rules: &[Value], dialect: &dyn Dialect, declared: &[MatchRule]) -> Result<Seen, LensError> {
    let mut shares = Vec::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !is_added(rule, dialect, declared)) {
        if let Some((canary, all)) = weights(rule, index, dialect)? {
            let share = if all == 0 { 0 } else { (canary * 10_000).div_ceil(all) };
            shares.push(u16::try_from(share).ok().and_then(|share| WeightBps::new(share).ok()).unwrap_or(WeightBps::FULL));
        }
    }
    let Some(weight) = shares.iter().copied().max() else { return Err(LensError::NoStable(dialect.stable())) };
    let matches = rules.iter().any(|rule| is_added(rule, dialect, declared));
    Ok(Seen { weight, even: shares.iter().all(|share| *share == weight), matches })
}

/// The rules with this share. `declared`: the matches of which rules may be there already; `matches`: whether they are to be there.
///
/// # Errors
/// If they would not mean what was asked.
pub(super) fn shifted(
    rules: &[Value],
    dialect: &dyn Dialect,
    weight: WeightBps,
    declared: &[MatchRule],
    matches: bool,
) -> Result<Vec<Value>, LensError> {
    let mut made = Vec::with_capacity(rules.len() + 1);
    let (mut found, mut added) = (false, false);
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !is_added(rule, dialect, declared)) {
        if weights(rule, index, dialect)?.is_none() {
            made.push(rule.clone());
            continue;
        }
        found = true;
        let mut rule = rule.clone();
        set_weights(&mut rule, dialect, weight);
        if matches
            && !declared.is_empty()
            && let Some(front) = in_front_of(&rule, index, dialect, declared)?
        {
            added = true;
            made.push(front);
        }
        made.push(rule);
    }
    if !found {
        return Err(LensError::NoStable(dialect.stable()));
    }
    if matches && !declared.is_empty() && !added {
        return Err(LensError::Other("its own matches exclude all declared ones: none could ever be met".to_owned()));
    }
    if made.len() > dialect.most()[0].max(rules.len()) {
        return Err(LensError::TooLarge(format!("{} rules", made.len())));
    }
    Ok(made)
}

/// The rules that have the canary's backend after a change and had not before.
pub(super) fn added(before: &[Value], after: &[Value], dialect: &dyn Dialect, declared: &[MatchRule]) -> Vec<String> {
    let of = |rules: &[Value], has_canary: bool| -> BTreeSet<String> {
        let ours = rules.iter().filter(|rule| is_ours(rule, dialect) && !is_added(rule, dialect, declared));
        ours.filter(|rule| has(rule, dialect, Arm::Canary) == has_canary).map(|rule| called(rule, dialect)).collect()
    };
    // Of two that match the same, one with a canary and one without, nobody could say later which is which.
    let (given, bare, now) = (of(before, true), of(before, false), of(after, true));
    now.into_iter().filter(|rule| bare.contains(rule) && !given.contains(rule)).collect()
}

/// The rules without the canary's backend in those that were [`added`], where it has no share.
pub(super) fn without(rules: &[Value], dialect: &dyn Dialect, added: &[String]) -> Vec<Value> {
    let mut made = rules.to_vec();
    for rule in made.iter_mut().filter(|rule| is_ours(rule, dialect) && added.contains(&called(rule, dialect))) {
        let Some(backends) = rule.get_mut(dialect.backends()).and_then(Value::as_array_mut) else { continue };
        backends.retain(|backend| dialect.arm(backend) != Some(Arm::Canary) || backend.get("weight") != Some(&json!(0)));
    }
    made
}

/// What a rule is known by, whatever becomes of its backends.
fn called(rule: &Value, dialect: &dyn Dialect) -> String {
    let text = json!([rule.get("name"), rule.get(dialect.matches())]).to_string();
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn is_ours(rule: &Value, dialect: &dyn Dialect) -> bool {
    dialect.is_rule(rule) && has(rule, dialect, Arm::Stable)
}

fn has(rule: &Value, dialect: &dyn Dialect, arm: Arm) -> bool {
    items(rule, dialect.backends()).iter().any(|backend| dialect.arm(backend) == Some(arm))
}

/// The weights of the canary and of both, if the rule is a release's to change.
fn weights(rule: &Value, index: usize, dialect: &dyn Dialect) -> Result<Option<(u64, u64)>, LensError> {
    let (mut canary, mut all, mut is_ours) = (0_u64, 0_u64, false);
    let mut third = None;
    let backends = items(rule, dialect.backends());
    for backend in backends {
        let weight = backend.get("weight").and_then(Value::as_u64).unwrap_or_else(|| dialect.weight_without(backends.len()));
        match dialect.arm(backend) {
            Some(Arm::Stable) => is_ours = true,
            Some(Arm::Canary) => canary = canary.saturating_add(weight),
            None => third = Some(dialect.called(backend).to_owned()),
        }
        all = all.saturating_add(weight);
    }
    match third {
        _ if !is_ours || !dialect.is_rule(rule) => Ok(None),
        Some(other) => Err(LensError::ThirdBackend { rule: index, other }),
        None => Ok(Some((canary, all))),
    }
}

fn set_weights(rule: &mut Value, dialect: &dyn Dialect, weight: WeightBps) {
    let Some(backends) = rule.get_mut(dialect.backends()).and_then(Value::as_array_mut) else { return };
    if !backends.iter().any(|backend| dialect.arm(backend) == Some(Arm::Canary))
        && let Some(stable) = backends.iter().position(|backend| dialect.arm(backend) == Some(Arm::Stable))
        && let Some(mut added) = backends.get(stable).cloned()
    {
        dialect.make_canary(&mut added);
        backends.insert(stable + 1, added);
    }
    let shares = dialect.weights(weight);
    // A version that is named twice has its share once.
    let mut told = [false; 2];
    for backend in backends {
        let arm = usize::from(dialect.arm(backend) == Some(Arm::Canary));
        let share = if std::mem::replace(&mut told[arm], true) { 0 } else { shares[arm] };
        set(backend, "weight", json!(share));
    }
}

/// The rule that sends declared matches to the canary, if there can be any.
fn in_front_of(rule: &Value, index: usize, dialect: &dyn Dialect, declared: &[MatchRule]) -> Result<Option<Value>, LensError> {
    let own = items(rule, dialect.matches());
    let any = [json!({})];
    let own = if own.is_empty() { &any[..] } else { own };
    let mut matches = Vec::new();
    for one in own {
        for declared in declared {
            let narrowed = dialect.narrowed(one, declared).map_err(|header| LensError::HeaderTaken { rule: index, header })?;
            matches.extend(narrowed);
        }
    }
    if matches.is_empty() {
        return Ok(None);
    }
    if matches.len() > dialect.most()[1] {
        return Err(LensError::TooLarge(format!("{} matches in a rule", matches.len())));
    }
    let mut made = rule.clone();
    if let Some(fields) = made.as_object_mut() {
        // Names of rules are unique.
        fields.remove("name");
    }
    let canary = items(rule, dialect.backends()).iter().filter(|backend| dialect.arm(backend) == Some(Arm::Canary)).take(1);
    let mut canary: Vec<Value> = canary.cloned().collect();
    canary.iter_mut().for_each(|backend| set(backend, "weight", json!(dialect.weight_without(1))));
    set(&mut made, dialect.matches(), Value::Array(matches));
    set(&mut made, dialect.backends(), Value::Array(canary));
    Ok(Some(made))
}

/// Whether a rule is there for declared matches: it sends nothing but them to the canary alone.
fn is_added(rule: &Value, dialect: &dyn Dialect, declared: &[MatchRule]) -> bool {
    let (backends, matches) = (items(rule, dialect.backends()), items(rule, dialect.matches()));
    !backends.is_empty()
        && backends.iter().all(|backend| dialect.arm(backend) == Some(Arm::Canary))
        && !matches.is_empty()
        && matches.iter().all(|one| declared.iter().any(|declared| dialect.has(one, declared)))
}
