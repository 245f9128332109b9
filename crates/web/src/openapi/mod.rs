//! The OpenAPI document: made from the table of routes and the types of the wire, so that it cannot fall behind them.
//!
//! The engine's reports are described by hand in `engine`, because the engine has no use for a schema library; a test checks real reports
//! against what is written there, with no room for fields that are missing on either side.

pub(crate) mod engine;
#[cfg(test)]
pub(crate) mod samples;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    model::{
        API_VERSION, Accepted, Alerts, AlertsTaken, Applied, Apply, Deleted, ErrorAnswer, Explanation, Health, Journal, Reason, Runs,
        Services, SetWeight, Version,
    },
    routes::{Access, Answers, Route, routes},
};

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Serin",
            "version": format!("{API_VERSION}"),
            "summary": "Releases and services of one daemon.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Over TCP. Over the unix socket the system says who asks."}},
        },
    })
}

/// The document as it is served.
pub(crate) fn text() -> String {
    document().to_string()
}

fn operation(route: &Route) -> Value {
    let (security, role) = match route.access {
        Access::Public => (json!([]), "Needs no token.".to_owned()),
        Access::Needs(role) => (json!([{"token": []}]), format!("Needs the role {}.", role.as_str())),
    };
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "description": role,
        "security": security,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    if let (Some(body), Some(operation)) = (route.body, operation.as_object_mut()) {
        let content = json!({"application/json": {"schema": reference(body.schema)}});
        operation.insert("requestBody".to_owned(), json!({"required": body.required, "content": content}));
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = ["service", "run"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<Value> =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    for (name, about) in route.query {
        parameters.push(json!({"name": name, "in": "query", "description": about, "schema": {"type": "string"}}));
    }
    if matches!(route.answer, Answers::Events) {
        parameters.push(json!({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}));
    }
    parameters
}

fn responses(route: &Route) -> Value {
    let fine = match route.answer {
        Answers::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        Answers::Document => json!({"application/json": {"schema": {"type": "object"}}}),
        Answers::Metrics => json!({"text/plain": {"schema": {"type": "string"}}}),
        Answers::Events => json!({"text/event-stream": {"schema": reference("ServerEvent"), "x-each-data-line": true}}),
    };
    let mut responses = json!({
        "200": {"description": "As asked.", "content": fine},
        "default": {"description": "Not as asked; the body says why.", "content": {"application/json": {"schema": reference("ErrorAnswer")}}},
    });
    // Health has the same shape when it is bad.
    if let (Answers::Json("Health"), Some(responses)) = (route.answer, responses.as_object_mut()) {
        let content = json!({"application/json": {"schema": reference("Health")}});
        responses.insert("503".to_owned(), json!({"description": "Not now.", "content": content}));
    }
    responses
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn schemas() -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    macro_rules! describe {
        ($($kind:ty),* $(,)?) => {
            $(let _ = generator.subschema_for::<$kind>();)*
        };
    }
    describe!(
        ErrorAnswer,
        Version,
        Services,
        Reason,
        SetWeight,
        Apply,
        Applied,
        Accepted,
        Deleted,
        Runs,
        Journal,
        Explanation,
        Health,
        Alerts,
        AlertsTaken
    );
    let mut schemas = generator.take_definitions(true);
    schemas.extend(engine::schemas());
    schemas
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.insert(target.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_there_and_every_reference_leads_somewhere() {
        let document = document();
        for route in routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            assert_eq!(document["paths"][route.path][&method]["operationId"], route.id);
        }
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }

    /// What the document says about a type.
    fn check(document: &Value, name: &str, value: &Value) {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.set_default_draft(boon::Draft::V2020_12);
        compiler.add_resource("http://serin/openapi.json", document.clone()).unwrap();
        let index = compiler.compile(&format!("http://serin/openapi.json#/components/schemas/{name}"), &mut schemas).unwrap();
        if let Err(error) = schemas.validate(value, index) {
            panic!("{name}: {error:#}\n{value:#}");
        }
    }

    /// Every description of ours made strict: what is not described may not be there, and what is described must.
    fn strict(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(strict);
                if let Some(Value::Object(properties)) = map.get("properties")
                    && map.get("x-open") != Some(&Value::Bool(true))
                {
                    let names: Vec<Value> = properties.keys().cloned().map(Value::String).collect();
                    map.insert("required".to_owned(), Value::Array(names));
                    map.insert("additionalProperties".to_owned(), Value::Bool(false));
                }
            }
            Value::Array(list) => list.iter_mut().for_each(strict),
            _ => {}
        }
    }

    #[test]
    fn what_is_written_by_hand_is_what_the_engine_says() {
        let mut strictly = document();
        for (_, schema) in
            strictly["components"]["schemas"].as_object_mut().unwrap().iter_mut().filter(|(name, _)| engine::schemas().contains_key(*name))
        {
            strict(schema);
        }
        let service = serde_json::to_value(samples::service()).unwrap();
        check(&strictly, "ServiceStatus", &service);
        check(&strictly, "ServerEvent", &serde_json::to_value(samples::event()).unwrap());
        check(&strictly, "Check", &serde_json::to_value(samples::check()).unwrap());
        let diagnostics = serin_spec::load("release.yaml", "apiVersion: 1\nkind: Releese\n").unwrap_err();
        check(&strictly, "Diagnostics", &serde_json::to_value(diagnostics).unwrap());
        // And that the check can fail.
        let mut wrong = service;
        wrong["release"]["surprise"] = Value::Null;
        assert!(std::panic::catch_unwind(|| check(&strictly, "ServiceStatus", &wrong)).is_err());
    }

    #[test]
    fn what_may_be_absent_may_be_absent() {
        let document = document();
        let mut service = samples::service();
        let release = service.release.as_mut().unwrap();
        release.measured_share = None;
        release.health = None;
        release.stage = None;
        release.criteria[0].evidence = None;
        release.criteria[0].canary = None;
        check(&document, "ServiceStatus", &serde_json::to_value(&service).unwrap());
        service.release = None;
        service.last = None;
        service.queued = None;
        service.fault = None;
        service.ready = None;
        check(&document, "ServiceStatus", &serde_json::to_value(&service).unwrap());
        let mut event = samples::event();
        (event.entry, event.run) = (None, None);
        check(&document, "ServerEvent", &serde_json::to_value(event).unwrap());
    }
}
