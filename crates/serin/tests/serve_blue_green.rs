//! `serin serve`: blue-green releases that people end, or that something newer takes the place of, in each of their phases.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Site, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn version(document: &Document) -> String {
    http::get(document.listen, "/", &[]).unwrap().version().to_owned()
}

/// From one version to another; a person lets the preview pass.
fn release(first: &Document, stable: &str, canary: &str, bake: &str, retain: &str) -> Document {
    let document = first.clone().versions(stable, canary);
    document.set("strategy.blueGreen.bake", json!(bake)).set("strategy.blueGreen.retain", json!(retain))
}

fn cause(status: &Value) -> String {
    assert_eq!(status["last"]["end"]["result"], "rolled-back", "{status:#}");
    status["last"]["end"]["cause"]["text"].as_str().unwrap().to_owned()
}

#[track_caller]
fn in_preview(site: &Site, document: &Document, canary: &str) {
    site.until("shop", "the end of the preview", |status| status["release"]["phase"] == "awaiting approval");
    assert_eq!(http::get(document.preview(), "/", &[]).unwrap().version(), canary);
}

#[track_caller]
fn assert_closed(document: &Document) {
    wait::until("the preview to close", || std::net::TcpStream::connect(document.preview()).is_err().then_some(()));
}

#[test]
fn aborted_and_superseded_in_each_phase() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let first = Document::sample_apps("shop", &[], &[]).blue_green(&json!({"gate": "manual"}), "10m");
    let load = site.place().load(&first, 100, &[]);

    // Aborted in the preview.
    let _ = site.apply(&first).expect_code(0);
    in_preview(&site, &first, "v2");
    assert_eq!(version(&first), "v1");
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    assert!(cause(&site.over("shop", 1)).starts_with("aborted by "));
    assert_closed(&first);
    site.serving("shop");
    assert_eq!(version(&first), "v1");

    // Superseded in the preview; the preview of the newer one is behind the same address.
    let _ = site.say(&["retry", "shop"]).expect_code(0);
    in_preview(&site, &first, "v2");
    let second = release(&first, "v1", "v3", "10m", "0s");
    assert_eq!(site.apply(&second).expect_code(0).json()["result"], "supersedes");
    site.until("shop", "run 3", |status| status["release"]["document_hash"] != status["last"]["document_hash"]);
    in_preview(&site, &second, "v3");

    // In the bake nothing newer is taken, and the way back is one command.
    let _ = site.say(&["approve", "shop"]).expect_code(0);
    site.entry("shop", "the switch", |entry| entry["event"]["type"] == "switch-seen");
    assert_eq!(version(&first), "v3");
    assert_closed(&first);
    let third = release(&first, "v1", "v4", "1s", "10m");
    let refused = site.apply(&third).expect_code(3).json();
    assert!(refused["error"]["message"].as_str().unwrap().contains("serves all clients with its new version already"), "{refused}");
    let _ = site.say(&["rollback", "shop"]).expect_code(0);
    assert!(cause(&site.over("shop", 3)).starts_with("aborted by "));
    site.serving("shop");
    assert_eq!(version(&first), "v1");

    // While the old version is kept: something newer ends that, and finds the version that serves.
    let _ = site.apply(&third).expect_code(0);
    in_preview(&site, &third, "v4");
    let _ = site.say(&["approve", "shop"]).expect_code(0);
    site.until("shop", "the old version to be kept", |status| status["release"]["phase"] == "retained");
    assert_eq!(version(&first), "v4");
    let fourth = release(&first, "v4", "v5", "1s", "10m");
    let _ = site.apply(&fourth).expect_code(0);
    site.until("shop", "run 5", |status| status["last"]["number"] == 4 && status["release"]["phase"] == "awaiting approval");
    in_preview(&site, &fourth, "v5");
    assert_eq!(version(&first), "v4");

    // Or somebody goes back while it is kept.
    let _ = site.say(&["approve", "shop"]).expect_code(0);
    site.until("shop", "the old version to be kept", |status| status["release"]["phase"] == "retained");
    assert_eq!(version(&first), "v5");
    let _ = site.say(&["rollback", "shop"]).expect_code(0);
    assert!(cause(&site.over("shop", 5)).starts_with("aborted by "));
    site.serving("shop");
    assert_eq!(version(&first), "v4");
    load.stop().assert_nothing_lost();
    let _ = server.stop();
    processes::assert_none_left(site.place().path());
}
