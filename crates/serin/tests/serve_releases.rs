//! `serin serve`: releases that come and go, what people can ask for meanwhile, and services that do not disturb each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use serin_testkit::{Document, Load, Site, http, processes, prompt::me, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// From `v1` to `v2` in a moment, under the load that the judge needs.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(50.0, "300ms", 10).bake("300ms")
}

/// A stage that nothing but a person ends.
fn long(document: Document) -> Document {
    document.set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m", "minRequests": 10}]))
}

fn load(site: &Site, document: &Document) -> Load {
    site.place().load(document, 100, &[])
}

/// The version that answers.
fn version(document: &Document) -> String {
    http::get(document.listen, "/", &[]).unwrap().version().to_owned()
}

/// What the API answered to an apply that it took.
#[track_caller]
fn applied(site: &Site, document: &Document) -> Value {
    site.apply(document).expect_code(0).json()
}

/// The error of a verb that was refused.
#[track_caller]
fn refused(site: &Site, args: &[&str], code: i32) -> String {
    let mut all = vec!["--output", "json"];
    all.extend_from_slice(args);
    message(&site.say(&all).expect_code(code).json())
}

fn message(refusal: &Value) -> String {
    assert_eq!(refusal["type"], "error", "{refusal}");
    refusal["error"]["message"].as_str().unwrap().to_owned()
}

fn cause(status: &Value) -> String {
    assert_eq!(status["last"]["end"]["result"], "rolled-back", "{status:#}");
    status["last"]["end"]["cause"]["text"].as_str().unwrap().to_owned()
}

#[test]
fn one_release_after_another() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let first = document("shop");
    let load = load(&site, &first);
    assert_eq!(applied(&site, &first)["result"], "created");
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    let status = site.serving("shop");
    assert!(status["serving"].as_str().unwrap().starts_with("canary of shop "), "{status:#}");
    assert_eq!((status["ready"].as_u64(), status["replicas"].as_u64(), version(&first).as_str()), (Some(1), Some(1), "v2"));
    assert_eq!(site.place().replicas().keys().map(String::as_str).collect::<Vec<_>>(), ["v1-1"], "run 1 brought it");

    // The next document starts where the last one ended.
    let before = (site.place().replicas(), processes::proxy(site.place().path()));
    let wrong = site.apply(&first.clone().versions("v1", "v3")).expect_code(2);
    let why = message(&wrong.json());
    assert!(
        why.contains("stable in the document is not the version that serves (command differ)") && why.contains("word for word"),
        "{why}"
    );
    let mut moved = first.clone().versions("v2", "v3");
    moved.value["spec"]["traffic"]["embedded"]["listen"] = json!(serin_testkit::free_address().to_string());
    let why = message(&site.apply(&moved).expect_code(2).json());
    assert!(why.contains("a service keeps its address"), "{why}");
    for (document, why) in [(&first.clone().versions("v1", "v3"), "not the version that serves"), (&moved, "keeps its address")] {
        let refused = message(&site.apply_with(document, &["--dry-run"]).expect_code(2).json());
        assert!(refused.contains(why), "{refused}");
    }
    let again = site.apply_with(&first, &["--dry-run"]).expect_code(0).json();
    assert_eq!(again["result"], "unchanged", "{again}");
    assert_eq!((site.place().replicas(), processes::proxy(site.place().path())), before, "a refused document changed something");
    assert_eq!(site.serving("shop")["last"]["number"], 1);

    let second = first.clone().versions("v2", "v3");
    let could = site.apply_with(&second, &["--dry-run"]).expect_code(0).json();
    assert!(could["result"] == "checked" && could["checks"].as_array().is_some_and(|checks| !checks.is_empty()), "{could}");
    let gate = site.apply_with(&second, &["--wait"]).expect_code(0).json_lines();
    assert_eq!(gate[0]["result"], "begun");
    assert!(gate.iter().any(|line| line["entry"]["event"]["type"] == "succeeded"), "{gate:?}");
    let status = site.over("shop", 2);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    site.serving("shop");
    assert_eq!(version(&first), "v3");
    assert_eq!(site.place().replicas().keys().map(String::as_str).collect::<Vec<_>>(), ["v2-1"]);
    assert_eq!(processes::proxy(site.place().path()), before.1, "all behind one proxy");

    // Once more the same: nothing to do, in any layout.
    let again = applied(&site, &second);
    assert_eq!((&again["result"], again["why"].as_str().unwrap().contains("its version serves")), (&json!("unchanged"), true), "{again}");
    assert!(refused(&site, &["retry", "shop"], 3).contains("the last release succeeded"));
    let listed = site.say(&["--output", "json", "history", "shop", "--list"]).expect_code(0).json_lines();
    let listed: Vec<_> = listed.iter().map(|row| (row["number"].as_i64().unwrap(), row["outcome"].as_str().unwrap())).collect();
    assert_eq!(listed, [(2, "succeeded"), (1, "succeeded")]);
    load.stop().assert_nothing_lost();
}

