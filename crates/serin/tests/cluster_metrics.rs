//! What a controller says of itself, to Prometheus, to probes, and to whoever looks at the cluster's events.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod cluster;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
};

use cluster::{SERIN, Shop};
use serde_json::{Value, json};
use serin_testkit::http;

/// A controller that tells how it is.
struct Told {
    child: Child,
    log: PathBuf,
}

impl Told {
    fn start(shop: &Shop, name: &str) -> Self {
        let log = shop.cluster.path().join(format!("{name}.log"));
        let child = Command::new(SERIN)
            .args(["controller", "--all-namespaces", "--lease-namespace=serin", "--lease-duration=4s", "--metrics-listen=127.0.0.1:0"])
            .env("KUBECONFIG", shop.cluster.service_account("serin", "controller"))
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn address(&self) -> Option<SocketAddr> {
        let log = fs::read_to_string(&self.log).unwrap();
        let (_, rest) = log.split_once("metrics at http://")?;
        rest.split_once("/metrics")?.0.parse().ok()
    }

    /// Status and body.
    fn ask(&self, path: &str) -> Option<(u16, String)> {
        let answer = http::get(self.address()?, path, &[]).ok()?;
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// The value of a series.
    fn value(&self, series: &str) -> Option<f64> {
        let (_, page) = self.ask("/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_controller_tells_how_it_is_and_what_happened() {
    let Some(shop) = Shop::open("a_controller_tells_how_it_is_and_what_happened") else { return };
    let leader = Told::start(&shop, "leader");
    shop.until("a leader", |_| (leader.value("serin_controller_leader")? > 0.0).then_some(()));
    let standby = Told::start(&shop, "standby");
    shop.until("a standby", |_| (standby.ask("/readyz")?.0 == 200).then_some(()));
    assert_eq!((standby.value("serin_controller_leader"), standby.value("serin_controller_epoch")), (Some(0.0), Some(0.0)));
    assert_eq!(standby.ask("/healthz").unwrap(), (200, "ok\n".to_owned()));

    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 1h}", "");
    shop.until("the stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    shop.until("the phase", |_| leader.value("serin_controller_releases{phase=\"Progressing\"}"));
    shop.command("1", &json!("abort"));
    shop.until_phase("RolledBack");
    traffic.stop();
    assert_eq!(leader.value("serin_controller_rollbacks_total"), Some(1.0));
    assert_eq!(leader.value("serin_controller_rollback_traffic_zero_seconds_count"), Some(1.0));
    let calls = |call: &str| leader.value(&format!("serin_controller_api_calls_total{{{call},outcome=\"ok\"}}"));
    assert!(calls("verb=\"update\",resource=\"releases/status\"") > Some(3.0));
    assert!(calls("verb=\"patch\",resource=\"httproutes\"") > Some(1.0));

    // Events of the group that is meant for them, under the role that ships.
    let told = |shop: &Shop| -> Vec<Value> {
        let all = shop.cluster.list("events.k8s.io/v1", "Event", "shop");
        all.into_iter().filter(|event| event["reportingController"] == "serin.dev/controller").collect()
    };
    let rollback = shop.until("the event of the rollback", |shop| told(shop).into_iter().find(|event| event["reason"] == "Rollback"));
    assert_eq!((&rollback["type"], &rollback["regarding"]["name"]), (&json!("Warning"), &json!("shop")), "{rollback}");
    assert!(rollback["note"].as_str().unwrap().contains("aborted by ann"), "{rollback}");
    assert!(told(&shop).iter().any(|event| event["type"] == "Normal"));
    assert_eq!(leader.value("serin_controller_events_total{fate=\"failed\"}"), Some(0.0));
}
