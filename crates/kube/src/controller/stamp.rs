//! What a release was last looked at with: while that is the same, nothing follows from another look.

use serde_json::Value;
use serin_spec::validated::WorkloadKind;

use crate::{
    api::Release,
    workload::{Memory, Note},
};

/// Fields that name a workload, each with its kind.
const KINDS: [(&str, WorkloadKind); 3] =
    [("deployment", WorkloadKind::Deployment), ("statefulSet", WorkloadKind::StatefulSet), ("daemonSet", WorkloadKind::DaemonSet)];

/// Versions of the release, of both workloads and of both Services, and what the edited one reads.
pub(super) type Stamp = [Option<String>; 6];

/// See the module.
pub(super) fn stamp(memory: &Memory, release: &Release) -> Stamp {
    let version = |meta: &kube::core::ObjectMeta| meta.resource_version.clone();
    let mut stamp = [version(&release.metadata), None, None, None, None, None];
    // Read without validation: this is looked at for every release at every change.
    let text = |at: &str| release.spec.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let place = |own: &str| if own.is_empty() { release.namespace().to_owned() } else { own.to_owned() };
    let common = text("/workload/kubernetes/namespace");
    // Kind, namespace and name of one of the pair.
    let named = |arm: &str| {
        let field = |field: &str| text(&format!("/workload/kubernetes/{arm}/{field}"));
        let (kind, name) = KINDS.iter().map(|(name, kind)| (*kind, field(name))).find(|(_, name)| !name.is_empty())?;
        Some((kind, place(if field("namespace").is_empty() { common } else { field("namespace") }), name))
    };
    let arms = [named("stable"), named("canary")];
    for (slot, arm) in stamp[1..].iter_mut().zip(&arms) {
        let found = arm.as_ref().and_then(|(kind, namespace, name)| memory.workloads(*kind).get(namespace, name));
        // Its status changes all the time; what matters for a beginning is in the spec.
        *slot = found.map(|found| format!("{:?}/{:?}", found.metadata().uid, found.metadata().generation));
    }
    let (one, own) = (text("/workload/kubernetes/deployment"), release.namespace());
    if let Some(found) = memory.deployments.get(own, one).filter(|_| !one.is_empty()) {
        // One that cannot be adopted yet is looked at whenever anything of it changes: it may have come to rest.
        let note = Note::on(found.metadata()).filter(|_| found.is_paused());
        stamp[1] = Some(match note {
            Some(note) => format!("{:?}/{:?}/{note:?}", found.metadata().uid, found.metadata().generation),
            None => format!("{:?}", found.metadata().resource_version),
        });
    }
    stamp[5] = match &arms {
        _ if !one.is_empty() => memory.config_stamp(WorkloadKind::Deployment, own, one),
        [_, Some((kind, namespace, name))] => memory.config_stamp(*kind, namespace, name),
        [_, None] => None,
    };
    let traffic = release.spec.get("traffic").and_then(Value::as_object).and_then(|one| one.values().next());
    let text = |at: &str| traffic.and_then(|traffic| traffic.pointer(at)).and_then(Value::as_str).unwrap_or_default();
    let namespace = place(text("/namespace"));
    for (slot, service, host, own) in
        [(3, "/stableService", "/stable/host", "/stableNamespace"), (4, "/canaryService", "/canary/host", "/canaryNamespace")]
    {
        let mut host = text(host).splitn(3, '.');
        let (name, elsewhere) = (host.next().filter(|name| !name.is_empty()), host.next());
        let elsewhere = elsewhere.unwrap_or(if text(own).is_empty() { &namespace } else { text(own) });
        let found = memory.services.get(elsewhere, name.unwrap_or_else(|| text(service)));
        stamp[slot] = found.and_then(|found| version(&found.metadata));
    }
    stamp
}
