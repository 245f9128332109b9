//! What a release was last looked at with: while that is the same, nothing follows from another look.

use serde_json::Value;

use crate::{
    api::Release,
    workload::{Memory, Note},
};

/// Versions of the release, of both Deployments and of both Services, and what the edited one reads.
pub(super) type Stamp = [Option<String>; 6];

/// See the module.
pub(super) fn stamp(memory: &Memory, release: &Release) -> Stamp {
    let version = |meta: &kube::core::ObjectMeta| meta.resource_version.clone();
    let mut stamp = [version(&release.metadata), None, None, None, None, None];
    // Read without validation: this is looked at for every release at every change.
    let text = |at: &str| release.spec.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let place = |own: &str| if own.is_empty() { release.namespace().to_owned() } else { own.to_owned() };
    let namespace = place(text("/workload/kubernetes/namespace"));
    for (slot, name) in [(1, "/workload/kubernetes/stable/deployment"), (2, "/workload/kubernetes/canary/deployment")] {
        let found = memory.deployments.get(&namespace, text(name));
        // Its status changes all the time; what matters for a beginning is in the spec.
        stamp[slot] = found.map(|found| format!("{:?}/{:?}", found.metadata().uid, found.metadata().generation));
    }
    let (one, deployments_at) = (text("/workload/kubernetes/deployment"), namespace);
    if let Some(found) = memory.deployments.get(&deployments_at, one).filter(|_| !one.is_empty()) {
        // One that cannot be adopted yet is looked at whenever anything of it changes: it may have come to rest.
        let note = Note::on(found.metadata()).filter(|_| found.is_paused());
        stamp[1] = Some(match note {
            Some(note) => format!("{:?}/{:?}/{note:?}", found.metadata().uid, found.metadata().generation),
            None => format!("{:?}", found.metadata().resource_version),
        });
    }
    let edited = if one.is_empty() { text("/workload/kubernetes/canary/deployment") } else { one };
    stamp[5] = memory.config_stamp(&deployments_at, edited);
    let traffic = release.spec.get("traffic").and_then(Value::as_object).and_then(|one| one.values().next());
    let text = |at: &str| traffic.and_then(|traffic| traffic.pointer(at)).and_then(Value::as_str).unwrap_or_default();
    let namespace = place(text("/namespace"));
    for (slot, service, host) in [(3, "/stableService", "/stable/host"), (4, "/canaryService", "/canary/host")] {
        let mut host = text(host).splitn(3, '.');
        let (name, elsewhere) = (host.next().filter(|name| !name.is_empty()), host.next());
        let found = memory.services.get(elsewhere.unwrap_or(&namespace), name.unwrap_or_else(|| text(service)));
        stamp[slot] = found.and_then(|found| version(&found.metadata));
    }
    stamp
}
