//! The life of one replica: start or adopt, watch, restart after a wait, stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serin_core::traffic::Arm;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    ExitInfo, Ledger, Phase, ReplicaRecord, ReplicaSpec, WorkloadFailure,
    backoff::Restarts,
    ms,
    probe::probe,
    record,
    running::{Refusal, Running},
    status::Reporter,
};

/// Starts that a replica gets to become ready for the first time.
const FIRST_STARTS: u32 = 2;
/// Longest time between two probes of a replica that is not ready yet.
const STARTING_INTERVAL: Duration = Duration::from_millis(250);
/// How often the log's size is looked at and old restarts are forgotten.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// Time that what a crashed replica leaves behind gets to end: the restart waits for it.
const REMAINS_GRACE: Duration = Duration::from_secs(2);

/// One replica.
pub(super) struct Replica {
    spec: Arc<ReplicaSpec>,
    ledger: Arc<dyn Ledger>,
    reporter: Reporter,
    stop: watch::Receiver<bool>,
    restarts: Restarts,
    total_restarts: u32,
    /// Was ready once, or was running when it was adopted: an exit is a crash and not a failed start.
    proven: bool,
    failed_starts: u32,
    last_exit: Option<ExitInfo>,
}

/// What became of one process of the replica.
#[derive(Debug, Default)]
struct Attendance {
    /// When it was ready for the first time.
    ready_since: Option<Instant>,
    /// Whether its log was rotated.
    rotated: bool,
}

impl Replica {
    pub(super) fn new(spec: ReplicaSpec, ledger: Arc<dyn Ledger>, reporter: Reporter, stop: watch::Receiver<bool>) -> Self {
        let restarts = Restarts::new(spec.restart);
        let spec = Arc::new(spec);
        Self { spec, ledger, reporter, stop, restarts, total_restarts: 0, proven: false, failed_starts: 0, last_exit: None }
    }

    /// Lives until it is asked to stop and nothing of it runs any more.
    pub(super) async fn run(mut self, record: Option<ReplicaRecord>) {
        let mut adopted = match record {
            Some(record) => self.adopt(&record).await,
            None => None,
        };
        while !self.is_asked_to_stop() {
            let started = match adopted.take() {
                Some(running) => Ok(running),
                None => Running::start(&self.spec, self.total_restarts, &*self.ledger),
            };
            let wait = match started {
                Ok(running) => self.live(running).await,
                Err(refusal) => self.refused(refusal),
            };
            match wait {
                Some(wait) if !self.is_asked_to_stop() => self.pause(wait).await,
                _ => asked_to_stop(&mut self.stop).await,
            }
        }
        self.reporter.update(|status| status.phase = Phase::Stopped);
    }

    /// Takes over what an earlier control process left. What cannot be taken over is ended, since it may hold the port.
    async fn adopt(&mut self, record: &ReplicaRecord) -> Option<Running> {
        self.total_restarts = record.restarts;
        if record.port == self.spec.port
            && let Some(running) = Running::adopt(record)
        {
            self.proven = true;
            return Some(running);
        }
        if record::leftover(record) {
            tracing::warn!(replica = %record.id, pid = record.pid, port = record.port, "ending what cannot be adopted");
            if !record::kill_leftover(record, self.stop_grace()).await {
                tracing::error!(replica = %record.id, pid = record.pid, "a process of an earlier start does not end; see `ps -o pid,stat,wchan,args -g {}`", record.pid);
            }
        }
        None
    }

