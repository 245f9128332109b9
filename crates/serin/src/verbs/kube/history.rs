//! The runs of a release, as far as the object's status remembers them: the last one with what happened, those before with their ends.

use serin_kube::{
    api::PastRun,
    outside::{Lines, run_row, time},
};
use serin_web::model::RunRow;

use super::backend::{Cluster, api_error};
use crate::{
    exit,
    output::{self, Output},
    render,
    verbs::history::line,
};

/// Shows it.
pub(super) async fn show(cluster: &Cluster, name: &str, limit: usize, is_list: bool, output: Output) -> anyhow::Result<u8> {
    let session = &cluster.session;
    let release = session.release(name).await.map_err(|error| api_error(error, &session.namespace, name))?;
    let Some(last) = run_row(&release) else {
        output::note(&format!("{name} was not released yet"));
        return Ok(exit::SUCCEEDED);
    };
    let is_over = release.status.as_ref().and_then(|status| status.engine.as_ref()).is_some_and(serin_kube::api::Engine::is_over);
    let row = RunRow {
        number: last.number,
        service: name.to_owned(),
        document_hash: last.document_hash,
        document_name: format!("{}/{name}", session.namespace),
        run: last.run,
        began_at: last.began_at.0,
        ended_at: is_over.then_some(last.ended_at.0),
        outcome: is_over.then(|| last.end.word().to_owned()),
    };
    let last = row.run;
    tell(&row, output)?;
    let events = if is_list { Vec::new() } else { Lines::default().look(&release).events };
    for event in events {
        match output {
            Output::Json => output::data(&serde_json::to_string(&event)?)?,
            Output::Text => output::data(&format!("  {}", render::lines::event(event.at, &event.head, &event.text)))?,
        }
    }
    let before = release.status.iter().flat_map(|status| status.history.iter().rev()).filter(|past| past.run != u64::from(last));
    for past in before.take(limit.saturating_sub(1)) {
        tell(&past_row(&session.namespace, name, past), output)?;
    }
    Ok(exit::SUCCEEDED)
}

fn tell(row: &RunRow, output: Output) -> std::io::Result<()> {
    match output {
        Output::Json => output::data(&serde_json::to_string(row).unwrap_or_default()),
        Output::Text => output::data(&line(row)),
    }
}

/// A run of which only its end is remembered: which version it was, but not by which document.
fn past_row(namespace: &str, name: &str, past: &PastRun) -> RunRow {
    // As a daemon's store says it.
    let outcome = match past.outcome.as_str() {
        "Succeeded" => "succeeded".to_owned(),
        "RolledBack" => "rolled back".to_owned(),
        "Refused" => "refused".to_owned(),
        other => other.to_owned(),
    };
    RunRow {
        number: i64::try_from(past.run).unwrap_or(i64::MAX),
        service: name.to_owned(),
        document_hash: String::new(),
        document_name: format!("{namespace}/{name}, version {}: {}", past.version, past.reason),
        run: u32::try_from(past.run).unwrap_or(u32::MAX),
        began_at: time(&past.began).0,
        ended_at: Some(time(&past.ended).0),
        outcome: Some(outcome),
    }
}
