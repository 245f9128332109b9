//! Many services with a release each: the short form of `cargo xtask torture many`, without anything that depends on the machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use serin_testkit::torture::many;

#[test]
fn a_bad_canary_is_found_among_many_releases() {
    let options = many::Options { services: 20, watch: Duration::ZERO, faults: 1, structure_only: true };
    let findings = many::run(env!("CARGO_BIN_EXE_serin"), options);
    assert!(findings.is_ok(), "{}", findings.table());
}
