//! How a controller is, for Prometheus and for the probes of its pod.
//!
//! It is *alive* as long as its watches go on trying: an API server that is away makes no controller sick, and a new process would see it no
//! sooner. It is *ready* once everything was listed, whether it leads or stands by: it can lead at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serin_core::release::{Entry, Event};
use serin_engine::measure::{Histogram, Kind, Page, WaysBack, count, truth, write_process};
use tokio::sync::watch;

use crate::{
    api::{Release, calls},
    lease::Leadership,
    watch::{STREAM_FOR, Watched},
};

/// A watch that did nothing for so long hangs: streams, lists and pauses all end sooner.
const MOST_IDLE: Duration = Duration::from_secs(STREAM_FOR.as_secs() + 60);
/// Phases by which releases are counted; a status may hold any text.
const MOST_PHASES: usize = 32;

/// Something that is watched, whatever kind it is of.
pub(crate) trait Pulse: Send + Sync {
    fn silent_for(&self) -> Option<Duration>;
    fn idle_for(&self) -> Duration;
    fn len(&self) -> usize;
}

impl<K: Send + Sync> Pulse for Watched<K> {
    fn silent_for(&self) -> Option<Duration> {
        self.silent_for()
    }

    fn idle_for(&self) -> Duration {
        self.idle_for()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// What is known once the controller has begun.
pub(crate) struct Begun {
    pub(crate) releases: Arc<Watched<Release>>,
    /// By resource.
    pub(crate) watches: Vec<(&'static str, Arc<dyn Pulse>)>,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
}

/// See the module. One for each process; whoever shows it may ask at any time.
#[derive(Default)]
pub struct Vitals {
    begun: OnceLock<Begun>,
    runs: Mutex<Runs>,
    events: [AtomicU64; EVENTS.len()],
}

/// What runs did since this process began.
#[derive(Default)]
struct Runs {
    ways_back: WaysBack,
    traffic_zero: Histogram,
    rollbacks: u64,
    entries: u64,
    effect_errors: u64,
}

/// What may become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server has it.
    Posted,
    /// The same was posted a moment ago: it is counted there.
    Repeated,
    /// Too many at once, or another controller's to say by now.
    Dropped,
    /// The server did not take it.
    Failed,
}

const EVENTS: [(Fate, &str); 4] =
    [(Fate::Posted, "posted"), (Fate::Repeated, "repeated"), (Fate::Dropped, "dropped"), (Fate::Failed, "failed")];

impl Vitals {
    pub(crate) fn begin(&self, begun: Begun) {
        let _ = self.begun.set(begun);
    }

    /// Something happened to a release.
    pub(crate) fn entry(&self, release: &Release, entry: &Entry) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entries += 1;
        runs.effect_errors += u64::from(matches!(entry.event, Event::Failed { .. }));
        runs.rollbacks += u64::from(matches!(entry.event, Event::RollbackDecided { .. }));
        if let Some(seconds) = runs.ways_back.took_s(release.uid(), entry) {
            runs.traffic_zero.add(seconds);
        }
    }

    pub(crate) fn event(&self, fate: Fate) {
        for ((one, _), number) in EVENTS.iter().zip(&self.events) {
            if *one == fate {
                number.fetch_add(1, Relaxed);
            }
        }
    }

    /// Whether the process still works.
    ///
    /// # Errors
    /// What hangs.
    pub fn health(&self) -> Result<(), String> {
        let Some(begun) = self.begun.get() else { return Ok(()) };
        match begun.watches.iter().find(|(_, watched)| watched.idle_for() > MOST_IDLE) {
            Some((resource, watched)) => Err(format!("the watch of {resource} hangs: nothing for {} s", watched.idle_for().as_secs())),
            None => Ok(()),
        }
    }

    /// Whether it could lead.
    ///
    /// # Errors
    /// What it waits for.
    pub fn readiness(&self) -> Result<(), String> {
        let begun = self.begun.get().ok_or("the controller has not begun yet")?;
        match begun.watches.iter().find(|(_, watched)| watched.silent_for().is_none()) {
            Some((resource, _)) => Err(format!("{resource} were not listed yet")),
            None => Ok(()),
        }
    }

    /// The page for Prometheus.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = Page::default();
        if let Some(begun) = self.begun.get() {
            write_begun(&mut page, begun);
        }
        self.write_runs(&mut page);
        write_calls(&mut page);
        write_process(&mut page, "controller");
        let help = "The version, as a label.";
        page.family("serin_build_info", Kind::Gauge, help).series(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        page.into_text()
    }

    fn write_runs(&self, page: &mut Page) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        page.family("serin_controller_journal_entries_total", Kind::Counter, "Journal entries of all releases.")
            .series(&[], count(runs.entries));
        page.family("serin_controller_effect_errors_total", Kind::Counter, "Effects that failed, each try for itself.")
            .series(&[], count(runs.effect_errors));
        page.family("serin_controller_rollbacks_total", Kind::Counter, "Releases that were decided to be taken back.")
            .series(&[], count(runs.rollbacks));
        let help = "Time from the decision to roll back until routers were read back without traffic to the canary.";
        page.family("serin_controller_rollback_traffic_zero_seconds", Kind::Histogram, help).histogram(&[], &runs.traffic_zero);
        let mut family = page.family("serin_controller_events_total", Kind::Counter, "Events for the cluster by what became of them.");
        for ((_, word), number) in EVENTS.iter().zip(&self.events) {
            family.series(&[("fate", word)], count(number.load(Relaxed)));
        }
    }
}

