//! What a controller of Serin needs in a cluster: the resources, the roles that ship, and accounts.

use std::path::PathBuf;

use serde_json::json;

use super::{Cluster, parse};

/// The namespace of the controller's accounts and of its lease.
const NAMESPACE: &str = "serin";
/// The manifests that ship.
const RESOURCES: [&str; 2] =
    [include_str!("../../../../charts/serin/crds/releases.yaml"), include_str!("../../../../charts/serin/crds/releasememories.yaml")];
const ROLES: &str = include_str!("../../../../charts/serin/rbac.yaml");

impl Cluster {
    /// Installs the resources, the namespace `serin`, the roles that ship, and an account `controller` with them.
    ///
    /// # Panics
    /// If the server refuses something, or does not accept a schema as a whole.
    pub fn install_serin(&self) {
        for resource in RESOURCES.iter().flat_map(|text| parse(text)) {
            self.try_apply(&resource).unwrap_or_else(|error| panic!("{error}"));
            let name = resource["metadata"]["name"].as_str().unwrap();
            self.until(&format!("the resource {name}"), || {
                let crd = self.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)?;
                let conditions = crd["status"]["conditions"].as_array()?.clone();
                // What the server cannot accept about the schema it says here.
                let odd = conditions.iter().find(|one| one["type"] == "NonStructuralSchema" && one["status"] == "True");
                assert!(odd.is_none(), "{odd:#?}");
                conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True").then_some(())
            });
        }
        self.namespace(NAMESPACE);
        for mut role in parse(ROLES) {
            if role["kind"] == "Role" {
                role["metadata"]["namespace"] = json!(NAMESPACE);
            }
            self.try_apply(&role).unwrap_or_else(|error| panic!("{error}"));
        }
        self.controller_account("controller");
    }

    /// An account in the namespace `serin` that may do what the controller may; the audit log tells two of them apart. Returns its
    /// kubeconfig. Its bindings are `serin-NAME` and `serin-NAME-lease`; if they are gone, this makes them again.
    ///
    /// # Panics
    /// If the server refuses it, or [`Cluster::install_serin`] was not called.
    pub fn controller_account(&self, name: &str) -> PathBuf {
        self.apply(&format!(
            "
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {NAMESPACE}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: serin-{name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: serin-controller}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {NAMESPACE}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: serin-{name}-lease, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: serin-controller-lease}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {NAMESPACE}}}]
"
        ));
        self.service_account(NAMESPACE, name)
    }
}
