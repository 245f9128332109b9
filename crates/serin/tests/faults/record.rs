//! What controllers wrote, from the API server's audit log, and the rules that hold in it whatever went wrong.

use std::collections::BTreeMap;

use serde_json::Value;
use serin_testkit::cluster::AuditEntry;

use crate::cluster::Shop;

const ACCOUNTS: &str = "system:serviceaccount:serin:";
const NOTE: &str = "/metadata/annotations/serin.dev~1decision";

/// One write of the route that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    /// When, RFC 3339 with microseconds.
    pub(crate) at: String,
    /// Who.
    pub(crate) user: String,
    /// The canary's share in basis points.
    pub(crate) weight: u64,
    /// The note.
    pub(crate) note: Value,
}

/// Everything that controllers asked for.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entries: Vec<AuditEntry>,
    /// When routes were deleted by the cluster itself, as with their namespace.
    deletions: Vec<String>,
}

impl Record {
    pub(crate) fn of(shop: &Shop) -> Self {
        let (all, _) = shop.cluster.audit(0);
        // A collection that meets a conflict is deleted in part, and once more later.
        let is_deletion =
            |entry: &&AuditEntry| entry.resource == "httproutes" && entry.verb.starts_with("delete") && ![403, 404].contains(&entry.code);
        let deletions = all.iter().filter(is_deletion).map(|entry| entry.at.clone()).collect();
        Self { entries: all.into_iter().filter(|entry| entry.user.starts_with(ACCOUNTS)).collect(), deletions }
    }

