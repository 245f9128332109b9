//! Reading: services, runs and journals.

use std::time::Duration;

use serin_core::release::{Entry, narrate};
use serin_engine::{
    serve::{Refused, Run, Server, ServiceState, ServiceStatus},
    store::ReleaseRow,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    answer::{Answer, json},
    model::{Journal, JournalEntry, RunRow, Runs, Services},
    pipeline::Call,
    problem::Problem,
    shared::Shared,
};

/// How long fresh reports of many services may take. What is not there by then is shown as last published.
const FRESH_WITHIN: Duration = Duration::from_secs(1);
/// Services that are asked at the same time.
const ASKED_AT_ONCE: usize = 32;

pub(super) async fn services(call: &Call) -> Result<Answer, Problem> {
    json(&Services { services: fresh(&call.shared).await })
}

pub(super) async fn service(call: &Call) -> Result<Answer, Problem> {
    json(&call.shared.server.get(call.service()?).await?)
}

/// Every service; those with a release are asked, because releases publish little when nobody looks.
pub(crate) async fn fresh(shared: &Shared) -> Vec<ServiceStatus> {
    let mut services = shared.server.list();
    let mut waiting =
        services.iter().filter(|one| one.state == ServiceState::Releasing).map(|one| one.service.clone()).collect::<Vec<_>>().into_iter();
    let ask = async {
        let mut asked = JoinSet::new();
        loop {
            for name in waiting.by_ref().take(ASKED_AT_ONCE - asked.len()) {
                let server: Server = shared.server.clone();
                asked.spawn(async move { server.get(&name).await });
            }
            let Some(answer) = asked.join_next().await else { break };
            if let Ok(Ok(status)) = answer
                && let Some(place) = services.iter_mut().find(|one| one.service == status.service)
            {
                *place = status;
            }
        }
    };
    let _ = timeout(FRESH_WITHIN, ask).await;
    services
}

pub(super) async fn runs(call: &Call) -> Result<Answer, Problem> {
    let service = call.service()?.to_owned();
    let limit = u32::try_from(call.query.number("limit", 1..=1_000, 20)?).unwrap_or(20);
    let rows = call.shared.aside(move |server| server.runs(&service, limit)).await?;
    // A service without a store was never released: it has no runs.
    let rows = match rows {
        Err(Refused::Conflict(_)) => Vec::new(),
        rows => rows?,
    };
    json(&Runs { runs: rows.iter().map(run_row).collect() })
}

pub(super) async fn journal(call: &Call) -> Result<Answer, Problem> {
    let service = call.service()?.to_owned();
    let number = match call.run.as_deref() {
        None | Some("latest") => None,
        Some(number) => {
            let missing = || Problem::new(http::StatusCode::NOT_FOUND, "no-such-run", "runs are called by their number, or `latest`");
            Some(number.parse::<i64>().map_err(|_| missing())?)
        }
    };
    let after = call.query.number("after", 0..=u64::MAX, 0)?;
    let limit = usize::try_from(call.query.number("limit", 1..=5_000, 1_000)?).unwrap_or(1_000);
    let journal = call.shared.aside(move |server| server.run(&service, number, after, limit + 1).map(|run| told(run, limit))).await?;
    json(&journal.map_err(Problem::of_run)?)
}

/// The first entries of a journal with the words for each. They depend on the plan, which the document tells.
fn told(run: Run, limit: usize) -> Journal {
    let Run { row, journal } = run;
    let plan = serin_spec::load(&row.document_name, &row.document).ok().map(|loaded| loaded.release.plan);
    let more = journal.len() > limit;
    let entry = |entry: Entry| {
        // A document that this version no longer understands has a journal all the same.
        let words = plan.as_ref().and_then(|plan| narrate(&entry, plan));
        let (head, text) = words.map_or((None, None), |(head, text)| (Some(head), Some(text)));
        JournalEntry { seq: entry.seq, epoch: entry.epoch, at: entry.at.0, event: entry.event, head, text }
    };
    Journal { run: run_row(&row), entries: journal.into_iter().take(limit).map(entry).collect(), more }
}

fn run_row(row: &ReleaseRow) -> RunRow {
    RunRow {
        number: row.id.0,
        service: row.name.clone(),
        document_hash: row.document_hash.clone(),
        document_name: row.document_name.clone(),
        run: row.run,
        began_at: row.created_at.0,
        ended_at: row.ended_at.map(|at| at.0),
        outcome: row.outcome.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serin_core::{Timestamp, release::Event};
    use serin_engine::store::ReleaseId;

    use super::*;

    #[test]
    fn a_journal_is_told_in_parts_also_without_its_document() {
        let row = ReleaseRow {
            id: ReleaseId(3),
            name: "shop".to_owned(),
            document_hash: "abc".to_owned(),
            run: 1,
            document_name: "release.yaml".to_owned(),
            document: "not: a release".to_owned(),
            created_at: Timestamp(1),
            ended_at: None,
            outcome: None,
            end: None,
            journal_deleted_at: None,
        };
        let journal = (1..=3).map(|seq| Entry { seq, epoch: 1, at: Timestamp(seq), event: Event::Deployed }).collect();
        let told = told(Run { row, journal }, 2);
        assert_eq!((told.run.number, told.entries.len(), told.more), (3, 2, true));
        assert_eq!(told.entries[0].head, None);
    }
}
