//! The address where the proxy listens.

use std::net::{IpAddr, SocketAddr};

use super::Malformed;
use crate::diagnostic::quote;

/// An IP address with a port. Names are refused: what they mean may change, and may be several addresses.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, Malformed> {
    const EXPECTED: &str = "an IP address and a port, such as `127.0.0.1:8080`";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let wrong = |why: &str| Malformed::new(format!("the address {} {why}", quote(text)), EXPECTED);
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    if let Some(port) = Some(text.strip_prefix(':').unwrap_or(text)).filter(|rest| is_port(rest)) {
        let help = format!("write `127.0.0.1:{port}` for this machine only, or `0.0.0.0:{port}` for everyone");
        return Err(wrong("is only a port").help(help));
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(wrong("is a URL").help(format!("leave out the scheme: {}", quote(rest.trim_end_matches('/')))));
    }
    let bare = text.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() {
        let address = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        return Err(wrong("has no port").help(format!("write `{address}:8080`, or another port")));
    }
    if let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| is_port(port)) {
        let error = wrong("is not an IP address");
        return Err(match host.to_ascii_lowercase().as_str() {
            "localhost" => error.help(format!("write `127.0.0.1:{port}`")),
            "*" => error.help(format!("write `0.0.0.0:{port}`")),
            _ => error.help("names are not looked up: write the IP address"),
        });
    }
    Err(wrong("is not an IP address with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_to_write_instead() {
        for good in ["127.0.0.1:8080", "0.0.0.0:80", "[::]:443", "127.0.0.1:0"] {
            assert!(listen_address(good).is_ok(), "{good}");
        }
        for (bad, help) in [
            ("8080", "`127.0.0.1:8080`"),
            (":8080", "`0.0.0.0:8080`"),
            ("localhost:8080", "`127.0.0.1:8080`"),
            ("*:80", "`0.0.0.0:80`"),
            ("127.0.0.1", "`127.0.0.1:8080`"),
            ("::1", "`[::1]:8080`"),
            ("http://127.0.0.1:80/", "`127.0.0.1:80`"),
            ("shop.example:80", "names are not looked up"),
            ("", ""),
            ("127.0.0.1:99999", ""),
        ] {
            let error = listen_address(bad).unwrap_err();
            assert!(error.help.unwrap_or_default().contains(help), "{bad}");
        }
    }
}
