//! Where the workloads of a release are, and what is in front of them.

use serin_spec::validated::{ClusterTraffic, Pair, WorkloadKind};

use crate::api::Release;

/// See the module.
#[derive(Debug, Clone)]
pub struct Names {
    /// Identity of the release object.
    pub release: String,
    /// Its namespace and name.
    pub release_name: String,
    /// Where stable is.
    pub namespace: String,
    /// Where the canary is.
    pub canary_namespace: String,
    /// What stable and the canary are.
    pub kinds: [WorkloadKind; 2],
    /// Stable.
    pub stable: String,
    /// The canary.
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
        let namespace = workload.namespace.clone().unwrap_or_else(|| own.to_owned());
        Self {
            release: release.uid().to_owned(),
            release_name: format!("{own}/{}", release.name()),
            canary_namespace: workload.canary_namespace.clone().unwrap_or_else(|| namespace.clone()),
            namespace,
            kinds: workload.kinds,
            stable: workload.stable.clone(),
            canary: workload.canary.clone(),
            is_managed: workload.is_managed,
            services: traffic.services().map(|services| services.map(here)),
        }
    }
}

/// Which of both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// What serves now.
    Stable,
    /// What is on trial.
    Canary,
}

impl Names {
    /// What kind of workload a version is.
    #[must_use]
    pub fn kind(&self, arm: Arm) -> WorkloadKind {
        self.kinds[usize::from(arm == Arm::Canary)]
    }

    /// Namespace and name of a version's workload.
    #[must_use]
    pub fn place(&self, arm: Arm) -> (&str, &str) {
        match arm {
            Arm::Stable => (&self.namespace, &self.stable),
            Arm::Canary => (&self.canary_namespace, &self.canary),
        }
    }

    /// Kind, namespace and name, for people.
    #[must_use]
    pub fn title(&self, arm: Arm) -> String {
        let (namespace, name) = self.place(arm);
        format!("{} {namespace}/{name}", self.kind(arm).name())
    }

    /// The version whose template is edited to release something.
    #[must_use]
    pub fn edited(&self) -> Arm {
        if self.is_managed { Arm::Stable } else { Arm::Canary }
    }
}
