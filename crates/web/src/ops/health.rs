//! Health and readiness, for whoever watches the daemon. Neither tells names, because neither asks for one.

use std::time::Duration;

use http::StatusCode;
use serin_engine::serve::ServiceState;
use tokio::time::timeout;

use crate::{
    answer::{Answer, bytes, json},
    model::Health,
    pipeline::Call,
    problem::Problem,
};

/// How long the engine's runtime may take for nothing at all. A busy machine may starve it for a while; a watchdog that kills too early is
/// worse than one that waits.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

/// Whether the runtime of the releases still turns.
pub(super) async fn live(call: &Call) -> Result<Answer, Problem> {
    let turns = timeout(LIVE_WITHIN, call.shared.on_engine(async {})).await;
    answer(Health { ok: matches!(turns, Ok(Ok(()))), ..counted(call) })
}

/// Whether every service was found again. A service that failed does not count against the others: no restart of the daemon mends it.
pub(super) fn ready(call: &Call) -> Result<Answer, Problem> {
    let health = counted(call);
    answer(Health { ok: health.starting == 0, ..health })
}

fn counted(call: &Call) -> Health {
    let services = call.shared.server.list();
    let count = |state| services.iter().filter(|service| service.state == state).count();
    Health { ok: true, starting: count(ServiceState::Starting), failed: count(ServiceState::Failed) }
}

fn answer(health: Health) -> Result<Answer, Problem> {
    if health.ok { json(&health) } else { Ok(Answer::Status(StatusCode::SERVICE_UNAVAILABLE, bytes(&health)?)) }
}
