//! What is special about StatefulSets and DaemonSets: both must roll a new template out by themselves, and all of it.

use kube::{Api, api::DynamicObject};
use serde_json::Value;
use serin_core::release::Check;
use serin_spec::validated::WorkloadKind;

use super::{super::effects::World, outcome};
use crate::{
    api::within,
    workload::{Arm, workloads},
};

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let names = world.pair.names();
    let mut checks = Vec::new();
    for (arm, name) in [(Arm::Stable, "stable's update strategy"), (Arm::Canary, "canary's update strategy")] {
        let kind = names.kind(arm);
        if kind == WorkloadKind::Deployment {
            continue;
        }
        let (namespace, called) = names.place(arm);
        let title = names.title(arm);
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &workloads(kind));
        let found = within(&format!("get {title}"), api.get(called)).await.map_err(|error| error.to_string());
        let fits = found.and_then(|found| rolls_out(&found.data).map_err(|why| format!("{title}: {why}")));
        let hint = "set `updateStrategy: {type: RollingUpdate}` without a `partition`";
        checks.push(outcome(name, "a new template is rolled out to all pods", fits, hint));
    }
    if !world.pair.is_canary_scaled() {
        let there = world.pair.fresh_canary().await.map_err(|error| error.to_string());
        let there = there.and_then(|canary| if canary.wanted > 0 { Ok(()) } else { Err("it fits on no node".to_owned()) });
        let hint = "Serin does not scale a DaemonSet: its `nodeSelector` and tolerations must let it run on some nodes";
        checks.push(outcome("canary's nodes", "the DaemonSet has nodes to run on", there, hint));
    }
    checks
}

/// Whether a new template reaches all pods by itself; or why not.
fn rolls_out(workload: &Value) -> Result<(), String> {
    let strategy = workload.pointer("/spec/updateStrategy");
    if strategy.and_then(|one| one.get("type")).and_then(Value::as_str) == Some("OnDelete") {
        return Err("its update strategy is OnDelete: pods keep the old template until somebody deletes them".to_owned());
    }
    match strategy.and_then(|one| one.pointer("/rollingUpdate/partition")).and_then(Value::as_i64) {
        Some(partition) if partition > 0 => {
            Err(format!("its update strategy has the partition {partition}: pods with a lower number keep the old template"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_leaves_pods_behind_is_refused() {
        let of = |strategy: Value| rolls_out(&json!({"spec": {"updateStrategy": strategy}}));
        assert_eq!(rolls_out(&json!({"spec": {}})), Ok(()));
        assert_eq!(of(json!({"type": "RollingUpdate"})), Ok(()));
        assert_eq!(of(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})), Ok(()));
        assert!(of(json!({"type": "OnDelete"})).unwrap_err().contains("OnDelete"));
        assert!(of(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})).unwrap_err().contains("partition 2"));
    }
}
