//! The configuration of a server, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ApiVersion, Duration, Listen, TokenName};

/// A server: what it serves from its start on, where its state is, and who may tell it what to do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Server")]
pub(crate) struct ServerDocument {
    /// Version of this document's format: `serin.dev/v1alpha1`.
    #[serde(rename = "apiVersion")]
    #[expect(dead_code, reason = "checked by the schema, which is its only use")]
    pub(crate) api_version: ApiVersion,
    /// What this document is: `Server`.
    #[expect(dead_code, reason = "checked by the schema, which is its only use")]
    pub(crate) kind: ServerKind,
    /// What the server does.
    pub(crate) spec: Option<ServerSpec>,
}

/// What the document is.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) enum ServerKind {
    Server,
}

/// What the server does.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServerSpec {
    /// Folder with journals, sockets and logs, relative to this file. `--state` on the command line wins.
    #[schemars(length(min = 1), extend("examples" = ["/var/lib/serin"]))]
    pub(crate) state: Option<String>,
    /// Services that serve from the start. Others come with their first `serin apply`.
    #[schemars(length(max = 1000))]
    pub(crate) services: Option<Vec<Service>>,
    /// Who may tell the server what to do. The unix socket `api.sock` in the state folder is always there, for its user.
    pub(crate) api: Option<Api>,
    /// How much of the past is kept, per service.
    pub(crate) retention: Option<Retention>,
}

/// A service that serves from the start.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Service {
    /// A release document, relative to this file: its stable version serves at its address until a release is applied. Its canary is not started.
    #[schemars(length(min = 1), extend("examples" = ["checkout.yaml"]))]
    pub(crate) document: String,
}

/// Who may tell the server what to do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Api {
    /// HTTP on an address, beside the unix socket.
    pub(crate) tcp: Option<Tcp>,
}

/// HTTP on an address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Tcp {
    /// IP address and port. Without `tls` it must be a loopback address.
    pub(crate) listen: Listen,
    /// Certificate and key. Both files are read again when they change.
    pub(crate) tls: Option<Tls>,
    /// Who may do what. `serin token` makes one.
    #[schemars(length(min = 1, max = 100))]
    pub(crate) tokens: Vec<Token>,
}

/// Certificate and key as PEM files, relative to this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Tls {
    /// The certificate, followed by those that it was signed with.
    #[schemars(length(min = 1))]
    pub(crate) cert: String,
    /// Its private key.
    #[schemars(length(min = 1))]
    pub(crate) key: String,
}

/// A bearer token, of which only the hash is known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Token {
    /// Whose it is: the name that stands in journals.
    pub(crate) name: TokenName,
    /// What it may do.
    pub(crate) role: Role,
    /// Its hash, as `serin token` prints it.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub(crate) hash: String,
}

/// What a token may do: `viewer` sees, `operator` also acts on releases (pause, approve, abort and the like), `admin` also applies and deletes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Role {
    Viewer,
    Operator,
    Admin,
}

/// How much of the past is kept, per service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retention {
    /// Runs whose journals are kept.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub(crate) runs: Option<u32>,
    /// How long they are kept.
    #[schemars(extend("default" = "90d"))]
    pub(crate) keep: Option<Duration>,
}
