//! Who may ask the API server, and how: fixed users with tokens, service accounts, and clients for all of them.
//!
//! `admin` may everything. `alice` (group `developers`) and `bob` (group `viewers`) may nothing until a test binds roles to them. The
//! testbed's own parts are users of their own in the group `testbed:own`, which the audit log leaves out.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// May everything.
pub const ADMIN: &str = "admin";
/// Of the group `developers`.
pub const ALICE: &str = "alice";
/// Of the group `viewers`.
pub const BOB: &str = "bob";
pub(super) const AGENT: &str = "testbed:agent";
pub(super) const MESH: &str = "testbed:mesh";
/// The test's own way to look: like `admin`, but not in the audit log.
pub(super) const EYES: &str = "testbed:eyes";
pub(super) const CONTROLLERS: &str = "system:kube-controller-manager";

const USERS: [(&str, &str); 7] = [
    (ADMIN, "system:masters"),
    (ALICE, "developers"),
    (BOB, "viewers"),
    (AGENT, "system:masters,testbed:own"),
    (MESH, "system:masters,testbed:own"),
    (EYES, "system:masters,testbed:own"),
    (CONTROLLERS, "system:masters,testbed:own"),
];

/// How long one question to a server that is just starting may take.
const PROBE: Duration = Duration::from_secs(2);

/// Writes `tokens.csv` and a kubeconfig for each user. Whoever can read the folder is the test itself.
pub(super) fn write_tokens(folder: &Path, server: SocketAddr) {
    let mut table = String::new();
    for (user, groups) in USERS {
        let token = token(user);
        table += &format!("{token},{user},{user},\"{groups}\"\n");
        fs::write(kubeconfig_path(folder, user), kubeconfig(folder, server, user, &token)).unwrap();
    }
    fs::write(folder.join("tokens.csv"), table).unwrap();
}

/// The kubeconfig of a user or service account, whether it is there or not.
pub(super) fn kubeconfig_path(folder: &Path, user: &str) -> PathBuf {
    folder.join(format!("{}.kubeconfig", user.replace(':', "-")))
}

/// The text of a kubeconfig (JSON, which is YAML).
pub(super) fn kubeconfig(folder: &Path, server: SocketAddr, user: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": format!("https://{server}"), "certificate-authority": folder.join("ca.crt")}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": "default"}}],
        "current-context": "test",
    });
    serde_json::to_string_pretty(&config).unwrap()
}

/// A client for what a kubeconfig says; to be called within a runtime.
///
/// # Panics
/// If the file is not there.
pub(super) async fn client(kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    // Watches are ended by their own timeout; a connection that hangs is noticed by whoever waits for the answer.
    config.read_timeout = None;
    Client::try_from(config).unwrap()
}

/// Whether the API server answers. On a thread of its own, because the caller may belong to a runtime.
pub(super) fn is_ready(folder: &Path) -> bool {
    let ask = async {
        let client = client(&kubeconfig_path(folder, EYES)).await;
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        matches!(tokio::time::timeout(PROBE, client.request_text(request)).await, Ok(Ok(_)))
    };
    let asked = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ask);
    std::thread::scope(|scope| scope.spawn(asked).join().unwrap())
}

/// Different in each cluster, so that a forgotten kubeconfig opens nothing.
fn token(user: &str) -> String {
    let random = rcgen::KeyPair::generate().unwrap().public_key_raw().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}-{random}", user.replace(':', "-"))
}
