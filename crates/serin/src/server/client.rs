//! A small HTTP client: one request per connection, bounded in time and size.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use serin_web::model::{API_VERSION, ErrorAnswer, ErrorBody, VERSION_HEADER};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::address::Address;

const CONNECT: Duration = Duration::from_secs(5);
/// The server itself waits for a service at most five seconds.
const ANSWER: Duration = Duration::from_secs(15);
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Asks a server.
#[derive(Clone)]
pub(crate) struct Client {
    address: Address,
    token: Option<String>,
    tls: Option<TlsConnector>,
}

/// An answer that says yes.
pub(crate) struct Answer {
    pub(crate) body: Bytes,
}

/// Why there is no answer that says yes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there.
    #[error("no server answers at {address} ({reason}); is `serin serve` running, and is --state or --server right?")]
    Nobody {
        /// Where it was looked for.
        address: String,
        /// What happened instead.
        reason: String,
    },
    /// The answer did not come or was none.
    #[error("the server's answer was lost: {0}; not confirmed: see `serin get` for what became of it")]
    Lost(String),
    /// The server speaks another version.
    #[error("the server speaks version {theirs} of the API, this serin {API_VERSION}; use the same version of serin for both")]
    Version {
        /// The server's.
        theirs: String,
    },
    /// The API server of a cluster, or the controller, does not answer.
    #[error("{0}")]
    Cluster(String),
    /// The server says no.
    #[error("{}", said(.1))]
    Refused(StatusCode, Box<ErrorBody>),
}

fn said(body: &ErrorBody) -> String {
    match &body.hint {
        Some(hint) => format!("{}; {hint}", body.message),
        None => body.message.clone(),
    }
}

impl Answer {
    /// The answer as what it is expected to be.
    ///
    /// # Errors
    /// If it is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Lost(format!("it cannot be understood ({error})")))
    }
}

impl Client {
    pub(super) fn new(address: Address, token: Option<String>, ca: Option<&Path>) -> Result<Self, ClientError> {
        let tls = match (&address, ca) {
            (Address::Http { tls: true, .. }, Some(file)) => Some(connector(file)?),
            (Address::Http { tls: true, .. }, None) => {
                return Err(ClientError::Usage("https needs --ca with the server's certificate or its authority as a PEM file".to_owned()));
            }
            _ => None,
        };
        Ok(Self { address, token, tls })
    }

    /// Reads something.
    ///
    /// # Errors
    /// If the server does not answer or says no.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask::<()>(Method::GET, path, None).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// If the server does not answer or says no.
    pub(crate) async fn order<T: Serialize>(&self, method: Method, path: &str, body: &T) -> Result<Answer, ClientError> {
        self.ask(method, path, Some(body)).await
    }

    /// The answer's body as it comes, for as long as it comes.
    pub(super) async fn stream(&self, path: &str, after: Option<&str>) -> Result<Incoming, ClientError> {
        let mut request = self.request(Method::GET, path, None::<&()>)?;
        if let Some(value) = after.and_then(|id| id.parse().ok()) {
            request.headers_mut().insert("last-event-id", value);
        }
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(response.into_body())
    }

    async fn ask<T: Serialize>(&self, method: Method, path: &str, body: Option<&T>) -> Result<Answer, ClientError> {
        let request = self.request(method, path, body)?;
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Answer { body: collect(response.into_body()).await? })
    }

    fn request<T: Serialize>(&self, method: Method, path: &str, body: Option<&T>) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.address {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Http { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Http { host, port, .. } => format!("{host}:{port}"),
        };
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, host).header(VERSION_HEADER, API_VERSION.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| ClientError::Usage(error.to_string()))?
            }
            None => Vec::new(),
        };
        request.body(Full::new(bytes.into())).map_err(|error| ClientError::Usage(format!("the request cannot be made: {error}")))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ClientError> {
        let nobody = |reason: String| ClientError::Nobody { address: self.words(), reason };
        let late = || nobody("no connection in time".to_owned());
        match &self.address {
            Address::Unix(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await.map_err(|_| late())?;
                exchange(stream.map_err(|error| nobody(error.to_string()))?, request).await
            }
            Address::Http { host, port, .. } => {
                let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await.map_err(|_| late())?;
                let stream = stream.map_err(|error| nobody(error.to_string()))?;
                let Some(tls) = &self.tls else { return exchange(stream, request).await };
                let name = ServerName::try_from(host.clone()).map_err(|error| ClientError::Usage(format!("{host}: {error}")))?;
                let stream = timeout(CONNECT, tls.connect(name, stream)).await.map_err(|_| late())?;
                exchange(stream.map_err(|error| nobody(error.to_string()))?, request).await
            }
        }
    }

    /// The address as people write it.
    fn words(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Http { host, port, tls } => format!("{}://{host}:{port}", if *tls { "https" } else { "http" }),
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(connection);
    let response = timeout(ANSWER, sender.send_request(request)).await;
    response.map_err(|_| ClientError::Lost("none came in time".to_owned()))?.map_err(lost)
}

async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    let collected = timeout(ANSWER, Limited::new(body, MOST_BYTES).collect()).await;
    let collected = collected.map_err(|_| ClientError::Lost("it stopped in the middle".to_owned()))?;
    Ok(collected.map_err(|error| ClientError::Lost(error.to_string()))?.to_bytes())
}

async fn refusal(response: http::Response<Incoming>) -> ClientError {
    let status = response.status();
    let theirs = response.headers().get(VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(theirs) = theirs.filter(|theirs| *theirs != API_VERSION.to_string()) {
        return ClientError::Version { theirs };
    }
    match collect(response.into_body()).await {
        Ok(bytes) => match serde_json::from_slice::<ErrorAnswer>(&bytes) {
            Ok(answer) => ClientError::Refused(status, Box::new(answer.error)),
            Err(_) => ClientError::Lost(format!("{status} without an explanation; is it a serin server?")),
        },
        Err(error) => error,
    }
}

fn connector(ca: &Path) -> Result<TlsConnector, ClientError> {
    let wrong = |reason: String| ClientError::Usage(format!("--ca {}: {reason}", ca.display()));
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