fn write_begun(page: &mut Page, begun: &Begun) {
    let leads = *begun.leadership.borrow();
    page.family("serin_controller_leader", Kind::Gauge, "1 while this controller leads.").series(&[], truth(leads.is_some()));
    let help = "The epoch of the leadership: greater for every leader than for the ones before; 0 while standing by.";
    page.family("serin_controller_epoch", Kind::Gauge, help).series(&[], count(leads.map_or(0, |leads| leads.epoch)));
    let mut phases: BTreeMap<String, u64> = BTreeMap::new();
    for release in begun.releases.all() {
        let phase = release.status.as_ref().map_or("", |status| status.phase.as_str());
        let phase = if phases.len() < MOST_PHASES || phases.contains_key(phase) { phase } else { "other" };
        *phases.entry(phase.to_owned()).or_default() += 1;
    }
    let mut family =
        page.family("serin_controller_releases", Kind::Gauge, "Releases by the phase in their status; empty: it has none yet.");
    for (phase, number) in phases {
        family.series(&[("phase", &phase)], count(number));
    }
    let mut family = page.family("serin_controller_watched_objects", Kind::Gauge, "Objects that are kept in memory.");
    for (resource, watched) in &begun.watches {
        family.series(&[("resource", resource)], watched.len() as f64);
    }
    let help = "Age of the last sign of life of the API server on a watch.";
    let mut family = page.family("serin_controller_watch_silent_seconds", Kind::Gauge, help);
    for (resource, watched) in &begun.watches {
        family.series(&[("resource", resource)], watched.silent_for().map(|silent| silent.as_secs_f64()));
    }
}

