//! What `serin sample-app` answers, and how it misbehaves on request.

mod tools;

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tools::{SampleApp, run, serin, wait_for};

#[test]
fn routes_answer_as_documented() {
    let app = SampleApp::start(&["--version", "v2"]);
    let hello = app.get("/some/path");
    assert!(hello.head.contains("x-app-version: v2"), "{hello:?}");
    for part in ["v2", &app.process.child.id().to_string(), "/some/path"] {
        assert!(hello.text().contains(part), "{hello:?}");
    }
    for (path, status) in [
        ("/health", 200),
        ("/ready", 200),
        ("/status/418", 418),
        ("/status/204", 204),
        ("/status/100", 400),
        ("/status/x", 400),
        ("/sleep/1", 200),
        ("/sleep/3600001", 400),
        ("/bytes/1073741825", 400),
        ("/bytes/", 400),
    ] {
        assert_eq!(app.get(path).status, status, "{path}");
    }
    let bytes = app.get("/bytes/300001");
    assert!(bytes.head.contains("content-length: 300001") && bytes.body.len() == 300_001);
    let body: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(app.request("POST", "/echo", "content-type: x/y\r\n", &body).unwrap().body, body);
    let metrics = app.get("/metrics");
    assert!(metrics.text().contains("http_requests_total{version=\"v2\",code=\"418\"} 1"), "{}", metrics.text());
}

