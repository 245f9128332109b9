//! Scalars with a format: text that the schema names a grammar for.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};

use crate::format::Format;

macro_rules! formatted_text {
    ($(#[doc = $doc:literal])* $name:ident, $format:expr, $pattern:literal, $examples:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Deserialize)]
        pub(crate) struct $name(pub(crate) String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format.name(), "pattern": $pattern, "examples": $examples})
            }
        }
    };
}

formatted_text!(
    /// A duration.
    Duration, Format::Duration, r"^([0-9]+(\.[0-9]+)?(d|h|ms|m|s))+$", ["500ms", "30s", "1h30m"]
);
formatted_text!(
    /// A size.
    Size, Format::Size, r"^[0-9]+(\.[0-9]+)? ?([kKMGT]?B|[KMGT]iB)$", ["512KiB", "10MiB"]
);
formatted_text!(
    /// A name.
    Name, Format::Name, r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", ["checkout"]
);
formatted_text!(
    /// The name of an object of a cluster.
    ObjectName, Format::ObjectName, r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", ["checkout-canary"]
);
formatted_text!(
    /// A path of a URL.
    UrlPath, Format::UrlPath, r"^/[!-~]*$", ["/ready"]
);

formatted_text!(
    /// An IP address with a port.
    Listen, Format::Listen, r"^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$", ["127.0.0.1:8080", "0.0.0.0:80", "[::]:80"]
);

/// A weight in percent, with or without the sign.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Weight(pub(crate) NumberOrText);

impl JsonSchema for Weight {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "format": Format::Weight.name(),
            "exclusiveMinimum": 0,
            "maximum": 100,
            "pattern": r"^[0-9]+(\.[0-9]{1,2})? ?%?$",
            "examples": [5, "5%", 0.5],
        })
    }
}

/// A percentage with its sign.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Percentage(pub(crate) NumberOrText);

impl JsonSchema for Percentage {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Percentage".into()
    }
    /// A number is let in so that the format can say that its sign is missing.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "format": Format::Percentage.name(),
            "pattern": r"^[0-9]+(\.[0-9]{1,6})? ?%$",
            "examples": ["0.5%", "5%"],
        })
    }
}

/// A number or text, as it is written. Which of them is right, and in which unit, depends on another field.
#[derive(Debug, Clone)]
pub(crate) struct NumberOrText(pub(crate) String);

impl JsonSchema for NumberOrText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "NumberOrText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["number", "string"]})
    }
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(D::Error::custom("expected a number or text")),
        }
    }
}
