//! Why the API does not start.

use std::{net::SocketAddr, path::PathBuf};

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing to listen on.
    #[error("the API has neither a socket nor a TCP address; give it one of them")]
    NoListener,
    /// Tokens would go over the network in the clear.
    #[error("the API on {listen} would send tokens over the network unencrypted; give it a certificate and a key, or a loopback address")]
    PlainText {
        /// The address.
        listen: SocketAddr,
    },
    /// Nobody could ask anything.
    #[error("the API on {listen} needs tokens; `serin token NAME` makes one")]
    NoTokens {
        /// The address.
        listen: SocketAddr,
    },
    /// A token's name could be mistaken for something else.
    #[error("the name of token {number} must have 1 to 64 letters, digits, or . _ - @")]
    BadTokenName {
        /// Which, from 1.
        number: usize,
    },
    /// Two tokens cannot be told apart in the journal.
    #[error("two tokens have the name or the hash of {name}; give each person and program its own")]
    SameToken {
        /// The name.
        name: String,
    },
    /// Another process answers on the socket.
    #[error("another process answers on {}; stop it, or choose another socket", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is where the socket should be.
    #[error("{} is there already and is not a socket; choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot {what} the socket {}: {source}", path.display())]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("the API cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Not called where the services run.
    #[error("the API must be started within the runtime of the services")]
    NoRuntime,
    /// The API's thread cannot be started.
    #[error("the API's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Why certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or not as what it should be.
    #[error("cannot read {what} from {}: {why}", path.display())]
    File {
        /// The certificate or the key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// They are readable, but do not work.
    #[error("certificate {} and key {} cannot be used together: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        why: String,
    },
}
