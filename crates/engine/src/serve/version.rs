//! Which version serves, and whether a document is about it.
//!
//! A service's stable version is the one that a release proved last, or the stable one of the document that declared the service. A
//! new document must name exactly that version as its stable one: the canary is judged against what clients have now, and a rollback
//! goes back to it. Everything counts that decides what runs: command, folder, environment, probes, replicas.

use std::path::Path;

use serin_core::traffic::Arm;
use serin_spec::validated::{EnvValue, ProcessArm, Workload};

use crate::{
    run::Document,
    store::{ReleaseId, Serving},
};

/// The stable version of a document that declares a service.
pub(super) fn declared(document: &Document) -> Serving {
    of(document, Arm::Stable, None)
}

/// The version that a run of this document brought.
pub(super) fn proven(document: &Document, run: i64) -> Serving {
    of(document, Arm::Canary, Some(run))
}

/// What the processes of a version are called: the run that brought it is in the name, so that no two versions share one.
pub(super) fn process_name(version: u64) -> String {
    format!("v{version}")
}

/// Whether a document's stable version is the one that serves.
///
/// # Errors
/// What differs, and what to do.
pub(super) fn is_stable_of(document: &Document, serving: &Document, arm: Arm) -> Result<(), String> {
    let difference = match (&document.release.workload, &serving.release.workload) {
        (Workload::Processes(new), Workload::Processes(old)) => {
            let old = if arm == Arm::Stable { &old.stable } else { &old.canary };
            process_difference(&new.stable, &document.dir, old, &serving.dir)
        }
        (Workload::External(new), Workload::External(old)) => {
            let old = if arm == Arm::Stable { &old.stable } else { &old.canary };
            (new.stable != *old).then_some("servers or health check")
        }
        _ => Some("kind of workload"),
    };
    match difference {
        None => Ok(()),
        Some(what) => Err(format!(
            "stable in the document is not the version that serves ({what} differ): what serves is the {arm} version of {}; \
             write it as the stable one, word for word, or delete the service and apply the document anew",
            serving.origin
        )),
    }
}

fn of(document: &Document, arm: Arm, run: Option<i64>) -> Serving {
    Serving {
        release: run.map(ReleaseId),
        arm,
        document_name: document.origin.clone(),
        document: document.text.clone(),
        version: run.map_or(0, i64::unsigned_abs),
    }
}

fn process_difference(new: &ProcessArm, new_dir: &Path, old: &ProcessArm, old_dir: &Path) -> Option<&'static str> {
    let differ = [
        (new.command != old.command, "command"),
        (new.working_dir != old.working_dir, "working directories"),
        (new.env != old.env, "environment"),
        (new.replicas != old.replicas, "numbers of replicas"),
        (new.ready != old.ready, "readiness probes"),
        (new != old, "settings of the processes"),
        (new_dir != old_dir && depends_on_folder(new), "folders of the documents, from which the version is started,"),
    ];
    differ.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what)
}

/// Whether the folder of its document decides what a version is.
fn depends_on_folder(arm: &ProcessArm) -> bool {
    let here = arm.working_dir.as_ref().is_none_or(|dir| dir.is_relative());
    here || arm.env.values().any(|value| matches!(value, EnvValue::File(path) if path.is_relative()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(dir: &str, stable: &str, canary: &str) -> Document {
        let text = format!(
            "apiVersion: serin.dev/v1alpha1\nkind: Release\nmetadata: {{name: shop}}\nspec:\n  workload: {{processes: {{stable: {stable}, canary: {canary}}}}}\n  traffic: {{embedded: {{listen: 127.0.0.1:8080}}}}\n  strategy: {{canary: {{stages: [{{weight: 5, hold: 1m}}]}}}}\n  analysis: {{judge: threshold, criteria: [{{metric: error-rate, max: 5%}}]}}\n"
        );
        Document::reread(&format!("{dir}/release.yaml"), text).unwrap()
    }

    const V1: &str = "{command: [app, v1], ready: {path: /ready}}";
    const V2: &str = "{command: [app, v2], ready: {path: /ready}}";
    const V3: &str = "{command: [app, v3], ready: {path: /ready}}";

    #[test]
    fn the_next_document_starts_where_the_last_one_ended() {
        let first = document("/srv", V1, V2);
        let next = document("/srv", V2, V3);
        assert_eq!(is_stable_of(&next, &first, Arm::Canary), Ok(()));
        let why = is_stable_of(&next, &first, Arm::Stable).unwrap_err();
        assert!(why.contains("command differ"), "{why}");
    }

    #[test]
    fn another_folder_is_another_version_unless_the_version_has_its_own() {
        let (here, there) = (document("/srv/a", V1, V2), document("/srv/b", V1, V2));
        assert!(is_stable_of(&there, &here, Arm::Stable).unwrap_err().contains("folders"));
        let fixed = "{command: [app, v1], workingDir: /opt/shop, ready: {path: /ready}}";
        let (here, there) = (document("/srv/a", fixed, V2), document("/srv/b", fixed, V2));
        assert_eq!(is_stable_of(&there, &here, Arm::Stable), Ok(()));
    }
}
