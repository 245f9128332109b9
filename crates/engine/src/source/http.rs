//! One question over HTTP: a connection of its own, bounded in time and size.
//!
//! Redirects are not followed: an answer that points elsewhere would get the secrets of the question there. Questions are seconds apart, so
//! connections are not kept; a source that was moved or restarted is found again with the next one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serin_core::traffic::{Gap, GapKind};
use serin_spec::validated::{Auth, Prometheus};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::secret::{self, Keyring};

/// The largest answer, in bytes: some 50,000 samples.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Posts a form and gives the status and the body of the answer.
///
/// # Errors
/// The reason in words, without secrets.
pub(super) async fn post(server: &Prometheus, keys: &dyn Keyring, path: &str, form: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Gap> {
    let patience = Duration::from_millis(server.timeout_ms);
    let answer = timeout(patience, ask(server, keys, path, form)).await;
    answer.unwrap_or_else(|_| Err(gap(GapKind::TimedOut, format!("no answer within {}", serin_core::human_duration(server.timeout_ms)))))
}

async fn ask(server: &Prometheus, keys: &dyn Keyring, path: &str, form: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Gap> {
    let request = request(server, keys, path, form).await?;
    let host = server.url.host.trim_matches(['[', ']']);
    let connected = TcpStream::connect((host, server.url.port)).await;
    let stream = connected.map_err(|error| gap(GapKind::Unreachable, format!("{} cannot be reached: {error}", server.url)))?;
    if !server.url.is_tls {
        return exchange(stream, request, server).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| gap(GapKind::Unreachable, format!("{}: {error}", server.url)))?;
    let connector = TlsConnector::from(Arc::new(tls(server, keys).await?));
    let shaken = connector.connect(name, stream).await;
    let stream = shaken.map_err(|error| gap(GapKind::Unreachable, format!("no TLS with {}: {error}", server.url)))?;
    exchange(stream, request, server).await
}

async fn request(server: &Prometheus, keys: &dyn Keyring, path: &str, form: &[(&str, &str)]) -> Result<Request<Full<Bytes>>, Gap> {
    let body = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&");
    let mut request = Request::post(format!("{}{path}", server.url.prefix))
        .header(header::HOST, authority(server))
        .header(header::USER_AGENT, concat!("serin/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| gap(GapKind::Malformed, format!("this cannot be asked: {error}")))?;
    for (name, value) in &server.headers {
        let value = sensitive(secret::value(value, keys).await?, name)?;
        // Names were checked with the document.
        if let Ok(name) = header::HeaderName::try_from(name) {
            request.headers_mut().insert(name, value);
        }
    }
    let credentials = match &server.auth {
        Some(Auth::Bearer(token)) => Some([b"Bearer ".as_slice(), &keys.read(token).await?].concat()),
        Some(Auth::Basic { username, password }) => {
            let pair = [username.as_bytes(), b":", &keys.read(password).await?].concat();
            Some([b"Basic ".as_slice(), base64(&pair).as_bytes()].concat())
        }
        Some(Auth::MutualTls { .. }) | None => None,
    };
    if let Some(credentials) = credentials {
        request.headers_mut().insert(header::AUTHORIZATION, sensitive(credentials, "authorization")?);
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, server: &Prometheus) -> Result<(StatusCode, Bytes), Gap>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| gap(GapKind::Unreachable, format!("the connection to {} broke: {error}", server.url));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with this question, however that ends.
    let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status.is_redirection() {
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).unwrap_or("nowhere");
        let place: String = place.split('?').next().unwrap_or_default().chars().take(200).collect();
        let text = format!("{} sends questions on to {place}, which are not followed: give the final address in `url`", server.url);
        return Err(gap(GapKind::Refused, text));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => gap(GapKind::Malformed, "the answer is above 8 MiB: name the labels that tell this service from others".to_owned()),
        None => gap(GapKind::Unreachable, format!("the connection to {} broke: {error}", server.url)),
    })?;
    Ok((status, body.to_bytes()))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn tls(server: &Prometheus, keys: &dyn Keyring) -> Result<ClientConfig, Gap> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| gap(GapKind::Secret, format!("{what} cannot be used: {error}"));
    let roots = match &server.ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&keys.read(ca).await?).map_err(|error| unusable("`ca`", &error))? {
                roots.add(certificate).map_err(|error| unusable("`ca`", &error))?;
            }
            Arc::new(roots)
        }
        None => system_roots().await,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots);
    let Some(Auth::MutualTls { certificate, key }) = &server.auth else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(&keys.read(certificate).await?).map_err(|error| unusable("`mtls.certificate`", &error))?;
    // What a parser says about a key may quote it.
    let key = PrivateKeyDer::from_pem_slice(&keys.read(key).await?)
        .map_err(|_| gap(GapKind::Secret, "`mtls.key` is not a private key in PEM".to_owned()))?;
    config.with_client_auth_cert(chain, key).map_err(|error| unusable("`mtls`", &error))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it has no certificate in PEM".to_owned()) } else { Ok(found) }
}

/// What the system trusts, read once.
async fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let read = || async {
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.map(|found| found.certs).unwrap_or_default());
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read).await)
}

fn authority(server: &Prometheus) -> String {
    let url = &server.url;
    let usual = if url.is_tls { 443 } else { 80 };
    if url.port == usual { url.host.clone() } else { format!("{}:{}", url.host, url.port) }
}

fn sensitive(value: Vec<u8>, name: &str) -> Result<HeaderValue, Gap> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| gap(GapKind::Secret, format!("the value of the header `{name}` has characters that no header can have")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A value of a form.
fn encoded(value: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(value.len() * 2);
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            // Writing into a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4).map(move |index| {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            if index > chunk.len() { '=' } else { digit.into() }
        })
    });
    digits.collect()
}

fn gap(kind: GapKind, text: String) -> Gap {
    Gap { kind, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_credentials_are_encoded() {
        assert_eq!(encoded("a{b=~\"5..\"}[5m] ä"), "a%7Bb%3D~%225..%22%7D%5B5m%5D%20%C3%A4");
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("user:pass", "dXNlcjpwYXNz")]
        {
            assert_eq!(base64(text.as_bytes()), expected, "{text}");
        }
    }
}
