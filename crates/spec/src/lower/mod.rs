//! From the raw document to the validated release: meaning is checked, defaults are filled in, the plan is made.
//!
//! Every function here returns a value even if it reported an error, so that all errors are found in one go; the result is used only if there
//! were none.

mod analysis;
mod arguments;
pub(crate) mod cluster;
mod context;
mod criterion;
mod decidable;
mod external;
mod fit;
mod guard;
mod http;
mod judge;
mod limit;
mod measures;
mod metrics;
mod pair;
mod preview;
mod processes;
mod refused;
mod routers;
pub(crate) mod server;
pub(crate) mod sound;
mod strategy;
mod traffic;

pub(crate) use context::Context;

use serin_core::plan::{Plan, Step};

use crate::{
    raw::{self, Document},
    tree::Path,
    validated::{Measures, Release, Workload},
};

/// What criteria and guards are read by.
struct Basis {
    metrics: metrics::Metrics,
    judging: judge::Judging,
}

impl Basis {
    /// `processes_measured`: Serin runs the processes itself and sees what they use. `release`: the document's name.
    fn new(
        analysis: Option<&raw::Analysis>,
        processes_measured: bool,
        release: &str,
        at_analysis: &Path,
        cx: &mut Context<'_>,
    ) -> (Self, Measures) {
        let judging = judge::Judging::new(analysis, at_analysis, cx);
        let measures::Lowered { measures, metrics, whole } = measures::lower(analysis, release, at_analysis, cx);
        let metrics = metrics::Metrics::new(analysis, processes_measured, (metrics, whole), at_analysis, cx);
        (Self { metrics, judging }, measures)
    }
}

/// The name of the router that the built-in proxy is in plans.
const EMBEDDED_TARGET: &str = "embedded";

/// What the plan takes from what runs and who splits the traffic.
struct Shape {
    /// The name of the router.
    target: &'static str,
    /// Serin runs the processes itself and sees what they use.
    measured: bool,
    /// Serin carries the traffic itself and counts it.
    sees_traffic: bool,
    deploy_timeout_ms: u64,
    /// Clients keep their arm.
    sticky: bool,
    /// Some requests go to the canary whatever the weight.
    has_matches: bool,
}

/// A document as a release of this machine; `None` if errors were reported.
pub(crate) fn lower(document: Document, document_hash: String, cx: &mut Context<'_>) -> Option<Release> {
    cluster::refuse_cluster(&document, cx);
    let spec = Path::root().key("spec");
    let at_workload = spec.key("workload");
    let (workload, deploy_timeout_ms) = match (document.spec.workload.processes, document.spec.workload.external) {
        (Some(processes), _) => {
            let processes = processes::lower(processes, &at_workload.key("processes"), cx);
            let timeout_ms = processes::deploy_timeout_ms(&processes);
            (Some(Workload::Processes(Box::new(processes))), timeout_ms)
        }
        (None, Some(external)) => {
            let external = external::lower(external, &at_workload.key("external"), cx);
            let timeout_ms = external::deploy_timeout_ms(&external);
            (Some(Workload::External(external)), timeout_ms)
        }
        // A cluster's, which was refused.
        (None, None) => (None, 0),
    };
    let at_embedded = spec.key("traffic").key("embedded");
    let traffic = document.spec.traffic.embedded.map(|given| traffic::lower(given, &at_embedded, cx));
    if let (Some(Workload::External(external)), Some(traffic)) = (&workload, &traffic) {
        external::refuse_loop(external, traffic.listen, &at_workload.key("external"), cx);
    }
    let shape = Shape {
        target: EMBEDDED_TARGET,
        measured: !matches!(workload, Some(Workload::External(_))),
        sees_traffic: true,
        deploy_timeout_ms,
        sticky: traffic.as_ref().is_some_and(|traffic| traffic.sticky.is_some()),
        has_matches: traffic.as_ref().is_some_and(|traffic| !traffic.matches.is_empty()),
    };
    let name = document.metadata.name.0;
    let at_strategy = strategy::place(&document.spec.strategy);
    let (plan, measures) = plan(&name, document.spec.strategy, document.spec.analysis, &shape, cx)?;
    cluster::refuse_secret_keys(&measures, cx);
    if let Some(traffic) = &traffic {
        traffic::check_preview(&plan, traffic, &at_embedded, &at_strategy, cx);
    }
    if cx.has_errors() {
        return None;
    }
    Some(Release { name, document_hash, plan, workload: workload?, traffic: traffic?, measures })
}

/// The steps, the rules of judgement, and what others are asked for them; `None` if errors were reported, here or before.
fn plan(
    name: &str,
    strategy: raw::Strategy,
    analysis: Option<raw::Analysis>,
    shape: &Shape,
    cx: &mut Context<'_>,
) -> Option<(Plan, Measures)> {
    let spec = Path::root().key("spec");
    let at_analysis = spec.key("analysis");
    let at_strategy = strategy::place(&strategy);
    let own_guards: Vec<String> =
        analysis.iter().filter_map(|given| given.guards.as_ref()).flatten().map(|guard| guard.name.0.clone()).collect();
    let (basis, mut measures) = Basis::new(analysis.as_ref(), shape.measured, name, &at_analysis, cx);
    let (mut analysis, taken) = analysis::lower(analysis.unwrap_or_default(), &basis, &at_analysis, cx);
    let strategy = strategy::lower(strategy, &basis, &taken, &at_strategy, cx);
    analysis.poll_ms = (!measures.queries.is_empty()).then_some(measures.interval_ms);
    if !shape.sees_traffic {
        let has_alerts = !measures.alerts.is_empty();
        cluster::leave_to_sources(&mut analysis, &taken, &own_guards, &strategy, has_alerts, cx);
    }
    decidable::check(&analysis, &taken, &strategy, cx);
    measures::warn_of_mixtures(&analysis, &taken, (shape.sticky, shape.has_matches), cx);
    let criteria = analysis.criteria.iter().chain(strategy.steps.iter().flat_map(|step| &step.criteria)).map(|one| one.metric);
    let used: Vec<_> =
        criteria.chain(analysis.guards.iter().map(|guard| guard.metric)).filter_map(|metric| metric.external().copied()).collect();
    measures.queries.retain(|query| used.iter().any(|metric| metric.name == query.metric));
    if cx.has_errors() {
        return None;
    }
    let plan = Plan {
        release: name.to_owned(),
        targets: vec![shape.target.to_owned()],
        // Stages are written without a router: there is one.
        steps: strategy.steps.into_iter().map(|step| Step { weights: [(shape.target.to_owned(), step.weight())].into(), ..step }).collect(),
        bake_ms: strategy.bake_ms,
        retain_ms: strategy.retain_ms,
        analysis,
        deploy_timeout_ms: shape.deploy_timeout_ms,
        sticky: shape.sticky,
    };
    refused::check(&plan, &taken, &strategy.own_criteria, &at_strategy, cx);
    if cx.has_errors() { None } else { Some((plan, measures)) }
}
