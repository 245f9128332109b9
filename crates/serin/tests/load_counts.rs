//! `serin load` counts exactly what a scripted server did.

mod tools;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde_json::json;
use tools::{Act, SampleApp, load, run, scripted, serin};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nx-app-version: v1\r\ncontent-length: 2\r\n\r\nok";
const GOOD_LAST: &[u8] = b"HTTP/1.1 200 OK\r\nx-app-version: v1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn every_way_to_lose_a_request_is_counted_by_its_kind() {
    let address = scripted(|number, _| match number % 10 {
        0 => Act::AnswerAndClose(GOOD_LAST),
        1 => Act::AnswerAndClose(b"HTTP/1.1 503 X\r\nx-app-version: v2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        2 => Act::AnswerAndClose(b"HTTP/1.1 502 X\r\nx-serin-error: connect\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        3 => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        4 => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        5 => Act::AnswerAndClose(b"HTTP/1.1 200 O"),
        6 => Act::AnswerAndClose(b""),
        7 => Act::Reset,
        8 => Act::AnswerAndClose(b"\x16\x03 this is not HTTP\r\n\r\n"),
        _ => Act::AnswerAndClose(b"HTTP/1.1 500 X\r\nx-serin-error: odd\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
    });
    let (code, report) = load(&format!("http://{address}/"), &["--rps", "100", "--duration", "200ms", "--arrivals", "even"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        report["lost"],
        json!({"connect": 0, "reset": 2, "closed": 2, "truncated": 6, "invalid": 2, "made_by_proxy": 2}),
        "{report}"
    );
    assert_eq!(report["lost_total"], 14);
    assert_eq!(report["by_code"], json!({"200": 2, "500": 2, "502": 2, "503": 2}));
    assert_eq!(report["by_class"], json!({"2xx": 2, "5xx": 6}));
    assert_eq!(report["by_version"], json!({"v1": 2, "v2": 2, "(none)": 4}));
    for (field, expected) in
        [("scheduled", 20), ("sent", 20), ("answered", 8), ("timeout", 0), ("not_sent", 0), ("unfinished", 0), ("reconnected", 0)]
    {
        assert_eq!(report[field], expected, "{field} in {report}");
    }
    assert_eq!(report["examples"].as_object().unwrap().len(), 4, "{report}");
}

#[test]
fn a_kept_connection_that_was_closed_is_no_loss() {
    let closed = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&closed);
    let address = scripted(move |_, within| match within {
        0 => Act::Answer(GOOD),
        _ => {
            // By turns in order and with a reset: a race of request and close ends in either.
            if seen.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { Act::AnswerAndClose(b"") } else { Act::Reset }
        }
    });
    let (code, report) = load(&format!("http://{address}/"), &["--rps", "20", "--duration", "1500ms", "--arrivals", "even"]);
    assert_eq!((code, &report["lost_total"], &report["answered"]), (Some(0), &json!(0), &json!(30)), "{report}");
    assert!(closed.load(Ordering::SeqCst) > 1, "no connection was reused: {report}");
    assert_eq!(report["reconnected"], closed.load(Ordering::SeqCst));
}

#[test]
fn an_answer_cut_short_on_a_kept_connection_is_a_loss() {
    let address = scripted(|_, within| if within == 0 { Act::Answer(GOOD) } else { Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-") });
    let (code, report) = load(&format!("http://{address}/"), &["--rps", "20", "--duration", "1500ms", "--arrivals", "even"]);
    let truncated = report["lost"]["truncated"].as_u64().unwrap();
    assert!(truncated > 0 && report["reconnected"] == 0 && code == Some(1), "{report}");
    assert_eq!(report["answered"].as_u64().unwrap() + truncated, 30);
}

#[test]
fn a_server_that_goes_away_loses_everything_and_allow_lost_forgives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let closer = thread::spawn(move || drop(listener.accept().unwrap()));
    let (code, report) = load(&format!("http://{address}/"), &["--rps", "10", "--duration", "2s", "--arrivals", "even", "--allow-lost"]);
    closer.join().unwrap();
    assert_eq!((code, &report["sent"], &report["lost_total"]), (Some(0), &json!(20), &json!(20)), "{report}");
    // The first ones may still have met the accept queue.
    assert!(report["lost"]["connect"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["latency_ms"]["count"], 0);
    assert!(report["latency_ms"]["p99"].is_null());
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let output = run(&mut serin(&["load", &format!("http://{address}/"), "--rps", "1", "--wait", "100ms"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nothing accepts connections") && said.contains("--wait"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn it_waits_for_a_server_that_is_started_beside_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/");
    let loading = thread::spawn(move || load(&url, &["--rps", "100", "--duration", "100ms", "--arrivals", "even", "--wait", "20s"]));
    let app = SampleApp::start(&["--port", &port.to_string(), "--version", "late"]);
    let (code, report) = loading.join().unwrap();
    assert_eq!((code, &report["by_version"]), (Some(0), &json!({"late": 10})), "{report}");
    drop(app);
}

#[test]
fn the_report_for_people_names_what_was_lost() {
    let address = scripted(|number, _| if number == 0 { Act::Reset } else { Act::AnswerAndClose(GOOD_LAST) });
    let url = format!("http://{address}/");
    let output = run(&mut serin(&["load", &url, "--rps", "50", "--duration", "100ms", "--arrivals", "even"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in ["lost         1", "reset                    1", "200 × 4", "v1 × 4", "p99.9", "first        reset: "] {
        assert!(text.contains(part), "'{part}' not in\n{text}");
    }
    assert!(output.stderr.is_empty(), "no progress in a pipe: {:?}", output.stderr);
}

#[test]
fn requests_carry_method_headers_and_body() {
    let app = SampleApp::start(&["--fail-header", "x-canary=true"]);
    let common = ["--rps", "50", "--duration", "100ms", "--arrivals", "even", "--method", "post", "--body-bytes", "100000"];
    let (code, report) = load(&app.url("/echo"), &common);
    assert_eq!((code, &report["body_bytes"], &report["by_code"]), (Some(0), &json!(500_000), &json!({"200": 5})), "{report}");
    let (code, report) = load(&app.url("/echo"), &[&common[..], &["--header", "x-canary: true"]].concat());
    assert_eq!((code, &report["by_code"]), (Some(0), &json!({"500": 5})), "an answer of the app is no loss: {report}");
}

#[test]
fn several_paths_are_requested_in_turn() {
    let app = SampleApp::start(&["--error-rate", "100%", "--error-code", "503", "--error-path", "/pay"]);
    let paths = ["--path", "/", "--path", "/pay?card=1", "--path", "/payment"];
    let (code, report) = load(&app.url("/pay"), &[&["--rps", "60", "--duration", "100ms", "--arrivals", "even"], &paths[..]].concat());
    assert_eq!((code, &report["by_code"]), (Some(0), &json!({"200": 4, "503": 2})), "{report}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let output = run(&mut serin(&["load", "http://127.0.0.1:1/", "--rps", "1", "--path", "pay"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as /pay"), "{output:?}");
    for (args, part) in [
        (["http://127.0.0.1:1/", "--rps", "0"], "above 0"),
        (["https://127.0.0.1:1/", "--rps", "5"], "https is not supported"),
        (["http://127.0.0.1:1/", "--rps", "NaN"], "above 0"),
    ] {
        let output = run(serin(&["load"]).args(args));
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
