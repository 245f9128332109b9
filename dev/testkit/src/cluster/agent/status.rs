//! The status of a pod as the node agent reports it.

use serde_json::{Value, json};

use super::spec::{container, list};

/// How the first container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not running: reason and message.
    Waiting(String, String),
    /// Running since.
    Running(String),
    /// Ended for good.
    Terminated(Ended),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// 128 + signal after one.
    pub(super) exit_code: i32,
    /// `Completed`, `Error` or `OOMKilled`.
    pub(super) reason: &'static str,
    pub(super) started_at: String,
    pub(super) finished_at: String,
}

/// All that a pod's status is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) state: State,
    pub(super) last: Option<Ended>,
    pub(super) is_ready: bool,
    pub(super) restarts: u32,
    /// As the API shows it; empty before the pod has one.
    pub(super) pod_ip: String,
    pub(super) host_ip: String,
    pub(super) start_time: String,
    /// Since when it is ready, or not.
    pub(super) ready_since: String,
}

impl Ended {
    /// From what the system says; `was_told` if this agent ended it.
    pub(super) fn new(exit_code: i32, was_told: bool, started_at: &str, finished_at: &str) -> Self {
        // Nobody else kills pods here but tests, which play the kernel that is out of memory.
        let reason = match exit_code {
            0 => "Completed",
            137 if !was_told => "OOMKilled",
            _ => "Error",
        };
        Self { exit_code, reason, started_at: started_at.to_owned(), finished_at: finished_at.to_owned() }
    }

    fn json(&self) -> Value {
        json!({
            "exitCode": self.exit_code,
            "reason": self.reason,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
        })
    }
}

/// The `status` of the pod.
pub(super) fn status(pod: &Value, report: &Report) -> Value {
    let state = match &report.state {
        State::Waiting(reason, message) => json!({"waiting": {"reason": reason, "message": message}}),
        State::Running(since) => json!({"running": {"startedAt": since}}),
        State::Terminated(ended) => json!({"terminated": ended.json()}),
    };
    let is_running = matches!(report.state, State::Running(_));
    let others = list(&pod["spec"]["containers"]).iter().skip(1).map(|other| {
        json!({
            "name": other["name"], "image": other["image"], "imageID": "", "ready": is_running, "started": is_running, "restartCount": 0,
            "state": if is_running { state.clone() } else { json!({"waiting": {"reason": "ContainerCreating"}}) },
        })
    });
    let mut first = json!({
        "name": container(pod)["name"],
        "image": container(pod)["image"],
        "imageID": "",
        "containerID": format!("process://{}", pod["metadata"]["uid"].as_str().unwrap_or_default()),
        "ready": report.is_ready,
        "started": is_running,
        "restartCount": report.restarts,
        "state": state,
    });
    if let Some(last) = &report.last {
        first["lastState"] = json!({"terminated": last.json()});
    }
    let phase = match &report.state {
        State::Terminated(ended) if ended.exit_code == 0 => "Succeeded",
        State::Terminated(_) => "Failed",
        State::Waiting(..) if report.restarts == 0 && report.last.is_none() => "Pending",
        _ => "Running",
    };
    let condition = |kind: &str, is_true: bool, since: &str| {
        let mut condition = json!({"type": kind, "status": if is_true { "True" } else { "False" }, "lastTransitionTime": since});
        if !is_true {
            condition["reason"] = "ContainersNotReady".into();
            condition["message"] =
                format!("containers with unready status: [{}]", container(pod)["name"].as_str().unwrap_or_default()).into();
        }
        condition
    };
    let mut status = json!({
        "phase": phase,
        "hostIP": report.host_ip,
        "hostIPs": [{"ip": report.host_ip}],
        "startTime": report.start_time,
        "conditions": [
            condition("PodScheduled", true, &report.start_time),
            condition("Initialized", true, &report.start_time),
            condition("ContainersReady", report.is_ready, &report.ready_since),
            condition("Ready", report.is_ready, &report.ready_since),
        ],
        "containerStatuses": std::iter::once(first).chain(others).collect::<Vec<_>>(),
    });
    if !report.pod_ip.is_empty() {
        status["podIP"] = report.pod_ip.clone().into();
        status["podIPs"] = json!([{"ip": report.pod_ip}]);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State) -> Report {
        Report {
            state,
            last: None,
            is_ready: false,
            restarts: 0,
            pod_ip: "10.1.2.3".to_owned(),
            host_ip: "10.1.0.1".to_owned(),
            start_time: "2026-01-01T00:00:00Z".to_owned(),
            ready_since: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn phases() {
        let pod = json!({"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "side", "image": "s"}]}});
        let ended = |code| Ended::new(code, false, "", "");
        let waiting = || State::Waiting("CrashLoopBackOff".to_owned(), String::new());
        let cases = [
            (report(State::Running(String::new())), "Running"),
            (report(waiting()), "Pending"),
            (Report { restarts: 1, last: Some(ended(1)), ..report(waiting()) }, "Running"),
            (report(State::Terminated(ended(0))), "Succeeded"),
            (report(State::Terminated(ended(70))), "Failed"),
        ];
        for (report, phase) in cases {
            assert_eq!(status(&pod, &report)["phase"], phase, "{report:?}");
        }
        assert_eq!(ended(137).reason, "OOMKilled");
        assert_eq!(Ended::new(137, true, "", "").reason, "Error");
    }
}