/// Streams on a canary that was promoted are stable's by then: the next canary is not blamed for them.
#[test]
fn long_streams_on_a_promoted_canary_do_not_hold_up_the_next_release() {
    // So many that stable's requests of the moment do not outweigh them.
    const MANY: f64 = 60.0;
    let site = Site::new(SERIN);
    let server = site.serve();
    let document = document("shop").set("traffic.embedded.drain", json!("500ms")).set("traffic.embedded.timeouts.response", json!("10m"));
    let first = document.clone().set("strategy.canary.stages", json!([{"weight": 50, "hold": "10m"}]));
    let load = load(&site, &first);
    let _ = applied(&site, &first);
    site.stage("shop", 1);
    let mut streams = Vec::new();
    wait::until("streams on the canary", || {
        streams.push(stream(first.listen));
        // Some of those that are counted are short ones.
        (busy(&site, "v1-1")? >= MANY + 20.0).then_some(())
    });
    let _ = site.say(&["promote", "shop"]).expect_code(0);
    assert_eq!(site.over("shop", 1)["last"]["end"]["result"], "succeeded");
    site.serving("shop");
    assert!(busy(&site, "v1-1").unwrap() >= MANY, "the streams are over already");

    // At the weight that assigned them.
    let _ = applied(&site, &document.versions("v2", "v3"));
    let status = site.over("shop", 2);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    drop(streams);
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

/// A request that takes as long as the connection is held.
fn stream(listen: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.write_all(b"GET /sleep/600000 HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    stream
}

/// Requests that a replica is working on, as it says itself.
fn busy(site: &Site, replica: &str) -> Option<f64> {
    let metrics = http::get(processes::address(site.place().path(), replica)?, "/metrics", &[]).ok()?.text();
    let value = metrics.lines().find_map(|line| line.strip_prefix("http_requests_in_flight")?.split(' ').next_back());
    value?.parse().ok()
}

#[test]
fn what_was_rolled_back_stays_back_until_somebody_retries() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let document = long(document("shop"));
    let load = load(&site, &document);
    let _ = applied(&site, &document);
    site.stage("shop", 1);
    let under_way = applied(&site, &document);
    assert_eq!(under_way["result"], "unchanged", "{under_way}");
    assert!(refused(&site, &["retry", "shop"], 3).contains("is under way"));
    assert!(refused(&site, &["delete", "shop"], 3).contains("abort it first"));
    let _ = site.say(&["abort", "shop", "--reason", "looks odd"]).expect_code(0);
    let status = site.over("shop", 1);
    assert_eq!(cause(&status), format!("aborted by {}: looks odd", me("tester")));
    site.serving("shop");
    assert_eq!(version(&document), "v1");
    let gate = site.say(&["status", "shop", "--wait"]).expect_code(4);
    assert!(gate.stdout.is_empty(), "nothing happens any more: {}", gate.stdout);

    let again = applied(&site, &document);
    let why = again["why"].as_str().unwrap();
    assert!(again["result"] == "unchanged" && why.contains("rolled back") && why.contains("`serin retry shop`"), "{again}");
    assert_eq!(site.serving("shop")["last"]["number"], 1);
    let gate = site.apply_with(&document, &["--wait"]).expect_code(4);
    assert_eq!(gate.json()["result"], "unchanged", "a pipeline that runs once more takes a rollback for a success");

    let _ = site.say(&["retry", "shop", "--reason", "repaired"]).expect_code(0);
    let began = site.until("shop", "run 2", |status| status["release"]["run"] == 2);
    assert_eq!(began["release"]["document_hash"], status["last"]["document_hash"]);
    site.stage("shop", 1);
    let began = site.journaled("shop", "began");
    assert_eq!((began[0]["by"].as_str(), began[0]["reason"].as_str()), (Some(me("tester").as_str()), Some("repaired")));
    let _ = site.say(&["rollback", "shop"]).expect_code(0);
    assert!(cause(&site.over("shop", 2)).starts_with("aborted by "));
    // Nothing is kept of a version that was rolled back.
    site.serving("shop");
    assert!(refused(&site, &["rollback", "shop"], 3).contains("no old version is kept"));
    assert!(refused(&site, &["abort", "shop"], 3).contains("no release of shop is under way"));
    assert!(refused(&site, &["abort", "shap"], 2).contains("there is no service called shap; there are: shop"));
    load.stop().assert_nothing_lost();
}

#[test]
fn the_same_document_while_it_is_being_rolled_back_does_not_bring_it_back() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    // A request that is under way on the canary holds the rollback up.
    let document = long(document("shop")).set("traffic.embedded.drain", json!("20s"));
    let document = document.set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]));
    let load = load(&site, &document);
    let _ = applied(&site, &document);
    site.stage("shop", 1);
    let listen = document.listen;
    let slow = std::thread::spawn(move || http::get(listen, "/sleep/3000", &[("x-canary", "true")]));
    site.until("shop", "a slow request", |status| status["release"]["arms"][1]["totals"]["matched"].as_u64() > Some(0) || in_flight(&site));
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    site.until("shop", "rolling back", |status| status["release"]["phase"] == "rolling back" || status["last"]["number"] == 1);
    let again = applied(&site, &document);
    assert_eq!(again["result"], "unchanged", "{again}");
    assert!(again["why"].as_str().unwrap().contains("serin retry shop"), "{again}");
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    site.over("shop", 1);
    let status = site.serving("shop");
    assert_eq!((&status["last"]["number"], version(&document).as_str()), (&json!(1), "v1"));
    load.stop().assert_nothing_lost();
}

