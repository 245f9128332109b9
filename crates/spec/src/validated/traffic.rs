//! Who splits the traffic, and how.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The built-in proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// What leads to the canary during a preview. There if the plan has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<SocketAddr>,
    /// Requests that go to the canary whatever the weight, while the release is in a stage. Any rule that matches is enough.
    pub matches: Vec<MatchRule>,
    /// How clients keep their version.
    pub sticky: Option<Sticky>,
    /// Time limits of requests.
    pub timeouts: Timeouts,
    /// How long requests in flight may go on at a version that lost its traffic, in milliseconds.
    pub drain_ms: u64,
    /// Where requests are logged.
    pub access_log: Option<AccessLog>,
}

/// A rule matches when all its headers and cookies have the given values. It names at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRule {
    /// Header names in lower case with their exact values.
    pub headers: Vec<KeyValue>,
    /// Cookie names with their exact values.
    pub cookies: Vec<KeyValue>,
}

/// A name and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Header name (lower case) or cookie name.
    pub name: String,
    /// The exact value.
    pub value: String,
}

/// How clients keep their version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// By a cookie that the proxy issues.
    Cookie(CookieSticky),
    /// By the value of a header (lower case); requests without it are assigned at random.
    Header(String),
}

/// The cookie that the proxy issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieSticky {
    /// Its name.
    pub name: String,
    /// Its lifetime in seconds.
    pub max_age_s: u64,
}

/// Time limits of requests, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Until a connection to a version stands.
    pub connect_ms: u64,
    /// From the request's end until the head of the answer.
    pub response_ms: u64,
    /// Without a byte in either direction, while bodies stream and between requests of a kept connection.
    pub idle_ms: u64,
}

/// Where requests are logged, a JSON line each. Query strings, cookies and authorization are never written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// The file; relative paths are relative to the document.
    pub path: PathBuf,
    /// Size at which it is rotated, in bytes. One rotated file is kept.
    pub max_bytes: u64,
}
