//! Orders to a service.

use serin_core::{WeightBps, release::Action};

use crate::{
    answer::{Answer, json},
    intake::{parse, parse_some},
    model::{Accepted, Deleted, Reason, SetWeight},
    pipeline::Call,
    problem::Problem,
    routes::Verb,
};

pub(super) async fn act(call: &Call, verb: Verb) -> Result<Answer, Problem> {
    let reason: Reason = parse(&call.body)?;
    let who = call.who(reason.reason.as_deref())?;
    let (server, service, by) = (call.shared.server.clone(), call.service()?.to_owned(), who.name.clone());
    let done = call.shared.on_engine(async move {
        let action = match verb {
            Verb::Retry => return server.retry(&service, who).await.map(|_| service),
            Verb::Rollback => return server.rollback(&service, who).await.map(|()| service),
            Verb::Pause => Action::Pause,
            Verb::Resume => Action::Resume,
            Verb::Approve => Action::Approve,
            Verb::Reject => Action::Reject,
            Verb::Promote => Action::Promote,
            Verb::Abort => Action::Abort,
        };
        server.act(&service, action, who).await.map(|()| service)
    });
    json(&Accepted { service: done.await??, action: verb.word().to_owned(), by })
}

pub(super) async fn weight(call: &Call) -> Result<Answer, Problem> {
    let wish: SetWeight = parse_some(&call.body)?;
    let weight = bps(wish.percent)?;
    let who = call.who(wish.reason.as_deref())?;
    let (server, service, by) = (call.shared.server.clone(), call.service()?.to_owned(), who.name.clone());
    let done = call.shared.on_engine(async move { server.act(&service, Action::Weight(weight), who).await.map(|()| service) });
    json(&Accepted { service: done.await??, action: "weight".to_owned(), by })
}

pub(super) async fn delete(call: &Call) -> Result<Answer, Problem> {
    let reason: Reason = parse(&call.body)?;
    let who = call.who(reason.reason.as_deref())?;
    let (server, service) = (call.shared.server.clone(), call.service()?.to_owned());
    let done = call.shared.on_engine(async move { server.delete(&service, who).await.map(|journals| (service, journals)) });
    let (service, journals) = done.await??;
    json(&Deleted { service, journals: journals.display().to_string() })
}

/// Percent as basis points; no digit is dropped in silence.
fn bps(percent: f64) -> Result<WeightBps, Problem> {
    let scaled = percent * 100.0;
    let rounded = scaled.round();
    if !(0.0..=10_000.0).contains(&rounded) || (scaled - rounded).abs() > 1e-6 {
        return Err(Problem::invalid("percent must be a number from 0 to 100 with at most two decimals, such as 12.5"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 10,000")]
    let bps = rounded as u16;
    WeightBps::new(bps).map_err(|error| Problem::invalid(error.to_string()))
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_becomes_basis_points_or_an_error() {
        for (percent, expected) in [(0.0, 0), (0.07, 7), (12.5, 1_250), (33.33, 3_333), (99.99, 9_999), (100.0, 10_000), (-0.0, 0)] {
            assert_eq!(bps(percent).unwrap().canary_bps(), expected, "{percent}");
        }
        for bad in [-0.01, 100.01, 0.001, 1e300, f64::NAN, f64::INFINITY] {
            assert!(bps(bad).is_err(), "{bad}");
        }
    }
}
