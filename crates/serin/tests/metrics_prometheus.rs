//! Releases that are judged by what a real Prometheus measures.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests; a test says that it was left out")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use serin_testkit::{
    Document, Place, Site, free_address, http,
    prometheus::{self, Prometheus},
    wait,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

const LOST: &str = "orders_total{version=\"{{arm}}\",result=\"lost\"}";
const ORDERS: &str = "orders_total{version=\"{{arm}}\"}";

/// A sample app of the test's own.
struct App {
    child: Child,
    address: SocketAddr,
}

impl App {
    fn start(place: &Place, version: &str) -> Self {
        let address = free_address();
        let (port, version) = (format!("--port={}", address.port()), format!("--version={version}"));
        let mut command = place.command(&["sample-app", &port, &version]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait::until("the app", || http::get(address, "/ready", &[]).ok().filter(|answer| answer.status == 200));
        Self { child, address }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both versions, a Prometheus that scrapes them, and a release that asks it every second.
struct Shop {
    prometheus: Prometheus,
    canary: App,
    stable: App,
    place: Place,
}

impl Shop {
    /// `None` if there is no Prometheus here.
    fn open(rules: Option<&str>) -> Option<Self> {
        let Some(program) = prometheus::program() else {
            println!("left out: prometheus is not installed");
            return None;
        };
        let place = Place::new(SERIN);
        let (stable, canary) = (App::start(&place, "v1"), App::start(&place, "v2"));
        let prometheus = Prometheus::start(program, &place, &[stable.address, canary.address], rules);
        for version in ["v1", "v2"] {
            prometheus.wait_for(&format!("orders_total%7Bversion=%22{version}%22%7D"));
        }
        Some(Self { prometheus, canary, stable, place })
    }

    fn document(&self, judge: &str, metrics: Value, criteria: Value) -> Document {
        Document::external("shop", self.stable.address, self.canary.address)
            .judge(judge)
            .set("analysis.interval", json!("1s"))
            .set("analysis.sources", json!({"prom": {"prometheus": {"url": self.prometheus.url(), "timeout": "5s"}}}))
            .set("analysis.arms", json!({"stable": "v1", "canary": "v2"}))
            .set("analysis.metrics", metrics)
            .criteria(criteria)
    }

    fn ratio(&self) -> Document {
        let metrics = json!([{"name": "lost-orders", "prometheus": {"source": "prom", "numerator": LOST, "denominator": ORDERS}}]);
        self.document("sequential", metrics, json!([{"metric": "lost-orders", "versusStable": {"ratio": 1.5}}]))
    }

    fn criterion(&self, name: &str) -> Value {
        let status = self.place.status();
        let criteria = status["status"]["criteria"].as_array().cloned().unwrap_or_default();
        criteria.into_iter().find(|one| one["name"] == name).unwrap_or_default()
    }
}

#[test]
fn a_canary_that_only_the_business_sees_to_be_bad_is_rolled_back() {
    let Some(shop) = Shop::open(None) else { return };
    http::behave(shop.canary.address, &json!({"lost_rate": 0.3}));
    let document = shop.ratio().stage(20.0, "10m", 0);
    let run = shop.place.run(&document, &["--keep-serving"]);
    let load = shop.place.load(&document, 200, &[]);
    let ended = run.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.decided_by(), "lost-orders");
    assert!(ended.cause().contains("needed") && ended.cause().contains("stable"), "{}", ended.cause());
    assert_eq!(ended.canary_errors(), 0, "to the proxy every answer was good");
}

#[test]
fn an_equal_canary_passes() {
    let Some(shop) = Shop::open(None) else { return };
    let document = shop.ratio().stage_with(json!({"weight": 50, "hold": "3s", "maxHold": "5m"})).bake("2s");
    let run = shop.place.run(&document, &["--keep-serving"]);
    let load = shop.place.load(&document, 400, &[]);
    let ended = run.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
}

#[test]
fn a_source_that_is_gone_promotes_nobody() {
    let Some(mut shop) = Shop::open(None) else { return };
    let document = shop.ratio().stage_with(json!({"weight": 50, "hold": "1s", "maxHold": "15s"}));
    let run = shop.place.run(&document, &["--keep-serving"]);
    // The source is gone before the stage can have seen enough to pass.
    run.event("began");
    run.event("preflight-passed");
    shop.prometheus.kill();
    let load = shop.place.load(&document, 400, &[]);
    wait::until("the reason in the status", || {
        let lost = shop.criterion("lost-orders");
        let text = lost["text"].as_str().unwrap_or_default().to_owned();
        (lost["verdict"] == "unknown" && text.starts_with("unreachable: ")).then_some(())
    });
    let paused = run.event("paused");
    assert_eq!(paused["event"]["by"], Value::Null, "{paused}");
    assert!(run.events("stage-passed").is_empty() && run.events("promotion-started").is_empty(), "{}", run.story());
    // What comes back is believed again.
    shop.prometheus.start_again();
    wait::until("the source to be seen again", || (shop.criterion("lost-orders")["verdict"] != "unknown").then_some(()));
    let aborted = shop.place.serin(&["abort"]);
    assert!(aborted.status.success(), "{aborted:?}");
    // An interrupt before that would be the end instead.
    let _ = run.event("rolled-back");
    load.stop().assert_nothing_lost();
    run.interrupt();
    assert_eq!(run.end().code, Some(4));
}

#[test]
fn a_source_that_hangs_delays_no_rollback() {
    let Some(shop) = Shop::open(None) else { return };
    let patient = json!({"prom": {"prometheus": {"url": shop.prometheus.url(), "timeout": "1m"}}});
    let document = shop.ratio().set("analysis.sources", patient).stage(50.0, "10m", 0);
    let run = shop.place.run(&document, &["--keep-serving"]);
    let load = shop.place.load(&document, 200, &[]);
    run.stage(1);
    shop.prometheus.freeze();
    http::behave(shop.canary.address, &json!({"error_rate": 1.0}));
    let _ = run.event("rolled-back");
    drop(load);
    run.interrupt();
    let ended = run.end();
    // With few requests of stable it is first seen how that does without the canary.
    let by = ended.decided_by();
    assert!(ended.code == Some(4) && ["outage", "interference"].contains(&by.as_str()), "{by}: {}", ended.story());
    // A question to the source takes a minute now.
    assert!(ended.took_back_in_ms() < 20_000, "{}", ended.story());
}

#[test]
fn each_kind_of_gap_is_told_from_the_others() {
    let Some(shop) = Shop::open(None) else { return };
    // Each has an answer for stable, and none for the canary.
    let value = |name: &str, arms: [&str; 2], query: &str| {
        let arms = json!({"stable": arms[0], "canary": arms[1]});
        json!({"name": name, "prometheus": {"source": "prom", "query": query, "arms": arms}})
    };
    let metrics = json!([
        value("empty", ["v1", "nobody"], "sum by (version) (orders_total{version=\"{{arm}}\"})"),
        value("nan", ["1", "0"], "vector({{arm}}) / vector({{arm}})"),
        value("several", ["placed", ".*"], "orders_total{version=\"v1\", result=~\"{{arm}}\"}"),
        value("fine", ["1", "2"], "vector({{arm}})"),
        {"name": "no-counters", "prometheus": {
            "source": "prom", "numerator": LOST, "denominator": ORDERS, "arms": {"stable": "v1", "canary": "nobody"},
        }},
    ]);
    let limit = |name: &str| json!({"metric": name, "max": "1000000000"});
    let criteria = json!([limit("empty"), limit("nan"), limit("several"), limit("fine"), {"metric": "no-counters", "max": "50%"}]);
    let document = shop.document("threshold", metrics, criteria).stage_with(json!({"weight": 50, "hold": "1s", "maxHold": "20s"}));
    let run = shop.place.run(&document, &["--keep-serving"]);
    run.stage(1);
    for (name, reason) in [("empty", "empty: "), ("nan", "not a number: "), ("several", "several series: "), ("no-counters", "empty: ")] {
        wait::until(&format!("the reason of {name}"), || {
            let one = shop.criterion(name);
            let text = one["text"].as_str().unwrap_or_default().to_owned();
            (one["verdict"] == "unknown" && text.starts_with(reason) && text.contains("canary")).then_some(())
        });
    }
    wait::until("the value that is there", || (shop.criterion("fine")["verdict"] == "pass").then_some(()));
    run.event("paused");
    assert!(run.events("stage-passed").is_empty(), "{}", run.story());
    run.interrupt();
    assert_eq!(run.end().code, Some(130));
}

/// A service of a server asks with a token that is read when it is needed and shows up nowhere.
#[test]
fn a_server_asks_as_well_and_keeps_its_secrets() {
    let Some(program) = prometheus::program() else {
        println!("left out: prometheus is not installed");
        return;
    };
    let site = Site::new(SERIN);
    let place = site.place();
    let (stable, canary) = (App::start(place, "v1"), App::start(place, "v2"));
    http::behave(canary.address, &json!({"lost_rate": 0.5}));
    let prometheus = Prometheus::start(program, place, &[stable.address, canary.address], None);
    for version in ["v1", "v2"] {
        prometheus.wait_for(&format!("orders_total%7Bversion=%22{version}%22%7D"));
    }
    let token = place.path().join("token");
    fs::write(&token, "s3cret-token").unwrap();
    let shop = Shop { prometheus, canary, stable, place: Place::new(SERIN) };
    let source = json!({"url": shop.prometheus.url(), "auth": {"bearer": {"file": token}}});
    let document = shop.ratio().set("analysis.sources", json!({"prom": {"prometheus": source}})).stage(50.0, "10m", 0);
    let server = site.serve();
    let _ = site.apply(&document).expect_code(0);
    let load = site.place().load(&document, 200, &[]);
    let status = site.over("shop", 1);
    load.stop().assert_nothing_lost();
    let cause = &status["last"]["end"]["cause"];
    assert_eq!(cause["kind"]["criterion"]["name"], "lost-orders", "{status:#}");
    assert!(!status.to_string().contains("s3cret"), "{status:#}");
    drop(server);
    let state = fs::read_dir(site.place().path()).unwrap().flat_map(|entry| files(&entry.unwrap().path()));
    let telling: Vec<PathBuf> = state
        .filter(|file| *file != token && fs::read(file).is_ok_and(|bytes| bytes.windows(6).any(|window| window == b"s3cret")))
        .collect();
    assert_eq!(telling, [] as [PathBuf; 0]);
}

/// Every file below a path.
fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flat_map(|entry| files(&entry.unwrap().path())).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

const RULES: &str = "groups:\n- name: shop\n  rules:\n  - alert: OrdersLost\n    expr: sum(orders_total{result=\"lost\"}) > 5\n    labels: {severity: page}\n";

fn watched(shop: &Shop) -> Document {
    shop.ratio()
        .criteria(json!([{"metric": "lost-orders", "versusStable": {"ratio": 1.5}, "onBreach": "warn"}]))
        .set("analysis.alerts", json!([{"source": "prom", "match": {"alertname": "OrdersLost"}}]))
        .stage(50.0, "10m", 0)
}

#[test]
fn an_alert_takes_the_traffic_back() {
    let Some(shop) = Shop::open(Some(RULES)) else { return };
    let document = watched(&shop);
    let run = shop.place.run(&document, &["--keep-serving"]);
    let load = shop.place.load(&document, 100, &[]);
    run.stage(1);
    http::behave(shop.canary.address, &json!({"lost_rate": 0.5}));
    let ended = run.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"]["alert"]["name"], "OrdersLost", "{}", ended.story());
    assert!(ended.cause().contains("severity=page"), "{}", ended.cause());
}

#[test]
fn what_is_wrong_before_keeps_the_release_from_starting() {
    let Some(shop) = Shop::open(Some(RULES)) else { return };
    http::behave(shop.stable.address, &json!({"lost_rate": 1.0}));
    for _ in 0..10 {
        http::get(shop.stable.address, "/", &[]).unwrap();
    }
    shop.prometheus.wait_for("ALERTS");
    let refused = |document: &Document| {
        let ended = shop.place.run(document, &[]).end();
        assert_ne!(ended.code, Some(0), "{}", ended.story());
        ended.story()
    };
    let story = refused(&watched(&shop));
    assert!(story.contains("OrdersLost fires already") && story.contains("wait until it is dealt with"), "{story}");
    let nothing =
        json!([{"name": "x", "prometheus": {"source": "prom", "numerator": LOST, "denominator": "nothing{version=\"{{arm}}\"}"}}]);
    let story = refused(&shop.document("sequential", nothing, json!([{"metric": "x", "max": "5%"}])).stage(50.0, "10m", 0));
    assert!(story.contains("no such series: nothing{version=\\\"v1\\\"}"), "{story}");
    let gone = json!({"prom": {"prometheus": {"url": format!("http://{}", free_address())}}});
    let story = refused(&shop.ratio().set("analysis.sources", gone).stage(50.0, "10m", 0));
    assert!(story.contains("cannot be reached"), "{story}");
    let secretive =
        json!({"prom": {"prometheus": {"url": shop.prometheus.url(), "auth": {"bearer": {"env": "SERIN_TEST_SURELY_NOT_SET"}}}}});
    let story = refused(&shop.ratio().set("analysis.sources", secretive).stage(50.0, "10m", 0));
    assert!(story.contains("secrets of source prom") && story.contains("SERIN_TEST_SURELY_NOT_SET"), "{story}");
}
