//! Where a server is, and as whom it is asked.

use std::path::{Path, PathBuf};

use super::{Client, ClientError};
use crate::verbs::StateArg;

/// Where the server is: an address, or the socket in a state folder.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArg {
    #[command(flatten)]
    pub(crate) state: StateArg,
    /// The server: `unix:/path/to/api.sock`, `http://127.0.0.1:7700` or `https://host:7700`. Without it, the socket in the state folder.
    #[arg(long, value_name = "ADDRESS", env = "SERIN_SERVER")]
    server: Option<String>,
    /// File with the token for http and https. The environment variable SERIN_TOKEN does as well.
    #[arg(long, value_name = "FILE", env = "SERIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the certificate, or its authority, that an https server has.
    #[arg(long, value_name = "FILE", env = "SERIN_CA")]
    ca: Option<PathBuf>,
}

/// An address as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Http { host: String, port: u16, tls: bool },
}

impl ServerArg {
    /// A client for this server.
    ///
    /// # Errors
    /// If the address is none, or a file cannot be read.
    pub(crate) fn client(&self) -> Result<Client, ClientError> {
        let address = match &self.server {
            Some(text) => parse(text)?,
            None => Address::Unix(socket_of(&self.state.state)),
        };
        let token = match (&self.token_file, std::env::var("SERIN_TOKEN")) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| ClientError::Usage(format!("cannot read the token file {}: {error}", file.display())))?;
                Some(text.trim().to_owned())
            }
            (None, Ok(token)) => Some(token),
            (None, Err(_)) => None,
        };
        Client::new(address, token, self.ca.as_deref())
    }
}

/// The socket of the server with this state folder.
pub(crate) fn socket_of(state: &Path) -> PathBuf {
    state.join("api.sock")
}

fn parse(text: &str) -> Result<Address, ClientError> {
    let wrong = || {
        ClientError::Usage(format!(
            "'{text}' is no address of a server; expected unix:/path/to/api.sock, http://127.0.0.1:7700 or https://host:7700"
        ))
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(wrong()) } else { Ok(Address::Unix(path.trim_start_matches("//").into())) };
    }
    let (rest, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(Address::Http { host: host.to_owned(), port, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused() {
        assert_eq!(parse("unix:/run/serin/api.sock").unwrap(), Address::Unix("/run/serin/api.sock".into()));
        let http = |host: &str, port, tls| Address::Http { host: host.to_owned(), port, tls };
        assert_eq!(parse("http://127.0.0.1:7700").unwrap(), http("127.0.0.1", 7700, false));
        assert_eq!(parse("https://shop.example:443/").unwrap(), http("shop.example", 443, true));
        assert_eq!(parse("http://[::1]:7700").unwrap(), http("::1", 7700, false));
        for bad in ["", "unix:", "127.0.0.1:7700", "http://127.0.0.1", "http://:80", "http://a:0", "ftp://a:1", "http://a:1/v1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
