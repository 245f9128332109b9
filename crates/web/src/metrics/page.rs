//! The page that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use serin_core::judge::{CriterionAssessment, Verdict};
use serin_engine::{
    measure::{self, CONTENT_TYPE, Kind, Page, count, truth},
    run::StatusReport,
    serve::{ServiceState, ServiceStatus},
};

use super::{Measured, measured::OfService};
use crate::{answer::Answer, ops::fresh, problem::Problem, shared::Shared};

const STATES: [(ServiceState, &str); 5] = [
    (ServiceState::Starting, "starting"),
    (ServiceState::Serving, "serving"),
    (ServiceState::Releasing, "releasing"),
    (ServiceState::Failed, "failed"),
    (ServiceState::Deleting, "deleting"),
];
const VERDICTS: [Verdict; 5] = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::Unknown, Verdict::Environment];

pub(crate) async fn page(shared: &Shared) -> Result<Answer, Problem> {
    let services = fresh(shared).await;
    let names: BTreeSet<&str> = services.iter().map(|one| one.service.as_str()).collect();
    let of_services = shared.measured.keep_services(|service| names.contains(service));
    let mut page = Page::default();
    write_services(&mut page, &services);
    write_releases(&mut page, &services);
    write_criteria(&mut page, &services);
    write_events(&mut page, &of_services);
    write_api(&mut page, &shared.measured, shared.streams.held(), shared.server.events_waiting());
    write_process(&mut page);
    Ok(Answer::Text { kind: CONTENT_TYPE, text: page.into_text().into() })
}

fn write_services(page: &mut Page, services: &[ServiceStatus]) {
    let mut family = page.family("serin_services", Kind::Gauge, "Services by what they are doing.");
    for (state, word) in STATES {
        family.series(&[("state", word)], services.iter().filter(|one| one.state == state).count() as f64);
    }
    let mut family = page.family("serin_service_state", Kind::Gauge, "What a service is doing: 1 for the state that it is in.");
    for service in services {
        for (state, word) in STATES {
            family.series(&[("service", &service.service), ("state", word)], truth(service.state == state));
        }
    }
    let mut family = page.family("serin_service_fault", Kind::Gauge, "1 while something is wrong with a service.");
    for service in services {
        family.series(&[("service", &service.service)], truth(service.fault.is_some()));
    }
    let help = "What was asked of a service and is not answered yet.";
    let mut family = page.family("serin_service_questions_waiting", Kind::Gauge, help);
    for service in services {
        family.series(&[("service", &service.service)], count(service.questions_waiting));
    }
    let mut family = page.family("serin_service_ready_replicas", Kind::Gauge, "Ready replicas of the version that serves.");
    for service in services {
        family.series(&[("service", &service.service)], service.ready.map(f64::from));
    }
}

/// A gauge of every release.
type OfRelease = (&'static str, &'static str, fn(&StatusReport) -> Option<f64>);

const OF_RELEASES: [OfRelease; 13] = [
    ("serin_release_weight_asked_ratio", "The canary's share as asked, 0 to 1.", |one| Some(one.weight.share())),
    ("serin_release_weight_measured_ratio", "The canary's share as measured in this stage, 0 to 1.", |one| one.measured_share),
    ("serin_release_stage", "The current stage, from 1; 0 outside of stages.", |one| Some(one.stage.unwrap_or(0) as f64)),
    ("serin_release_stages", "Stages in all.", |one| Some(one.stages.len() as f64)),
    ("serin_release_paused", "1 while a release stands still.", |one| Some(truth(one.paused))),
    ("serin_release_needs_operator", "1 while a person has to do something.", |one| Some(truth(one.wait.operator))),
    ("serin_release_health", "0 (bad) to 100 (good).", |one| one.health.map(f64::from)),
    ("serin_release_elapsed_seconds", "Time since a release began.", |one| Some(count(one.elapsed_ms) / 1_000.0)),
    ("serin_release_rescued_requests", "Requests that failed on the canary and that stable answered.", |one| Some(count(one.rescued))),
    ("serin_release_own_errors", "Error answers that the proxy made itself.", |one| Some(count(one.own_errors))),
    ("serin_release_store_fault", "1 while the journal cannot be written.", |one| Some(truth(one.store_fault.is_some()))),
    ("serin_release_journal_backlog", "Journal entries that are decided and not durable yet.", |one| Some(count(one.journal_backlog))),
    ("serin_release_effects_running", "Effects that are being carried out.", |one| Some(count(one.effects_running))),
];

fn write_releases(page: &mut Page, services: &[ServiceStatus]) {
    let releases = || services.iter().filter_map(|one| Some((one.service.as_str(), one.release.as_ref()?)));
    for (name, help, value) in OF_RELEASES {
        let mut family = page.family(name, Kind::Gauge, help);
        for (service, release) in releases() {
            family.series(&[("service", service)], value(release));
        }
    }
    let mut family = page.family("serin_release_phase", Kind::Gauge, "Where a release is: 1 for its phase.");
    for (service, release) in releases() {
        family.series(&[("service", service), ("phase", &release.phase)], 1.0);
    }
    let mut family = page.family("serin_release_requests", Kind::Gauge, "Requests since a release began.");
    for (service, release) in releases() {
        for (arm, report) in ["stable", "canary"].iter().zip(&release.arms) {
            let totals = report.totals;
            family.series(
                &[("service", service), ("arm", arm)],
                count(totals.by_weight.saturating_add(totals.matched).saturating_add(totals.preview)),
            );
        }
    }
    let mut family = page.family("serin_release_request_errors", Kind::Gauge, "Errors among them.");
    for (service, release) in releases() {
        for (arm, report) in ["stable", "canary"].iter().zip(&release.arms) {
            family.series(&[("service", service), ("arm", arm)], count(report.totals.errors));
        }
    }
}

