//! Who may do what: every route against every kind of caller, from the table that the API itself goes by.

use serde_json::Value;
use serin_web::{Access, Role, Route, routes};

use crate::support::{Daemon, Reply, request, token};

/// A path of a route: of a service that there is not, so that nothing happens whatever is allowed.
fn path(route: &Route) -> String {
    route.path.replace("{service}", "nobody").replace("{run}", "1")
}

fn call(daemon: &Daemon, route: &Route, token: Option<&str>) -> Reply {
    // Streams have no end, so their head is all that is looked at.
    let method = if route.id == "events" { "HEAD" } else { route.method.as_str() };
    let body: Option<&[u8]> = (route.method != "GET").then_some(b"{}");
    daemon.raw(&request(method, &path(route), token, body))
}

#[test]
fn every_route_refuses_who_may_not_and_lets_in_who_may() {
    let daemon = Daemon::start();
    for route in routes() {
        let name = format!("{} {}", route.method, route.path);
        for unknown in [None, Some("serin_wrong"), Some("")] {
            let reply = call(&daemon, route, unknown);
            match route.access {
                Access::Public => assert!(matches!(reply.status, 200 | 503), "{name}: {reply:?}"),
                Access::Needs(_) => {
                    assert_eq!(reply.status, 401, "{name} with {unknown:?}: {reply:?}");
                    assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{name}");
                }
            }
        }
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            let reply = call(&daemon, route, Some(&token(role)));
            let enough = match route.access {
                Access::Public => true,
                Access::Needs(needed) => role >= needed,
            };
            if enough {
                assert!(!matches!(reply.status, 0 | 401 | 403 | 405 | 500..), "{name} as {role:?}: {reply:?}");
            } else {
                assert_eq!((reply.status, reply.code().as_str()), (403, "forbidden"), "{name} as {role:?}");
            }
        }
    }
}

#[test]
fn over_the_socket_the_system_says_who_asks() {
    let daemon = Daemon::start();
    // Whatever the header says.
    for token in [None, Some("serin_wrong")] {
        let reply = daemon.local(&request("POST", "/v1/services/nobody/abort", token, Some(b"{}")));
        assert_eq!((reply.status, reply.code().as_str()), (404, "no-such-service"));
        let reply = daemon.local(&request("DELETE", "/v1/services/nobody", token, None));
        assert_eq!((reply.status, reply.code().as_str()), (404, "no-such-service"), "an admin");
    }
}

#[test]
fn strangers_learn_nothing_of_what_there_is() {
    let daemon = Daemon::start();
    for path in ["/", "/v1/nothing", "/v1/services", "/v1/services/shop", "/metrics", "/v1/openapi.json", "/v1/version", "*"] {
        for method in ["GET", "POST", "PUT", "OPTIONS", "TRACE", "BREW"] {
            let reply = daemon.raw(&request(method, path, None, None));
            assert_eq!(reply.status, 401, "{method} {path}: {reply:?}");
        }
    }
}

#[test]
fn methods_and_paths_that_there_are_not() {
    let daemon = Daemon::start();
    let ask = |method: &str, path: &str| daemon.raw(&request(method, path, Some(&token(Role::Admin)), None));
    for path in ["/", "/v1", "/v1/services/", "/v1/services/a/b", "//", "/v1/services/UPPER", "/v1/services/a%00b/pause"] {
        let reply = ask("GET", path);
        assert_eq!((reply.status, reply.code().as_str()), (404, "no-such-route"), "{path}");
    }
    let reply = ask("PUT", "/v1/services/shop");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, DELETE, OPTIONS")));
    let reply = ask("OPTIONS", "/v1/releases");
    assert_eq!((reply.status, reply.header("allow"), reply.body.as_str()), (204, Some("POST, OPTIONS"), ""));
    assert_eq!(reply.header("access-control-allow-origin"), None, "no other site's page may ask");
    let reply = ask("HEAD", "/v1/services");
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(ask("GET", "/v1/services").header("content-length"), reply.header("content-length"));
}

#[test]
fn versions_are_told_and_compared() {
    let daemon = Daemon::start();
    let reply = daemon.get("/v1/version", Some(&token(Role::Viewer)));
    assert_eq!(reply.json()["api"], 1);
    assert_eq!(reply.json()["program"], env!("CARGO_PKG_VERSION"));
    assert_eq!(reply.header("serin-api-version"), Some("1"));
    let ask = |version: &str| {
        let request = String::from_utf8(request("POST", "/v1/services/nobody/pause", Some(&token(Role::Admin)), None)).unwrap();
        daemon.raw(request.replace("Host:", &format!("Serin-Api-Version: {version}\r\nHost:")).as_bytes())
    };
    assert_eq!(ask("1").code(), "no-such-service");
    for other in ["2", "0", "one", ""] {
        let reply = ask(other);
        assert_eq!((reply.status, reply.code().as_str()), (400, "unsupported-version"), "{other:?}");
    }
}

#[test]
fn answers_are_as_the_openapi_document_says() {
    let daemon = Daemon::start();
    let document = daemon.get("/v1/openapi.json", Some(&token(Role::Viewer))).json();
    let check = |pointer: &str, value: &Value| {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.set_default_draft(boon::Draft::V2020_12);
        compiler.add_resource("http://serin/openapi.json", document.clone()).unwrap();
        let index = compiler.compile(&format!("http://serin/openapi.json#{pointer}"), &mut schemas).unwrap();
        if let Err(error) = schemas.validate(value, index) {
            panic!("{pointer}: {error:#}\n{value:#}");
        }
    };
    for route in routes().iter().filter(|route| !matches!(route.id, "metrics" | "events")) {
        let reply = call(&daemon, route, Some(&token(Role::Admin)));
        let escaped = route.path.replace('/', "~1").replace('{', "%7B").replace('}', "%7D");
        let method = route.method.as_str().to_ascii_lowercase();
        let status = if reply.status == 200 { "200" } else { "default" };
        let status = if reply.status == 503 && route.access == Access::Public { "503" } else { status };
        check(&format!("/paths/{escaped}/{method}/responses/{status}/content/application~1json/schema"), &reply.json());
    }
}