#[test]
fn an_echo_is_streamed_before_the_request_has_ended() {
    let app = SampleApp::start(&[]);
    let mut stream = app.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"first") {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {seen:?}");
        seen.extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn behaviour_is_changed_at_run_time() {
    let app = SampleApp::start(&["--latency", "1ms"]);
    let shown: Value = serde_json::from_slice(&app.get("/admin/behaviour").body).unwrap();
    let expected = json!({
        "error_rate": 0.0, "error_code": 500, "error_path": null, "hang_rate": 0.0, "lost_rate": 0.0, "latency_ms": 1, "jitter_ms": 0,
        "latency_p99_ms": null, "mode": "ok", "healthy": true, "ready": true
    });
    assert_eq!(shown, expected);
    assert_eq!(app.set(r#"{"error_rate": 1}"#).status, 200);
    assert_eq!(app.get("/").status, 500);
    assert_eq!(app.get("/health").status, 200, "probes do not fail at random");
    assert_eq!(app.set(r#"{"healthy": false, "ready": false, "error_rate": 0}"#).status, 200);
    assert_eq!((app.get("/health").status, app.get("/ready").status, app.get("/").status), (503, 503, 200));
    let refused = app.set(r#"{"eror_rate": 1}"#);
    assert!(refused.status == 400 && refused.text().contains("eror_rate"), "{refused:?}");
    assert_eq!(app.request("PUT", "/admin/behaviour", "", br#"{"jitter_ms": 2}"#).unwrap().status, 200);
    let shown: Value = serde_json::from_slice(&app.get("/admin/behaviour").body).unwrap();
    assert_eq!((&shown["jitter_ms"], &shown["latency_ms"], &shown["healthy"]), (&json!(2), &json!(0), &json!(true)));
    assert_eq!(app.request("DELETE", "/admin/behaviour", "", b"").unwrap().status, 405);
    assert_eq!(app.request("PUT", "/admin/behaviour", "", &[b' '; 70_000]).unwrap().status, 400);
}

#[test]
fn hanging_includes_health_but_can_be_ended() {
    let app = SampleApp::start(&[]);
    app.set(r#"{"mode": "hang"}"#);
    for path in ["/", "/health"] {
        let mut stream = app.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{path}: {error}");
    }
    app.set(r#"{"mode": "ok"}"#);
    assert_eq!(app.get("/health").status, 200);
}

#[test]
fn some_requests_hang_until_the_client_goes_and_probes_do_not() {
    let app = SampleApp::start(&["--hang-rate", "100%"]);
    let mut stream = app.connect();
    write!(stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    assert_eq!((app.get("/health").status, app.get("/ready").status), (200, 200));
    let in_flight = |count: u32| app.get("/metrics").text().contains(&format!("in_flight{{version=\"v1\"}} {count}\n"));
    assert!(in_flight(1), "{}", app.get("/metrics").text());
    drop(stream);
    wait_for("the end of the request", || in_flight(0).then_some(()));
    app.set(r#"{"hang_rate": 0}"#);
    assert_eq!(app.get("/").status, 200);
}

#[test]
fn garbage_and_resets_are_what_they_say() {
    let app = SampleApp::start(&[]);
    app.set(r#"{"mode": "garbage"}"#);
    assert_eq!(app.request("GET", "/health", "", b"").unwrap_err().kind(), io::ErrorKind::InvalidData);
    app.set(r#"{"mode": "reset"}"#);
    let body = vec![b'x'; 500_000];
    assert_eq!(app.request("POST", "/", "", &body).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    app.set(r#"{"mode": "ok"}"#);
    assert_eq!(app.get("/").status, 200);
}

#[test]
fn a_crash_ends_the_process_at_once() {
    let mut app = SampleApp::start(&[]);
    assert!(app.request("PATCH", "/admin/behaviour", "", br#"{"mode": "crash"}"#).is_err());
    assert_eq!(app.process.exit().code(), Some(70));
    let mut app = SampleApp::start(&["--crash-after", "50ms"]);
    assert_eq!(app.process.exit().code(), Some(70));
}

#[test]
fn the_schedule_makes_things_worse() {
    for (option, works) in [
        (&["--worse-after", "10ms", "--worse-error-rate", "100%"][..], false),
        (&["--garbage-after", "10ms"], false),
        (&["--reset-after", "10ms"], false),
        (&["--start-delay", "10ms"], true),
    ] {
        let app = SampleApp::start(option);
        wait_for(option[0], || (app.request("GET", "/", "", b"").is_ok_and(|answer| answer.status == 200) == works).then_some(()));
    }
    let app = SampleApp::start(&["--hang-after", "10ms", "--worse-after", "20ms", "--worse-latency", "300ms"]);
    wait_for("both changes", || {
        let text = app.get("/admin/behaviour");
        (text.text().contains("\"mode\":\"hang\"") && text.text().contains("\"latency_ms\":300")).then_some(())
    });
}

#[test]
fn until_it_is_ready_it_answers_503() {
    for option in [&["--never-ready"][..], &["--start-delay", "1h"]] {
        let app = SampleApp::start(option);
        assert_eq!((app.get("/ready").status, app.get("/").status, app.get("/health").status), (503, 503, 200), "{option:?}");
        app.set(r#"{"ready": true}"#);
        assert_eq!((app.get("/ready").status, app.get("/").status), (200, 200));
    }
}

#[test]
fn marked_requests_fail_and_others_do_not() {
    let app = SampleApp::start(&["--fail-header", "x-canary=true"]);
    for (headers, status) in [("X-Canary: true\r\n", 500), ("x-canary: false\r\n", 200), ("", 200)] {
        assert_eq!(app.request("GET", "/", headers, b"").unwrap().status, status, "{headers}");
    }
}

#[test]
fn a_seed_repeats_the_errors() {
    let statuses = |seed| {
        let app = SampleApp::start(&["--error-rate", "50%", "--seed", seed]);
        (0..64).map(|_| app.get("/").status).collect::<Vec<_>>()
    };
    let first = statuses("5");
    assert!(first.contains(&200) && first.contains(&500), "{first:?}");
    assert_eq!(first, statuses("5"));
    assert_ne!(first, statuses("6"));
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_nothing_else() {
    let mut app = SampleApp::start(&[]);
    let mut idle = app.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    let mut busy = app.connect();
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf").unwrap();
    assert!(busy.peek(&mut [0; 1]).unwrap() > 0, "the answer has begun");
    app.process.terminate();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "idle connections are closed in order");
    wait_for("the port to be closed", || TcpStream::connect(("127.0.0.1", app.port)).is_err().then_some(()));
    assert!(app.process.child.try_wait().unwrap().is_none(), "it waits for the request in flight");
    busy.write_all(b"done").unwrap();
    let answer = tools::read_answer(busy).unwrap();
    assert_eq!((answer.status, answer.text()), (200, "halfdone"), "{answer:?}");
    assert_eq!(app.process.exit().code(), Some(0));
}

#[test]
fn a_drain_that_never_ends_is_cut_off_and_said() {
    let mut app = SampleApp::start(&["--drain-timeout", "50ms"]);
    let mut busy = app.connect();
    busy.write_all(b"GET /sleep/3600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_for("a request in flight", || app.get("/metrics").text().contains("in_flight{version=\"v1\"} 1").then_some(()));
    app.process.terminate();
    assert_eq!(app.process.exit().code(), Some(1));
}

#[test]
fn a_port_in_use_and_contradicting_options_are_explained() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for (args, part) in [
        (&["--port", &port][..], "is in use"),
        (&["--port", "0", "--latency-p99", "90ms"], "median"),
        (&["--port", "0", "--worse-after", "1s"], "nothing gets worse"),
    ] {
        let output = run(serin(&["sample-app"]).args(args));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(part) && output.stdout.is_empty(), "{said}");
    }
    for args in [["--error-rate", "5"], ["--latency", "20"], ["--fail-header", "x"], ["--host", "localhost"]] {
        assert_eq!(run(serin(&["sample-app"]).args(args)).status.code(), Some(2), "{args:?}");
    }
}
