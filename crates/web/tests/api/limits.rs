//! What a client can hold or demand is bounded, and who is over a bound is told so where that is possible.

use std::{
    io::{Read as _, Write as _},
    time::Instant,
};

use serin_web::{Limits, Role, config::Rate};

use crate::support::{Daemon, PATIENCE, exchange, request, token, wide};

#[test]
fn bodies_have_a_size() {
    let daemon = Daemon::start();
    let large = |bytes: usize| [b"{\"reason\": \"".to_vec(), vec![b'x'; bytes], b"\"}".to_vec()].concat();
    let pause = |bytes| daemon.send("POST", "/v1/services/nobody/pause", Role::Admin, &large(bytes));
    assert_eq!(pause(60_000).code(), "no-such-service");
    for bytes in [66_000, 3_000_000] {
        let reply = pause(bytes);
        assert_eq!((reply.status, reply.code().as_str()), (413, "too-large"), "{bytes}");
    }
    // A document may be large, and one that is too large for a document is told so by the reader of documents.
    let apply = |bytes: usize| {
        let body = serde_json::json!({"document": "x".repeat(bytes)}).to_string();
        daemon.send("POST", "/v1/releases", Role::Admin, body.as_bytes())
    };
    let reply = apply(1_100_000);
    assert_eq!((reply.status, reply.json()["error"]["diagnostics"]["diagnostics"][0]["code"].as_str()), (422, Some("too-large")));
    assert_eq!(apply(5_000_000).status, 413);
}

#[test]
fn bodies_without_a_size_have_one_all_the_same() {
    let daemon = Daemon::start();
    let head = format!(
        "POST /v1/services/nobody/pause HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        token(Role::Admin)
    );
    let chunk = [b"8000\r\n".to_vec(), vec![b' '; 0x8000], b"\r\n".to_vec()].concat();
    let all = [head.into_bytes(), chunk.repeat(8), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(daemon.raw(&all).code(), "too-large");
}

#[test]
fn heads_have_a_size() {
    let daemon = Daemon::start();
    let long = format!("GET /v1/services HTTP/1.1\r\nHost: s\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(daemon.raw(long.as_bytes()).status, 431);
    let many = format!("GET /v1/services HTTP/1.1\r\nHost: s\r\n{}\r\n", "X: 1\r\n".repeat(100));
    assert_eq!(daemon.raw(many.as_bytes()).status, 431);
    assert_eq!(daemon.get("/healthz", None).status, 200);
}

#[test]
fn only_json_is_taken_and_only_where_something_is() {
    let daemon = Daemon::start();
    let plain = |kind: &str| {
        let request = request("POST", "/v1/services/nobody/pause", Some(&token(Role::Admin)), Some(b"{}"));
        daemon.raw(String::from_utf8(request).unwrap().replace("application/json", kind).as_bytes())
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(plain(kind).code(), "not-json", "{kind}");
    }
    assert_eq!(plain("application/json; charset=utf-8").code(), "no-such-service");
    assert_eq!(daemon.raw(&request("GET", "/v1/services", Some(&token(Role::Admin)), Some(b"{}"))).code(), "unexpected-body");
    let pause = |body: &str| daemon.send("POST", "/v1/services/nobody/pause", Role::Admin, body.as_bytes());
    assert_eq!(pause("{\"resaon\": \"x\"}").code(), "invalid", "a misspelt field");
    assert_eq!(pause("{\"reason\": \"x\"").code(), "malformed");
    for other in ["[]", "[\"because\"]", "\"because\"", "1"] {
        assert_eq!(pause(other).status, 422, "{other}");
    }
}

#[test]
fn slow_clients_do_not_stay() {
    let daemon = Daemon::with(Limits { head_ms: 300, body_ms: 300, ..wide() }, None);
    // Half a head; nothing at all.
    for sent in ["GET /healthz HT", ""] {
        let reply = exchange(daemon.connect(), sent.as_bytes());
        assert!(matches!(reply.status, 0 | 408), "{reply:?}");
    }
    // Half a body.
    let head = format!(
        "POST /v1/services/nobody/pause HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
        token(Role::Admin)
    );
    let reply = daemon.raw(head.as_bytes());
    assert_eq!((reply.status, reply.code().as_str()), (408, "too-slow"));
}

#[test]
fn one_connection_serves_many_requests() {
    let daemon = Daemon::start();
    let mut stream = daemon.connect();
    let one = "GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n";
    stream.write_all(one.repeat(2).as_bytes()).unwrap();
    let reply = exchange(stream, &request("GET", "/healthz", None, None));
    let all = format!("{}\r\n\r\n{}", reply.head, reply.body);
    assert_eq!(all.matches("HTTP/1.1 200").count(), 3, "{all}");
}

#[test]
fn a_flood_is_told_to_come_back_and_aborts_get_through() {
    let rare = Rate { per_s: 0.001, burst: 3.0 };
    let daemon = Daemon::with(Limits { calls: rare, ..wide() }, None);
    let operator = token(Role::Operator);
    let statuses: Vec<u16> = (0..5).map(|_| daemon.get("/v1/services", Some(&operator)).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let reply = daemon.get("/v1/services", Some(&operator));
    assert_eq!(reply.code(), "too-many-requests");
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 100);
    for order in ["abort", "reject", "rollback"] {
        assert_eq!(daemon.send("POST", &format!("/v1/services/nobody/{order}"), Role::Operator, b"{}").status, 404, "{order}");
    }
    let alerts = br#"{"version": "4", "alerts": []}"#;
    assert_eq!(daemon.send("POST", "/v1/alertmanager", Role::Operator, alerts).status, 200);
    assert_eq!(daemon.get("/v1/services", Some(&token(Role::Viewer))).status, 200, "somebody else");
}

#[test]
fn who_fails_often_is_refused_sooner_and_nobody_else() {
    let rare = Rate { per_s: 0.001, burst: 3.0 };
    let daemon = Daemon::with(Limits { failures: rare, ..wide() }, None);
    let statuses: Vec<u16> = (0..5).map(|_| daemon.get("/v1/services", Some("serin_wrong")).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert_eq!(daemon.get("/v1/services", Some(&token(Role::Viewer))).status, 200, "the same address with a token");
}

#[test]
fn connections_are_bounded_and_the_socket_has_its_own() {
    let daemon = Daemon::with(Limits { connections: 4, connections_per_address: Some(2), ..wide() }, None);
    let held = [daemon.connect(), daemon.connect()];
    // They are accepted in the order in which they came, so the third is over the bound.
    let mut third = daemon.connect();
    assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)), "let go");
    assert_eq!(daemon.local(&request("GET", "/healthz", None, None)).status, 200);
    drop(held);
    let begun = Instant::now();
    while daemon.get("/healthz", None).status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the places come back");
    }
}

#[test]
fn it_stops_and_takes_its_socket_along() {
    let mut daemon = Daemon::start();
    let socket = daemon.socket();
    let mut idle = daemon.connect();
    let mut stream = daemon.connect();
    stream.write_all(&request("GET", "/v1/events", Some(&token(Role::Viewer)), None)).unwrap();
    let mut some = [0; 8];
    stream.read_exact(&mut some).unwrap();
    daemon.stop();
    assert!(!socket.exists());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(matches!(idle.read(&mut some), Ok(0) | Err(_)));
    assert!(std::net::TcpStream::connect(daemon.address).is_err());
}
