//! One pod on the node, from its binding to its deletion.
//!
//! One task drives the process and one writes the status, so that a frozen API server stops neither probes nor restarts: the writer sends
//! the newest status until the server takes it. A deleted pod ends as under a kubelet: `preStop` sleep, SIGTERM, grace, SIGKILL, and only
//! then the object goes. A pod whose object is gone is killed at once.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Backoff, Node, now,
    probe::{Probe, Tally},
    spec::{self, Reference, References, Run},
    status::{Ended, Report, State, status},
};
use crate::processes;

/// How long the API server may take before a status is sent again.
const ANSWER: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);
/// Between two attempts at what waits for others: images, settings.
const WAITING: Duration = Duration::from_millis(500);

/// What the cluster says about a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    Run,
    /// To end within so many seconds.
    End(u64),
    /// The object is gone.
    Gone,
}

/// Everything of one pod. Dropping it ends nothing: its task does when it is told that the pod is gone.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) wish: watch::Sender<Wish>,
    pub(super) task: JoinHandle<()>,
}

struct Pod {
    node: Arc<Node>,
    object: Arc<Value>,
    api_address: Ipv4Addr,
    address: Ipv4Addr,
    wish: watch::Receiver<Wish>,
    report: watch::Sender<Report>,
}

/// Why the process is not running any more.
enum End {
    /// By itself.
    Exited(Ended),
    /// A liveness or startup probe failed for good.
    Unhealthy(Ended),
    /// The pod is to end.
    Told,
}

/// Begins to run a pod that is bound to the node.
pub(super) fn start(node: Arc<Node>, object: Arc<Value>) -> Running {
    let (wish, wished) = watch::channel(Wish::Run);
    let api_address = node.network.next_pod();
    let since = now();
    let report = Report {
        state: State::Waiting("ContainerCreating".to_owned(), String::new()),
        last: None,
        is_ready: false,
        restarts: 0,
        pod_ip: String::new(),
        host_ip: node.network.node().to_string(),
        start_time: since.clone(),
        ready_since: since,
    };
    let (report, reports) = watch::channel(report);
    let address = node.network.dial(api_address);
    let pod = Pod { node, object, api_address, address, wish: wished, report };
    let writer = tokio::spawn(write_status(Arc::clone(&pod.node), Arc::clone(&pod.object), reports));
    let task = tokio::spawn(async move {
        pod.live().await;
        // The last report has been written, or there is nobody to tell any more.
        let _ = writer.await;
    });
    Running { wish, task }
}

impl Pod {
    async fn live(mut self) {
        let mut backoff = Backoff::new(&self.node.settings);
        let policy = self.object["spec"]["restartPolicy"].as_str().unwrap_or("Always").to_owned();
        loop {
            let Some(run) = self.prepared().await else { break };
            let Some(child) = self.spawn(&run) else {
                // As a kubelet shows a command that is not there.
                let at = now();
                if self.restart_or_end(Ended { reason: "StartError", ..Ended::new(128, false, &at, &at) }, &policy, &mut backoff).await {
                    continue;
                }
                break;
            };
            let started = Instant::now();
            match self.watch_over(child).await {
                End::Told => break,
                End::Exited(ended) | End::Unhealthy(ended) => {
                    if started.elapsed() > self.node.settings.stable_after {
                        backoff = Backoff::new(&self.node.settings);
                    }
                    if !self.restart_or_end(ended, &policy, &mut backoff).await {
                        break;
                    }
                }
            }
        }
        // Ended for good, but still there: until the object is to go.
        let _ = self.wish.wait_for(|wish| *wish != Wish::Run).await;
        let is_gone = *self.wish.borrow() == Wish::Gone;
        if !is_gone {
            self.remove_object().await;
        }
    }

    /// Waits until there is something to run; `None` if the pod is to end first.
    async fn prepared(&mut self) -> Option<Run> {
        let mut attempts = 0_u32;
        loop {
            if *self.wish.borrow() != Wish::Run {
                return None;
            }
            let references = self.references().await;
            match spec::run(&self.object, &self.address.to_string(), &self.node.settings.images, &references) {
                Ok(run) => return Some(run),
                Err(refused) => {
                    // The first failure has a name of its own, as with a kubelet.
                    let reason = if refused.reason == "ErrImagePull" && attempts % 2 == 1 { "ImagePullBackOff" } else { refused.reason };
                    self.tell(|report| report.state = State::Waiting(reason.to_owned(), refused.message.clone()));
                    attempts += 1;
                    // Stays in back-off most of the time.
                    let pause = if reason == "ImagePullBackOff" { 20 * WAITING } else { WAITING };
                    if self.told_within(pause).await {
                        return None;
                    }
                }
            }
        }
    }

