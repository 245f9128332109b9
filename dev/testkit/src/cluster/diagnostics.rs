//! What a failed test shows of its cluster.

use std::{fs, future::Future, time::Duration};

use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Cluster, ObjectError, block_on};

const EVENTS: usize = 30;
const LINES: usize = 5;

impl Cluster {
    /// Pods, events and the last words of all servers, for the message of a failed test.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        let mut text = String::new();
        let short = |value: &Value| serde_json::to_string(value).unwrap_or_default();
        for ((namespace, name), pod) in self.pods.all() {
            let status = &pod["status"];
            text += &format!("pod {namespace}/{name}: {} {}\n", status["phase"], short(&status["containerStatuses"][0]["state"]));
            let log = self.pod_log(&namespace, &name);
            let last: Vec<&str> = log.lines().rev().take(LINES).collect();
            text.extend(last.iter().rev().map(|line| format!("    {line}\n")));
        }
        let events = wait_for_short(self.runtime(), self.eyes.list("v1", "Event", ""));
        for event in events.iter().rev().take(EVENTS) {
            let object = &event["involvedObject"];
            text += &format!("event {} {}: {} {}\n", object["kind"], object["name"], event["reason"], event["message"]);
        }
        text += &fs::read_to_string(self.path().join("agent.log")).unwrap_or_default();
        text += &fs::read_to_string(self.path().join("mesh.log")).unwrap_or_default();
        text += &self.mesh.as_ref().map(|mesh| format!("--- envoy\n{}\n", mesh.said())).unwrap_or_default();
        text + &self.plane().tails()
    }
}

/// For diagnostics, which must not hang with the API server.
fn wait_for_short(runtime: &Runtime, list: impl Future<Output = Result<Vec<Value>, ObjectError>> + Send) -> Vec<Value> {
    block_on(runtime, async { tokio::time::timeout(Duration::from_secs(3), list).await.ok().and_then(Result::ok) }).unwrap_or_default()
}
