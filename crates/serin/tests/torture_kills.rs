//! A few kills -9 at random moments of running releases under load: the short form of `cargo xtask torture kills`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use serin_testkit::torture::kills;

#[test]
fn no_release_and_no_request_is_lost_by_kills() {
    let options = kills::Options { kills: 12, seed: 4, services: 2, rps: 40, pause_ms: 1_000 };
    let findings = kills::run(env!("CARGO_BIN_EXE_serin"), options);
    assert!(findings.is_ok(), "{}", findings.table());
    println!("{}", findings.table());
}