/// Whether the canary of run 1 works on the slow request.
fn in_flight(site: &Site) -> bool {
    let Some(canary) = processes::address(site.place().path(), "v1-1") else { return false };
    let Ok(metrics) = http::get(canary, "/metrics", &[]) else { return false };
    metrics.text().lines().any(|line| line.starts_with("http_requests_in_flight") && !line.ends_with(" 0"))
}

#[test]
fn a_rollback_after_success_while_the_old_version_is_kept() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let document = document("shop").set("strategy.canary.retain", json!("10m"));
    let load = load(&site, &document);
    let _ = applied(&site, &document);
    site.until("shop", "the old version to be kept", |status| status["release"]["phase"] == "retained");
    assert_eq!(version(&document), "v2");
    let _ = site.say(&["rollback", "shop", "--reason", "customers complain"]).expect_code(0);
    let status = site.over("shop", 1);
    assert!(cause(&status).ends_with("customers complain"), "{status:#}");
    let status = site.serving("shop");
    assert_eq!((version(&document).as_str(), status["serving"].as_str().unwrap().contains("(declared)")), ("v1", true), "{status:#}");
    assert_eq!(site.place().replicas().keys().map(String::as_str).collect::<Vec<_>>(), ["v0-1"]);
    load.stop().assert_nothing_lost();
}

