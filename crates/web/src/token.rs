//! Bearer tokens: made here, printed once, kept as hashes.
//!
//! A token is 256 random bits, so a plain SHA-256 is all the hashing it needs: there is nothing to guess, and checking one is cheap enough
//! to do for every request of a flood.

use std::{fmt, str::FromStr};

use rand::{TryRng as _, rngs::SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::Role;

/// What every token begins with, so that people and scanners for leaked secrets know one when they see it.
pub const PREFIX: &str = "serin_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of 256 bits to the base of 62; leading zeros are kept, so that all tokens are equally long.
const LENGTH: usize = 43;

/// A token that may be used: everything but the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is, as it will stand in journals: 1 to 64 letters, digits and `. _ - @`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The token's hash.
    pub hash: TokenHash,
}

/// The SHA-256 of a token. As text: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

/// A new token. Its text is shown to whoever asked for it, once, and never stored.
pub struct NewToken {
    /// The token: `serin_` and 43 letters and digits.
    pub text: String,
    /// What goes into the configuration.
    pub hash: TokenHash,
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers ({0}); a token made without them could be guessed, so none was made")]
pub struct NoRandomness(String);

/// Not a token's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `sha256:` and 64 hexadecimal digits; `serin token NAME` prints a token and its hash")]
pub struct NotAHash;

/// Makes a token.
///
/// # Errors
/// If the system gives no random numbers.
pub fn new() -> Result<NewToken, NoRandomness> {
    let mut bits = [0; 32];
    SysRng.try_fill_bytes(&mut bits).map_err(|error| NoRandomness(error.to_string()))?;
    let text = format!("{PREFIX}{}", base62(bits));
    Ok(NewToken { hash: TokenHash::of(&text), text })
}

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// The token that was shown, if it is one of these. Looks at all of them, and takes equally long wherever two hashes differ.
pub(crate) fn find<'a>(tokens: &'a [Token], shown: &str) -> Option<&'a Token> {
    let hash = TokenHash::of(shown);
    tokens.iter().fold(None, |found, token| if bool::from(token.hash.0.ct_eq(&hash.0)) { Some(token) } else { found })
}

/// Whether a name may stand in journals and reports.
pub(crate) fn is_name(name: &str) -> bool {
    serin_spec::token_name(name).is_ok()
}

/// Long division of a number of 32 bytes, most significant first.
fn base62(mut number: [u8; 32]) -> String {
    let mut digits = [0_u8; LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u16;
        for byte in &mut number {
            let value = rest << 8 | u16::from(*byte);
            // Below 256, because the rest carried over is below 62.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = DIGITS.get(usize::from(rest)).copied().unwrap_or(b'0');
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let hex = text.trim().strip_prefix("sha256:").ok_or(NotAHash)?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            let pair = hex.get(2 * index..2 * index + 2).ok_or(NotAHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_to_the_base_of_62() {
        let mut one = [0; 32];
        one[31] = 61;
        assert_eq!(base62(one), format!("{}z", "0".repeat(42)));
        one[31] = 62;
        assert_eq!(base62(one), format!("{}10", "0".repeat(41)));
        // 2^256 - 1, computed by another program.
        assert_eq!(base62([0xff; 32]), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn tokens_are_long_and_differ_and_are_known_by_their_hash() {
        let (one, two) = (new().unwrap(), new().unwrap());
        assert_eq!(one.text.len(), PREFIX.len() + LENGTH);
        assert_ne!(one.text, two.text);
        let token = |name: &str, new: &NewToken| Token { name: name.to_owned(), role: Role::Viewer, hash: new.hash };
        let tokens = [token("one", &one), token("two", &two)];
        assert_eq!(find(&tokens, &one.text).unwrap().name, "one");
        assert_eq!(find(&tokens, &two.text).unwrap().name, "two");
        assert_eq!(find(&tokens, &new().unwrap().text), None);
        assert_eq!(find(&tokens, &one.hash.to_string()), None, "the hash is no token");
        assert!(!format!("{one:?}").contains(&one.text));
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        // Of the empty text, from the standard's examples.
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(TokenHash::of("").to_string(), empty);
        assert_eq!(empty.parse(), Ok(TokenHash::of("")));
        let short = &empty[..70];
        let wide = format!("sha256:{}é{}", "0".repeat(31), "0".repeat(31));
        for bad in ["", "sha256:", short, &wide, &empty[7..], &empty.replace('e', "+")] {
            assert_eq!(bad.parse::<TokenHash>(), Err(NotAHash), "{bad}");
        }
    }

    #[test]
    fn names_cannot_pretend_to_be_something_else() {
        for good in ["ci", "ops@example.org", "a-b_c.9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "root (uid 0)", "a\nb", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
