//! Who asks, and what they may do.
//!
//! Over the unix socket the kernel says who asks; over TCP a token does. Neither can be chosen by the caller, so the name can stand in the
//! journal. A wrong token is answered like none, and costs its address a place among few failures (see `limit`).

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use crate::{
    config::Rights,
    problem::Problem,
    token::{self, TokenHash},
};

/// What someone may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Viewer,
    /// Act on releases: pause, resume, approve, reject, weight, promote, abort, retry, rollback.
    Operator,
    /// Apply documents, which name commands that the daemon starts, and delete services.
    Admin,
}

impl Role {
    /// The word in configuration and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The unix socket; the user is the kernel's word.
    Local {
        /// The user's id.
        uid: u32,
        /// The user's name when the connection was made.
        name: Arc<str>,
    },
    /// TCP.
    Remote {
        /// The address; an IPv4 address also if it came through an IPv6 socket.
        address: IpAddr,
    },
}

/// Someone who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// As it stands in the journal.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What it was known by, over TCP.
    pub(crate) token: Option<TokenHash>,
}

impl Identity {
    /// Whether it would still be let in.
    pub(crate) fn is_known_to(&self, rights: &Rights) -> bool {
        self.token.is_none_or(|hash| rights.tokens.iter().any(|token| token.hash == hash))
    }
}

/// Finds out who asks.
pub(crate) fn identify(rights: &Rights, peer: &Peer, headers: &HeaderMap) -> Result<Identity, Problem> {
    match peer {
        Peer::Local { uid, name } => {
            if *uid != rights.own_uid && *uid != 0 {
                return Err(Problem::stranger());
            }
            Ok(Identity { name: format!("{name} (uid {uid})"), role: Role::Admin, token: None })
        }
        Peer::Remote { .. } => {
            let shown = bearer(headers).ok_or_else(|| Problem::unauthenticated(headers.contains_key(header::AUTHORIZATION)))?;
            let token = token::find(&rights.tokens, shown).ok_or_else(|| Problem::unauthenticated(true))?;
            Ok(Identity { name: format!("{} (token)", token.name), role: token.role, token: Some(token.hash) })
        }
    }
}

/// The token of a request; `None` if there is none, or more than one, or something else.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    fn rights() -> Rights {
        let token = Token { name: "ci".to_owned(), role: Role::Operator, hash: TokenHash::of("serin_x") };
        Rights { own_uid: 1000, tokens: vec![token] }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn the_kernel_says_who_is_local() {
        let who = |uid, name: &str| identify(&rights(), &Peer::Local { uid, name: name.into() }, &HeaderMap::new()).ok();
        assert_eq!(who(1000, "me"), Some(Identity { name: "me (uid 1000)".to_owned(), role: Role::Admin, token: None }));
        assert_eq!(who(0, "root").map(|root| root.role), Some(Role::Admin));
        assert_eq!(who(1001, "root"), None);
    }

    #[test]
    fn a_token_says_who_is_remote() {
        let peer = Peer::Remote { address: IpAddr::from([192, 0, 2, 1]) };
        let who = |values: &[&str]| identify(&rights(), &peer, &headers(values)).ok();
        let ci = Identity { name: "ci (token)".to_owned(), role: Role::Operator, token: Some(TokenHash::of("serin_x")) };
        assert_eq!(who(&["Bearer serin_x"]), Some(ci.clone()));
        assert_eq!(who(&["bearer  serin_x"]), Some(ci));
        for bad in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic serin_x"],
            &["serin_x"],
            &["Bearer serin_y"],
            &["Bearer serin_x", "Bearer serin_x"],
        ] {
            assert_eq!(who(bad), None, "{bad:?}");
        }
    }
}
