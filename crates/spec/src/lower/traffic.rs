//! The built-in proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use serin_core::plan::{Plan, Step};

use super::{
    Context,
    context::{DAY, HOUR, MINUTE, SECOND},
    http,
};
use crate::{
    diagnostic::quote,
    format, raw,
    tree::Path,
    validated::{AccessLog, CookieSticky, Embedded, KeyValue, MatchRule, Sticky, Timeouts},
};

const MIN_LOG_BYTES: u64 = 64 << 10;
const MAX_LOG_BYTES: u64 = 64 << 30;

pub(super) fn lower(given: raw::Embedded, path: &Path, cx: &mut Context<'_>) -> Embedded {
    let timeouts = given.timeouts.unwrap_or_default();
    let at_timeouts = path.key("timeouts");
    let at_match = path.key("match");
    Embedded {
        listen: listen(&given.listen, &path.key("listen"), cx),
        preview: given.preview.as_ref().map(|address| listen(address, &path.key("preview"), cx)),
        matches: given
            .matches
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(|(index, rule)| match_rule(rule, &at_match.index(index), cx))
            .collect(),
        sticky: given.sticky.and_then(|sticky| lower_sticky(sticky, &path.key("sticky"), cx)),
        timeouts: Timeouts {
            connect_ms: cx.duration(&at_timeouts.key("connect"), timeouts.connect.as_ref(), SECOND, 10..=5 * MINUTE),
            response_ms: cx.duration(&at_timeouts.key("response"), timeouts.response.as_ref(), 30 * SECOND, 10..=DAY),
            idle_ms: cx.duration(&at_timeouts.key("idle"), timeouts.idle.as_ref(), MINUTE, 10..=DAY),
        },
        drain_ms: cx.duration(&path.key("drain"), given.drain.as_ref(), 30 * SECOND, 0..=HOUR),
        access_log: given.access_log.map(|log| AccessLog {
            path: log.path.into(),
            max_bytes: cx.size(&path.key("accessLog").key("maxSize"), log.max_size.as_ref(), 50 << 20, MIN_LOG_BYTES..=MAX_LOG_BYTES),
        }),
    }
}

fn listen(given: &raw::Listen, path: &Path, cx: &mut Context<'_>) -> SocketAddr {
    let address = cx.take(path, format::listen_address(&given.0), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    if address.port() == 0 {
        cx.push(
            cx.warning(path, "any-port", "port 0 is another free port at each start, which clients cannot know")
                .help("fine for tests; otherwise give a port"),
        );
    }
    address
}

pub(super) fn match_rule(rule: raw::MatchRule, path: &Path, cx: &mut Context<'_>) -> MatchRule {
    let headers = rule.header.unwrap_or_default();
    let cookies = rule.cookie.unwrap_or_default();
    if headers.is_empty() && cookies.is_empty() {
        cx.push(
            cx.error(path, "empty-rule", "a match rule without headers and cookies would send everyone to the canary")
                .expected("`header` or `cookie` with at least one name and value"),
        );
    }
    let at_header = path.key("header");
    let mut seen = BTreeSet::new();
    let mut lowered = Vec::new();
    for (name, value) in headers {
        let at = at_header.key(&name);
        http::header_value(&value, &at, cx);
        let lower = http::header_name(&name, &at, true, cx);
        if !seen.insert(lower.clone()) {
            let message = format!("the header {} is given twice: case does not matter in names of headers", quote(&name));
            cx.push(cx.error_at_key(&at, "duplicate-header", message));
        }
        lowered.push(KeyValue { name: lower, value });
    }
    lowered.sort_by(|first, second| first.name.cmp(&second.name));
    MatchRule { headers: lowered, cookies: cookie_values(cookies, &path.key("cookie"), cx) }
}

fn cookie_values(cookies: BTreeMap<String, String>, path: &Path, cx: &mut Context<'_>) -> Vec<KeyValue> {
    cookies
        .into_iter()
        .map(|(name, value)| {
            let at = path.key(&name);
            http::cookie_value(&value, &at, cx);
            KeyValue { name: http::cookie_name(&name, &at, true, cx), value }
        })
        .collect()
}

/// A plan with a preview needs an address for it, and one without has no use for one.
pub(super) fn check_preview(plan: &Plan, traffic: &Embedded, path: &Path, strategy: &Path, cx: &mut Context<'_>) {
    let at = path.key("preview");
    let is_previewed = plan.steps.iter().any(Step::is_preview);
    match traffic.preview {
        None if is_previewed => {
            let diagnostic = cx.error(&strategy.key("preview"), "no-preview-address", "the preview has no address");
            cx.push(diagnostic.expected("`traffic.embedded.preview` with an IP address and port, such as `127.0.0.1:8081`"));
        }
        Some(_) if !is_previewed => {
            let diagnostic = cx.warning_at_key(&at, "no-effect", "`preview` has no effect: the strategy has no preview");
            cx.push(diagnostic.help("leave it out, or give the strategy a `preview`"));
        }
        Some(preview) if preview.port() == 0 => {
            let diagnostic = cx.error(&at, "any-port", "port 0 is another free port at each start, which nobody could know");
            cx.push(diagnostic.expected("a port from 1 to 65535"));
        }
        Some(preview) if preview.port() == traffic.listen.port() => {
            let diagnostic =
                cx.error(&at, "same-address", "`preview` has the port of `listen`: clients would come to the canary, or not at all");
            cx.push(diagnostic.expected("another port"));
        }
        Some(preview) if !preview.ip().is_loopback() => {
            let diagnostic =
                cx.warning(&at, "open-preview", "everybody who reaches this address can use the canary before it has passed anything");
            cx.push(diagnostic.help("a loopback address (`127.0.0.1`) keeps the preview to this machine"));
        }
        _ => {}
    }
    if plan.is_switch() && !traffic.matches.is_empty() {
        let diagnostic = cx.warning_at_key(&path.key("match"), "no-effect", "`match` has no effect: there is no stage for it");
        cx.push(diagnostic.help("`blueGreen` sends nobody to the canary before everybody"));
    }
}

fn lower_sticky(given: raw::Sticky, path: &Path, cx: &mut Context<'_>) -> Option<Sticky> {
    if let Some(raw::CookieSticky { name, max_age }) = given.cookie {
        let at = path.key("cookie");
        let at_age = at.key("maxAge");
        let max_age_ms = cx.duration(&at_age, max_age.as_ref(), 30 * DAY, SECOND..=365 * DAY);
        if !max_age_ms.is_multiple_of(SECOND) {
            cx.push(
                cx.error(&at_age, "out-of-range", "`maxAge` is not in whole seconds").expected("whole seconds: cookies know nothing finer"),
            );
        }
        return Some(Sticky::Cookie(CookieSticky {
            name: http::cookie_name(&name, &at.key("name"), false, cx),
            max_age_s: max_age_ms / SECOND,
        }));
    }
    given.header.map(|name| Sticky::Header(http::header_name(&name, &path.key("header"), false, cx)))
}
