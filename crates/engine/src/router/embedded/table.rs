//! From the release document to the first route table.

use serin_core::WeightBps;
use serin_proxy::{
    LinkError,
    table::{AccessLog, MatchRule, Pool, RouteTable, Sticky, Timeouts},
};
use serin_spec::validated::{self, KeyValue, Release};

use crate::router::RouterError;

/// Everything to stable, and the rules that shall match later.
pub(super) fn initial(release: &Release, epoch: u64, stable: Pool) -> (RouteTable, Vec<MatchRule>) {
    let traffic = &release.traffic;
    let table = RouteTable {
        epoch,
        version: 0,
        release: release.name.clone(),
        // The same document splits its users the same way in every run; another release splits them anew.
        salt: format!("{}/{}", release.name, release.document_hash),
        stable,
        canary: None,
        weight: WeightBps::ZERO,
        matches: Vec::new(),
        sticky: traffic.sticky.as_ref().map(|sticky| match sticky {
            validated::Sticky::Cookie(cookie) => Sticky::Cookie { name: cookie.name.clone(), max_age_s: cookie.max_age_s },
            validated::Sticky::Header(name) => Sticky::Header { name: name.clone() },
        }),
        timeouts: Timeouts {
            connect_ms: traffic.timeouts.connect_ms,
            response_ms: traffic.timeouts.response_ms,
            idle_ms: traffic.timeouts.idle_ms,
        },
        access_log: traffic.access_log.as_ref().map(|log| AccessLog { path: log.path.clone(), max_bytes: log.max_bytes }),
        preview: None,
    };
    let pairs = |list: &[KeyValue]| list.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
    let matches = traffic.matches.iter().map(|rule| MatchRule { headers: pairs(&rule.headers), cookies: pairs(&rule.cookies) }).collect();
    (table, matches)
}

pub(super) fn router_error(error: &LinkError) -> RouterError {
    match error {
        LinkError::Rejected { .. } => RouterError::Refused(error.to_string()),
        _ => RouterError::Unreachable(error.to_string()),
    }
}
