//! What comes in with a request: the query and the body. Both are bounded, and anything unknown in them is an error.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{problem::Problem, routes::Body};

/// The longest query, in bytes.
const LONGEST_QUERY: usize = 1_024;
/// How much of a body that is too large is read away, so that the client gets to the answer instead of a broken connection.
const READ_AWAY: usize = 8 * 1024 * 1024;
const READ_AWAY_TIME: Duration = Duration::from_secs(2);

/// The parameters of a query, all of which are known to the route.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(BTreeMap<&'static str, String>);

impl Query {
    /// Reads a query. Values are words of letters, digits and dashes, so nothing is encoded in them.
    pub(crate) fn read(query: Option<&str>, known: &'static [(&'static str, &'static str)]) -> Result<Self, Problem> {
        let text = query.unwrap_or_default();
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let expected = if names.is_empty() { "none are known here".to_owned() } else { format!("known here: {}", names.join(", ")) };
        let invalid = |what: &str| Problem::invalid(format!("{what}; {expected}"));
        if text.len() > LONGEST_QUERY {
            return Err(invalid("the query is too long"));
        }
        let mut found = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, _) = known.iter().find(|(one, _)| *one == name).ok_or_else(|| invalid("the query has an unknown parameter"))?;
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(Problem::invalid(format!("the parameter {name} must be a word of letters, digits and dashes")));
            }
            if found.insert(*name, value.to_owned()).is_some() {
                return Err(Problem::invalid(format!("the parameter {name} is given twice")));
            }
        }
        Ok(Self(found))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number within a range.
    pub(crate) fn number(&self, name: &str, range: std::ops::RangeInclusive<u64>, default: u64) -> Result<u64, Problem> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            Problem::invalid(format!("the parameter {name} must be a whole number from {} to {}", range.start(), range.end()))
        })
    }
}

/// The body of a request, as far as its route takes one.
pub(crate) async fn body(kind: Option<Body>, headers: &HeaderMap, body: Incoming, patience: Duration) -> Result<Bytes, Problem> {
    let Some(kind) = kind else {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        return Err(Problem::new(StatusCode::BAD_REQUEST, "unexpected-body", "this takes no body").close());
    };
    if body.is_end_stream() && !kind.required {
        return Ok(Bytes::new());
    }
    if !is_json(headers) {
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "the body must be JSON");
        return Err(problem.hint("send `Content-Type: application/json`, without content encoding").close());
    }
    let expected = body.size_hint().lower();
    if expected > kind.most_bytes as u64 {
        read_away(body).await;
        return Err(too_large(kind.most_bytes));
    }
    let mut body = body;
    let whole = timeout(patience, Limited::new(&mut body, kind.most_bytes).collect()).await;
    match whole {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            read_away(body).await;
            Err(too_large(kind.most_bytes))
        }
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "broken-body", "the body ended before it was complete").close()),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the body took too long").close()),
    }
}

/// A body as what it should be. Nothing of it is repeated in the answer but where it is wrong.
pub(crate) fn parse<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse_some(body) }
}

/// Like [`parse`], for bodies that must be there.
pub(crate) fn parse_some<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    // A list would be read as the fields in the order of their declaration, which is no promise of ours.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not as expected: {error}");
        match error.classify() {
            serde_json::error::Category::Data => Problem::invalid(message).hint("/v1/openapi.json says what is expected"),
            _ => Problem::new(StatusCode::BAD_REQUEST, "malformed", message),
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING)
}

fn too_large(most: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("the body is larger than {most} bytes")).close()
}

async fn read_away(body: Incoming) {
    let mut limited = Limited::new(body, READ_AWAY);
    let read = async { while let Some(Ok(_)) = limited.frame().await {} };
    let _ = timeout(READ_AWAY_TIME, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, &str)] = &[("limit", ""), ("service", "")];

    #[test]
    fn queries_are_read_or_refused() {
        let read = |text| Query::read(Some(text), KNOWN);
        let query = read("limit=5&service=shop-2").unwrap();
        assert_eq!((query.text("service"), query.number("limit", 1..=10, 3)), (Some("shop-2"), Ok(5)));
        assert_eq!(Query::read(None, &[]).unwrap().number("limit", 1..=10, 3), Ok(3));
        let long = "&".repeat(2_000);
        for bad in ["limt=5", "limit=5&limit=6", "limit", "limit=", "service=a%20b", "service=serin_A", &long] {
            assert_eq!(read(bad).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
        for bad in ["limit=0", "limit=11", "limit=-1", "limit=99999999999999999999"] {
            assert!(read(bad).unwrap().number("limit", 1..=10, 3).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_plain_json_is_json() {
        let headers = |pairs: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
            pairs.iter().map(pair).collect::<HeaderMap>()
        };
        assert!(is_json(&headers(&[("content-type", "application/json")])));
        assert!(is_json(&headers(&[("content-type", "Application/JSON; charset=utf-8")])));
        for bad in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/json"), ("content-encoding", "gzip")]] {
            assert!(!is_json(&headers(bad)), "{bad:?}");
        }
    }
}
