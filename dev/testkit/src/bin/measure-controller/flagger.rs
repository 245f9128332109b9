//! Flagger: a `Canary` per release over a Deployment that it doubles, split by an `HTTPRoute` that it makes, and judged by a query to Prometheus.
//!
//! It has no stage that lasts: active ones raise their weight by one percent every 15 seconds, and are watched long before they have half of the
//! traffic. It looks at idle ones as often as at active ones; here they ask for once a minute, as the examples in its documentation do. It makes
//! a pod for every release; for idle ones the second Deployment is there before, without pods. All other settings are its defaults.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::{Value, json};
use serin_testkit::{cluster::Cluster, free_address};

use crate::{
    objects::{self, NAMESPACE},
    subject::{Built, Controller, Load, Subject, count, until},
};

const API: &str = "flagger.app/v1beta1";

pub(crate) struct Flagger {
    built: Built,
    name: String,
}

impl Flagger {
    /// By the folder with its program, its version, and its manifests.
    pub(crate) fn at(folder: PathBuf) -> Result<Self, String> {
        let built = Built(folder);
        let name = format!("Flagger {}", built.version()?);
        Ok(Self { built, name })
    }
}

impl Subject for Flagger {
    fn name(&self) -> &str {
        &self.name
    }

    fn account(&self) -> &'static str {
        // As its manifests say.
        "system:serviceaccount:default:flagger"
    }

    fn begin(&self, cluster: &Cluster, load: Load) -> Result<Controller, String> {
        self.built.install(cluster)?;
        cluster.namespace(NAMESPACE);
        let url = cluster.prometheus().url();
        cluster.try_apply(&template(&url)).map_err(|error| error.to_string())?;
        objects::make(cluster, load.releases, |number| one(number, load.active));
        let mut command = Command::new(self.built.program("flagger"));
        command.arg("-kubeconfig").arg(cluster.service_account("default", "flagger"));
        command.args(["-mesh-provider=gatewayapi:v1", "-enable-leader-election", "-leader-election-namespace=bench", "-log-level=info"]);
        command.arg(format!("-metrics-server={url}")).arg(format!("-port={}", free_address().port()));
        let controller = Controller::start(cluster, &mut command);
        controller.until_all(self, cluster, Load { active: 0, ..load })?;
        objects::request(&objects::ready(cluster, "arm=any"));
        until("scraped counters", || cluster.prometheus().query("http_requests_total").len() >= load.active)?;
        for number in 0..load.active {
            let change = json!({"spec": {"template": {"metadata": {"annotations": {"version": "v2"}}}}});
            cluster.patch(("apps/v1", "Deployment"), NAMESPACE, &objects::name(number, load.active), &change);
        }
        controller.until_all(self, cluster, load)?;
        objects::request(&objects::ready(cluster, "arm=any"));
        Ok(controller)
    }

    fn phases(&self, cluster: &Cluster, load: Load) -> (BTreeMap<String, usize>, bool) {
        let phases = count(cluster, API, "Canary", |canary| canary["status"]["phase"].as_str().unwrap_or("none").to_owned());
        let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
        let is_so = of("Initialized") == load.releases - load.active && of("Progressing") == load.active;
        (phases, is_so)
    }
}

fn one(number: usize, active: usize) -> Vec<Value> {
    let name = objects::name(number, active);
    let is_active = number < active;
    let labels = |app: &str| json!({"app": app, "arm": "any"});
    let mut objects = vec![objects::deployment(&name, &labels(&name), "v1", u8::from(is_active))];
    if !is_active {
        let primary = format!("{name}-primary");
        objects.push(objects::deployment(&primary, &labels(&primary), "v1", 0));
    }
    let gateway = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"});
    objects.push(json!({
        "apiVersion": API, "kind": "Canary", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "service": {"port": 80, "targetPort": "http", "hosts": [format!("{name}.example")], "gatewayRefs": [gateway]},
            "analysis": {
                "interval": if is_active { "15s" } else { "1m" }, "threshold": 5, "stepWeight": 1, "maxWeight": 50,
                "metrics": [{"name": "failures", "interval": "1m", "templateRef": {"name": "failures"}, "thresholdRange": {"max": 5}}],
            },
        },
    }));
    objects
}

fn template(url: &str) -> Value {
    let of = |more: &str| format!("sum(http_requests_total{{app=\"{{{{ target }}}}\"{more}}})");
    json!({
        "apiVersion": API, "kind": "MetricTemplate", "metadata": {"name": "failures", "namespace": NAMESPACE},
        "spec": {
            "provider": {"type": "prometheus", "address": url},
            "query": format!("100 * ({} or vector(0)) / ({} or vector(1))", of(",code=\"500\""), of("")),
        },
    })
}