    async fn references(&self) -> References {
        let namespace = self.object["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut found = References::new();
        for (kind, name) in spec::references(&self.object) {
            let got = timeout(ANSWER, self.node.objects.get("v1", kind.kind(), namespace, &name)).await;
            if let Ok(Ok(object)) = got {
                found.insert((kind, name), values(kind, &object));
            }
        }
        found
    }

    fn spawn(&self, run: &Run) -> Option<Child> {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).ok()?;
        let (program, args) = run.command.split_first()?;
        let mut command = Command::new(program);
        command.args(args).env_clear();
        // What a process needs to be found when it is left over, and to find programs.
        for name in ["PATH", "HOME", "TMPDIR", "SERIN_TEST_RUN"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env(processes::MARKER, &self.node.folder).envs(&run.environment).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().ok()?).stderr(log);
        command.spawn().inspect_err(|error| self.node.say(&format!("{}: {}: {error}", self.name(), run.command.join(" ")))).ok()
    }

    /// Until the process ends, is unhealthy, or is to end. It does not run any more afterwards.
    async fn watch_over(&mut self, mut child: Child) -> End {
        let started_at = now();
        let group = child.id().unwrap_or_default();
        let (startup, liveness) = (Probe::of(&self.object, "startupProbe"), Probe::of(&self.object, "livenessProbe"));
        let readiness = Probe::of(&self.object, "readinessProbe");
        let ip = self.api_address.to_string();
        let is_ready = startup.is_none() && readiness.is_none();
        self.tell(|report| {
            report.state = State::Running(started_at.clone());
            report.pod_ip = ip;
            set_ready(report, is_ready);
        });
        let mut started = startup.is_none();
        let begin = Instant::now();
        // Probe, its tally, and when it is asked next; `true` marks those that end the process.
        let mut probes: Vec<(Probe, Tally, Instant, Role)> =
            [(startup, Role::Startup), (readiness, Role::Readiness), (liveness, Role::Liveness)]
                .into_iter()
                .filter_map(|(probe, role)| probe.map(|probe| (begin + probe.initial_delay, probe, role)))
                .map(|(at, probe, role)| (probe, Tally::default(), at, role))
                .collect();
        loop {
            let due =
                probes.iter().enumerate().filter(|(_, (.., role))| started || *role == Role::Startup).min_by_key(|(_, (_, _, at, _))| *at);
            let (index, at) = due.map_or((None, begin + Duration::from_secs(1 << 20)), |(index, (_, _, at, _))| (Some(index), *at));
            tokio::select! {
                exit = child.wait() => {
                    let ended = Ended::new(exit.as_ref().map_or(1, code), false, &started_at, &now());
                    // What it left behind in its group.
                    processes::signal_group(group, Signal::KILL);
                    return End::Exited(ended);
                }
                () = told(&mut self.wish, |wish| *wish != Wish::Run) => {
                    self.end(&mut child, &started_at).await;
                    processes::signal_group(group, Signal::KILL);
                    return End::Told;
                }
                () = sleep_until(at) => {
                    let Some(index) = index else { continue };
                    let (probe, tally, next, role) = &mut probes[index];
                    let is_ok = probe.ask(self.address).await;
                    let certain = probe.count(tally, is_ok);
                    *next = Instant::now() + probe.pause(tally);
                    match (*role, certain) {
                        (Role::Readiness, Some(is_ready)) => self.tell(|report| set_ready(report, is_ready)),
                        (Role::Startup, Some(true)) => {
                            started = true;
                            probes.remove(index);
                            if !probes.iter().any(|(.., role)| *role == Role::Readiness) {
                                self.tell(|report| set_ready(report, true));
                            }
                        }
                        (Role::Startup | Role::Liveness, Some(false)) => {
                            let exit = stop(&mut child, grace(&self.object)).await;
                            processes::signal_group(group, Signal::KILL);
                            return End::Unhealthy(Ended::new(exit, true, &started_at, &now()));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Ends the process of a pod that is to go.
    async fn end(&mut self, child: &mut Child, started_at: &str) {
        let is_gone = *self.wish.borrow() == Wish::Gone;
        if is_gone {
            let _ = child.start_kill();
            let _ = child.wait().await;
            return;
        }
        let seconds = match *self.wish.borrow() {
            Wish::End(seconds) => seconds,
            _ => 0,
        };
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let pre_stop = spec::container(&self.object).pointer("/lifecycle/preStop/sleep/seconds").and_then(Value::as_u64).unwrap_or(0);
        let gone = |wish: &Wish| matches!(wish, Wish::Gone | Wish::End(0));
        tokio::select! {
            () = sleep(Duration::from_secs(pre_stop.min(seconds))) => {}
            _ = child.wait() => {}
            () = told(&mut self.wish, gone) => {}
        }
        let mut wish = self.wish.clone();
        let exit = tokio::select! {
            exit = stop(child, deadline.saturating_duration_since(Instant::now())) => Some(exit),
            () = told(&mut wish, gone) => None,
        };
        let exit = match exit {
            Some(exit) => exit,
            None => stop(child, Duration::ZERO).await,
        };
        let ended = Ended::new(exit, true, started_at, &now());
        self.tell(|report| {
            set_ready(report, false);
            report.state = State::Terminated(ended);
        });
    }

    /// Whether it is to be started again, after the pause that is due.
    async fn restart_or_end(&mut self, ended: Ended, policy: &str, backoff: &mut Backoff) -> bool {
        let goes_on = policy == "Always" || policy == "OnFailure" && ended.exit_code != 0;
        if !goes_on {
            self.tell(|report| {
                set_ready(report, false);
                report.state = State::Terminated(ended);
            });
            return false;
        }
        let pause = backoff.next();
        self.tell(|report| {
            set_ready(report, false);
            report.restarts += 1;
            let message = format!("back-off {pause:.0?} restarting failed container");
            report.state = State::Waiting("CrashLoopBackOff".to_owned(), message);
            report.last = Some(ended);
        });
        !self.told_within(pause).await
    }

    /// Removes the object once its process has ended; it may be gone already, or another one of the same name be there.
    async fn remove_object(&self) {
        let (namespace, name) = (&self.object["metadata"]["namespace"], &self.object["metadata"]["name"]);
        let (namespace, name) = (namespace.as_str().unwrap_or_default(), name.as_str().unwrap_or_default());
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.object["metadata"]["uid"]}});
        while *self.wish.borrow() != Wish::Gone {
            let asked = timeout(ANSWER, self.node.objects.delete("v1", "Pod", namespace, name, &options)).await;
            if matches!(&asked, Ok(Ok(_))) || matches!(&asked, Ok(Err(error)) if matches!(error.code(), 404 | 409)) {
                return;
            }
            sleep(RETRY).await;
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Report)) {
        self.report.send_if_modified(|report| {
            let before = report.clone();
            change(report);
            *report != before
        });
    }

    /// Waits; whether the pod is to end meanwhile.
    async fn told_within(&mut self, pause: Duration) -> bool {
        timeout(pause, self.wish.wait_for(|wish| *wish != Wish::Run)).await.is_ok()
    }

    fn name(&self) -> String {
        let text = |field: &str| self.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    }

    fn log(&self) -> PathBuf {
        self.node.pods_folder().join(format!("{}.log", self.name().replace('/', "_")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Startup,
    Readiness,
    Liveness,
}

/// Sends the newest report until nobody makes any more.
async fn write_status(node: Arc<Node>, pod: Arc<Value>, mut reports: watch::Receiver<Report>) {
    let (namespace, name) =
        (pod["metadata"]["namespace"].as_str().unwrap_or_default(), pod["metadata"]["name"].as_str().unwrap_or_default());
    let mut is_last = false;
    loop {
        let mut body = json!({"status": status(&pod, &reports.borrow_and_update())});
        // Not of another pod of the same name.
        body["metadata"] = json!({"uid": pod["metadata"]["uid"]});
        loop {
            let asked = timeout(ANSWER, node.objects.merge(("v1", "Pod/status"), namespace, name, &body)).await;
            match asked {
                Ok(Ok(_)) => break,
                Ok(Err(error)) if matches!(error.code(), 404 | 409) => break,
                _ if is_last => return,
                _ => sleep(RETRY).await,
            }
            if reports.has_changed().unwrap_or(true) {
                break;
            }
        }
        if is_last {
            return;
        }
        is_last = reports.changed().await.is_err();
    }
}

fn values(kind: Reference, object: &Value) -> BTreeMap<String, String> {
    let entries = object["data"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries.map(|(key, value)| (key.clone(), if kind == Reference::Secret { decoded(&text(value)) } else { text(value) })).collect()
}

/// Base64 as the API has it; what is no text is empty.
fn decoded(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|known| *known == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap_or(0);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or(0));
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

fn set_ready(report: &mut Report, is_ready: bool) {
    if report.is_ready != is_ready {
        report.is_ready = is_ready;
        report.ready_since = now();
    }
}

/// Waits for a wish; also over when nobody can wish any more.
async fn told(wish: &mut watch::Receiver<Wish>, is_it: impl Fn(&Wish) -> bool) {
    let _ = wish.wait_for(is_it).await;
}

fn grace(pod: &Value) -> Duration {
    Duration::from_secs(pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
}

/// SIGTERM, and SIGKILL after the grace; the exit code.
async fn stop(child: &mut Child, grace: Duration) -> i32 {
    if let Some(pid) = child.id() {
        processes::signal(pid, Signal::TERM);
    }
    if let Ok(exit) = timeout(grace, child.wait()).await {
        return exit.as_ref().map_or(1, code);
    }
    let _ = child.start_kill();
    child.wait().await.as_ref().map_or(1, code)
}

fn code(status: &ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_decoded() {
        for (encoded, text) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("cGFzc3dvcmQ=", "password"), ("/w==", "")] {
            assert_eq!(decoded(encoded), text);
        }
    }
}
