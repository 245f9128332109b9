//! What must be true before a release may start.
//!
//! *Static* checks look at the machine without changing anything, so that `check` can run them too. The rest needs things
//! to be started and runs as the release's first effect.

mod machine;
mod program;

pub use machine::static_checks;

use serin_core::{
    forecast::warnings,
    plan::Plan,
    release::{Check, CheckStatus},
};

/// What so much traffic as is expected cannot decide: a warning each.
#[must_use]
pub fn forecast(plan: &Plan) -> Vec<Check> {
    warnings(plan).into_iter().map(|warning| warn("forecast", warning.text, warning.help)).collect()
}

fn pass(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Pass, detail: detail.into(), hint: None }
}

fn warn(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Warn, detail: detail.into(), hint: Some(hint.into()) }
}

fn fail(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Fail, detail: detail.into(), hint: Some(hint.into()) }
}

/// A check from something that either worked or says why not. `fine`: what is said if it worked; `hint`: what helps if it did not.
#[must_use]
pub fn outcome(name: &str, fine: impl Into<String>, result: Result<(), String>, hint: &str) -> Check {
    match result {
        Ok(()) => pass(name, fine),
        Err(detail) => fail(name, detail, hint),
    }
}
