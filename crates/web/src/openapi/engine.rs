//! The engine's reports as JSON Schema, written by hand: the engine's types need no schema library for the one place that describes them.
//! The tests of the parent hold every field here against real reports, both ways.

#![expect(clippy::needless_pass_by_value, reason = "schemas are written where they are used")]

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// References for the fields of the API's own types.
macro_rules! references {
    ($($function:ident => $schema:literal),* $(,)?) => {
        $(pub(crate) fn $function(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"$ref": concat!("#/components/schemas/", $schema)})
        })*
    };
}

references! {
    diagnostics => "Diagnostics",
    event => "JournalEvent",
    service_state => "ServiceState",
    verdict => "Verdict",
}

pub(crate) fn services(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"$ref": "#/components/schemas/ServiceStatus"}})
}

pub(crate) fn checks(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"$ref": "#/components/schemas/Check"}})
}

/// Every schema by name.
pub(crate) fn schemas() -> Map<String, Value> {
    let all = [
        ("ServiceState", words("What a service is doing.", &["starting", "serving", "releasing", "failed", "deleting"])),
        ("Verdict", words("What the data says about a criterion.", &["pass", "fail", "inconclusive", "unknown", "environment"])),
        ("ServiceStatus", service_status()),
        ("LastRun", last_run()),
        ("RunEnd", run_end()),
        ("Cause", cause()),
        ("StatusReport", status_report()),
        ("StageReport", stage_report()),
        ("ArmReport", arm_report()),
        ("ArmTotals", arm_totals()),
        ("ArmStatus", arm_status()),
        ("CriterionAssessment", criterion()),
        ("EvidenceLevel", evidence()),
        ("Wait", wait()),
        ("ServerEvent", server_event()),
        ("JournalLine", journal_line()),
        ("JournalEvent", journal_event()),
        ("Check", check()),
        ("Diagnostics", diagnostic_list()),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn service_status() -> Value {
    object(
        "How a service is.",
        json!({
            "service": text("Its name."),
            "state": one("ServiceState"),
            "fault": maybe(text("What is wrong with it, and what to do.")),
            "listen": text("Where clients connect."),
            "serving": text("The version that serves: the document and run that brought it."),
            "ready": maybe(whole("Ready replicas of that version.")),
            "replicas": whole("Replicas of that version that there should be."),
            "release": maybe(one("StatusReport")),
            "queued": maybe(text("The release that begins when the current one has been taken back.")),
            "last": maybe(one("LastRun")),
            "questions_waiting": whole("What was asked of it and is not answered yet."),
        }),
    )
}

fn last_run() -> Value {
    object(
        "A release that is over.",
        json!({
            "document_hash": text("Hash of the document's meaning."),
            "run": whole("Which run of this document."),
            "number": whole("The run's number among all of the service."),
            "began_at": time("When it began."),
            "ended_at": time("When it ended."),
            "end": one("RunEnd"),
        }),
    )
}

fn run_end() -> Value {
    json!({
        "description": "How a run ended.",
        "type": "object",
        "x-open": true,
        "required": ["result"],
        "properties": {
            "result": {"type": "string", "enum": ["succeeded", "refused", "rolled-back", "operator-needed", "interrupted", "forced", "unexpected"]},
            "cause": one("Cause"),
            "why": text("What is to be decided (operator-needed)."),
            "phase": text("The phase (unexpected)."),
        },
    })
}

fn cause() -> Value {
    object(
        "Why traffic goes back to stable.",
        json!({
            "kind": {"description": "A word, or an object with the word and its details.", "type": ["string", "object"]},
            "text": text("The reason in words, with its numbers."),
        }),
    )
}

fn status_report() -> Value {
    object(
        "A release under way.",
        json!({
            "release": text("Its name."),
            "document_hash": text("Hash of its document's meaning."),
            "run": whole("Which run of this document."),
            "phase": text("Where it is, in a word or two."),
            "paused": {"type": "boolean", "description": "Whether it stands still."},
            "stage": maybe(whole("The current stage, from 1.")),
            "stages": list(one("StageReport")),
            "weight": weight("The canary's share as asked."),
            "measured_share": maybe(number("The canary's measured share, 0 to 1.")),
            "wait": one("Wait"),
            "elapsed_ms": whole("Time since it began."),
            "left_ms": whole("About how long it will take if nothing holds it up."),
            "arms": {"description": "Stable, then canary.", "type": "array", "minItems": 2, "maxItems": 2, "items": one("ArmReport")},
            "criteria": list(one("CriterionAssessment")),
            "health": maybe(whole("0 (bad) to 100 (good).")),
            "rescued": whole("Requests that failed on the canary and that stable answered."),
            "own_errors": whole("Error answers that the proxy made itself."),
            "store_fault": maybe(text("Why the journal cannot be written.")),
            "journal_backlog": whole("Journal entries that are not durable yet."),
            "effects_running": whole("Effects that are being carried out."),
            "listen": text("Where clients connect."),
            "preview": maybe(text("The address that leads to the canary, while a preview is open.")),
        }),
    )
}

fn stage_report() -> Value {
    object(
        "A stage.",
        json!({
            "weight": weight("The canary's share."),
            "hold_ms": whole("How long it is held."),
            "held_ms": whole("How long it has been held; the current stage only."),
            "manual": {"type": "boolean", "description": "Whether a person must approve."},
            "preview": {"type": "boolean", "description": "Whether nobody is sent to the canary: a preview."},
            "state": words("Where it is.", &["done", "current", "failed", "open"]),
        }),
    )
}

fn arm_report() -> Value {
    object(
        "A version over the last ten seconds.",
        json!({
            "requests_per_s": number("Requests per second."),
            "error_share": maybe(number("Share of errors, 0 to 1.")),
            "p50_ms": maybe(number("Median latency.")),
            "p99_ms": maybe(number("99 % are faster.")),
            "totals": one("ArmTotals"),
            "status": one("ArmStatus"),
        }),
    )
}

fn arm_totals() -> Value {
    object(
        "What a version served since the release began.",
        json!({
            "by_weight": whole("Requests that came by weight."),
            "matched": whole("Requests that a declared rule sent."),
            "preview": whole("Requests through the preview address."),
            "errors": whole("Errors among all of these."),
            "rescues": whole("Requests that it answered in the other's stead."),
        }),
    )
}

fn arm_status() -> Value {
    let gauges = object(
        "Resource use.",
        json!({
            "cpu_percent": maybe(number("Of one core, mean per replica.")),
            "memory_bytes": maybe(number("Mean per replica.")),
            "restarts": maybe(whole("Restarts after crashes.")),
        }),
    );
    object(
        "Replicas and resources of a version.",
        json!({
            "ready": maybe(whole("Replicas that may get traffic.")),
            "replicas": whole("Replicas that there should be."),
            "failure": maybe(text("What is wrong with it as a whole.")),
            "gauges": gauges,
            "notes": list(text("About one replica.")),
        }),
    )
}

fn criterion() -> Value {
    let mut schema = object(
        "A criterion at the last evaluation.",
        json!({
            "name": text("Its name."),
            "metric": {"description": "A word, or an object such as {\"latency\": \"p99\"}.", "type": ["string", "object"]},
            "verdict": one("Verdict"),
            "canary": maybe(number("The canary's value in the metric's unit.")),
            "stable": maybe(number("Stable's value over the same time.")),
            "on_breach": words("What a fail does.", &["rollback", "pause", "warn"]),
            "severity": words("How much it weighs in the health score.", &["critical", "warning"]),
            "pressure": maybe(number("How close the canary is to failing, 0 to 1.")),
            "evidence": one("EvidenceLevel"),
            "text": text("The verdict in words with its numbers."),
        }),
    );
    optional(&mut schema, "evidence");
    schema
}

fn evidence() -> Value {
    object(
        "What a sequential test knows at the moment.",
        json!({
            "harm": number("Evidence against the canary as a multiple of what chance gives."),
            "needed": number("The harm at which the criterion fails."),
            "ratio": maybe(number("The canary's rate divided by stable's.")),
            "ratio_between": maybe(json!({
                "description": "Where that ratio surely lies; the upper end is null if nothing bounds it.",
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": ["number", "null"]},
            })),
            "requests_to_pass": maybe(number("Canary requests until the criterion is expected to pass.")),
        }),
    )
}

fn wait() -> Value {
    object(
        "What a release waits for.",
        json!({
            "until": maybe(time("When it goes on by itself at the latest.")),
            "why": text("The reason."),
            "operator": {"type": "boolean", "description": "Whether a person has to do something."},
        }),
    )
}

fn server_event() -> Value {
    object(
        "Something that happened to a service.",
        json!({
            "id": text("Its place, as `process-number`."),
            "at": time("When."),
            "service": text("The service."),
            "run": maybe(whole("The run's number among all of the service.")),
            "head": text("Two or three words; empty for a note."),
            "text": text("The details."),
            "entry": maybe(one("JournalLine")),
        }),
    )
}

fn journal_line() -> Value {
    object(
        "A journal entry as it is kept.",
        json!({
            "seq": whole("Position in the journal, from 1 without gaps."),
            "epoch": whole("Which ownership of the release wrote it."),
            "at": time("When."),
            "event": one("JournalEvent"),
        }),
    )
}

/// Journals are kept for years and get new kinds of entries: readers go by `type` and let pass what they do not know.
fn journal_event() -> Value {
    json!({
        "description": "What happened, by `type`; more fields depend on it.",
        "type": "object",
        "x-open": true,
        "required": ["type"],
        "properties": {"type": {"type": "string"}},
    })
}

fn check() -> Value {
    object(
        "A check before a release.",
        json!({
            "name": text("What was checked."),
            "status": words("How it came out.", &["pass", "warn", "fail"]),
            "detail": text("What was found."),
            "hint": maybe(text("What to do about it.")),
        }),
    )
}

fn diagnostic_list() -> Value {
    let diagnostic = object(
        "One thing that is wrong with a document.",
        json!({
            "severity": words("How bad it is.", &["error", "warning"]),
            "code": text("A stable word for programs."),
            "message": text("What is wrong."),
            "path": text("Where in the document's structure; may be empty."),
            "line": whole("From 1."),
            "column": whole("In characters, from 1."),
            "length": whole("Number of characters that are meant."),
            "expected": maybe(text("What would have been right.")),
            "help": maybe(text("What to do.")),
        }),
    );
    object(
        "Everything that is wrong with a document.",
        json!({
            "source": text("The document's name."),
            "diagnostics": list(diagnostic),
            "omitted": whole("How many more there are."),
        }),
    )
}

/// An object of which every field is there, if only as `null`.
fn object(about: &str, properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().map(|map| map.keys().collect()).unwrap_or_default();
    json!({"description": about, "type": "object", "required": names, "properties": properties})
}

fn optional(schema: &mut Value, field: &str) {
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != field);
    }
}

fn one(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn maybe(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn list(schema: Value) -> Value {
    json!({"type": "array", "items": schema})
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn whole(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": about})
}

fn number(about: &str) -> Value {
    json!({"type": "number", "description": about})
}

fn time(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": format!("{about} Milliseconds since 1970.")})
}

fn weight(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 10_000, "description": format!("{about} In basis points: 10,000 is all.")})
}

fn words(about: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": about, "enum": words})
}
