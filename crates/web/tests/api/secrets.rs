//! A token is in requests and nowhere else.

use serin_web::Role;

use crate::support::{Daemon, logged, request, token};

#[test]
fn tokens_are_neither_logged_nor_answered() {
    let daemon = Daemon::start();
    // One that is known and one that is not, both as shapes that scanners look for.
    let planted = "serin_PLANTED00000000000000000000000000000000000000";
    let known = token(Role::Viewer);
    let mut replies = Vec::new();
    for secret in [planted, &known] {
        let body = format!("{{\"reason\": \"because\", \"{secret}\": 1}}");
        replies.push(daemon.get("/v1/services", Some(secret)));
        replies.push(daemon.get("/metrics", Some(secret)));
        replies.push(daemon.get("/v1/openapi.json", Some(secret)));
        replies.push(daemon.get(&format!("/v1/services/{secret}"), Some(&known)));
        replies.push(daemon.get(&format!("/v1/services?token={secret}"), Some(&known)));
        replies.push(daemon.get(&format!("/v1/events?after={secret}"), Some(&known)));
        replies.push(daemon.raw(&request(secret, "/v1/services", Some(secret), None)));
        replies.push(daemon.raw(&request("POST", "/v1/services/nobody/abort", Some(secret), Some(body.as_bytes()))));
        replies.push(
            daemon.raw(
                format!("GET /v1/services HTTP/1.1\r\nHost: s\r\nConnection: close\r\nAuthorization: Basic {secret}\r\n\r\n").as_bytes(),
            ),
        );
    }
    let logged = logged();
    assert!(logged.contains("API access denied") && logged.contains("API request refused"), "the log sees what happens");
    assert!(logged.contains("test-viewer (token)"), "and who asked");
    for secret in [planted, &known] {
        assert!(!logged.contains(secret), "{secret} is in the log");
        for reply in &replies {
            assert!(!reply.head.contains(secret) && !reply.body.contains(secret), "{secret} is in an answer: {reply:?}");
        }
    }
}
