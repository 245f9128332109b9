//! Names that are reserved for what Serin will have. They are not in the schema, so that nobody writes documents against a promise; using one
//! is an error that says so instead of "unknown field".

use crate::{
    Diagnostic,
    diagnostic::list,
    tree::{Path, Span},
};

/// Reserved fields by the place they belong to.
const FIELDS: [(&str, &[&str]); 4] = [
    ("spec", &["preflight", "hooks", "notify"]),
    ("spec.workload", &["cloudRun"]),
    ("spec.traffic", &["nginx", "haproxy", "envoy", "cloudRun", "dns"]),
    ("spec.strategy", &["hybrid"]),
];

/// Where a reserved field has alternatives that are built.
const UNIONS: [&str; 3] = ["workload.", "traffic.", "strategy."];

/// A use of something that is not built yet.
pub(super) struct Unbuilt {
    message: String,
    /// What there is instead.
    built: Option<String>,
}

impl Unbuilt {
    pub(super) fn diagnostic(self, place: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error("not-built", place, self.message);
        match self.built {
            Some(built) => diagnostic.expected(format!("what this version has: {built}")),
            None => diagnostic.help("leave it out for now"),
        }
    }
}

/// Whether a field is reserved at that place.
pub(super) fn is_reserved(path: &Path, name: &str) -> bool {
    let place = path.pattern();
    FIELDS.iter().any(|(at, names)| *at == place && names.contains(&name))
}

/// What to say about a reserved field.
pub(super) fn field(path: &Path, name: &str, built: &[&str]) -> Option<Unbuilt> {
    if !is_reserved(path, name) {
        return None;
    }
    let place = path.key(name).pattern();
    let place = place.strip_prefix("spec.").unwrap_or(&place);
    let instead = match place {
        place if UNIONS.iter().any(|union| place.starts_with(union)) => Some(list(built.iter().copied(), "and")),
        _ => None,
    };
    Some(Unbuilt { message: format!("`{place}` is not built yet"), built: instead })
}
