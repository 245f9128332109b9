//! Sticky clients stay on their version: raising the weight moves some to the canary, and nothing moves one back.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Place, http};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const CLIENTS: usize = 80;
const ROUNDS: usize = 3;

/// A client that remembers its cookie, and what it saw.
struct Client {
    headers: Vec<(String, String)>,
    version: Option<String>,
}

impl Client {
    fn request(&mut self, document: &Document) -> String {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = http::get(document.listen, "/", &headers).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        if let Some(cookie) = answer.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap();
            self.headers = vec![("cookie".to_owned(), pair.to_owned())];
        }
        answer.version().to_owned()
    }
}

/// Takes all clients through a whole release. Returns how many were on the canary in each stage and at its end.
fn follow(sticky: Value, mut clients: Vec<Client>) -> Vec<usize> {
    let place = Place::new(SERIN);
    let weights = [5, 25, 50];
    let document = Document::sample_apps("sticky", &[], &[]).set("traffic.embedded.sticky", sticky);
    let document = weights.iter().fold(document, |document, weight| {
        document.stage_with(json!({"weight": weight, "hold": "500ms", "minRequests": 20, "gate": "manual"}))
    });
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 200, &[]);
    let mut on_canary = Vec::new();
    for stage in 1..=weights.len() {
        run.stage(stage);
        for client in &mut clients {
            let first = client.request(&document);
            assert!(client.version.as_deref() != Some("v2") || first == "v2", "a client was moved back to stable in stage {stage}");
            for _ in 1..ROUNDS {
                assert_eq!(client.request(&document), first, "a client changed its version within stage {stage}");
            }
            client.version = Some(first);
        }
        on_canary.push(count_on_canary(&clients));
        run.wait_for("the gate", |line| line["event"]["type"] == "approval-awaited" && line["event"]["step"] == stage - 1);
        let approved = place.serin(&["approve"]);
        assert!(approved.status.success(), "{approved:?}");
    }
    run.event("succeeded");
    for client in &mut clients {
        client.version = Some(client.request(&document));
    }
    on_canary.push(count_on_canary(&clients));
    load.stop().assert_nothing_lost();
    run.interrupt();
    assert_eq!(run.end().code, Some(0));
    on_canary
}

fn count_on_canary(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.version.as_deref() == Some("v2")).count()
}

/// Shares of few clients: five standard deviations around the weight.
fn assert_shares(on_canary: &[usize]) {
    assert!(on_canary[0] <= 14, "{on_canary:?} of {CLIENTS}");
    assert!((1..=39).contains(&on_canary[1]), "{on_canary:?} of {CLIENTS}");
    assert!((18..=62).contains(&on_canary[2]), "{on_canary:?} of {CLIENTS}");
    assert_eq!(on_canary[3], CLIENTS, "{on_canary:?}");
}

#[test]
fn by_cookie() {
    let clients = (0..CLIENTS).map(|_| Client { headers: Vec::new(), version: None }).collect();
    assert_shares(&follow(json!({"cookie": {"name": "serin"}}), clients));
}

#[test]
fn by_header() {
    let client = |number: usize| Client { headers: vec![("x-user-id".to_owned(), format!("user-{number}"))], version: None };
    assert_shares(&follow(json!({"header": "x-user-id"}), (0..CLIENTS).map(client).collect()));
}
