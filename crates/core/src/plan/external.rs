//! Metrics that others measure, such as Prometheus.

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: that of every other name in documents.
const LONGEST: usize = 63;

/// A metric of a source outside of Serin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExternalMetric {
    /// Its name in the document.
    pub name: MetricName,
    /// What its measurements are.
    pub kind: ExternalKind,
}

/// What measurements of an external metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalKind {
    /// Counts: of how many, and how many of them are bad. Each counts on its own, so they are weighed as evidence.
    Ratio,
    /// A number that is measured again and again.
    Value,
}

/// A name of 1 to 63 bytes, kept in place, so that metrics can be passed around like numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName {
    bytes: [u8; LONGEST],
    length: u8,
}

/// A name that is empty or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a metric has 1 to {LONGEST} bytes, and this one has {0}")]
pub struct MetricNameError(usize);

impl MetricName {
    /// The name.
    ///
    /// # Errors
    /// If it is empty or longer than 63 bytes.
    pub fn new(name: &str) -> Result<Self, MetricNameError> {
        let mut bytes = [0; LONGEST];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(length)) if length > 0 => {
                place.copy_from_slice(name.as_bytes());
                Ok(Self { bytes, length })
            }
            _ => Err(MetricNameError(name.len())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of whole text, so neither can fail.
        self.bytes.get(..self.length.into()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl std::fmt::Debug for MetricName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

impl std::fmt::Display for MetricName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for MetricName {
    type Error = MetricNameError;

    fn try_from(name: String) -> Result<Self, MetricNameError> {
        Self::new(&name)
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_as_text() {
        for name in ["a", "conversion", "ä", &"x".repeat(63)] {
            let kept = MetricName::new(name).unwrap();
            assert_eq!(kept.as_str(), name);
            let text = serde_json::to_string(&kept).unwrap();
            assert_eq!(serde_json::from_str::<MetricName>(&text).unwrap(), kept);
        }
    }

    #[test]
    fn names_have_bounds() {
        assert_eq!(MetricName::new(""), Err(MetricNameError(0)));
        assert_eq!(MetricName::new(&"x".repeat(64)), Err(MetricNameError(64)));
        assert_eq!(MetricName::new(&"x".repeat(319)), Err(MetricNameError(319)));
    }
}
