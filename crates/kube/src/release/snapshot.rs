//! What the status holds of the engine: enough for the next leader to go on exactly, in at most [`MAX_ENGINE_BYTES`].
//!
//! The state is small whatever the plan: it holds positions, not history. What the judge remembers grows with the number of criteria: for each
//! that has both kinds of limit by about 9 KB, packed 1.3 KB. Beside the state there is room for about 20 of them; more stand elsewhere (see
//! `memory`).

use serde::{Deserialize, Serialize};
use serin_core::{Timestamp, judge::Checkpoint, release::State};
use serin_spec::validated::{ClusterRelease, ClusterTraffic, Pair};

use crate::api::Engine;

/// State and memory of the judge together, in the status.
pub const MAX_ENGINE_BYTES: usize = 32 * 1024;

/// The objects that a run was begun with, and is ended at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What runs.
    pub workload: Pair,
    /// Who splits the traffic.
    pub traffic: ClusterTraffic,
}

impl Place {
    /// Those of a document.
    #[must_use]
    pub fn of(release: &ClusterRelease) -> Self {
        Self { workload: release.workload.clone(), traffic: release.traffic.clone() }
    }
}

/// What a run is and where it has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<'a> {
    /// Which ownership writes.
    pub epoch: u64,
    /// The document of the run, by hash.
    pub document_hash: &'a str,
    /// The canary's version that is on trial.
    pub template_hash: &'a str,
    /// The objects of the run.
    pub place: &'a Place,
    /// The canary's replicas before the run.
    pub canary_replicas: i32,
    /// The fold of the journal.
    pub state: &'a State,
    /// What the judge remembers.
    pub checkpoint: &'a Checkpoint,
    /// The latest time that the engine knows of.
    pub seen: Timestamp,
}

/// A snapshot as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumed {
    /// The objects of the run.
    pub place: Place,
    /// The fold of the journal.
    pub state: State,
}

/// A snapshot on its way into a status.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// All but the judge's memory.
    pub engine: Engine,
    /// What the judge remembers, as JSON; `None` if nobody will need it.
    pub memory: Option<String>,
}

impl Snapshot<'_> {
    /// As it is stored.
    #[must_use]
    pub fn store(&self) -> Stored {
        let memory = if self.state.is_final() { None } else { serde_json::to_string(self.checkpoint).ok() };
        let engine = Engine {
            epoch: self.epoch,
            document_hash: self.document_hash.to_owned(),
            template_hash: self.template_hash.to_owned(),
            place: serde_json::to_string(self.place).unwrap_or_default(),
            canary_replicas: self.canary_replicas,
            checkpoint: None,
            elsewhere: None,
            state: serde_json::to_string(self.state).unwrap_or_default(),
            seen_ms: self.seen.0,
        };
        Stored { engine, memory }
    }
}

impl Engine {
    /// What was stored; `None` if it cannot be read, which is said where it matters.
    #[must_use]
    pub fn resumed(&self) -> Option<Resumed> {
        Some(Resumed { place: serde_json::from_str(&self.place).ok()?, state: serde_json::from_str(&self.state).ok()? })
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        serde_json::from_str::<State>(&self.state).is_ok_and(|state| state.is_final())
    }
}

#[cfg(test)]
mod tests {
    use serin_core::{
        WeightBps,
        plan::Plan,
        release::{Action, CheckStatus, Command, Effect, Input, Phase, Release},
        traffic::{Measured, Observation, Reading},
    };
    use serin_spec::load_cluster;

    use super::*;
    use crate::release::memory::pack;

    /// A document with this many criteria about metrics of a source, and 100 stages.
    fn document(criteria: usize) -> String {
        let metrics: Vec<String> = (0..criteria)
            .map(|index| {
                let name = format!("metric-{index:02}-{}", "x".repeat(50));
                format!("{{name: {name}, prometheus: {{source: prom, numerator: 'bad{{v=\"{{{{arm}}}}\"}}', denominator: 'all{{v=\"{{{{arm}}}}\"}}'}}}}")
            })
            .collect();
        let rules: Vec<String> = (0..criteria)
            .map(|index| {
                format!("{{metric: metric-{index:02}-{}, max: 5%, versusStable: {{ratio: 1.5, increase: 0.5pp}}}}", "x".repeat(50))
            })
            .collect();
        let long = |start: &str| format!("{start}{}", "x".repeat(63 - start.len()));
        format!(
            "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: {name}}}
spec:
  workload: {{kubernetes: {{stable: {{deployment: {stable}}}, canary: {{deployment: {canary}}}}}}}
  traffic: {{gatewayApi: {{route: {stable}, stableService: {stable}, canaryService: {canary}}}}}
  strategy: {{canary: {{linear: {{from: 1, step: 1, to: 100, every: 1m}}}}}}
  analysis:
    sources: {{prom: {{prometheus: {{url: 'http://127.0.0.1:9090'}}}}}}
    arms: {{stable: a, canary: b}}
    metrics: [{metrics}]
    criteria: [{rules}]
",
            name = long("release"),
            stable = long("stable"),
            canary = long("canary"),
            metrics = metrics.join(", "),
            rules = rules.join(", "),
        )
    }

