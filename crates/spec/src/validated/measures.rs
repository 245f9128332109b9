//! What others measure: whom to ask, what, and how often.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serin_core::plan::MetricName;

use super::EnvValue;

/// Everything that sources outside of Serin are asked for one release. Empty if nothing is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Time between two looks, in milliseconds.
    pub interval_ms: u64,
    /// Whom to ask, by name. Those that nothing is asked of are in it too.
    pub sources: BTreeMap<String, Prometheus>,
    /// What is asked for the metrics that criteria and guards name, each once.
    pub queries: Vec<Query>,
    /// Alerts that take the traffic from the canary.
    pub alerts: Vec<AlertRule>,
}

/// A Prometheus and how to ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prometheus {
    /// Where it is.
    pub url: SourceUrl,
    /// How Serin says who it is.
    pub auth: Option<Auth>,
    /// Certificates in PEM that the server's is checked against, instead of those of the system.
    pub ca: Option<Secret>,
    /// Headers of every question, by name in lower case.
    pub headers: BTreeMap<String, EnvValue>,
    /// The time that one question may take, in milliseconds.
    pub timeout_ms: u64,
}

/// The address of a server of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceUrl {
    /// `https` rather than `http`.
    pub is_tls: bool,
    /// Name or address, IPv6 in brackets, in lower case.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path before `/api/v1`: empty, or with a slash at its begin and none at its end.
    pub prefix: String,
}

/// How Serin says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// By a token.
    Bearer(Secret),
    /// By name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// By a certificate with its key, both in PEM.
    MutualTls {
        /// The certificate and those that vouch for it.
        certificate: Secret,
        /// Its private key.
        key: Secret,
    },
}

/// Where a secret is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// A variable of Serin's own environment.
    Env(String),
    /// The content of a file without its final line end; relative paths are relative to the document.
    File(PathBuf),
    /// A key of a Secret in the namespace of the release.
    Key {
        /// The Secret.
        name: String,
        /// The key in its data.
        key: String,
    },
}

/// What a source is asked for one metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// The metric.
    pub metric: MetricName,
    /// Who is asked.
    pub source: String,
    /// What.
    pub ask: Ask,
}

/// What is asked. Templates are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Counters, as plain selectors.
    Ratio {
        /// Of everything.
        all: PerArm,
        /// Of what is bad, or of what is good.
        part: PerArm,
        /// Which of them.
        part_is_good: bool,
    },
    /// A query whose answer is a single number.
    Value(PerArm),
}

/// A question for each version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerArm {
    /// For stable; `None` where the versions are not told apart: what is measured counts as that of both, and is held against absolute limits.
    pub stable: Option<String>,
    /// For the canary.
    pub canary: String,
}

/// An alert that takes the traffic from the canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRule {
    /// Who has its rule.
    pub source: String,
    /// Labels with their exact values, at least one.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl Prometheus {
    /// The secrets that it needs, each with its field.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        let mut found = match &self.auth {
            Some(Auth::Bearer(token)) => vec![("auth.bearer", token)],
            Some(Auth::Basic { password, .. }) => vec![("auth.basic.password", password)],
            Some(Auth::MutualTls { certificate, key }) => vec![("auth.mtls.certificate", certificate), ("auth.mtls.key", key)],
            None => Vec::new(),
        };
        found.extend(self.ca.as_ref().map(|ca| ("ca", ca)));
        found
    }
}
