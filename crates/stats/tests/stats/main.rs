//! Tests of the mathematics: exact sums over outcomes, independent reference values, extremes and checkpoints, and seeded
//! simulations.

// Helpers are not `#[test]` functions, so that the allowances for tests do not reach them.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used, clippy::panic)]

mod exact;
mod reference;
mod simulation;
mod stability;
mod support;
