//! Scalars with a grammar of their own: durations, percentages, sizes, names.
//!
//! The schema names them as `format`; [`check`](crate::check) and [`lower`](crate::lower) read them with the same functions, so that what
//! passes the first cannot fail in the second.

mod duration;
mod listen;
mod name;
mod percent;
mod size;

pub(crate) use duration::{duration_ms, duration_us, short as short_duration};
pub(crate) use listen::listen_address;
pub(crate) use name::{check_address_path, check_name, check_object_name};
pub(crate) use percent::{percentage, points, weight_bps};
pub(crate) use size::bytes;

/// Why a scalar cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// What is wrong, with the text.
    pub(crate) message: String,
    /// What would have been right.
    pub(crate) expected: String,
    /// What to write instead, if that can be told.
    pub(crate) help: Option<String>,
}

impl Malformed {
    fn new(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { message: message.into(), expected: expected.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A format by its name in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `30m`, `1h30m`, `500ms`.
    Duration,
    /// A weight: `5`, `5%`, `0.5`.
    Weight,
    /// A share with its sign: `0.5%`.
    Percentage,
    /// `10MiB`.
    Size,
    /// A release's or metric's name.
    Name,
    /// The name of an object of a cluster.
    ObjectName,
    /// A path of a URL.
    UrlPath,
    /// An IP address with a port.
    Listen,
}

impl Format {
    /// Every format.
    const ALL: [Self; 8] =
        [Self::Duration, Self::Weight, Self::Percentage, Self::Size, Self::Name, Self::ObjectName, Self::UrlPath, Self::Listen];

    /// The format of that name in the schema.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The name in the schema.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Duration => "serin-duration",
            Self::Weight => "serin-weight",
            Self::Percentage => "serin-percentage",
            Self::Size => "serin-size",
            Self::Name => "serin-name",
            Self::ObjectName => "serin-object-name",
            Self::UrlPath => "serin-url-path",
            Self::Listen => "serin-listen",
        }
    }

    /// Whether a scalar, as it is written, has this format.
    pub(crate) fn check(self, text: &str) -> Result<(), Malformed> {
        match self {
            Self::Duration => duration_ms(text).map(drop),
            Self::Weight => weight_bps(text).map(drop),
            Self::Percentage => percentage(text).map(drop),
            Self::Size => bytes(text).map(drop),
            Self::Name => check_name(text),
            Self::ObjectName => check_object_name(text),
            Self::UrlPath => check_address_path(text),
            Self::Listen => listen_address(text).map(drop),
        }
    }
}

/// A decimal number without sign or exponent, in units of `1 / 10^DIGITS`; `None` if it is none, has more decimals or is out of range.
fn decimal<const DIGITS: u32>(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || (text.contains('.') && text.ends_with('.')) {
        return None;
    }
    let decimals = u32::try_from(part.len()).ok().filter(|decimals| *decimals <= DIGITS)?;
    let scaled = whole.parse::<u64>().ok()?.checked_mul(10_u64.pow(DIGITS))?;
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()? * 10_u64.pow(DIGITS - decimals) };
    scaled.checked_add(part)
}

/// Whether a text is an unsigned decimal number with any number of decimals.
fn is_number(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    !whole.is_empty() && !part.is_empty() && [whole, part].iter().all(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal::<2>("5"), Some(500));
        assert_eq!(decimal::<2>("0.29"), Some(29));
        assert_eq!(decimal::<2>("12.30"), Some(1230));
        assert_eq!(decimal::<2>("12.345"), None);
        for text in ["", ".", "5.", ".5", "-1", "1e3", "1 ", "99999999999999999999"] {
            assert_eq!(decimal::<2>(text), None, "{text}");
        }
    }

    #[test]
    fn names_in_the_schema_are_unique_and_found_again() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
    }
}
