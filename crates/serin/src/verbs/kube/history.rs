//! The last run of a release: the object's status remembers no other.

use serin_kube::outside::{Lines, run_row};
use serin_web::model::RunRow;

use super::backend::{Cluster, api_error};
use crate::{
    exit,
    output::{self, Output},
    render,
    verbs::history::line,
};

/// Shows it.
pub(super) async fn show(cluster: &Cluster, name: &str, is_list: bool, output: Output) -> anyhow::Result<u8> {
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
    match output {
        Output::Json => output::data(&serde_json::to_string(&row)?)?,
        Output::Text => output::data(&line(&row))?,
    }
    if is_list {
        return Ok(exit::SUCCEEDED);
    }
    for event in Lines::default().look(&release).events {
        match output {
            Output::Json => output::data(&serde_json::to_string(&event)?)?,
            Output::Text => output::data(&format!("  {}", render::lines::event(event.at, &event.head, &event.text)))?,
        }
    }
    Ok(exit::SUCCEEDED)
}
