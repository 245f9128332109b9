//! What is wrong with a pod, where no statistics are needed: it can never serve, or not for long.
//!
//! A pod that merely is not ready yet is no trouble; a crash is one from the second restart on, and everything that waiting cannot mend is one
//! at once.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Restarts from which a pod that is down again counts as a crash loop.
const CRASH_RESTARTS: i32 = 2;
/// Words for waiting containers that waiting does not mend.
const HOPELESS: [&str; 6] =
    ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"];

/// Why a pod cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTrouble {
    /// The pod's name.
    pub pod: String,
    /// What is wrong, with its cause.
    pub text: String,
}

/// What is wrong with a pod, if anything is.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<PodTrouble> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let text = containers.filter_map(container).next().or_else(|| unschedulable(pod)).or_else(|| failed(pod))?;
    Some(PodTrouble { pod: name, text })
}

fn container(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if HOPELESS.contains(&reason) {
            let message = waiting.message.as_deref().unwrap_or(&container.image);
            return Some(format!("{}: {reason}: {message}", container.name));
        }
    }
    let is_down = state.running.is_none();
    if container.restart_count >= CRASH_RESTARTS && (is_down || !container.ready) {
        let ended = state.terminated.as_ref().or(last);
        let cause = ended.map_or_else(String::new, |ended| {
            let reason =
                ended.reason.as_deref().filter(|reason| *reason != "Error").map_or_else(String::new, |reason| format!(" ({reason})"));
            format!(", last exit code {}{reason}", ended.exit_code)
        });
        return Some(format!("{}: crash loop: {} restarts{cause}", container.name, container.restart_count));
    }
    None
}

fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False" && one.reason.as_deref() == Some("Unschedulable"))?;
    Some(format!("fits on no node: {}", found.message.as_deref().unwrap_or("no reason given")))
}

fn failed(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    (status.phase.as_deref() == Some("Failed"))
        .then(|| format!("failed: {}", status.reason.as_deref().or(status.message.as_deref()).unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Option<String> {
        let pod = json!({"metadata": {"name": "checkout-1"}, "status": status});
        trouble(&serde_json::from_value(pod).unwrap()).map(|trouble| trouble.text)
    }

    fn main(state: &Value, restarts: i32, ready: bool) -> Value {
        let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        json!({"containerStatuses": [{
            "name": "main", "image": "shop/checkout:2", "imageID": "", "ready": ready, "restartCount": restarts, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn a_crash_loop_counts_from_the_second_restart() {
        let down = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(pod(&main(&down, 1, false)), None);
        assert_eq!(pod(&main(&down, 2, false)).unwrap(), "main: crash loop: 2 restarts, last exit code 137 (OOMKilled)");
        assert!(pod(&main(&json!({"terminated": {"exitCode": 1, "reason": "Error"}}), 3, false)).unwrap().ends_with("last exit code 1"));
        assert_eq!(pod(&main(&json!({"running": {}}), 5, true)), None, "it recovered");
    }

    #[test]
    fn what_waiting_does_not_mend_is_trouble_at_once() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "no such image"}});
        assert_eq!(pod(&main(&waiting("ErrImagePull"), 0, false)).unwrap(), "main: ErrImagePull: no such image");
        assert_eq!(pod(&main(&waiting("ContainerCreating"), 0, false)), None);
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
        assert_eq!(pod(&json!({"conditions": [condition]})).unwrap(), "fits on no node: 0/1 nodes");
        assert_eq!(pod(&json!({"phase": "Failed", "reason": "Evicted"})).unwrap(), "failed: Evicted");
        assert_eq!(pod(&json!({"phase": "Pending"})), None);
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_no_trouble() {
        let pod = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Failed"}});
        assert_eq!(trouble(&serde_json::from_value(pod).unwrap()), None);
    }
}
