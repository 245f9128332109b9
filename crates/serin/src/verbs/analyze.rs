//! `serin analyze`: judges recorded data.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use serin_core::plan::{Metric, Plan};

use crate::{
    analyze::{BadData, Lines, Moments, Outcome, Replay, Rows, Step},
    document, exit,
    output::{self, Output},
    render::{self, analyze::Report},
    values,
};

/// The document whose defaults are used without `--release`. What it runs is never started.
const DEFAULTS: &str = "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: analyze}
spec:
  workload:
    external:
      stable: {urls: [\"http://127.0.0.1:1\"]}
      canary: {urls: [\"http://127.0.0.1:2\"]}
  traffic: {embedded: {listen: \"127.0.0.1:3\"}}
  strategy:
    canary:
      stages: [{weight: 5, hold: 10m}]
      bake: 10m
";

/// Judges recorded data with the judge of live releases and says when each verdict changed. Starts nothing.
///
/// The data is NDJSON, `{"at": 10, "arm": "canary", "weight": 5, "requests": 120, "errors": 2}`, or CSV with the same names in its
/// first line; docs/analyze.md explains the fields.
///
/// Exit codes: 0 every criterion passes, 2 the data, document or usage is wrong, 4 a release would have been rolled back, 5 a
/// person would have to decide (paused, both versions broke a limit, undecided, no data).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recorded data, `-` for standard input.
    file: PathBuf,
    /// The release document whose criteria are used. Default: the criteria of a document that names none.
    #[arg(long, value_name = "FILE")]
    release: Option<PathBuf>,
    /// Also shows all verdicts this often, in the time of the data.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    every: Option<Duration>,
}

/// Judges.
///
/// # Errors
/// If stdout cannot be written, or the default document is not valid.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let plan = match &args.release {
        Some(path) => match document::read(path, output) {
            Ok(document) => document.release.plan,
            Err(document::Rejected) => return Ok(exit::code(exit::USAGE)),
        },
        None => serin_spec::load("defaults", DEFAULTS)?.release.plan,
    };
    let (lines, format) = match Lines::open(&args.file) {
        Ok(opened) => opened,
        Err(error) => return refuse(output, &format!("cannot read {}: {error}", args.file.display()), None),
    };
    let mut moments = Moments::new(Rows::new(lines, format), looks_at_client_errors(&plan));
    let mut replay = Replay::new(plan);
    let mut report = Report::new(output);
    let every_ms = args.every.map(|every| values::ms(every).max(1));
    let judged = judge(&mut moments, &mut replay, &mut report, every_ms)?;
    if let Err(bad) = judged {
        return refuse(output, &bad.to_string(), Some(&bad));
    }
    if replay.never_met() {
        output::note(
            "warning: no row of one arm has the time of a row of the other, so that nothing was compared; give `weight`, or round `at` to the same steps",
        );
    }
    let code = exit_code(&replay.outcome());
    report.end(&replay, moments.rows_read(), code)?;
    Ok(exit::code(code))
}

fn judge(moments: &mut Moments, replay: &mut Replay, report: &mut Report, every_ms: Option<u64>) -> anyhow::Result<Result<(), BadData>> {
    let mut due_ms = every_ms.unwrap_or(u64::MAX);
    loop {
        let moment = match moments.next() {
            Ok(Some(moment)) => moment,
            Ok(None) => return Ok(Ok(())),
            Err(bad) => return Ok(Err(bad)),
        };
        let at = moment.observation.at;
        let steps = replay.observe(&moment);
        let since = at.ms_since(replay.first().unwrap_or(at));
        for step in steps {
            match step {
                Step::Weight { at: _, weight } => report.weight(at, since, weight)?,
                Step::Verdict(change) => report.change(since, &change)?,
            }
        }
        if let Some(every_ms) = every_ms.filter(|_| since >= due_ms) {
            report.sample(at, since, &replay.standings())?;
            // The next whole step after this moment, however long the gap before it was.
            due_ms = (since / every_ms).saturating_add(1).saturating_mul(every_ms);
        }
    }
}

fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Pass => exit::SUCCEEDED,
        Outcome::RolledBack(_) => exit::ROLLED_BACK,
        Outcome::Paused(_) | Outcome::Shared(_) | Outcome::Undecided | Outcome::NoData => exit::NEEDS_OPERATOR,
    }
}

/// The criterion or guard that cannot be judged by data without 4xx answers.
fn looks_at_client_errors(plan: &Plan) -> Option<String> {
    let of_steps = plan.steps.iter().flat_map(|step| &step.criteria);
    let criteria = plan.analysis.criteria.iter().chain(of_steps).map(|criterion| (criterion.metric, &criterion.name));
    let guards = plan.analysis.guards.iter().map(|guard| (guard.metric, &guard.name));
    criteria.chain(guards).find(|(metric, _)| *metric == Metric::ClientErrorRate).map(|(_, name)| name.clone())
}

fn refuse(output: Output, text: &str, bad: Option<&BadData>) -> anyhow::Result<ExitCode> {
    match output {
        Output::Json => output::data(&render::analyze::error(text, bad, exit::USAGE).to_string())?,
        Output::Text => output::error(text),
    }
    Ok(exit::code(exit::USAGE))
}
