//! What a controller used and asked for while it was watched.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use serin_testkit::{
    cluster::{AuditEntry, Cluster},
    torture::usage,
};

use crate::objects::ACTIVE;

/// See the module. Requests are those of the whole time.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) minutes: f64,
    pub(crate) memory_mib: f64,
    /// Percent of one core.
    pub(crate) processor: f64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    /// By verb and resource.
    pub(crate) requests: BTreeMap<String, usize>,
    /// Writes that are about no active release, beside the lease, and one of them.
    pub(crate) idle_writes: usize,
    pub(crate) idle_write: Option<String>,
    pub(crate) active_writes: usize,
    /// Reads beside watches and the lease.
    pub(crate) reads: usize,
}

impl Figures {
    /// Watches for so long; `None` if the controller ends meanwhile.
    pub(crate) fn take(cluster: &Cluster, pid: u32, account: &str, time: Duration) -> Option<Self> {
        let (_, mark) = cluster.audit(0);
        let (before, start) = (usage::of(pid)?, Instant::now());
        thread::sleep(time);
        let after = usage::of(pid)?;
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let (entries, _) = cluster.audit(mark);
        let mut figures = Self {
            minutes,
            memory_mib: after.rss_kib as f64 / 1024.0,
            processor: (after.cpu_ms - before.cpu_ms) as f64 / 600.0 / minutes,
            threads: after.threads,
            descriptors: after.descriptors,
            ..Self::default()
        };
        entries.iter().filter(|entry| entry.user == account).for_each(|entry| figures.count(entry));
        Some(figures)
    }

    fn count(&mut self, entry: &AuditEntry) {
        *self.requests.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
        let is_lease = entry.resource == "leases";
        match entry.verb.as_str() {
            "watch" => {}
            _ if is_lease => {}
            "get" | "list" => self.reads += 1,
            _ if is_of_active(entry) => self.active_writes += 1,
            _ => {
                self.idle_writes += 1;
                self.idle_write.get_or_insert_with(|| format!("{} {} {}", entry.verb, entry.resource, entry.name));
            }
        }
    }

    pub(crate) fn per_minute(&self, count: usize) -> f64 {
        count as f64 / self.minutes
    }

    pub(crate) fn json(&self) -> Value {
        let requests: BTreeMap<&str, f64> = self.requests.iter().map(|(what, count)| (what.as_str(), self.per_minute(*count))).collect();
        json!({
            "memoryMiB": self.memory_mib,
            "processorPercent": self.processor,
            "idleWritesPerMinute": self.per_minute(self.idle_writes),
            "activeWritesPerMinute": self.per_minute(self.active_writes),
            "readsPerMinute": self.per_minute(self.reads),
            "requestsPerMinute": requests,
        })
    }
}

/// By the object's name, or by the one that an event is about: events of both APIs have names of their own.
fn is_of_active(entry: &AuditEntry) -> bool {
    let inside = ["/metadata/name", "/involvedObject/name", "/regarding/name"];
    let names = inside.iter().filter_map(|at| entry.body.pointer(at)?.as_str());
    names.chain([entry.name.as_str()]).any(|name| name.starts_with(ACTIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(verb: &str, resource: &str, name: &str, body: Value) -> AuditEntry {
        AuditEntry {
            user: String::new(),
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            is_dry_run: false,
            code: 200,
            body,
            at: String::new(),
            agent: String::new(),
        }
    }

    #[test]
    fn writes_belong_to_what_they_are_about() {
        let mut figures = Figures { minutes: 2.0, ..Figures::default() };
        for (verb, resource, name, body) in [
            ("patch", "releases/status", "active-7", Value::Null),
            ("create", "events", "", json!({"metadata": {"name": "x.1"}, "regarding": {"name": "active-7"}})),
            ("create", "events", "", json!({"metadata": {"name": "x.2"}, "involvedObject": {"name": "active-8"}})),
            ("create", "replicasets", "", json!({"metadata": {"name": "active-8-abc"}})),
            ("create", "events", "", json!({"metadata": {"name": "x.3"}, "regarding": {"name": "idle-7"}})),
            ("update", "leases", "serin", Value::Null),
            ("get", "leases", "serin", Value::Null),
            ("watch", "pods", "", Value::Null),
            ("get", "deployments", "idle-7", Value::Null),
            ("list", "pods", "", Value::Null),
        ] {
            figures.count(&entry(verb, resource, name, body));
        }
        assert_eq!((figures.active_writes, figures.idle_writes, figures.reads), (4, 1, 2));
        assert_eq!(figures.idle_write.as_deref(), Some("create events "));
        assert_eq!((figures.per_minute(3), figures.requests["create events"]), (1.5, 3));
    }
}
