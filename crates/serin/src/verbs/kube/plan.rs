//! What a release would change in a cluster.

use std::path::Path;

use serin_kube::outside::{Session, plan};

use super::backend::{Cluster, api_error};
use crate::{
    document::{self, ForCluster},
    exit,
    output::{self, Output},
    render,
};

/// Shows it. `has_namespace`: the command line names one, which wins over the document's.
pub(super) async fn show(
    cluster: &Cluster,
    release: Option<&str>,
    file: Option<&Path>,
    has_namespace: bool,
    output: Output,
) -> anyhow::Result<u8> {
    let mut session: Session = cluster.session.clone();
    let (found, object) = match (file, release) {
        (Some(file), _) => {
            let Ok(found) = document::read_cluster(file, output) else { return Ok(exit::USAGE) };
            let object = serin_spec::as_json(&found.text).unwrap_or_default();
            if let Some(namespace) = object.pointer("/metadata/namespace").and_then(|one| one.as_str()).filter(|_| !has_namespace) {
                namespace.clone_into(&mut session.namespace);
            }
            (found, Some(object))
        }
        (None, name) => {
            let name = name.unwrap_or_default();
            let object = session.release(name).await.map_err(|error| api_error(error, &session.namespace, name))?;
            let called = format!("{}/{name}", session.namespace);
            let Ok(found) = document::reread_cluster(&called, object.document(), output) else { return Ok(exit::USAGE) };
            (found, None)
        }
    };
    let ForCluster { name, release, .. } = found;
    let planned = plan(&session, &release, object.as_ref()).await.map_err(|error| api_error(error, &session.namespace, &release.name))?;
    match output {
        Output::Json => output::data(&render::cluster_plan::json(&name, &release, &planned).to_string())?,
        Output::Text => output::data(&render::cluster_plan::text(&name, &release, &planned))?,
    }
    Ok(if planned.is_possible() { exit::SUCCEEDED } else { exit::PREFLIGHT })
}