    /// From the start of a process to the end of its group. Returns how long to wait for the next one; `None`: there is none.
    async fn live(&mut self, running: Running) -> Option<Duration> {
        let (pid, restarts, recent) = (running.record.pid, self.total_restarts, self.restarts.recent(Instant::now()));
        tracing::info!(replica = %self.spec.id, pid, port = self.spec.port, adopted = running.is_adopted(), "process runs");
        self.reporter.update(|status| {
            (status.pid, status.phase, status.restarts, status.recent_restarts) = (Some(pid), Phase::Starting, restarts, recent);
        });

        let mut attendance = Attendance::default();
        self.attend(&running, &mut attendance).await;

        let asked = self.is_asked_to_stop();
        // Before anything is waited for: from here on it must not get traffic.
        let over = if asked { Phase::Stopping } else { Phase::BackOff { restart_in_ms: 0 } };
        self.reporter.update(|status| status.phase = over);
        let grace = if asked { self.stop_grace() } else { self.stop_grace().min(REMAINS_GRACE) };
        let log_start = running.log_start;
        let remains = running.bury(grace).await;
        if remains.gone {
            self.ledger.forget(&self.spec.id);
        } else {
            tracing::error!(replica = %self.spec.id, pid, "a process does not end, not even by SIGKILL; see `ps -o pid,stat,wchan,args -g {pid}`");
        }
        let exit = ExitInfo::new(remains.status, remains.ran_for_ms, self.spec.log.tail(log_start, attendance.rotated));
        self.reporter.update(|status| {
            (status.pid, status.cpu_percent, status.memory_bytes) = (None, None, None);
            status.last_exit = Some(exit.clone());
        });
        tracing::info!(replica = %self.spec.id, pid, asked, "process {exit}");
        if asked { None } else { self.exited(exit, attendance.ready_since) }
    }

    /// Probes and housekeeping, until the process exits or is to be stopped.
    async fn attend(&mut self, running: &Running, attendance: &mut Attendance) {
        let Self { spec, reporter, stop, restarts, proven, .. } = self;
        let Attendance { ready_since, rotated } = attendance;
        tokio::select! {
            () = running.exited() => {}
            () = asked_to_stop(stop) => {}
            () = follow_readiness(spec, reporter, ready_since) => {}
            () = keep_house(spec, reporter, restarts, rotated) => {}
        }
        *proven |= ready_since.is_some();
    }

    /// After an exit that nobody asked for.
    fn exited(&mut self, exit: ExitInfo, ready_since: Option<Instant>) -> Option<Duration> {
        self.last_exit = Some(exit.clone());
        if !self.proven {
            self.failed_starts = self.failed_starts.saturating_add(1);
            if self.failed_starts >= FIRST_STARTS {
                let (replica, log) = (self.spec.id.clone(), self.spec.log.path.clone());
                return self.failed(WorkloadFailure::ExitedAtStart { replica, exit, log });
            }
        }
        Some(self.back_off(ready_since.map(|since| since.elapsed())))
    }

    /// After a start that failed.
    fn refused(&mut self, refusal: Refusal) -> Option<Duration> {
        let Refusal { program, reason, lasting } = refusal;
        tracing::warn!(replica = %self.spec.id, program, "cannot start: {reason}");
        self.failed_starts = self.failed_starts.saturating_add(1);
        if lasting || self.failed_starts >= FIRST_STARTS {
            return self.failed(WorkloadFailure::NotFound { program, reason });
        }
        Some(self.back_off(None))
    }

    /// Reports a failed start. A canary that never came up ends there: the next try would only bury the evidence.
    fn failed(&mut self, failure: WorkloadFailure) -> Option<Duration> {
        tracing::warn!(replica = %self.spec.id, "{failure}");
        self.reporter.update(|status| status.failure = Some(failure));
        if self.spec.arm == Some(Arm::Canary) && !self.proven {
            self.reporter.update(|status| status.phase = Phase::Failed);
            return None;
        }
        Some(self.back_off(None))
    }

    fn back_off(&mut self, ready_for: Option<Duration>) -> Duration {
        let wait = self.restarts.wait_after_exit(ready_for);
        self.reporter.update(|status| status.phase = Phase::BackOff { restart_in_ms: ms(wait) });
        wait
    }

