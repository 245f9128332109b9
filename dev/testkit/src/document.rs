//! Release documents for tests. They are written as JSON, which is YAML too.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::free_address;

/// A release document. As it begins it has no stages, and the threshold judge looks back two seconds at the error rate alone.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The document.
    pub value: Value,
}

impl Document {
    /// Both versions as sample apps, `v1` and `v2`, with further arguments each.
    #[must_use]
    pub fn sample_apps(name: &str, stable: &[&str], canary: &[&str]) -> Self {
        Self::of(name, &json!({"processes": {"stable": sample_app("v1", stable), "canary": sample_app("v2", canary)}}))
    }

    /// The same document for other versions of the sample app: what a service's next release says.
    #[must_use]
    pub fn versions(self, stable: &str, canary: &str) -> Self {
        self.set("workload.processes.stable", sample_app(stable, &[])).set("workload.processes.canary", sample_app(canary, &[]))
    }

    /// Both versions as servers that run already.
    #[must_use]
    pub fn external(name: &str, stable: SocketAddr, canary: SocketAddr) -> Self {
        let arm = |server: SocketAddr| json!({"urls": [format!("http://{server}")], "health": {"path": "/health", "interval": "200ms"}});
        Self::of(name, &json!({"external": {"stable": arm(stable), "canary": arm(canary)}}))
    }

    fn of(name: &str, workload: &Value) -> Self {
        let listen = free_address();
        let value = json!({
            "apiVersion": "serin.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": name},
            "spec": {
                "workload": workload,
                "traffic": {"embedded": {"listen": listen.to_string(), "drain": "2s"}},
                "strategy": {"canary": {"stages": [], "bake": "1s"}},
                "analysis": {
                    "judge": "threshold",
                    "interval": "200ms",
                    "window": "2s",
                    "criteria": [{"metric": "error-rate", "max": "5%", "consecutive": 2}],
                },
            },
        });
        Self { listen, value }
    }

    /// Lets clients connect here: where the service's releases before were, or where a test wants it.
    #[must_use]
    pub fn at(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self.set("traffic.embedded.listen", json!(listen.to_string()))
    }

    /// Adds a stage.
    #[must_use]
    pub fn stage(self, weight_percent: f64, hold: &str, min_requests: u64) -> Self {
        self.stage_with(json!({"weight": weight_percent, "hold": hold, "minRequests": min_requests}))
    }

    /// Adds a stage with any fields.
    #[must_use]
    pub fn stage_with(mut self, stage: Value) -> Self {
        self.value["spec"]["strategy"]["canary"]["stages"].as_array_mut().unwrap().push(stage);
        self
    }

    /// How long the canary is measured at 100 %.
    #[must_use]
    pub fn bake(self, bake: &str) -> Self {
        self.set("strategy.canary.bake", json!(bake))
    }

    /// Names another judge, with its own default criteria until there are [others](Self::criteria): what is set of the analysis
    /// before is for the threshold judge and goes away.
    #[must_use]
    pub fn judge(self, judge: &str) -> Self {
        self.set("analysis", json!({"judge": judge}))
    }

    /// Replaces the criteria.
    #[must_use]
    pub fn criteria(self, criteria: Value) -> Self {
        self.set("analysis.criteria", criteria)
    }

    /// Sets any field below `spec`: `traffic.embedded.sticky`.
    #[must_use]
    pub fn set(mut self, path: &str, value: Value) -> Self {
        let mut at = &mut self.value["spec"];
        for key in path.split('.') {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[key];
        }
        *at = value;
        self
    }

    /// The address to send requests to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.listen)
    }

    /// The document's text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.value)
    }
}

/// A version as the document says it.
pub(crate) fn sample_app(version: &str, arguments: &[&str]) -> Value {
    let mut command = vec!["{{serin}}".to_owned(), "sample-app".to_owned(), format!("--version={version}"), "--port={{port}}".to_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    json!({"command": command, "ready": {"path": "/ready", "interval": "100ms"}, "stopGrace": "3s"})
}
