//! `serin load` keeps its rate whatever the server does, and its latencies tell the truth about waiting.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod tools;

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tools::{Act, Running, SampleApp, load, scripted, serin, wait_for};

const GOOD_LAST: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Answers nothing until this many requests have come: a closed loop of fewer clients would never get an answer.
fn crowd_server(crowd: usize) -> std::net::SocketAddr {
    let (arrived, all) = (Mutex::new(0), Condvar::new());
    scripted(move |_, _| {
        let mut arrived = arrived.lock().unwrap();
        *arrived += 1;
        all.notify_all();
        let waited = all.wait_timeout_while(arrived, tools::DEADLINE, |arrived| *arrived < crowd).unwrap();
        if waited.1.timed_out() { Act::Reset } else { Act::AnswerAndClose(GOOD_LAST) }
    })
}

/// How many requests the app has answered with 200.
fn answered(app: &SampleApp) -> u64 {
    let metrics = app.get("/metrics");
    let value = metrics.text().lines().find_map(|line| line.split_once("code=\"200\"} ")?.1.parse().ok());
    value.unwrap_or(0)
}

#[test]
fn a_stalled_server_does_not_slow_the_arrivals() {
    let address = crowd_server(100);
    let (code, report) =
        load(&format!("http://{address}/"), &["--rps", "200", "--duration", "500ms", "--arrivals", "even", "--connections", "1"]);
    assert_eq!((code, &report["answered"], &report["not_sent"]), (Some(0), &json!(100), &json!(0)), "{report}");
    // The first request was due almost half a second before the last one let all of them go.
    let max = report["latency_ms"]["max"].as_f64().unwrap();
    assert!(max >= 490.0, "{report}");
    let median = report["latency_ms"]["p50"].as_f64().unwrap();
    assert!(median >= 200.0 && median <= max, "{report}");
}

#[test]
fn a_generator_that_stood_still_sends_what_was_due_and_admits_the_delay() {
    let app = SampleApp::start(&[]);
    let args = ["--output", "json", "load", &app.url("/"), "--rps", "100", "--duration", "3s", "--arrivals", "even"];
    let mut running = Running { child: serin(&args).spawn().unwrap() };
    wait_for("some requests", || (answered(&app) > 0).then_some(()));
    running.signal(Signal::STOP);
    // This is the standstill itself, nothing is waited for.
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::CONT);
    assert_eq!(running.exit().code(), Some(0));
    let report: Value = serde_json::from_reader(running.child.stdout.take().unwrap()).unwrap();
    assert_eq!((&report["sent"], &report["answered"]), (&json!(300), &json!(300)), "{report}");
    for field in ["send_lag_ms", "latency_ms"] {
        assert!(report[field]["max"].as_f64().unwrap() >= 250.0, "{field} in {report}");
    }
}

#[test]
fn what_exceeds_the_requests_in_flight_is_counted_as_not_sent() {
    let address = scripted(|_, _| Act::Stall);
    let args = ["--rps", "200", "--duration", "500ms", "--arrivals", "even", "--max-in-flight", "7", "--timeout", "3s"];
    let (code, report) = load(&format!("http://{address}/"), &args);
    assert_eq!(
        (code, &report["sent"], &report["not_sent"], &report["scheduled"]),
        (Some(1), &json!(7), &json!(93), &json!(100)),
        "{report}"
    );
    assert_eq!((&report["timeout"], &report["lost_total"], &report["unfinished"]), (&json!(7), &json!(0), &json!(0)), "{report}");
    assert!(report["latency_ms"]["p50"].as_f64().unwrap() >= 2_900.0, "timeouts are part of the latencies: {report}");
}

#[test]
fn a_signal_ends_it_with_the_report() {
    let app = SampleApp::start(&["--version", "v7"]);
    let mut command = serin(&["--output", "json", "load", &app.url("/"), "--rps", "100"]);
    let mut running = Running { child: command.spawn().unwrap() };
    wait_for("some requests", || (answered(&app) >= 20).then_some(()));
    running.terminate();
    assert_eq!(running.exit().code(), Some(0));
    let report: Value = serde_json::from_reader(running.child.stdout.take().unwrap()).unwrap();
    assert_eq!(
        (&report["ended_by"], &report["unfinished"], &report["answered"]),
        (&json!("signal"), &json!(0), &report["sent"]),
        "{report}"
    );
    assert!(report["by_version"]["v7"].as_u64().unwrap() >= 20);
}

#[test]
fn requests_still_waiting_after_a_signal_are_unfinished_not_lost() {
    let app = SampleApp::start(&[]);
    app.set(r#"{"latency_ms": 60000}"#);
    let mut command = serin(&["--output", "json", "load", &app.url("/"), "--rps", "50", "--timeout", "1m", "--max-in-flight", "4"]);
    let mut running = Running { child: command.spawn().unwrap() };
    wait_for("four in flight", || app.get("/metrics").text().contains("in_flight{version=\"v1\"} 4").then_some(()));
    running.terminate();
    running.terminate();
    assert_eq!(running.exit().code(), Some(0));
    let report: Value = serde_json::from_reader(running.child.stdout.take().unwrap()).unwrap();
    assert_eq!((&report["sent"], &report["unfinished"], &report["lost_total"]), (&json!(4), &json!(4), &json!(0)), "{report}");
}
