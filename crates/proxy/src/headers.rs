//! What happens to headers on the way: hop-by-hop fields are removed both ways, `X-Forwarded-*` tell the version who asked.
//!
//! `X-Forwarded-For` is appended to; `X-Forwarded-Proto` and `X-Forwarded-Host` are overwritten with what this proxy saw,
//! because it cannot know whether a sender may be believed. `Host` stays as the client sent it; the authority of an
//! absolute-form target takes its place, as RFC 9112 demands. `Expect` is answered here and not passed on.
//! `Trailer` is passed on because trailers are; `TE` only as `trailers`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Removed beside what `Connection` lists.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
];

/// Never removed because `Connection` lists them: that would change where the message ends or whom it is for.
const PROTECTED: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// A request that would be understood differently here and behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the request has no Host header; HTTP/1.1 needs exactly one")]
    NoHost,
    #[error("the request has more than one Host header; HTTP/1.1 needs exactly one")]
    ManyHosts,
    #[error("the request has both Content-Length and Transfer-Encoding; send one of them")]
    TwoLengths,
    #[error("the authority of the request target is not valid")]
    Authority,
}

/// Makes the head of a client's request into the head for an endpoint. Without `Host` (HTTP/1.0) it gets none here.
pub(crate) fn to_upstream(parts: &mut Parts, peer: IpAddr) -> Result<(), Malformed> {
    let headers = &mut parts.headers;
    if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Malformed::TwoLengths);
    }
    match headers.get_all(header::HOST).iter().count() {
        0 if parts.version >= http::Version::HTTP_11 => return Err(Malformed::NoHost),
        0 | 1 => {}
        _ => return Err(Malformed::ManyHosts),
    }
    let wants_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| list(value).any(|item| item.eq_ignore_ascii_case("trailers"))));
    remove_hop_by_hop(headers);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(authority) = parts.uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| Malformed::Authority)?);
    }
    let target = parts.uri.path_and_query().cloned();
    parts.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    forwarded(headers, peer);
    Ok(())
}

/// Makes the head of an endpoint's answer into the head for the client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    // The length is that of the chunked encoding here; a declared one beside it would contradict it.
    if headers.remove(header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Whether every transfer coding is one that is undone here.
pub(crate) fn only_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

fn forwarded(headers: &mut HeaderMap, peer: IpAddr) {
    let mut chain = Vec::new();
    for value in headers.get_all(&FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_canonical().to_string().as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(list)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(list: &[(&'static str, &'static str)], uri: &'static str) -> Result<Parts, Malformed> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in list {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        to_upstream(&mut parts, "10.0.0.9".parse().unwrap())?;
        Ok(parts)
    }

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_stays() {
        let parts = passed(
            &[
                ("host", "shop"),
                ("connection", "keep-alive, X-Secret, host"),
                ("connection", "content-length"),
                ("x-secret", "1"),
                ("keep-alive", "5"),
                ("te", "gzip, trailers"),
                ("content-length", "3"),
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-for", "2.2.2.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil"),
                ("trailer", "x-sum"),
            ],
            "/a?b=c",
        )
        .unwrap();
        let mut left: Vec<String> = parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "connection: te",
                "content-length: 3",
                "host: shop",
                "te: trailers",
                "trailer: x-sum",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9",
                "x-forwarded-host: shop",
                "x-forwarded-proto: http",
            ]
        );
        assert_eq!(parts.uri, "/a?b=c");
    }

    #[test]
    fn an_absolute_target_overrides_host() {
        let parts = passed(&[("host", "other")], "http://user:pw@shop:81/x?y=1").unwrap();
        assert_eq!((parts.headers["host"].to_str().unwrap(), parts.uri.to_string().as_str()), ("shop:81", "/x?y=1"));
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        assert_eq!(passed(&[], "/").unwrap_err(), Malformed::NoHost);
        assert_eq!(passed(&[("host", "a"), ("host", "b")], "/").unwrap_err(), Malformed::ManyHosts);
        let two = [("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        assert_eq!(passed(&two, "/").unwrap_err(), Malformed::TwoLengths);
    }

    #[test]
    fn only_plain_chunked_is_undone_here() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append("transfer-encoding", HeaderValue::from_static(value)));
            only_chunked(&headers)
        };
        assert!(with(&[]) && with(&["Chunked"]));
        assert!(!with(&["gzip, chunked"]) && !with(&["chunked", "chunked"]));
    }
}
