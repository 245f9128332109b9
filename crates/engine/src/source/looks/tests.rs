//! One look at a source that is made up.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serin_core::traffic::align::Sample;

use super::*;
use crate::{
    Pending,
    source::{Counter, FiringAlert},
};

/// Counters by selector, and values by query. What is not there is an error.
#[derive(Default)]
struct MadeUp {
    counters: Mutex<BTreeMap<String, Vec<(u64, f64)>>>,
    asked: Mutex<Vec<String>>,
}

impl MadeUp {
    fn set(&self, selector: &str, samples: &[(u64, f64)]) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).insert(selector.to_owned(), samples.to_vec());
    }
}

impl MetricSource for MadeUp {
    fn counters<'a>(&'a self, selector: &'a str, _: Duration) -> Pending<'a, Result<Vec<Counter>, Gap>> {
        self.asked.lock().unwrap().push(selector.to_owned());
        let found = self.counters.lock().unwrap().get(selector).cloned();
        let found = found.into_iter().map(|samples| Counter {
            id: selector.to_owned(),
            target: "a".to_owned(),
            samples: samples.into_iter().map(|(at_s, value)| Sample { at_ms: at_s * 1_000, value }).collect(),
        });
        let found = found.collect();
        Box::pin(async move { Ok(found) })
    }

    fn value<'a>(&'a self, query: &'a str) -> Pending<'a, Result<f64, Gap>> {
        let value = query.parse().map_err(|_| Gap { kind: GapKind::Empty, text: "nothing".to_owned() });
        Box::pin(async move { value })
    }

    fn firing<'a>(&'a self, _: &'a BTreeMap<String, String>) -> Pending<'a, Result<Vec<FiringAlert>, Gap>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn look(source: &Arc<MadeUp>, ask: Ask) -> Look {
    let question = Question { metric: MetricName::new("x").unwrap(), source: "s".to_owned(), ask };
    let source: Arc<dyn MetricSource> = Arc::<MadeUp>::clone(source);
    Look::new(question, source, Duration::from_secs(1))
}

fn per_arm(stable: &str, canary: &str) -> PerArm {
    PerArm { stable: Some(stable.to_owned()), canary: canary.to_owned() }
}

fn ratio(part_is_good: bool) -> Ask {
    Ask::Ratio { all: per_arm("all-stable", "all-canary"), part: per_arm("part-stable", "part-canary"), part_is_good }
}

async fn readings(look: &mut Look) -> Vec<Reading> {
    look.take().await.into_iter().map(|measured| measured.reading).collect()
}

/// The requests and events of the first reading, stable's first, and the kind of gap after it.
async fn counted(look: &mut Look) -> ([(u64, u64); 2], Option<GapKind>) {
    let readings = readings(look).await;
    let [Reading::Counts(counts), rest @ ..] = readings.as_slice() else { panic!("{readings:?}") };
    let mut gap = rest.iter().map(|reading| match reading {
        Reading::Missing(gap) => gap.kind,
        other => panic!("{other:?}"),
    });
    (counts.map(|counts| (counts.requests, counts.events)), gap.next_back())
}

#[tokio::test]
async fn totals_are_asked_for_first_and_a_missing_part_has_counted_nothing() {
    let source = Arc::new(MadeUp::default());
    let mut look = look(&source, ratio(false));
    source.set("all-stable", &[(0, 0.0)]);
    source.set("all-canary", &[(0, 0.0)]);
    assert_eq!(counted(&mut look).await, ([(0, 0); 2], None));
    assert_eq!(*source.asked.lock().unwrap(), ["all-stable", "all-canary", "part-stable", "part-canary"]);
    source.set("all-stable", &[(15, 100.0)]);
    source.set("all-canary", &[(15, 10.0)]);
    source.set("part-canary", &[(15, 4.0)]);
    assert_eq!(counted(&mut look).await, ([(100, 0), (10, 4)], None));
}

#[tokio::test]
async fn a_version_without_counters_is_empty_and_the_other_still_counts() {
    let source = Arc::new(MadeUp::default());
    let mut look = look(&source, ratio(false));
    source.set("all-stable", &[(0, 0.0)]);
    assert_eq!(counted(&mut look).await.1, Some(GapKind::Empty));
    source.set("all-stable", &[(15, 100.0)]);
    assert_eq!(counted(&mut look).await, ([(100, 0), (0, 0)], Some(GapKind::Empty)));
}

#[tokio::test]
async fn nothing_good_at_stable_is_a_question_that_is_wrong_and_at_the_canary_an_outage() {
    let source = Arc::new(MadeUp::default());
    let mut look = look(&source, ratio(true));
    source.set("all-stable", &[(0, 0.0)]);
    source.set("all-canary", &[(0, 0.0)]);
    assert_eq!(counted(&mut look).await.1, Some(GapKind::Empty));
    source.set("part-stable", &[(0, 0.0), (15, 99.0)]);
    source.set("all-stable", &[(15, 100.0)]);
    source.set("all-canary", &[(15, 10.0)]);
    assert_eq!(counted(&mut look).await, ([(100, 1), (10, 10)], None));
}

#[tokio::test]
async fn what_is_about_both_versions_shows_in_both() {
    let source = Arc::new(MadeUp::default());
    let whole = |selector: &str| PerArm { stable: None, canary: selector.to_owned() };
    let mut look = look(&source, Ask::Ratio { all: whole("all"), part: whole("part"), part_is_good: false });
    source.set("all", &[(0, 0.0)]);
    assert_eq!(counted(&mut look).await, ([(0, 0); 2], None));
    source.set("all", &[(15, 10.0)]);
    source.set("part", &[(15, 3.0)]);
    assert_eq!(counted(&mut look).await, ([(10, 3); 2], None));
}

#[tokio::test]
async fn counters_that_stand_still_are_stale() {
    let source = Arc::new(MadeUp::default());
    let mut look = look(&source, ratio(false));
    source.set("all-stable", &[(0, 0.0), (15, 5.0)]);
    source.set("all-canary", &[(0, 0.0), (15, 5.0)]);
    assert_eq!(counted(&mut look).await.1, None);
    // Stable goes on, the canary is scraped no more.
    source.set("all-stable", &[(30, 5.0), (45, 5.0), (60, 5.0)]);
    assert_eq!(counted(&mut look).await.1, Some(GapKind::Stale));
    source.set("all-canary", &[(60, 6.0)]);
    assert_eq!(counted(&mut look).await.1, None);
    // Nothing has anything new.
    look.patience = Duration::ZERO;
    assert_eq!(counted(&mut look).await.1, Some(GapKind::Stale));
}

#[tokio::test]
async fn values_and_their_gaps_belong_to_a_version() {
    let source = Arc::new(MadeUp::default());
    let of = async |stable: &str, canary: &str| readings(&mut look(&source, Ask::Value(per_arm(stable, canary)))).await.remove(0);
    assert_eq!(of("1", "2").await, Reading::Values([Some(1.0), Some(2.0)], None));
    let gap = Gap { kind: GapKind::Empty, text: "canary: nothing".to_owned() };
    assert_eq!(of("1", "?").await, Reading::Values([Some(1.0), None], Some(gap.clone())));
    assert_eq!(of("?", "?").await, Reading::Missing(gap));
    let whole = Ask::Value(PerArm { stable: None, canary: "3".to_owned() });
    assert_eq!(readings(&mut look(&source, whole)).await, [Reading::Values([Some(3.0); 2], None)], "of both together");
}
