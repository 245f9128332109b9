//! etcd, API server and controller manager: how they are started, and what can be done to them.
//!
//! Data and ports are fresh for each cluster and stay the same when a server is restarted. etcd does not wait for the disk (a machine that
//! loses power loses no test). The API server has RBAC on and writes an audit log before it answers. Controllers that judge nodes by
//! their heartbeat are off: a starved machine would evict pods from a node that is well.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use super::{access, certificates, daemon::Daemon, net::PodNetwork, tools::Tools};
use crate::{free_address, http};

/// Reads of the testbed itself and of the cluster's own controllers would bury everything else.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[
{"level":"None","userGroups":["testbed:own"]},
{"level":"None","users":["system:apiserver"]},
{"level":"Metadata","verbs":["get","list","watch"]},
{"level":"Request"}]}"#;

/// See the module. Dropping it stops the servers, controllers first.
#[derive(Debug)]
pub(super) struct ControlPlane {
    // In the order in which they must end.
    controllers: Option<Daemon>,
    apiserver: Option<Daemon>,
    etcd: Option<Daemon>,
    folder: PathBuf,
    tools: Tools,
    etcd_address: SocketAddr,
    etcd_peer: SocketAddr,
    /// Where the API server listens.
    pub(super) address: SocketAddr,
    node: String,
}

impl ControlPlane {
    /// Starts all three and waits until they answer.
    pub(super) fn start(folder: &Path, tools: &Tools, network: &PodNetwork) -> Self {
        certificates::write(folder);
        fs::write(folder.join("audit-policy.json"), AUDIT_POLICY).unwrap();
        let mut plane = Self {
            controllers: None,
            apiserver: None,
            etcd: None,
            folder: folder.to_owned(),
            tools: tools.clone(),
            etcd_address: free_address(),
            etcd_peer: free_address(),
            address: free_address(),
            node: network.node().to_string(),
        };
        access::write_tokens(folder, plane.address);
        plane.start_etcd();
        plane.start_apiserver();
        plane.start_controllers();
        plane
    }

    pub(super) fn start_etcd(&mut self) {
        let (client, peer) = (format!("http://{}", self.etcd_address), format!("http://{}", self.etcd_peer));
        let args = [
            "--data-dir=etcd".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let mut etcd = Daemon::start(&self.folder, "etcd", &self.tools.etcd, &args);
        let address = self.etcd_address;
        etcd.wait_ready("etcd", || http::get(address, "/health", &[]).is_ok_and(|answer| answer.status == 200));
        self.etcd = Some(etcd);
    }

    pub(super) fn start_apiserver(&mut self) {
        let args = [
            format!("--etcd-servers=http://{}", self.etcd_address),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.address.port()),
            // No endpoints of its own: nothing in this cluster could reach them.
            format!("--advertise-address={}", self.node),
            "--endpoint-reconciler-type=none".to_owned(),
            "--tls-cert-file=apiserver.crt".to_owned(),
            "--tls-private-key-file=apiserver.key".to_owned(),
            "--token-auth-file=tokens.csv".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-account-key-file=accounts.pub".to_owned(),
            "--service-account-signing-key-file=accounts.key".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--audit-policy-file=audit-policy.json".to_owned(),
            "--audit-log-path=audit.log".to_owned(),
            "--audit-log-mode=blocking".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let mut apiserver = Daemon::start(&self.folder, "kube-apiserver", &self.tools.apiserver, &args);
        apiserver.wait_ready("kube-apiserver", || access::is_ready(&self.folder));
        self.apiserver = Some(apiserver);
    }

    pub(super) fn start_controllers(&mut self) {
        let args = [
            format!("--kubeconfig={}", access::kubeconfig_path(&self.folder, access::CONTROLLERS).display()),
            "--leader-elect=false".to_owned(),
            "--service-account-private-key-file=accounts.key".to_owned(),
            "--root-ca-file=ca.crt".to_owned(),
            "--secure-port=0".to_owned(),
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller,-certificatesigningrequest-signing-controller"
                .to_owned(),
            "--kube-api-qps=1000".to_owned(),
            "--kube-api-burst=2000".to_owned(),
            "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
            "--profiling=false".to_owned(),
        ];
        self.controllers = Some(Daemon::start(&self.folder, "kube-controller-manager", &self.tools.controller_manager, &args));
    }

    /// Ends the API server (in order, or as a crash) and starts it anew.
    pub(super) fn restart_apiserver(&mut self, is_crash: bool) {
        Self::end(&mut self.apiserver, is_crash);
        self.start_apiserver();
    }

    /// Ends etcd (in order, or as a crash) and starts it anew on its data.
    pub(super) fn restart_etcd(&mut self, is_crash: bool) {
        Self::end(&mut self.etcd, is_crash);
        self.start_etcd();
    }

    /// Ends the API server.
    pub(super) fn stop_apiserver(&mut self, is_crash: bool) {
        Self::end(&mut self.apiserver, is_crash);
    }

    /// Lets the API server stand still, or go on.
    pub(super) fn freeze_apiserver(&self, is_frozen: bool) {
        if let Some(apiserver) = &self.apiserver {
            apiserver.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Lets the cluster's controllers stand still, or go on.
    pub(super) fn freeze_controllers(&self, is_frozen: bool) {
        if let Some(controllers) = &self.controllers {
            controllers.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
        }
    }

    /// What the servers said last.
    pub(super) fn tails(&self) -> String {
        let servers = [("etcd", &self.etcd), ("kube-apiserver", &self.apiserver), ("kube-controller-manager", &self.controllers)];
        servers.iter().map(|(name, daemon)| format!("--- {name}\n{}\n", daemon.as_ref().map(Daemon::tail).unwrap_or_default())).collect()
    }

    fn end(daemon: &mut Option<Daemon>, is_crash: bool) {
        if let Some(mut daemon) = daemon.take()
            && is_crash
        {
            daemon.kill();
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.freeze_apiserver(false);
        self.freeze_controllers(false);
        self.controllers = None;
        self.apiserver = None;
        self.etcd = None;
    }
}
