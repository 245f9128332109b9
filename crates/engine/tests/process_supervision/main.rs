//! Supervision of real processes: shell scripts, and a small server that is this test binary itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests, too")]

mod adopting;
mod restarting;
mod starting;
mod stopping;
mod support;
