//! What the API listens on and whom it lets in.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    ApiError,
    token::{self, Token},
    tokens::TokenSource,
};

/// The API's configuration.
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// The unix socket, if there is to be one.
    pub socket: Option<Socket>,
    /// The TCP listener, if there is to be one.
    pub tcp: Option<Tcp>,
    /// How much of everything there may be.
    pub limits: Limits,
    /// Where tokens are read anew while the API runs; `None`: they stay as they are.
    pub token_source: Option<TokenSource>,
}

/// A unix socket for the daemon's user and root, who are admins; the kernel says who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Where. A socket there that nobody answers is replaced.
    pub path: PathBuf,
}

/// A TCP listener. Every request needs a token, save for health and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// The address; without TLS only a loopback one.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// Who may ask; at least one, with names and hashes that differ.
    pub tokens: Vec<Token>,
}

/// The files of a certificate. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to a known authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// How much of everything there may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections over TCP; as many again, but at most 64, over the unix socket, so that neither can shut out the other.
    pub connections: usize,
    /// Connections from one address; `None`: half of all.
    pub connections_per_address: Option<usize>,
    /// Event streams.
    pub streams: usize,
    /// Event streams of one identity.
    pub streams_per_identity: usize,
    /// Requests of one identity.
    pub calls: Rate,
    /// Requests of one identity that take traffic back. They have their own rate, so that no flood of others can hold them up.
    pub aborts: Rate,
    /// Failed authentications from one address (IPv6: one network of 64 bits). More are refused without a look into the log.
    pub failures: Rate,
    /// Time that a client may take for the head of a request, and between requests, in milliseconds.
    pub head_ms: u64,
    /// Time that a client may take for the body of a request, in milliseconds.
    pub body_ms: u64,
    /// Time that a client may refuse to read an answer, in milliseconds.
    pub write_ms: u64,
    /// Time between signs of life on event streams, in milliseconds.
    pub heartbeat_ms: u64,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Sustained, per second; above 0.
    pub per_s: f64,
    /// At once; at least 1.
    pub burst: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: None,
            streams: 64,
            streams_per_identity: 32,
            calls: Rate { per_s: 50.0, burst: 100.0 },
            aborts: Rate { per_s: 20.0, burst: 50.0 },
            failures: Rate { per_s: 1.0, burst: 10.0 },
            head_ms: 10_000,
            body_ms: 10_000,
            write_ms: 30_000,
            heartbeat_ms: 15_000,
        }
    }
}

/// Who may do what, as far as the configuration says it.
#[derive(Debug)]
pub(crate) struct Rights {
    pub(crate) own_uid: u32,
    pub(crate) tokens: Vec<Token>,
}

impl ApiConfig {
    /// Everything that can be wrong without a look at the machine.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.socket.is_none() && self.tcp.is_none() {
            return Err(ApiError::NoListener);
        }
        let Some(tcp) = &self.tcp else { return Ok(()) };
        if tcp.tls.is_none() && !tcp.listen.ip().is_loopback() {
            return Err(ApiError::PlainText { listen: tcp.listen });
        }
        if tcp.tokens.is_empty() {
            return Err(ApiError::NoTokens { listen: tcp.listen });
        }
        check_tokens(&tcp.tokens)
    }

    pub(crate) fn rights(&self) -> Rights {
        Rights { own_uid: rustix::process::geteuid().as_raw(), tokens: self.tcp.as_ref().map(|tcp| tcp.tokens.clone()).unwrap_or_default() }
    }
}

/// Whether everyone has a name and a hash of their own.
pub(crate) fn check_tokens(tokens: &[Token]) -> Result<(), ApiError> {
    for (index, token) in tokens.iter().enumerate() {
        if !token::is_name(&token.name) {
            return Err(ApiError::BadTokenName { number: index + 1 });
        }
        if tokens.iter().take(index).any(|other| other.name == token.name || other.hash == token.hash) {
            return Err(ApiError::SameToken { name: token.name.clone() });
        }
    }
    Ok(())
}

impl Socket {
    /// A socket for the daemon's user and root.
    #[must_use]
    pub fn own(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, token::TokenHash};

    fn token(name: &str, text: &str) -> Token {
        Token { name: name.to_owned(), role: Role::Viewer, hash: TokenHash::of(text) }
    }

    fn tcp(listen: &str, tls: bool, tokens: Vec<Token>) -> ApiConfig {
        let tls = tls.then(|| TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() });
        ApiConfig { tcp: Some(Tcp { listen: listen.parse().unwrap(), tls, tokens }), ..ApiConfig::default() }
    }

    #[test]
    fn nothing_is_open_to_everyone() {
        let one = || vec![token("a", "a")];
        assert!(matches!(ApiConfig::default().check(), Err(ApiError::NoListener)));
        assert!(tcp("127.0.0.1:0", false, one()).check().is_ok());
        assert!(tcp("[::1]:0", false, one()).check().is_ok());
        assert!(matches!(tcp("0.0.0.0:0", false, one()).check(), Err(ApiError::PlainText { .. })));
        assert!(tcp("0.0.0.0:0", true, one()).check().is_ok());
        for tls in [false, true] {
            assert!(matches!(tcp("127.0.0.1:0", tls, Vec::new()).check(), Err(ApiError::NoTokens { .. })));
        }
    }

    #[test]
    fn everyone_has_a_name_of_their_own() {
        let check = |tokens| tcp("127.0.0.1:0", false, tokens).check();
        assert!(matches!(check(vec![token("a", "1"), token("a", "2")]), Err(ApiError::SameToken { .. })));
        assert!(matches!(check(vec![token("a", "1"), token("b", "1")]), Err(ApiError::SameToken { .. })));
        assert!(matches!(check(vec![token("a", "1"), token("root (uid 0)", "2")]), Err(ApiError::BadTokenName { number: 2 })));
    }
}