#[test]
fn a_newer_document_takes_the_place_of_a_release_in_a_stage() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let first = long(document("shop"));
    let load = load(&site, &first);
    let _ = applied(&site, &first);
    site.stage("shop", 1);
    let stable = site.place().pids("v0");
    let second = document("shop").versions("v1", "v3").at(first.listen);
    let could = site.apply_with(&second, &["--dry-run"]).expect_code(0).json();
    assert!(could["result"] == "checked" && could["supersedes"].as_str().is_some_and(|what| what.contains("shop run 1")), "{could}");
    let superseding = site.apply_with(&second, &["--reason", "v2 is old"]).expect_code(0).json();
    assert_eq!(superseding["result"], "supersedes", "{superseding}");
    assert!(superseding["supersedes"].as_str().unwrap().contains("shop run 1"), "{superseding}");
    site.over("shop", 2);
    let status = site.serving("shop");
    assert_eq!((&status["last"]["end"]["result"], version(&first).as_str()), (&json!("succeeded"), "v3"), "{status:#}");
    let began = site.journaled("shop", "began");
    assert_eq!((began[0]["by"].as_str(), began[0]["reason"].as_str()), (Some(me("tester").as_str()), Some("v2 is old")));
    let listed = site.say(&["--output", "json", "history", "shop", "--list"]).expect_code(0).json_lines();
    let outcomes: Vec<_> = listed.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["succeeded", "rolled back"]);
    let journal = site.read("/v1/services/shop/runs/1/journal?limit=5000").unwrap();
    let decided = journal["entries"].as_array().unwrap().iter().find(|entry| entry["event"]["type"] == "rollback-decided").unwrap().clone();
    assert!(decided["event"]["cause"]["text"].as_str().unwrap().contains("superseded by shop "), "{decided}");
    assert!(!stable.is_empty());
    load.stop().assert_nothing_lost();
}

#[test]
fn a_newer_document_is_refused_in_the_bake_and_ends_the_retention() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let first = document("shop").bake("10m").set("strategy.canary.retain", json!("10m"));
    let load = load(&site, &first);
    let _ = applied(&site, &first);
    site.until("shop", "the bake", |status| status["release"]["phase"] == "baking");
    for stable in ["v1", "v2"] {
        let refused = site.apply(&first.clone().versions(stable, "v3"));
        // The one names what was stable, the other what serves: neither may begin now.
        let code = refused.code;
        let why = message(&refused.json());
        assert!(
            code == 3 && why.contains("serves all clients with its new version already") && why.contains("serin rollback shop"),
            "{code} {why}"
        );
    }
    assert_eq!(site.status("shop")["queued"], Value::Null);
    let _ = site.say(&["rollback", "shop"]).expect_code(0);
    site.over("shop", 1);

    let second = document("shop").at(first.listen).set("strategy.canary.retain", json!("10m"));
    let _ = applied(&site, &second);
    site.until("shop", "the old version to be kept", |status| status["release"]["phase"] == "retained");
    let third = second.versions("v2", "v3");
    assert_eq!(applied(&site, &third)["result"], "supersedes");
    site.until("shop", "run 3", |status| status["last"]["number"] == 2 && status["release"]["phase"] == "retained");
    assert_eq!(version(&first), "v3");
    assert_eq!(site.place().pids("v0").len(), 0, "v1 is kept although v3 was released after v2");
    load.stop().assert_nothing_lost();
}

#[test]
fn people_act_by_the_name_of_the_service_and_the_journal_knows_them() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let gate = json!({"weight": 30, "hold": "100ms", "minRequests": 5, "gate": "manual"});
    let document =
        document("shop").set("strategy.canary.stages", json!([{"weight": 10, "hold": "10m"}, gate, {"weight": 60, "hold": "10m"}]));
    let load = load(&site, &document);
    let _ = applied(&site, &document);
    site.stage("shop", 1);
    let say = |args: &[&str]| drop(site.say(&[args, &["--reason", "because"]].concat()).expect_code(0));
    assert!(refused(&site, &["approve", "shop"], 3).contains("nothing waits for approval"));
    say(&["pause", "shop"]);
    assert_eq!(site.until("shop", "the pause", |status| status["release"]["paused"] == true)["release"]["weight"], 1000);
    let _ = site.say(&["status", "shop", "--wait"]).expect_code(5);
    say(&["resume", "shop"]);
    say(&["weight", "shop", "35"]);
    site.until("shop", "35 %", |status| status["release"]["weight"] == 3500 && status["release"]["paused"] == true);
    assert!(refused(&site, &["reject", "shop"], 3).contains("nothing waits for approval"));
    say(&["promote", "shop"]);
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    let (by, because) = (me("tester"), "because");
    for (kind, who, why) in
        [("paused", "by", "reason"), ("resumed", "by", "reason"), ("overridden", "by", "reason"), ("promoted-by-person", "by", "reason")]
    {
        let found = site.journaled("shop", kind);
        let found = found.first().unwrap_or_else(|| panic!("no {kind}: {:#?}", site.journal("shop")));
        assert_eq!((found[who].as_str(), found[why].as_str()), (Some(by.as_str()), Some(because)), "{found}");
    }
    // The same for people, over the verb.
    let told = site.say(&["history", "shop"]).expect_code(0);
    assert!(told.stdout.contains(&by) && told.stdout.contains(because), "{}", told.stdout);

    // The next release waits for approval, and gets it in its first gate but not in its second.
    let gate = |weight: u32| json!({"weight": weight, "hold": "100ms", "minRequests": 5, "gate": "manual"});
    let next = document.clone().versions("v2", "v3").set("strategy.canary.stages", json!([gate(20), gate(40)]));
    let _ = applied(&site, &next);
    site.until("shop", "a question", |status| status["release"]["phase"] == "awaiting approval" && status["release"]["stage"] == 1);
    say(&["approve", "shop"]);
    site.until("shop", "another question", |status| status["release"]["phase"] == "awaiting approval" && status["release"]["stage"] == 2);
    say(&["reject", "shop"]);
    let status = site.over("shop", 2);
    assert_eq!(cause(&status), format!("rejected by {by}: because"));
    let approved = site.journaled("shop", "approved");
    assert_eq!((approved[0]["by"].as_str(), approved[0]["reason"].as_str()), (Some(by.as_str()), Some(because)));
    site.serving("shop");
    assert_eq!(version(&document), "v2");
    load.stop().assert_nothing_lost();
}

