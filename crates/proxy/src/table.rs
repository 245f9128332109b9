//! The route table: everything the data path needs to know, replaced as a whole and never changed in place.
//!
//! Matches and weight are in one table, so that both disappear in the same swap when traffic is taken back.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use http::HeaderName;
use serde::{Deserialize, Serialize};
use serin_core::WeightBps;

/// Most endpoints of one arm.
pub const MAX_ENDPOINTS: usize = 1024;
/// Most match rules, and most conditions of one rule.
pub const MAX_RULES: usize = 64;

/// Where requests go. Ordered by `(epoch, version)`: a lower one never replaces a higher one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every new owner of the release; fences off the owners before.
    pub epoch: u64,
    /// Grows with every table of one owner.
    pub version: u64,
    /// Name of the release, for people who read tables and logs.
    pub release: String,
    /// Separates the sticky buckets of one release from those of another.
    pub salt: String,
    /// Servers of the stable version, at least one.
    pub stable: Pool,
    /// Servers of the canary. `None`: there is no canary, so the weight is 0 and nothing matches.
    pub canary: Option<Pool>,
    /// The canary's share of the traffic that no rule matches.
    pub weight: WeightBps,
    /// Requests that go to the canary whatever the weight. Any rule suffices.
    pub matches: Vec<MatchRule>,
    /// How clients keep their version. `None`: every request is assigned on its own.
    pub sticky: Option<Sticky>,
    /// Time limits of requests.
    pub timeouts: Timeouts,
    /// Where requests are logged. `None`: nowhere.
    pub access_log: Option<AccessLog>,
    /// An address that leads to the canary, whatever the weight. `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<SocketAddr>,
}

/// The servers of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// At least one; ids are unique within the pool.
    pub endpoints: Vec<Endpoint>,
    /// How to see whether an endpoint is healthy. `None`: every endpoint always counts as healthy.
    pub health: Option<HealthCheck>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What people call it. Shown to clients in error answers, so it holds no secret.
    pub id: String,
    /// `host:port`, plain HTTP/1.1.
    pub address: String,
}

/// How to see whether an endpoint is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Path to GET; 200–399 is healthy. `None`: a TCP connection is enough.
    pub path: Option<String>,
    /// Time between two checks, in milliseconds, at least 1.
    pub interval_ms: u64,
    /// Time one check may take, in milliseconds, at least 1.
    pub timeout_ms: u64,
    /// Failures in a row (checks and refused connections) that make an endpoint unhealthy, at least 1.
    pub failures: u32,
}

/// A rule matches when all its conditions hold. It has at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRule {
    /// Header names (any case) with their exact values.
    pub headers: Vec<(String, String)>,
    /// Cookie names with their exact values.
    pub cookies: Vec<(String, String)>,
}

/// How clients keep their version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// By a cookie that the proxy issues.
    Cookie {
        /// Its name.
        name: String,
        /// Its lifetime in seconds.
        max_age_s: u64,
    },
    /// By the value of a header; requests without it are assigned at random.
    Header {
        /// Its name, any case.
        name: String,
    },
}

/// Time limits of requests, in milliseconds, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Until a connection to an endpoint stands.
    pub connect_ms: u64,
    /// From the end of the request until the head of the answer.
    pub response_ms: u64,
    /// Without a byte in either direction, while bodies stream and between requests of a kept connection.
    pub idle_ms: u64,
}

/// Where requests are logged, a JSON line each, without query, cookies or authorization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// The file. When it is full it becomes `<path>.1`, replacing the one before.
    pub path: PathBuf,
    /// Size at which it is rotated, in bytes, at least 4,096.
    pub max_bytes: u64,
}

