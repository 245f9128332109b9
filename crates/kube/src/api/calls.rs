//! What is counted of calls to the API server, and of watches that break. A process has one API server, and every call goes through
//! [`within`](super::within): the counters are the process's own, so that nobody who makes a call has to carry them along.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serin_engine::measure::Histogram;

/// Kinds of calls that are counted; there are a few dozen.
const MOST: usize = 512;

/// Verb and resource.
type Kind = (String, String);

static OUTCOMES: Mutex<BTreeMap<(Kind, &'static str), u64>> = Mutex::new(BTreeMap::new());
static TIMES: Mutex<BTreeMap<Kind, Histogram>> = Mutex::new(BTreeMap::new());
static BREAKS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// A call has ended.
pub(crate) fn ended(what: &str, outcome: &'static str, took: Duration) {
    let kind = kind(what);
    let mut times = lock(&TIMES);
    if times.len() < MOST || times.contains_key(&kind) {
        times.entry(kind.clone()).or_default().add(took.as_secs_f64());
        drop(times);
        *lock(&OUTCOMES).entry((kind, outcome)).or_default() += 1;
    }
}

/// A watch of a resource broke.
pub(crate) fn watch_broke(url: &str) {
    let mut breaks = lock(&BREAKS);
    let resource = resource(url);
    if breaks.len() < MOST || breaks.contains_key(&resource) {
        *breaks.entry(resource).or_default() += 1;
    }
}

/// Calls by verb, resource and outcome.
pub(crate) fn outcomes() -> BTreeMap<(Kind, &'static str), u64> {
    lock(&OUTCOMES).clone()
}

/// How long calls took, by verb and resource.
pub(crate) fn times() -> BTreeMap<Kind, Histogram> {
    lock(&TIMES).clone()
}

/// Watches that broke, by resource.
pub(crate) fn breaks() -> BTreeMap<String, u64> {
    lock(&BREAKS).clone()
}

/// Verb and resource of a call by the name that it has in errors: `get HTTPRoute shop/checkout`, `update the status of Release checkout`,
/// `list /apis/apps/v1/deployments`.
fn kind(what: &str) -> Kind {
    let mut words = what.split(' ').filter(|word| !["the", "of"].contains(word));
    let verb = words.next().unwrap_or_default().to_owned();
    let first = words.next().unwrap_or_default();
    let resource = match (first, words.next()) {
        ("status", Some(of)) => format!("{}/status", resource(of)),
        _ => resource(first),
    };
    (verb, resource)
}

/// As it is in URLs: from a URL, or from the name of a kind.
fn resource(word: &str) -> String {
    if word.contains('/') {
        return word.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let lower = word.to_ascii_lowercase();
    if lower.ends_with('s') {
        lower
    } else if let Some(stem) = lower.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o'])) {
        format!("{stem}ies")
    } else {
        format!("{lower}s")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_by_verb_and_resource_and_nothing_that_has_no_end() {
        for (what, verb, resource) in [
            ("get HTTPRoute shop/checkout", "get", "httproutes"),
            ("update the status of Release checkout", "update", "releases/status"),
            ("patch Release checkout", "patch", "releases"),
            ("list /apis/apps/v1/namespaces/shop/deployments", "list", "deployments"),
            ("watch /api/v1/services", "watch", "services"),
            ("list ReplicaSets of checkout", "list", "replicasets"),
            ("update ReleaseMemory checkout-1-a", "update", "releasememories"),
            ("create Event", "create", "events"),
            ("get Gateway infra/public", "get", "gateways"),
        ] {
            assert_eq!(kind(what), (verb.to_owned(), resource.to_owned()), "{what}");
        }
    }
}
