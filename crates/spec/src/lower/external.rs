//! Both versions as servers that run already.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use super::{
    Context,
    context::{HOUR, MINUTE, SECOND},
};
use crate::{
    diagnostic::quote,
    raw,
    tree::Path,
    validated::{External, ExternalArm, HealthCheck},
};

/// Time beyond the health check's own that the canary may take, in milliseconds.
const HEALTH_MARGIN_MS: u64 = 10 * SECOND;

const EXPECTED: &str = "`http://host:port`, such as `http://10.0.0.7:8080`";

pub(super) fn lower(given: raw::External, path: &Path, cx: &mut Context<'_>) -> External {
    let mut seen = BTreeMap::new();
    External {
        stable: arm(given.stable, &path.key("stable"), &mut seen, cx),
        canary: arm(given.canary, &path.key("canary"), &mut seen, cx),
    }
}

/// How long the canary may take until it is healthy, in milliseconds.
pub(super) fn deploy_timeout_ms(external: &External) -> u64 {
    let health = &external.canary.health;
    health.timeout_ms * u64::from(health.failures) + HEALTH_MARGIN_MS
}

/// A proxy that is its own server would send requests round in circles.
pub(super) fn refuse_loop(external: &External, listen: SocketAddr, path: &Path, cx: &mut Context<'_>) {
    for (name, arm) in [("stable", &external.stable), ("canary", &external.canary)] {
        for (index, endpoint) in arm.endpoints.iter().enumerate() {
            if listen.port() != 0 && reaches(endpoint, listen) {
                let at = path.key(name).key("urls").index(index);
                cx.push(
                    cx.error(&at, "loop", format!("{} is where the proxy itself listens", quote(endpoint)))
                        .help("give the proxy another address in `traffic.embedded.listen`, or name the server's own"),
                );
            }
        }
    }
}

/// Whether a request to the endpoint surely arrives at the address. Names other than `localhost` are not looked up.
fn reaches(endpoint: &str, listen: SocketAddr) -> bool {
    let everywhere = listen.ip().is_unspecified();
    match endpoint.strip_prefix("localhost:") {
        Some(port) => (everywhere || listen.ip().is_loopback()) && port == listen.port().to_string(),
        None => endpoint
            .parse::<SocketAddr>()
            .is_ok_and(|address| address == listen || (everywhere && address.ip().is_loopback() && address.port() == listen.port())),
    }
}

fn arm(given: raw::ExternalArm, path: &Path, seen: &mut BTreeMap<String, Path>, cx: &mut Context<'_>) -> ExternalArm {
    let at_urls = path.key("urls");
    let mut endpoints = Vec::with_capacity(given.urls.len());
    for (index, url) in given.urls.iter().enumerate() {
        let at = at_urls.index(index);
        let Some(endpoint) = endpoint(url, &at, cx) else { continue };
        match seen.get(&endpoint) {
            Some(first) => {
                let message = format!("the server {} is given twice", quote(&endpoint));
                let line = cx.line(first);
                cx.push(
                    cx.error(&at, "duplicate-server", message)
                        .help(format!("the first one is `{first}` on line {line}; a server can only be one version, and once")),
                );
            }
            None => {
                seen.insert(endpoint.clone(), at);
            }
        }
        endpoints.push(endpoint);
    }
    let health = given.health.unwrap_or_default();
    let at_health = path.key("health");
    ExternalArm {
        endpoints,
        health: HealthCheck {
            path: health.path.map(|path| path.0),
            interval_ms: cx.duration(&at_health.key("interval"), health.interval.as_ref(), SECOND, 10..=HOUR),
            timeout_ms: cx.duration(&at_health.key("timeout"), health.timeout.as_ref(), SECOND, 10..=10 * MINUTE),
            failures: health.failures.unwrap_or(2),
        },
    }
}

/// `host:port` of a URL, in lower case.
fn endpoint(url: &str, path: &Path, cx: &mut Context<'_>) -> Option<String> {
    let mut refuse = |part: &str, message: String, help: Option<String>| {
        cx.push(cx.error_within(path, part, "bad-url", message).expected(EXPECTED).maybe_help(help));
        None
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse(url, format!("the URL {} has no scheme", quote(url)), Some(format!("write {}", quote(&format!("http://{url}")))));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return refuse(scheme, "https to servers is not built yet".to_owned(), Some("use `http://` for now".to_owned())),
        _ => return refuse(scheme, format!("the scheme {} is unknown", quote(scheme)), None),
    }
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_len);
    if !matches!(tail, "" | "/") {
        let help = "requests keep the path that the client asked for; leave it out here. For health checks there is `health.path`";
        return refuse(tail, format!("the URL has a path or query, {}", quote(tail)), Some(help.to_owned()));
    }
    if let Some((userinfo, host)) = authority.rsplit_once('@') {
        let help = format!("write {}", quote(&format!("http://{host}")));
        return refuse(&format!("{userinfo}@"), "the URL has a user name or password".to_owned(), Some(help));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            let Ok(address) = address.parse::<Ipv6Addr>() else {
                return refuse(authority, format!("{} is not an IPv6 address", quote(address)), None);
            };
            (format!("[{address}]"), after.strip_prefix(':').or((!after.is_empty()).then_some("?")))
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return refuse(
                    authority,
                    format!("{} is not a host and a port", quote(authority)),
                    Some("IPv6 addresses stand in brackets: `http://[::1]:8080`".to_owned()),
                );
            }
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    if !host.starts_with('[') && !is_host(&host) {
        return refuse(authority, format!("{} is not the name or address of a host", quote(&host)), None);
    }
    match port.map_or(Ok(80), str::parse::<u16>) {
        Ok(0) | Err(_) => {
            let port = port.unwrap_or_default();
            refuse(authority, format!("{} is not a port", quote(port)), Some("ports are 1 to 65535".to_owned()))
        }
        Ok(port) => Some(format!("{host}:{port}")),
    }
}

/// A DNS name or an IPv4 address, in lower case.
pub(super) fn is_host(host: &str) -> bool {
    let all_numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if all_numeric {
        return host.parse::<IpAddr>().is_ok();
    }
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label_fits)
}
