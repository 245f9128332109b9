//! What a door does with requests, whatever kind of object said so. Rules of a host are tried in order.

use super::world::UpstreamKey;

/// Where requests enter. Each has its own table, as each would be a server of its own in a real cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// Gateway API: routes whose parent is a `Gateway`.
    Gateway,
    /// Inside of the cluster: `VirtualServices`, routes whose parent is a Service, and plain Services, by their names.
    Mesh,
    /// ingress-nginx.
    Nginx,
    /// Traefik.
    Traefik,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Mesh, Self::Nginx, Self::Traefik];

    /// A short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Mesh => "mesh",
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
        }
    }
}

/// One host, under all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) domains: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

/// Requests that match one of these (all, if there is none) are handled so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) action: Action,
    pub(super) timeout_ms: Option<u64>,
}

/// What a request must have, all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) path: Option<Text>,
    pub(super) method: Option<String>,
    /// Name and value; `not` ones must not match.
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) query: Vec<(String, Text)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderMatch {
    pub(super) name: String,
    pub(super) value: Text,
    pub(super) is_not: bool,
}

/// How text is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Exact(String),
    /// For paths: whole parts, so that `/a` is not `/ab`.
    PathPrefix(String),
    Prefix(String),
    Regex(String),
    Present,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Upstreams with their weights, relative to the sum. `None` is one that does not exist and answers with 500 or 503.
    Split(Vec<(Option<UpstreamKey>, u32)>),
    /// Answers itself.
    Answer(u16),
}

impl HeaderMatch {
    pub(super) fn new(name: &str, value: Text) -> Self {
        Self { name: name.to_lowercase(), value, is_not: false }
    }
}
