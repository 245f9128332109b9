//! The API as clients see it: real listeners, raw bytes, a real server on a state folder of its own. One binary, because linking it costs
//! more than running it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod documents;
mod events;
mod fuzz;
mod limits;
mod rights;
mod secrets;
mod support;
mod tls;
