//! The checks that a person can make from outside.

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::Value;
use serin_core::release::{Check, CheckStatus};

use super::{MANAGER, Session, look};
use crate::{
    api::{ApiError, within},
    release::{Place, check},
    workload::{ArmSeen, Pair, PairError},
};

/// Which version would replace which, and whether there is one to go back to.
pub(super) async fn versions(pair: &Pair, checks: &mut Vec<Check>) {
    match look::versions(pair).await {
        // What is missing was said.
        Err(PairError::Missing(_)) => return,
        Err(PairError::NotYet(why)) => checks.push(check("versions", CheckStatus::Warn, format!("they cannot be told yet: {why}"), None)),
        Err(error) => {
            checks.push(check("versions", CheckStatus::Fail, error.to_string(), None));
            return;
        }
        Ok((stable, canary)) => {
            let is_same = stable == canary;
            let (status, detail) = if is_same {
                (CheckStatus::Warn, "what serves is what would be tried: nothing would be released".to_owned())
            } else {
                (CheckStatus::Pass, format!("{canary} replaces {stable}"))
            };
            let hint = format!("change {} to the version that you want to release", pair.edited());
            checks.push(check("versions", status, detail, is_same.then_some(hint.as_str())));
        }
    }
    if let Some(stable) = pair.stable() {
        checks.push(healthy(&stable));
    }
}

fn healthy(stable: &ArmSeen) -> Check {
    let detail = format!("{} of {} replicas of stable are ready", stable.ready, stable.wanted);
    let is_healthy = stable.settled && stable.wanted > 0;
    let hint = (!is_healthy).then_some("repair stable before you release: there would be nothing to go back to");
    check("stable", if is_healthy { CheckStatus::Pass } else { CheckStatus::Fail }, detail, hint)
}

/// Whether each version has the Service that it needs.
pub(super) async fn services(session: &Session, place: &Place, checks: &mut Vec<Check>) -> Result<(), ApiError> {
    // What Serin makes itself need not be there before.
    let given = if place.workload.is_managed { 1 } else { 2 };
    for (elsewhere, name) in place.traffic.services().into_iter().flatten().take(given) {
        let namespace = elsewhere.as_deref().unwrap_or(&session.namespace);
        let api: Api<Service> = Api::namespaced(session.client.clone(), namespace);
        let found = within(&format!("get Service {namespace}/{name}"), api.get_opt(&name)).await?;
        let selects = found.map(|found| found.spec.and_then(|spec| spec.selector).is_some_and(|selector| !selector.is_empty()));
        let (status, detail) = match selects {
            Some(true) => (CheckStatus::Pass, format!("{name} is there and selects pods")),
            Some(false) => (CheckStatus::Fail, format!("the Service {name} selects no pods")),
            None => (CheckStatus::Fail, format!("there is no Service {namespace}/{name}")),
        };
        checks.push(check("service", status, detail, (status == CheckStatus::Fail).then_some("each version needs a Service of its own")));
    }
    Ok(())
}

/// Whether the server would take the document, by its schema and rules. Nothing is created.
pub(super) async fn accepted(session: &Session, name: &str, document: &Value) -> Result<Check, ApiError> {
    let namespace = &session.namespace;
    let what = format!("try to apply Release {namespace}/{name}");
    let params = PatchParams { dry_run: true, force: true, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match within(&what, session.releases().patch(name, &params, &Patch::Apply(document))).await {
        Ok(_) => Ok(check("document", CheckStatus::Pass, "the API server would accept it".to_owned(), None)),
        Err(ApiError::Invalid(_, why)) => Ok(check("document", CheckStatus::Fail, why, None)),
        Err(ApiError::Forbidden(_, why)) => {
            Ok(check("document", CheckStatus::Warn, format!("the API server could not be asked: {why}"), None))
        }
        Err(ApiError::NotFound(_)) => {
            let hint = "install it: `kubectl apply -f charts/serin/crds/releases.yaml`";
            Ok(check("document", CheckStatus::Fail, "the cluster does not know the resource, or the namespace".to_owned(), Some(hint)))
        }
        Err(error) => Err(error),
    }
}
