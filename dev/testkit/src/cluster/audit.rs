//! What the API server was asked, from its audit log: reads without, writes with their bodies. The testbed's own requests are not in it.

use std::{fs, path::Path};

use serde_json::Value;

/// One request that was answered.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core.
    pub group: String,
    /// Plural, with its subresource: `releases/status`.
    pub resource: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// Whether it was only tried: `dryRun=All`.
    pub is_dry_run: bool,
    /// What the server answered; 0 if it did not.
    pub code: u16,
    /// The body of a write; null otherwise.
    pub body: Value,
    /// When it came, RFC 3339 with microseconds.
    pub at: String,
    /// Program that asked.
    pub agent: String,
}

impl AuditEntry {
    /// Whether it could change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// All entries from a line of the log on, and the line after them. A line that is being written is left for the next time.
pub(super) fn read(log: &Path, from_line: usize) -> (Vec<AuditEntry>, usize) {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = if complete.is_empty() { 0 } else { complete.split('\n').count() };
    (complete.split('\n').skip(from_line).filter_map(|line| parse(&serde_json::from_str(line).ok()?)).collect(), lines)
}

fn parse(line: &Value) -> Option<AuditEntry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &line["objectRef"];
    let subresource = text(&object["subresource"]);
    let resource = text(&object["resource"]);
    Some(AuditEntry {
        user: line.pointer("/user/username")?.as_str()?.to_owned(),
        verb: text(&line["verb"]),
        group: text(&object["apiGroup"]),
        resource: if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") },
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        is_dry_run: text(&line["requestURI"]).contains("dryRun=All"),
        code: line.pointer("/responseStatus/code").and_then(Value::as_u64).and_then(|code| code.try_into().ok()).unwrap_or(0),
        body: line["requestObject"].clone(),
        at: text(&line["requestReceivedTimestamp"]),
        agent: text(&line["userAgent"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_lines_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"user":{"username":"alice"},"verb":"patch","objectRef":{"resource":"deployments","subresource":"scale","namespace":"a","name":"b","apiGroup":"apps"},"responseStatus":{"code":200},"requestObject":{"spec":{"replicas":3}}}"#;
        fs::write(file.path(), format!("{line}\n{line}\n{{\"user\":")).unwrap();
        let (entries, next) = read(file.path(), 1);
        assert_eq!((entries.len(), next), (1, 2));
        let entry = &entries[0];
        assert_eq!((entry.user.as_str(), entry.resource.as_str(), entry.code), ("alice", "deployments/scale", 200));
        assert!(entry.is_write() && entry.body["spec"]["replicas"] == 3);
    }
}