    /// Waits, then counts the restart that follows.
    async fn pause(&mut self, wait: Duration) {
        if timeout(wait, asked_to_stop(&mut self.stop)).await.is_ok() {
            return;
        }
        let now = Instant::now();
        self.total_restarts = self.total_restarts.saturating_add(1);
        self.restarts.restarted(now);
        let recent = self.restarts.recent(now);
        let failure = self.last_exit.clone().filter(|_| self.proven && self.restarts.is_crash_loop(recent)).map(|exit| {
            let (replica, log, within_ms) = (self.spec.id.clone(), self.spec.log.path.clone(), self.restarts.window_ms());
            WorkloadFailure::CrashLoop { replica, restarts: recent, within_ms, exit, log }
        });
        let total = self.total_restarts;
        self.reporter.update(|status| {
            (status.restarts, status.recent_restarts) = (total, recent);
            status.failure = failure.or(status.failure.take());
        });
    }

    fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.spec.stop_grace_ms)
    }

    fn is_asked_to_stop(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Resolves when the replica is to stop.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|asked| *asked).await.is_err() {
        // The set is gone without a word: its tasks are being cancelled, and the process is to stay.
        std::future::pending::<()>().await;
    }
}

/// Probes for as long as it is polled, and reports what it sees.
async fn follow_readiness(spec: &ReplicaSpec, reporter: &Reporter, ready_since: &mut Option<Instant>) {
    let Some(ready) = &spec.ready else {
        report_ready(reporter, ready_since);
        return std::future::pending().await;
    };
    let started = Instant::now();
    let usual = Duration::from_millis(ready.interval_ms);
    let (mut is_ready, mut failures, mut late) = (false, 0u32, false);
    loop {
        match probe(ready, spec.port).await {
            Ok(()) => {
                failures = 0;
                if !is_ready {
                    is_ready = true;
                    report_ready(reporter, ready_since);
                }
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                let waited_ms = ms(started.elapsed());
                if is_ready && failures >= ready.failures {
                    is_ready = false;
                    reporter.update(|status| status.phase = Phase::Unready { reason });
                } else if ready_since.is_none() && !late && waited_ms >= ready.within_ms {
                    late = true;
                    let (replica, log) = (spec.id.clone(), spec.log.path.clone());
                    let failure = WorkloadFailure::NeverReady { replica, waited_ms, last_probe: reason, log };
                    tracing::warn!(replica = %spec.id, "{failure}");
                    reporter.update(|status| status.failure = Some(failure));
                }
            }
        }
        tokio::time::sleep(if is_ready { usual } else { usual.min(STARTING_INTERVAL) }).await;
    }
}

fn report_ready(reporter: &Reporter, ready_since: &mut Option<Instant>) {
    ready_since.get_or_insert_with(Instant::now);
    reporter.update(|status| {
        status.phase = Phase::Ready;
        status.ever_ready = true;
        if !matches!(status.failure, Some(WorkloadFailure::CrashLoop { .. })) {
            status.failure = None;
        }
    });
}

/// Keeps the log small, and ends a crash loop when its restarts have left the window. Never ends by itself.
async fn keep_house(spec: &Arc<ReplicaSpec>, reporter: &Reporter, restarts: &mut Restarts, rotated: &mut bool) {
    let mut tick = interval(HOUSEKEEPING_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let owned = Arc::clone(spec);
        match tokio::task::spawn_blocking(move || owned.log.rotate_if_full()).await {
            Ok(Ok(now_rotated)) => *rotated |= now_rotated,
            Ok(Err(error)) => tracing::warn!(replica = %spec.id, log = %spec.log.path.display(), "cannot keep the old log: {error}"),
            Err(error) => tracing::error!(replica = %spec.id, "log rotation broke down: {error}"),
        }
        let recent = restarts.recent(Instant::now());
        let over = !restarts.is_crash_loop(recent);
        reporter.update(|status| {
            status.recent_restarts = recent;
            if over && matches!(status.failure, Some(WorkloadFailure::CrashLoop { .. })) {
                status.failure = None;
            }
        });
    }
}
