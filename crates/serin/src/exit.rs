//! Exit codes: what a pipeline can tell a release's end by.

use std::process::ExitCode;

use serin_engine::{
    run::{RunEnd, RunError},
    store::StoreError,
};

/// Everything went as asked.
pub(crate) const SUCCEEDED: u8 = 0;
/// Something that should always work did not.
pub(crate) const INTERNAL: u8 = 1;
/// The document or the command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// A check before the release failed; nothing was changed.
pub(crate) const PREFLIGHT: u8 = 3;
/// Traffic went back to stable, by the judge or by a person.
pub(crate) const ROLLED_BACK: u8 = 4;
/// A person has to decide.
pub(crate) const NEEDS_OPERATOR: u8 = 5;
/// Interrupted by Ctrl-C or a signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of a run that began.
pub(crate) fn of_end(end: &RunEnd) -> u8 {
    match end {
        RunEnd::Succeeded => SUCCEEDED,
        RunEnd::Refused => PREFLIGHT,
        RunEnd::RolledBack { .. } => ROLLED_BACK,
        RunEnd::OperatorNeeded { .. } => NEEDS_OPERATOR,
        RunEnd::Interrupted | RunEnd::Forced => INTERRUPTED,
        RunEnd::Unexpected { .. } => INTERNAL,
    }
}

/// The exit code of a run that could not begin.
pub(crate) fn of_error(error: &RunError) -> u8 {
    match error {
        RunError::Preflight(_) | RunError::Store(_) | RunError::OtherRelease { .. } | RunError::Proxy { .. } => PREFLIGHT,
        RunError::Interrupted => INTERRUPTED,
        RunError::Internal(_) => INTERNAL,
    }
}

/// The exit code of a verb that failed before it had anything to say.
pub(crate) fn of_failure(error: &anyhow::Error) -> u8 {
    if error.is::<StoreError>() { PREFLIGHT } else { INTERNAL }
}

/// An exit code as the system takes it.
pub(crate) fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