fn write_calls(page: &mut Page) {
    let mut family =
        page.family("serin_controller_watch_breaks_total", Kind::Counter, "Lists and streams that broke, and were tried again.");
    for (resource, number) in calls::breaks() {
        family.series(&[("resource", &resource)], count(number));
    }
    let mut family = page.family("serin_controller_api_calls_total", Kind::Counter, "Calls of the API server by outcome.");
    for (((verb, resource), outcome), number) in calls::outcomes() {
        family.series(&[("verb", &verb), ("resource", &resource), ("outcome", outcome)], count(number));
    }
    let help = "Time until calls were answered; of watches, until the stream began.";
    let mut family = page.family("serin_controller_api_call_seconds", Kind::Histogram, help);
    for ((verb, resource), times) in calls::times() {
        family.histogram(&[("verb", &verb), ("resource", &resource)], &times);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use serin_core::{
        Timestamp,
        release::{Cause, CauseKind},
    };

    use super::*;

    struct Told {
        silent: Option<u64>,
        idle: u64,
    }

    impl Pulse for Told {
        fn silent_for(&self) -> Option<Duration> {
            self.silent.map(Duration::from_secs)
        }

        fn idle_for(&self) -> Duration {
            Duration::from_secs(self.idle)
        }

        fn len(&self) -> usize {
            3
        }
    }

    fn vitals(silent: Option<u64>, idle: u64, leads: Option<u64>) -> Vitals {
        let vitals = Vitals::default();
        let leadership = watch::channel(leads.map(|epoch| Leadership { epoch })).1;
        let watches: Vec<(&'static str, Arc<dyn Pulse>)> =
            vec![("releases", Arc::new(Told { silent: Some(1), idle: 1 })), ("services", Arc::new(Told { silent, idle }))];
        vitals.begin(Begun { releases: Arc::new(Watched::of(vec![release("shop", "Progressing")])), watches, leadership });
        vitals
    }

    fn release(name: &str, phase: &str) -> Release {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop", "uid": name}, "status": {"phase": phase}})).unwrap()
    }

    #[test]
    fn it_is_ready_once_all_is_listed_and_sick_only_if_it_hangs() {
        assert_eq!((Vitals::default().health(), Vitals::default().readiness().is_ok()), (Ok(()), false));
        let begins = vitals(None, 5, None);
        assert_eq!((begins.health(), begins.readiness()), (Ok(()), Err("services were not listed yet".to_owned())));
        // The server is away for an hour: asking goes on.
        let alone = vitals(Some(3_600), 9, None);
        assert_eq!((alone.health(), alone.readiness()), (Ok(()), Ok(())));
        assert!(vitals(Some(3_600), 3_600, None).health().unwrap_err().contains("services"));
    }

    #[test]
    fn the_page_says_all_of_it_and_nothing_twice() {
        let vitals = vitals(Some(2), 1, Some(7));
        let shop = release("shop", "Progressing");
        for (at, event) in [
            (1_000, Event::RollbackDecided { cause: Cause { kind: CauseKind::Workload, text: String::new() } }),
            (1_040, Event::TrafficReturned),
        ] {
            vitals.entry(&shop, &Entry { seq: 1, epoch: 1, at: Timestamp(at), event });
        }
        vitals.event(Fate::Dropped);
        calls::ended("get Release shop", "conflict", Duration::from_millis(3));
        calls::watch_broke("/apis/serin.dev/v1alpha1/releases");
        let text = vitals.page();
        for line in [
            "serin_controller_leader 1",
            "serin_controller_epoch 7",
            "serin_controller_releases{phase=\"Progressing\"} 1",
            "serin_controller_watched_objects{resource=\"services\"} 3",
            "serin_controller_watch_silent_seconds{resource=\"services\"} 2",
            "serin_controller_rollbacks_total 1",
            "serin_controller_rollback_traffic_zero_seconds_bucket{le=\"0.025\"} 0",
            "serin_controller_rollback_traffic_zero_seconds_bucket{le=\"0.05\"} 1",
            "serin_controller_events_total{fate=\"dropped\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        for begin in [
            "serin_controller_api_calls_total{verb=\"get\",resource=\"releases\",outcome=\"conflict\"} ",
            "serin_controller_watch_breaks_total{resource=\"releases\"} ",
            "serin_controller_api_call_seconds_count{verb=\"get\",resource=\"releases\"} ",
        ] {
            assert!(text.lines().any(|one| one.starts_with(begin)), "{begin}\n{text}");
        }
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
        }
    }
}
