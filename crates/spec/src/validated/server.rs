//! The configuration of a server that was found to be valid.

use std::{net::SocketAddr, path::PathBuf};

/// A server. Relative paths start from the folder of its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The state folder, if the document says so.
    pub state: Option<PathBuf>,
    /// Release documents whose stable versions serve from the start.
    pub services: Vec<PathBuf>,
    /// HTTP beside the unix socket.
    pub tcp: Option<ApiTcp>,
    /// Runs whose journals are kept, per service, at least 1.
    pub retain_runs: u32,
    /// How long they are kept, in milliseconds.
    pub retain_ms: u64,
}

/// Runs whose journals are kept unless something else is said.
const RETAIN_RUNS: u32 = 100;
/// How long they are kept then: 90 days.
const RETAIN_MS: u64 = 90 * 24 * 3_600_000;

/// What serves without a configuration: nothing that was not applied, over the unix socket alone.
impl Default for Server {
    fn default() -> Self {
        Self { state: None, services: Vec::new(), tcp: None, retain_runs: RETAIN_RUNS, retain_ms: RETAIN_MS }
    }
}

/// HTTP on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTcp {
    /// Where; a loopback address if there is no `tls`.
    pub listen: SocketAddr,
    /// Certificate and key as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may do what, at least one.
    pub tokens: Vec<ApiToken>,
}

/// A bearer token, of which only the hash is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Whose it is. No two have the same.
    pub name: String,
    /// What it may do.
    pub role: ApiRole,
    /// `sha256:` and 64 hexadecimal digits.
    pub hash: String,
}

/// What a token may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiRole {
    /// See.
    Viewer,
    /// Act on releases.
    Operator,
    /// Apply and delete.
    Admin,
}