/// Why a table cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A pool without endpoints, or with too many.
    #[error("{arm} has {count} endpoints; it needs 1 to {MAX_ENDPOINTS}")]
    EndpointCount {
        /// `stable` or `canary`.
        arm: &'static str,
        /// How many it has.
        count: usize,
    },
    /// Two endpoints of an arm share an id.
    #[error("{arm} has two endpoints with the id `{id}`; give each its own")]
    DuplicateEndpoint {
        /// `stable` or `canary`.
        arm: &'static str,
        /// The id they share.
        id: String,
    },
    /// Not `host:port`.
    #[error("address `{address}` of {arm} endpoint `{id}` is not `host:port` with a port from 1 to 65535")]
    Address {
        /// `stable` or `canary`.
        arm: &'static str,
        /// The endpoint.
        id: String,
        /// What it has as its address.
        address: String,
    },
    /// Traffic for a canary that does not exist.
    #[error("there is no canary, so the weight must be 0 and there must be no matches (weight {weight}, {matches} matches)")]
    TrafficWithoutCanary {
        /// The weight asked for.
        weight: WeightBps,
        /// How many rules there are.
        matches: usize,
    },
    /// A preview of a canary that does not exist.
    #[error("there is no canary, so there must be no preview address")]
    PreviewWithoutCanary,
    /// A rule that would match everything, or too many rules.
    #[error("match rule {index}: {problem}")]
    Rule {
        /// Position in the list, from 0.
        index: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A setting out of its range.
    #[error("{field} is {value}; expected {expected}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What it has.
        value: String,
        /// What it may have.
        expected: &'static str,
    },
}

impl RouteTable {
    /// Whether this table can be served. Everything that can be known without a connection is checked.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected.
    pub fn validate(&self) -> Result<(), TableError> {
        check_pool("stable", &self.stable)?;
        match &self.canary {
            Some(canary) => check_pool("canary", canary)?,
            None if self.preview.is_some() => return Err(TableError::PreviewWithoutCanary),
            None if self.weight.is_zero() && self.matches.is_empty() => {}
            None => {
                return Err(TableError::TrafficWithoutCanary { weight: self.weight, matches: self.matches.len() });
            }
        }
        check_rules(&self.matches)?;
        match &self.sticky {
            Some(Sticky::Cookie { name, .. }) if !is_token(name) => {
                return setting("sticky cookie name", name, "a cookie name without spaces or separators");
            }
            Some(Sticky::Header { name }) if !is_header(name) => {
                return setting("sticky header name", name, "a header name");
            }
            _ => {}
        }
        at_least_1("timeouts.connect_ms", self.timeouts.connect_ms)?;
        at_least_1("timeouts.response_ms", self.timeouts.response_ms)?;
        at_least_1("timeouts.idle_ms", self.timeouts.idle_ms)?;
        match &self.access_log {
            Some(log) if log.path.as_os_str().is_empty() => setting("access_log.path", "empty", "a file"),
            Some(log) if log.max_bytes < 4096 => setting("access_log.max_bytes", &log.max_bytes.to_string(), "at least 4096"),
            _ => Ok(()),
        }
    }
}

fn check_pool(arm: &'static str, pool: &Pool) -> Result<(), TableError> {
    let count = pool.endpoints.len();
    if count == 0 || count > MAX_ENDPOINTS {
        return Err(TableError::EndpointCount { arm, count });
    }
    let mut ids = BTreeSet::new();
    for Endpoint { id, address } in &pool.endpoints {
        if !ids.insert(id) {
            return Err(TableError::DuplicateEndpoint { arm, id: id.clone() });
        }
        if !is_host_port(address) {
            return Err(TableError::Address { arm, id: id.clone(), address: address.clone() });
        }
    }
    if let Some(health) = &pool.health {
        at_least_1("health.interval_ms", health.interval_ms)?;
        at_least_1("health.timeout_ms", health.timeout_ms)?;
        at_least_1("health.failures", u64::from(health.failures))?;
        if let Some(path) = &health.path
            && (!path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err())
        {
            return setting("health.path", path, "a path that begins with `/`");
        }
    }
    Ok(())
}

