//! Sources: addresses, secrets, headers.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    diagnostic::quote,
    lower::{
        Context,
        context::{MINUTE, SECOND},
        external::is_host,
    },
    raw,
    tree::Path,
    validated::{Auth, EnvValue, Prometheus, Secret, SourceUrl},
};

const EXPECTED: &str = "`http://host:port` or `https://host`, such as `http://prometheus.monitoring:9090`";
const MOST_HEADERS: usize = 50;

/// A source with its name.
pub(super) fn lower(name: &str, given: &raw::Source, path: &Path, cx: &mut Context<'_>) -> Option<(String, Prometheus)> {
    if let Err(malformed) = crate::format::check_name(name) {
        let diagnostic = cx.error_at_key(path, "malformed", malformed.message).expected(malformed.expected);
        cx.push(diagnostic.maybe_help(malformed.help));
    }
    // Another one is excluded by the schema.
    let given = given.prometheus.as_ref()?;
    let at = path.key("prometheus");
    let url = url(&given.url, &at.key("url"), cx);
    let auth = given.auth.as_ref().and_then(auth);
    if let Some(url) = &url {
        warn_of_clear_text(url, given, auth.as_ref(), &at, cx);
    }
    let prometheus = Prometheus {
        url: url?,
        auth,
        ca: given.ca.as_ref().map(secret),
        headers: headers(given.headers.as_ref(), &at.key("headers"), cx),
        timeout_ms: cx.duration(&at.key("timeout"), given.timeout.as_ref(), 10 * SECOND, 100..=MINUTE),
    };
    Some((name.to_owned(), prometheus))
}

fn auth(given: &raw::Auth) -> Option<Auth> {
    // Exactly one is given, by the schema.
    let bearer = given.bearer.as_ref().map(|token| Auth::Bearer(secret(token)));
    let basic = given.basic.as_ref().map(|basic| Auth::Basic { username: basic.username.clone(), password: secret(&basic.password) });
    let mtls = given.mtls.as_ref().map(|mtls| Auth::MutualTls { certificate: secret(&mtls.certificate), key: secret(&mtls.key) });
    bearer.or(basic).or(mtls)
}

fn warn_of_clear_text(url: &SourceUrl, given: &raw::Prometheus, auth: Option<&Auth>, path: &Path, cx: &mut Context<'_>) {
    if url.is_tls {
        return;
    }
    if matches!(auth, Some(Auth::MutualTls { .. })) {
        let message = "without TLS there is nothing to show a certificate to";
        cx.push(cx.error_at_key(&path.key("auth").key("mtls"), "contradiction", message).help("write `https://` in `url`"));
    } else if given.ca.is_some() {
        let message = "without TLS there is no certificate to check";
        cx.push(cx.error_at_key(&path.key("ca"), "contradiction", message).help("write `https://` in `url`, or leave it out"));
    } else if auth.is_some() && !is_loopback(&url.host) {
        let message = "the secret goes over the network in clear text";
        cx.push(cx.warning_at_key(&path.key("auth"), "clear-text", message).help("write `https://` in `url`"));
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn headers(given: Option<&BTreeMap<String, raw::EnvValue>>, path: &Path, cx: &mut Context<'_>) -> BTreeMap<String, EnvValue> {
    let mut headers = BTreeMap::new();
    if given.is_some_and(|given| given.len() > MOST_HEADERS) {
        cx.push(cx.error(path, "too-many", "these are too many headers").expected(format!("at most {MOST_HEADERS}")));
    }
    for (name, value) in given.into_iter().flatten() {
        let at = path.key(name);
        let lower = name.to_ascii_lowercase();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            cx.push(cx.error_at_key(&at, "bad-name", format!("{} is not the name of a header", quote(name))));
        }
        if ["host", "content-length", "content-type", "connection", "transfer-encoding", "accept-encoding"].contains(&lower.as_str()) {
            cx.push(cx.error_at_key(&at, "bad-name", format!("Serin itself says what {} is", quote(name))).help("leave it out"));
        }
        let value = match value {
            raw::EnvValue::Text(text) => {
                if text.chars().any(char::is_control) {
                    cx.push(cx.error(&at, "bad-value", "a header cannot have control characters"));
                }
                if lower == "authorization" {
                    let message = "a secret stands in this document";
                    cx.push(cx.warning(&at, "clear-text", message).help("write `auth`, or a reference: `{env: …}`"));
                }
                EnvValue::Literal(text.clone())
            }
            raw::EnvValue::Reference(raw::EnvReference { env: Some(variable), .. }) => EnvValue::Env(variable.clone()),
            raw::EnvValue::Reference(raw::EnvReference { file, .. }) => EnvValue::File(file.clone().unwrap_or_default().into()),
        };
        if headers.insert(lower, value).is_some() {
            cx.push(cx.error_at_key(&at, "duplicate-name", format!("the header {} is given twice", quote(name))));
        }
    }
    headers
}

fn secret(given: &raw::SecretReference) -> Secret {
    match (&given.env, &given.secret_key_ref) {
        (Some(variable), _) => Secret::Env(variable.clone()),
        (None, Some(secret)) => Secret::Key { name: secret.name.0.clone(), key: secret.key.clone() },
        (None, None) => Secret::File(given.file.clone().unwrap_or_default().into()),
    }
}

fn url(given: &str, path: &Path, cx: &mut Context<'_>) -> Option<SourceUrl> {
    let mut refuse = |part: &str, message: String, help: Option<&str>| {
        cx.push(cx.error_within(path, part, "bad-url", message).expected(EXPECTED).maybe_help(help.map(str::to_owned)));
        None
    };
    let Some((scheme, rest)) = given.split_once("://") else {
        return refuse(given, format!("the URL {} has no scheme", quote(given)), None);
    };
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return refuse(scheme, format!("the scheme {} is unknown", quote(scheme)), None),
    };
    if let Some(tail) = rest.find(['?', '#']).map(|at| &rest[at..]) {
        return refuse(tail, "the URL has a query or fragment".to_owned(), Some("for what every question needs, there is `headers`"));
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if let Some((userinfo, _)) = authority.rsplit_once('@') {
        return refuse(userinfo, "the URL has a user name or password".to_owned(), Some("write `auth: {basic: …}`"));
    }
    let prefix = prefix.trim_end_matches('/');
    if let Some(prefix) = prefix.strip_suffix("/api/v1").or_else(|| prefix.strip_suffix("/api/v1/query")) {
        return refuse(
            &given[given.len() - rest.len() + authority.len() + prefix.len()..],
            "the URL has `/api/v1`".to_owned(),
            Some("leave it out"),
        );
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return refuse(prefix, format!("{} is not the path of a URL", quote(prefix)), None);
    }
    let host_ends = if authority.starts_with('[') {
        authority.find(']').map_or(authority.len(), |at| at + 1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(host_ends);
    let host = host.to_ascii_lowercase();
    let is_address =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    if !is_address && !is_host(&host) {
        return refuse(authority, format!("{} is not the name or address of a host", quote(&host)), None);
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(if is_tls { 443 } else { 80 }),
        None => None,
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0),
    };
    match port {
        Some(port) => Some(SourceUrl { is_tls, host, port, prefix: prefix.to_owned() }),
        None => refuse(authority, format!("{} has no port that there is", quote(authority)), Some("ports are 1 to 65535")),
    }
}
