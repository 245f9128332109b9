//! What the routes do. One file per kind of request; nothing here knows about rights, limits or connections.

mod act;
mod alerts;
mod apply;
mod events;
mod explain;
pub use explain::explanation;
mod health;
mod read;

pub(crate) use read::fresh;

use http::HeaderMap;

use crate::{
    answer::{Answer, json},
    metrics,
    model::{API_VERSION, Version},
    pipeline::Call,
    problem::Problem,
    routes::Op,
};

/// Carries out a request that may be.
pub(crate) async fn carry_out(op: Op, call: Call) -> Result<Answer, Problem> {
    match op {
        Op::Services => read::services(&call).await,
        Op::Service => read::service(&call).await,
        Op::Runs => read::runs(&call).await,
        Op::Journal => read::journal(&call).await,
        Op::Explain => explain::explain(&call).await,
        Op::Act(verb) => act::act(&call, verb).await,
        Op::Weight => act::weight(&call).await,
        Op::Delete => act::delete(&call).await,
        Op::Apply => apply::apply(&call).await,
        Op::Events => events::events(&call),
        Op::Alerts => alerts::alerts(&call).await,
        Op::Version => json(&Version { api: API_VERSION, oldest_api: API_VERSION, program: env!("CARGO_PKG_VERSION").to_owned() }),
        Op::OpenApi => Ok(Answer::Text { kind: "application/json", text: call.shared.openapi.clone() }),
        Op::Live => health::live(&call).await,
        Op::Ready => health::ready(&call),
        Op::Metrics => metrics::page(&call.shared).await,
    }
}

/// A header as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