#[test]
fn a_deleted_service_is_gone_but_for_its_journals() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let (document, other) = (document("shop"), document("other"));
    let shop_load = load(&site, &document);
    let _ = applied(&site, &document);
    site.over("shop", 1);
    site.serving("shop");
    let own = [site.place().replicas()["v1-1"], processes::proxy(site.place().path()).unwrap()];
    let other_load = load(&site, &other);
    let _ = applied(&site, &other);
    site.over("other", 1);
    site.serving("other");
    shop_load.stop().assert_nothing_lost();
    let deleted = site.say(&["--output", "json", "delete", "shop", "--reason", "not needed"]).expect_code(0).json();
    let journals = deleted["journals"].as_str().unwrap().to_owned();
    wait::until("the service to be gone", || site.say(&["get", "shop"]).stderr.contains("there is no service called shop").then_some(()));
    let left = || processes::mentioning(site.place().path()).into_iter().filter(|process| own.contains(&process.pid)).count();
    wait::until("its processes to be gone", || (left() == 0).then_some(()));
    assert!(std::net::TcpStream::connect(document.listen).is_err(), "it still listens");
    assert!(!site.service_dir("shop").exists());
    let kept = site.say(&["--output", "json", "history", "--state", &journals]).expect_code(0).json_lines();
    assert_eq!((&kept[0]["outcome"], &kept[1]["event"]["type"]), (&json!("succeeded"), &json!("began")), "{kept:?}");
    server.note("shop", "deleted by");
    // Deleted is deleted, and the name is free again.
    assert_eq!(version(&other), "v2");
    other_load.stop().assert_nothing_lost();
    let again = load(&site, &document);
    assert_eq!(applied(&site, &document)["result"], "created");
    assert_eq!(site.over("shop", 1)["last"]["end"]["result"], "succeeded");
    again.stop().assert_nothing_lost();
}

