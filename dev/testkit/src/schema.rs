//! A JSON Schema validator that knows nothing of Serin, and YAML as JSON.

use boon::{Compiler, Schemas};
use serde_json::Value;

/// A schema that is valid by its own rules.
pub struct Schema {
    schemas: Schemas,
    index: boon::SchemaIndex,
}

/// Checks a schema against the rules for schemas and makes it ready.
///
/// # Panics
/// If it is not a schema.
#[must_use]
pub fn compile(schema: &Value) -> Schema {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let place = "https://serin.test/schema.json";
    compiler.enable_format_assertions();
    compiler.add_resource(place, schema.clone()).unwrap();
    let index = compiler.compile(place, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
    Schema { schemas, index }
}

impl Schema {
    /// What is wrong with a value; `None`: nothing.
    #[must_use]
    pub fn errors(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}"))
    }
}

/// A YAML document as JSON.
///
/// # Panics
/// If it is not YAML.
#[must_use]
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}
