//! Where the Deployments of a release are, and what is in front of them.

use serin_spec::validated::{ClusterTraffic, Pair};

use crate::api::Release;

/// See the module.
#[derive(Debug, Clone)]
pub struct Names {
    /// Identity of the release object.
    pub release: String,
    /// Its namespace and name.
    pub release_name: String,
    /// Where the Deployments are.
    pub namespace: String,
    /// Stable's Deployment.
    pub stable: String,
    /// The canary's.
    pub canary: String,
    /// Serin makes the canary of stable's Deployment, which is edited in place.
    pub is_managed: bool,
    /// Namespace and name of stable's Service and of the canary's; `None` where the router names none.
    pub services: Option<[(String, String); 2]>,
}

impl Names {
    /// Those that a document names.
    #[must_use]
    pub fn of(release: &Release, workload: &Pair, traffic: &ClusterTraffic) -> Self {
        let own = release.namespace();
        let here = |(elsewhere, name): (Option<String>, String)| (elsewhere.unwrap_or_else(|| own.to_owned()), name);
        Self {
            release: release.uid().to_owned(),
            release_name: format!("{own}/{}", release.name()),
            namespace: workload.namespace.clone().unwrap_or_else(|| own.to_owned()),
            stable: workload.stable.clone(),
            canary: workload.canary.clone(),
            is_managed: workload.is_managed,
            services: traffic.services().map(|services| services.map(here)),
        }
    }
}
