//! The configuration of a server.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Context,
    context::{DAY, HOUR},
};
use crate::{
    diagnostic::quote,
    format, raw,
    tree::Path,
    validated::{ApiRole, ApiTcp, ApiToken, Server},
};

/// A configuration that means something; `None` if errors were reported.
pub(crate) fn lower(document: raw::ServerDocument, cx: &mut Context<'_>) -> Option<Server> {
    let spec = document.spec.unwrap_or_default();
    let path = Path::root().key("spec");
    let retention = spec.retention.unwrap_or_default();
    let tcp = spec.api.and_then(|api| api.tcp);
    let unsaid = Server::default();
    let server = Server {
        state: spec.state.map(Into::into),
        services: services(spec.services.unwrap_or_default(), &path.key("services"), cx),
        tcp: tcp.map(|tcp| lower_tcp(tcp, &path.key("api").key("tcp"), cx)),
        retain_runs: retention.runs.unwrap_or(unsaid.retain_runs),
        retain_ms: cx.duration(&path.key("retention").key("keep"), retention.keep.as_ref(), unsaid.retain_ms, HOUR..=3650 * DAY),
    };
    (!cx.has_errors()).then_some(server)
}

fn services(given: Vec<raw::Service>, path: &Path, cx: &mut Context<'_>) -> Vec<std::path::PathBuf> {
    let mut seen = BTreeSet::new();
    for (index, service) in given.iter().enumerate() {
        if !seen.insert(service.document.clone()) {
            let at = path.index(index).key("document");
            cx.push(cx.error(&at, "duplicate-name", format!("{} is named twice", quote(&service.document))).help("name each service once"));
        }
    }
    given.into_iter().map(|service| service.document.into()).collect()
}

fn lower_tcp(given: raw::Tcp, path: &Path, cx: &mut Context<'_>) -> ApiTcp {
    let at_listen = path.key("listen");
    let listen = cx.take(&at_listen, format::listen_address(&given.listen.0), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    if given.tls.is_none() && !listen.ip().is_loopback() {
        let message = format!("{listen} would send tokens over the network in the clear");
        cx.push(
            cx.error(&at_listen, "insecure", message)
                .expected("`tls` beside it, or a loopback address such as `127.0.0.1:7700`")
                .help("with `tls: {cert: api.pem, key: api.key}` any address will do"),
        );
    }
    let mut names = BTreeSet::new();
    for (index, token) in given.tokens.iter().enumerate() {
        if !names.insert(token.name.0.clone()) {
            let at = path.key("tokens").index(index).key("name");
            let message = format!("two tokens are called {}", quote(&token.name.0));
            cx.push(cx.error(&at, "duplicate-name", message).help("the name stands in journals: give each its own"));
        }
        let digits = token.hash.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)) {
            let at = path.key("tokens").index(index).key("hash");
            let error = cx.error(&at, "malformed", "this is not the hash of a token").expected("`sha256:` and 64 hexadecimal digits");
            cx.push(error.help("`serin token` makes a token and prints its hash; the token itself does not belong here"));
        }
    }
    let tokens = given.tokens.into_iter().map(|token| ApiToken {
        name: token.name.0,
        role: match token.role {
            raw::Role::Viewer => ApiRole::Viewer,
            raw::Role::Operator => ApiRole::Operator,
            raw::Role::Admin => ApiRole::Admin,
        },
        hash: token.hash,
    });
    ApiTcp { listen, tls: given.tls.map(|tls| (tls.cert.into(), tls.key.into())), tokens: tokens.collect() }
}
