//! Documents, alerts, health and metrics, as far as they need no service.

use serde_json::json;
use serin_web::Role;

use crate::support::{Daemon, request, token};

/// A release that could begin if somebody let it.
const DOCUMENT: &str = r#"apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: shop}
spec:
  workload:
    processes:
      stable: {command: [/bin/sleep, "1000"]}
      canary: {command: [/bin/sleep, "1000"]}
  traffic: {embedded: {listen: "127.0.0.1:18765"}}
  strategy: {canary: {stages: [{weight: 50, hold: 1s}]}}
"#;

fn apply(daemon: &Daemon, body: &serde_json::Value) -> crate::support::Reply {
    daemon.send("POST", "/v1/releases", Role::Admin, body.to_string().as_bytes())
}

#[test]
fn a_broken_document_is_answered_with_everything_that_is_wrong() {
    let daemon = Daemon::start();
    let reply = apply(&daemon, &json!({"document": "apiVersion: serin.dev/v1alpha1\nkind: Releese\n", "name": "shop.yaml"}));
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid-document"));
    let diagnostics = &reply.json()["error"]["diagnostics"];
    assert_eq!(diagnostics["source"], "shop.yaml");
    assert!(diagnostics["diagnostics"].as_array().unwrap().iter().any(|one| one["line"] == 2), "{diagnostics}");
    assert_eq!(apply(&daemon, &json!({"document": DOCUMENT, "dir": "relative"})).code(), "invalid");
    assert_eq!(apply(&daemon, &json!({"document": DOCUMENT, "dryrun": true})).code(), "invalid", "a misspelt field begins nothing");
    assert_eq!(daemon.get("/v1/services", Some(&token(Role::Viewer))).json(), json!({"services": []}));
}

#[test]
fn a_dry_run_begins_nothing() {
    let daemon = Daemon::start();
    for name in ["dry_run", "dryRun"] {
        let reply = apply(&daemon, &json!({"document": DOCUMENT, "dir": "/", name: true}));
        let answer = reply.json();
        assert_eq!(
            (reply.status, answer["result"].as_str(), answer["service"].as_str()),
            (200, Some("checked"), Some("shop")),
            "{reply:?}"
        );
        assert!(answer["checks"].as_array().unwrap().iter().any(|check| check["name"] == "open files"), "{answer}");
    }
    let missing = DOCUMENT.replace("/bin/sleep", "/bin/no-such-program");
    let reply = apply(&daemon, &json!({"document": missing, "dry_run": true}));
    assert_eq!((reply.status, reply.code().as_str()), (422, "preflight"), "{reply:?}");
    let failed = reply.json()["error"]["checks"].clone();
    assert!(failed.as_array().unwrap().iter().any(|check| check["name"] == "stable command" && check["status"] == "fail"), "{failed}");
    assert_eq!(daemon.get("/v1/services", Some(&token(Role::Viewer))).json(), json!({"services": []}));
}

#[test]
fn weights_are_percent() {
    let daemon = Daemon::start();
    let weight = |body: &str| daemon.send("POST", "/v1/services/nobody/weight", Role::Operator, body.as_bytes());
    assert_eq!(weight("{\"percent\": 12.5}").code(), "no-such-service");
    for bad in ["{\"percent\": 101}", "{\"percent\": -1}", "{\"percent\": 1.234}", "{\"percent\": \"5\"}", "{}", ""] {
        assert!(matches!(weight(bad).status, 415 | 422 | 400), "{bad}: {:?}", weight(bad));
    }
}

#[test]
fn alerts_that_are_not_ours_are_ignored_and_said_to_be() {
    let daemon = Daemon::start();
    let message = json!({
        "version": "4", "groupKey": "{}", "status": "firing", "receiver": "serin", "truncatedAlerts": 0, "externalURL": "http://am",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "alerts": [
            {"status": "firing", "labels": {"alertname": "A", "service": "elsewhere"}, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z", "fingerprint": "1"},
            {"status": "resolved", "labels": {"alertname": "B", "service": "shop"}, "annotations": {}},
            {"status": "firing", "labels": {"alertname": "C"}, "annotations": {}},
        ],
    });
    let send = |role| daemon.send("POST", "/v1/alertmanager", role, message.to_string().as_bytes());
    for _ in 0..2 {
        let reply = send(Role::Operator);
        assert_eq!((reply.status, &reply.json()["aborted"]), (200, &json!([])));
        let mut ignored: Vec<String> =
            reply.json()["ignored"].as_array().unwrap().iter().map(|one| one["alert"].as_str().unwrap().to_owned()).collect();
        ignored.sort();
        assert_eq!(ignored, ["A", "B", "C"]);
    }
    assert_eq!(send(Role::Viewer).status, 403);
    let other = json!({"version": "5", "alerts": []}).to_string();
    assert_eq!(daemon.send("POST", "/v1/alertmanager", Role::Operator, other.as_bytes()).status, 422);
}

#[test]
fn health_needs_no_token_and_metrics_do() {
    let daemon = Daemon::start();
    assert_eq!(daemon.get("/healthz", None).json(), json!({"ok": true, "starting": 0, "failed": 0}));
    assert_eq!(daemon.get("/readyz", None).status, 200);
    let page = daemon.get("/metrics", Some(&token(Role::Viewer)));
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "serin_services{state=\"serving\"} 0",
        "serin_api_requests_total{route=\"healthz\",status=\"200\"} 1",
        "serin_api_requests_in_flight 1",
        "# TYPE serin_rollback_traffic_zero_seconds histogram",
    ] {
        assert!(page.body.lines().any(|one| one == line), "{line}\n{}", page.body);
    }
    let local = daemon.local(&request("GET", "/metrics", None, None));
    assert!(local.body.contains("process_resident_memory_bytes"), "no token over the socket");
}