    /// Writes that were taken.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &AuditEntry> {
        self.entries.iter().filter(|entry| entry.is_write() && (200..300).contains(&entry.code))
    }

    /// Conflicts over these objects.
    pub(crate) fn conflicts(&self, resource: &str) -> usize {
        self.entries.iter().filter(|entry| entry.resource == resource && entry.code == 409).count()
    }

    /// Moves of the route, in order.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let routes = self.writes().filter(|entry| entry.resource == "httproutes");
        let moves = routes.filter_map(|entry| {
            let note: Value = serde_json::from_str(entry.body.pointer(NOTE)?.as_str()?).ok()?;
            let weight = note["weight"].as_u64()?;
            Some(Move { at: entry.at.clone(), user: entry.user.clone(), weight, note })
        });
        moves.collect()
    }

    /// The shares in the order in which they were written, without repetitions.
    pub(crate) fn weights(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.moves().iter().map(|one| one.weight).collect();
        all.dedup();
        all
    }

    /// Scalings of the canary with their time, in order.
    pub(crate) fn scalings(&self) -> Vec<(String, u64)> {
        let canary = self.writes().filter(|entry| entry.resource == "deployments" && entry.name == "shop-canary");
        canary.filter_map(|entry| Some((entry.at.clone(), entry.body.pointer("/spec/replicas")?.as_u64()?))).collect()
    }

    /// What stable was given.
    pub(crate) fn promotions(&self) -> Vec<(String, Value)> {
        let stable = self.writes().filter(|entry| entry.resource == "deployments" && entry.name == "shop");
        stable.filter_map(|entry| Some((entry.at.clone(), entry.body.pointer("/spec/template")?.clone()))).collect()
    }

    /// The first write of the route after a time that gives the canary nothing.
    pub(crate) fn taken_back_after(&self, at: &str) -> Option<String> {
        self.moves().into_iter().find(|one| one.weight == 0 && one.at.as_str() >= at).map(|one| one.at)
    }

    /// What must hold whatever went wrong.
    pub(crate) fn assert_rules(&self) {
        self.assert_order();
        self.assert_scope();
        self.assert_scaled_after_traffic();
        self.assert_reasons();
    }

    /// When each run was decided to be rolled back, by the first status that says so.
    fn rollbacks(&self) -> BTreeMap<(String, u64), String> {
        let mut found = BTreeMap::new();
        for entry in self.writes().filter(|entry| entry.resource == "releases/status") {
            let text = |at: &str| entry.body.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let state: Value = serde_json::from_str(text("/status/engine/state")).unwrap_or_default();
            if !state["rollback"].is_null() {
                let run = entry.body.pointer("/status/run").and_then(Value::as_u64).unwrap_or(0);
                found.entry((text("/metadata/uid").to_owned(), run)).or_insert_with(|| entry.at.clone());
            }
        }
        found
    }

    /// Moves only get newer, and within a run nothing rises after it was decided to roll back.
    fn assert_order(&self) {
        let moves = self.moves();
        for pair in moves.windows(2) {
            let [first, second] = pair else { continue };
            let rank = |one: &Move| ["run", "epoch", "order"].map(|field| one.note[field].as_u64().unwrap_or(0));
            if first.note["release"] == second.note["release"] {
                assert!(rank(first) <= rank(second), "an older move came later: {first:?} then {second:?}");
            }
        }
        let rollbacks = self.rollbacks();
        for one in moves.iter().filter(|one| one.weight > 0) {
            let run = (one.note["release"].as_str().unwrap_or_default().to_owned(), one.note["run"].as_u64().unwrap_or(0));
            let is_late = rollbacks.get(&run).is_some_and(|at| *at < one.at);
            assert!(!is_late, "the share rose after it was taken back: {one:?}, rolled back at {:?}", rollbacks.get(&run));
        }
    }

    /// Only the fields that the docs name are written.
    fn assert_scope(&self) {
        for entry in self.writes() {
            let keys = |at: &str| -> Vec<String> {
                entry.body.pointer(at).and_then(Value::as_object).map(|all| all.keys().cloned().collect()).unwrap_or_default()
            };
            let only = |at: &str, allowed: &[&str]| {
                let odd: Vec<_> = keys(at).into_iter().filter(|key| !allowed.contains(&key.as_str())).collect();
                assert!(odd.is_empty(), "{} {} touches {at}/{odd:?}: {}", entry.verb, entry.resource, entry.body);
            };
            match entry.resource.as_str() {
                "httproutes" => {
                    only("", &["metadata", "spec"]);
                    only("/metadata", &["resourceVersion", "annotations"]);
                    only("/metadata/annotations", &["serin.dev/decision"]);
                    only("/spec", &["rules"]);
                }
                "deployments" => {
                    only("", &["metadata", "spec"]);
                    only("/metadata", &["resourceVersion"]);
                    only("/spec", if entry.name == "shop-canary" { &["replicas"] } else { &["template"] });
                }
                "releases" => only("/metadata", &["resourceVersion", "finalizers"]),
                "releases/status" | "releasememories" | "events" | "leases" | "selfsubjectaccessreviews" => {}
                other => panic!("nobody said that {other} is written: {entry:?}"),
            }
        }
    }

    /// The canary loses replicas only when it has no traffic: by the last move, or because there is no route any more.
    fn assert_scaled_after_traffic(&self) {
        let moves = self.moves();
        let mut before = None;
        for (at, replicas) in self.scalings() {
            if before.is_some_and(|before| replicas < before) {
                let last = moves.iter().rfind(|one| one.at < at);
                let is_gone = |one: &Move| self.deletions.iter().any(|gone| one.at < *gone && *gone < at);
                let has_none = last.is_none_or(|one| (one.weight == 0 && one.note["matches"] == false) || is_gone(one));
                assert!(
                    has_none,
                    "scaled to {replicas} at {at} after {last:?}; routes deleted at {:?}; moves {:?}",
                    self.deletions,
                    moves.iter().map(|one| (&one.at, one.weight)).collect::<Vec<_>>()
                );
            }
            before = Some(replicas);
        }
    }

    /// Every status has a reason.
    fn assert_reasons(&self) {
        for entry in self.writes().filter(|entry| entry.resource == "releases/status") {
            let reason = entry.body.pointer("/status/reason").and_then(Value::as_str).unwrap_or_default();
            assert!(!reason.is_empty(), "a status without a reason: {}", entry.body["status"]);
        }
    }
}

/// Milliseconds from one time of the audit log to another, or of a log.
pub(crate) fn ms_between(from: &str, to: &str) -> i64 {
    let read = |text: &str| text.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{text}: {error}")).as_millisecond();
    read(to) - read(from)
}