fn check_rules(rules: &[MatchRule]) -> Result<(), TableError> {
    let wrong = |index: usize, problem: String| Err(TableError::Rule { index, problem });
    if rules.len() > MAX_RULES {
        return wrong(MAX_RULES, format!("there may be at most {MAX_RULES} rules, there are {}", rules.len()));
    }
    for (index, rule) in rules.iter().enumerate() {
        match rule.headers.len() + rule.cookies.len() {
            0 => return wrong(index, "it has no condition and would match everything".to_owned()),
            count if count > MAX_RULES => {
                return wrong(index, format!("it has {count} conditions, there may be at most {MAX_RULES}"));
            }
            _ => {}
        }
        if let Some((name, _)) = rule.headers.iter().find(|(name, _)| !is_header(name)) {
            return wrong(index, format!("`{name}` is not a header name"));
        }
        if let Some((name, _)) = rule.cookies.iter().find(|(name, _)| !is_token(name)) {
            return wrong(index, format!("`{name}` is not a cookie name"));
        }
    }
    Ok(())
}

fn is_host_port(address: &str) -> bool {
    let Ok(authority) = address.parse::<http::uri::Authority>() else {
        return false;
    };
    !authority.host().is_empty() && !address.contains('@') && authority.port_u16().is_some_and(|port| port > 0)
}

fn is_header(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Cookie names are tokens, as header names are.
fn is_token(name: &str) -> bool {
    is_header(name)
}

fn at_least_1(field: &'static str, value: u64) -> Result<(), TableError> {
    if value == 0 { setting(field, "0", "at least 1") } else { Ok(()) }
}

fn setting(field: &'static str, value: &str, expected: &'static str) -> Result<(), TableError> {
    Err(TableError::Setting { field, value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> RouteTable {
        let pool = |id: &str| Pool { endpoints: vec![Endpoint { id: id.to_owned(), address: "127.0.0.1:8080".to_owned() }], health: None };
        RouteTable {
            epoch: 1,
            version: 1,
            release: "shop".to_owned(),
            salt: "shop".to_owned(),
            stable: pool("s0"),
            canary: Some(pool("c0")),
            weight: WeightBps::new(500).unwrap(),
            matches: vec![MatchRule { headers: vec![("X-Canary".to_owned(), "true".to_owned())], cookies: vec![] }],
            sticky: Some(Sticky::Cookie { name: "serin".to_owned(), max_age_s: 60 }),
            timeouts: Timeouts { connect_ms: 1, response_ms: 1, idle_ms: 1 },
            access_log: None,
            preview: None,
        }
    }

    #[test]
    fn a_good_table_passes_and_survives_the_wire() {
        assert_eq!(good().validate(), Ok(()));
        let text = serde_json::to_string(&good()).unwrap();
        assert_eq!(serde_json::from_str::<RouteTable>(&text).unwrap(), good());
    }

    #[test]
    fn each_flaw_is_named() {
        type Spoil = fn(&mut RouteTable);
        let cases: [(Spoil, &str); 11] = [
            (|t| t.stable.endpoints.clear(), "stable has 0 endpoints"),
            (|t| t.stable.endpoints[0].address = "http://a:1".to_owned(), "is not `host:port`"),
            (|t| t.stable.endpoints[0].address = "a:0".to_owned(), "is not `host:port`"),
            (|t| t.stable.endpoints[0].address = "a".to_owned(), "is not `host:port`"),
            (|t| t.stable.endpoints.extend_from_within(..), "two endpoints with the id `s0`"),
            (|t| t.canary = None, "there is no canary"),
            (|t| t.matches[0].headers.clear(), "would match everything"),
            (|t| t.matches[0].headers[0].0 = "a b".to_owned(), "not a header name"),
            (|t| t.timeouts.idle_ms = 0, "timeouts.idle_ms is 0"),
            (|t| t.sticky = Some(Sticky::Cookie { name: "a;b".to_owned(), max_age_s: 1 }), "sticky cookie name"),
            (
                |t| t.stable.health = Some(HealthCheck { path: Some("x".to_owned()), interval_ms: 1, timeout_ms: 1, failures: 1 }),
                "health.path",
            ),
        ];
        for (spoil, expected) in cases {
            let mut table = good();
            spoil(&mut table);
            let message = table.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} should contain {expected:?}");
        }
    }

    #[test]
    fn without_a_canary_weight_and_matches_must_be_gone_too() {
        let mut table = good();
        table.canary = None;
        table.weight = WeightBps::ZERO;
        assert!(table.validate().is_err());
        table.matches.clear();
        assert_eq!(table.validate(), Ok(()));
    }
}