#[test]
fn services_of_the_configuration_serve_from_the_start() {
    let site = Site::new(SERIN);
    let (first, second) = (document("first"), document("second"));
    for document in [&first, &second] {
        let _ = site.write(&format!("{}.yaml", document.value["metadata"]["name"].as_str().unwrap()), &document.text());
    }
    let config = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Server",
        "spec": {"services": [{"document": "first.yaml"}, {"document": "second.yaml"}]},
    });
    let config = site.write("serin.yaml", &config.to_string());
    let server = site.serve_with(&["--config", &config]);
    for document in [&first, &second] {
        let name = document.value["metadata"]["name"].as_str().unwrap();
        let status = site.serving(name);
        assert!(status["serving"].as_str().unwrap().ends_with("(declared)"), "{status:#}");
        assert_eq!((version(document).as_str(), &status["last"]), ("v1", &Value::Null));
    }
    let replicas = processes::mentioning(site.place().path()).into_iter().filter(|process| process.replica.is_some()).count();
    assert_eq!(replicas, 2, "canaries are not started");
    // What was released wins over what is declared, also after a restart.
    let load = load(&site, &first);
    assert_eq!(applied(&site, &first)["result"], "begun");
    assert_eq!(site.over("first", 1)["last"]["end"]["result"], "succeeded");
    assert_eq!(server.leave().code, Some(0));
    let server = site.serve_with(&["--config", &config]);
    let status = site.serving("first");
    assert!(status["serving"].as_str().unwrap().starts_with("canary of first "), "{status:#}");
    assert_eq!(version(&first), "v2");
    load.stop().assert_nothing_lost();
    site.stopped(server);

    let broken =
        site.write("broken.yaml", &json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Server", "spec": {"service": []}}).to_string());
    let refused = site.say(&["serve", "--config", &broken]).expect_code(2);
    assert!(refused.stderr.contains("service"), "{}", refused.stderr);
}

#[test]
fn a_service_that_fails_disturbs_no_other_and_heals() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let (good, damaged, late) = (long(document("good")), document("damaged"), document("late"));
    let load = load(&site, &good);
    let _ = applied(&site, &good);
    site.stage("good", 1);
    let pids = site.place().replicas();

    // A command that does not exist is seen before anything is begun.
    let missing = late.clone().set("workload.processes.canary.command", json!(["/no/such/program"]));
    let why = message(&site.apply(&missing).expect_code(3).json());
    assert!(why.contains("preflight failed") && why.contains("/no/such/program"), "{why}");
    let _ = site.say(&["get", "late"]).expect_code(2);
    // One that ends at once is not.
    let ends = late.clone().set("workload.processes.stable.command", json!(["sh", "-c", "echo no licence; exit 7"]));
    let ends = ends.set("workload.processes.stable.ready.within", json!("1s"));
    assert_eq!(site.apply_with(&ends, &["--wait"]).expect_code(1).json_lines()[0]["result"], "created");
    let failed = site.until("late", "failure", |status| status["state"] == "failed");
    assert!(failed["fault"].as_str().unwrap().contains("the version is healthy"), "{failed:#}");
    let shown = site.say(&["get"]).expect_code(0);
    let row = shown.stdout.lines().find(|line| line.starts_with("late ")).unwrap_or_else(|| panic!("{}", shown.stdout)).to_owned();
    assert!(row.contains("failed") && row.contains("exited with code 7"), "{row}");
    let _ = site.say(&["status", "late"]).expect_code(1);
    assert!(refused(&site, &["pause", "late"], 3).contains("nothing was changed"));

    // A folder whose store is damaged.
    let folder = site.service_dir("damaged");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("serin.db"), "this is not a database, and long enough to be looked at as one".repeat(50)).unwrap();
    let _ = site.apply(&damaged);
    let failed = site.until("damaged", "failure", |status| status["state"] == "failed");
    assert!(failed["fault"].as_str().unwrap().contains("is damaged"), "{failed:#}");

    // Meanwhile the good one goes on, and it can be acted on.
    assert_eq!(pids.keys().collect::<Vec<_>>(), site.place().replicas().keys().collect::<Vec<_>>());
    let _ = site.say(&["pause", "good"]).expect_code(0);
    let _ = site.say(&["resume", "good"]).expect_code(0);

    // What is right heals the ones that were never up.
    let late_load = site.place().load(&late, 100, &[]);
    let _ = site.apply(&late).expect_code(0);
    assert_eq!(site.over("late", 1)["last"]["end"]["result"], "succeeded", "{:#}", site.status("late"));
    late_load.stop().assert_nothing_lost();
    fs::remove_file(folder.join("serin.db")).unwrap();
    let damaged_load = site.place().load(&damaged, 100, &[]);
    let _ = site.apply(&damaged).expect_code(0);
    assert_eq!(site.over("damaged", 1)["last"]["end"]["result"], "succeeded", "{:#}", site.status("damaged"));
    damaged_load.stop().assert_nothing_lost();

    let _ = site.say(&["abort", "good"]).expect_code(0);
    site.over("good", 1);
    load.stop().assert_nothing_lost();
    site.stopped(server);
}