    /// A release in a stage, after this much was measured.
    fn under_way(plan: &Plan) -> Release {
        let mut release = Release::new(plan.clone(), 1, Timestamp(1_000));
        let mut now = Timestamp(1_000);
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        for _ in 0..40 {
            now = now.plus_ms(500 + random() % 9);
            let output = release.take_output();
            let effects: Vec<_> = output.urgent.into_iter().chain(output.effects).collect();
            for (id, effect) in effects {
                let input = match effect {
                    Effect::Preflight => Input::PreflightChecked(id, vec![]),
                    Effect::ReadBack { .. } => Input::ReadBack(id, WeightBps::new(100).unwrap()),
                    _ => Input::Done(id),
                };
                release.handle(input, now);
            }
            // Numbers that differ, as they do: what repeats itself takes less room than what is ever measured.
            let queries = plan.analysis.criteria.iter().filter_map(|one| one.metric.external());
            let measured = queries
                .map(|metric| {
                    let counts = [5_000, 50].map(|about: u64| {
                        let requests = about + random() % about;
                        serin_stats::ArmCounts { requests, events: requests / 25 + random() % 3 }
                    });
                    Measured { metric: metric.name, reading: Reading::Counts(counts) }
                })
                .collect();
            release.handle(Input::Observed(Observation { at: now, measured, ..Observation::default() }), now);
        }
        release
    }

    fn stored(document: &str) -> (Stored, Release, Place) {
        let loaded = load_cluster("release", document).unwrap_or_else(|errors| panic!("{errors:?}")).release;
        let (place, release) = (Place::of(&loaded), under_way(&loaded.plan));
        let checkpoint = release.trial().checkpoint();
        let snapshot = Snapshot {
            epoch: 1,
            document_hash: &loaded.document_hash,
            template_hash: "0123456789abcdef",
            place: &place,
            canary_replicas: 0,
            state: release.state(),
            checkpoint: &checkpoint,
            seen: release.now(),
        };
        (snapshot.store(), release, place)
    }

    /// Bytes of the state, and of the memory as it is stored.
    fn bytes(criteria: usize) -> [usize; 2] {
        let (Stored { engine, memory }, release, _) = stored(&document(criteria));
        assert!(matches!(release.state().phase, Phase::Stage { .. }), "{:?}", release.state().phase);
        assert!(engine.place.len() < 4_096);
        [engine.state.len(), pack(&memory.unwrap()).len()]
    }

    #[test]
    fn the_state_of_the_largest_release_is_small_and_the_memory_of_a_usual_one_has_room_beside_it() {
        for (criteria, has_room) in [(3, true), (20, true), (50, false)] {
            let [state, memory] = bytes(criteria);
            assert!(state < 4_096 && memory < 100 * 1024, "{criteria}: {state} {memory}");
            assert_eq!(state + memory <= MAX_ENGINE_BYTES, has_room, "{criteria}: {state} {memory}");
        }
    }

    #[test]
    fn what_is_stored_is_what_is_gone_on_from() {
        let (Stored { engine, memory }, release, place) = stored(&document(2));
        let resumed = engine.resumed().unwrap();
        assert_eq!((&resumed.state, &resumed.place), (release.state(), &place));
        assert_eq!(memory, serde_json::to_string(&release.trial().checkpoint()).ok());
        assert!(!engine.is_over());
    }

    #[test]
    fn the_judges_memory_goes_when_all_is_over() {
        let loaded = load_cluster("release", &document(2)).unwrap().release;
        let mut release = Release::new(loaded.plan, 1, Timestamp(1_000));
        let checks = vec![serin_core::release::Check { name: "a".into(), status: CheckStatus::Fail, detail: "b".into(), hint: None }];
        let preflight = release.take_output().effects[0].0;
        release.handle(Input::PreflightChecked(preflight, checks), Timestamp(2_000));
        assert!(release.command(Command { action: Action::Abort, by: "a".into(), reason: None }, Timestamp(3_000)).is_err());
        let checkpoint = release.trial().checkpoint();
        let place = Place { workload: loaded.workload, traffic: loaded.traffic };
        let snapshot = Snapshot {
            epoch: 1,
            document_hash: "",
            template_hash: "",
            place: &place,
            canary_replicas: 0,
            state: release.state(),
            checkpoint: &checkpoint,
            seen: release.now(),
        };
        let Stored { engine, memory } = snapshot.store();
        assert_eq!((memory, engine.resumed().unwrap().state.phase), (None, Phase::Refused));
        assert!(engine.is_over());
    }
}