fn write_criteria(page: &mut Page, services: &[ServiceStatus]) {
    // A criterion and a broken guard may have the same name: a series that is there twice would make the whole page unreadable.
    let mut criteria: BTreeMap<(&str, &str), &CriterionAssessment> = BTreeMap::new();
    for service in services {
        for one in service.release.iter().flat_map(|release| &release.criteria) {
            criteria.entry((&service.service, &one.name)).or_insert(one);
        }
    }
    let mut family = page.family("serin_criterion_verdict", Kind::Gauge, "What the data says about a criterion: 1 for its verdict.");
    for ((service, name), one) in &criteria {
        for verdict in VERDICTS {
            let labels = [("service", *service), ("criterion", *name), ("verdict", verdict.as_str())];
            family.series(&labels, truth(one.verdict == verdict));
        }
    }
    let help = "Natural logarithm of the evidence that the canary breaks a criterion.";
    let mut family = page.family("serin_criterion_evidence_ln", Kind::Gauge, help);
    for ((service, name), one) in &criteria {
        family.series(&[("service", service), ("criterion", name)], one.evidence.map(|evidence| evidence.harm.ln()));
    }
    let help = "Natural logarithm of the evidence at which the criterion fails.";
    let mut family = page.family("serin_criterion_evidence_needed_ln", Kind::Gauge, help);
    for ((service, name), one) in &criteria {
        family.series(&[("service", service), ("criterion", name)], one.evidence.map(|evidence| evidence.needed.ln()));
    }
}

fn write_events(page: &mut Page, services: &BTreeMap<String, OfService>) {
    let mut family = page.family("serin_journal_entries_total", Kind::Counter, "Journal entries since the daemon started.");
    for (service, one) in services {
        family.series(&[("service", service)], count(one.journal_entries));
    }
    let mut family = page.family("serin_effect_errors_total", Kind::Counter, "Effects that failed, each try for itself.");
    for (service, one) in services {
        family.series(&[("service", service)], count(one.effect_errors));
    }
    let help = "Time from the decision to roll back until routers were read back without traffic to the canary.";
    let mut family = page.family("serin_rollback_traffic_zero_seconds", Kind::Histogram, help);
    for (service, one) in services {
        family.histogram(&[("service", service)], &one.traffic_zero);
    }
}

fn write_api(page: &mut Page, measured: &Measured, streams: usize, waiting: usize) {
    let mut family = page.family("serin_api_requests_total", Kind::Counter, "API requests by route and status.");
    for ((route, status), number) in measured.requests() {
        family.series(&[("route", route), ("status", &status.to_string())], count(number));
    }
    let help = "Time until API requests were answered.";
    page.family("serin_api_request_seconds", Kind::Histogram, help).histogram(&[], &measured.times());
    let [in_flight, denied, lagged, missed] = measured.totals();
    page.family("serin_api_requests_in_flight", Kind::Gauge, "API requests that are being worked on.").series(&[], count(in_flight));
    page.family("serin_api_authentication_failures_total", Kind::Counter, "API requests without a valid identity.")
        .series(&[], count(denied));
    page.family("serin_event_streams", Kind::Gauge, "Open event streams.").series(&[], streams as f64);
    let help = "Events that the slowest reader has not taken yet: event streams, and what these metrics are counted from.";
    page.family("serin_events_waiting", Kind::Gauge, help).series(&[], waiting as f64);
    let help = "How often an event stream fell behind the queue that the daemon keeps for it.";
    page.family("serin_event_streams_lagged_total", Kind::Counter, help).series(&[], count(lagged));
    let help = "Gaps in the events that these metrics are counted from.";
    page.family("serin_events_missed_total", Kind::Counter, help).series(&[], count(missed));
    let help = "1 while the configuration cannot be read anew: tokens are those from before.";
    page.family("serin_config_reload_failed", Kind::Gauge, help).series(&[], truth(measured.is_config_failed()));
}

fn write_process(page: &mut Page) {
    measure::write_process(page, "daemon");
    let help = "The version, as a label.";
    page.family("serin_build_info", Kind::Gauge, help).series(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::samples;

    #[test]
    fn a_release_is_on_the_page_and_no_series_twice() {
        let mut service = samples::service();
        let release = service.release.as_mut().unwrap();
        // A guard that has a criterion's name.
        release.criteria.push(release.criteria[0].clone());
        let mut page = Page::default();
        let services = [service];
        write_services(&mut page, &services);
        write_releases(&mut page, &services);
        write_criteria(&mut page, &services);
        write_events(&mut page, &BTreeMap::from([("shop".to_owned(), OfService::default())]));
        write_api(&mut page, &Measured::default(), 3, 7);
        write_process(&mut page);
        let text = page.into_text();
        for line in [
            "serin_services{state=\"releasing\"} 1",
            "serin_service_questions_waiting{service=\"shop\"} 2",
            "serin_release_journal_backlog{service=\"shop\"} 3",
            "serin_release_effects_running{service=\"shop\"} 1",
            "serin_release_weight_asked_ratio{service=\"shop\"} 0.25",
            "serin_release_stage{service=\"shop\"} 2",
            "serin_release_phase{service=\"shop\",phase=\"in a stage\"} 1",
            "serin_criterion_verdict{service=\"shop\",criterion=\"errors\",verdict=\"inconclusive\"} 1",
            "serin_criterion_verdict{service=\"shop\",criterion=\"errors\",verdict=\"pass\"} 0",
            "serin_rollback_traffic_zero_seconds_bucket{service=\"shop\",le=\"+Inf\"} 0",
            "serin_event_streams 3",
            "serin_events_waiting 7",
            "serin_config_reload_failed 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
        }
    }
}
