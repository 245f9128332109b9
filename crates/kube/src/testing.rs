//! An API server for unit tests: real HTTP on loopback, objects in memory, and the faults that a test wants. It knows merge patches only. Whatever
//! needs the behaviour of a real one is tested in a real cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use serin_engine::Pending;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{api::merged, route::Fence};

/// What a fault answers instead: status and body. Asked with method and path with query.
type Fault = Box<dyn FnMut(&str, &str) -> Option<(u16, String)> + Send>;

#[derive(Default)]
struct Inside {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// In order.
    calls: Vec<Call>,
    fault: Option<Fault>,
}

/// A request.
struct Call {
    method: String,
    /// With its query.
    path: String,
    at: Instant,
    /// Null where there is none.
    body: Value,
}

/// See the module. Ends when it is dropped.
pub(crate) struct FakeApi {
    inside: Arc<Mutex<Inside>>,
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&inside)));
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self { inside, client, task }
    }

    /// Answers so from here on, where the fault wants to.
    pub(crate) fn fault(&self, fault: impl FnMut(&str, &str) -> Option<(u16, String)> + Send + 'static) {
        self.inside().fault = Some(Box::new(fault));
    }

    pub(crate) fn heal(&self) {
        self.inside().fault = None;
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut inside = self.inside();
        inside.store(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.inside().objects.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.inside().objects.remove(path);
    }

    /// Methods and paths so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.timed_calls().into_iter().map(|(call, _)| call).collect()
    }

    /// The same, and when.
    pub(crate) fn timed_calls(&self) -> Vec<(String, Instant)> {
        self.inside().calls.iter().map(|call| (format!("{} {}", call.method, call.path), call.at)).collect()
    }

    /// What was sent with a method so far, in order, by path without its query.
    pub(crate) fn sent(&self, method: &str) -> Vec<(String, Value)> {
        let place = |call: &Call| call.path.split('?').next().unwrap_or_default().to_owned();
        self.inside().calls.iter().filter(|call| call.method == method).map(|call| (place(call), call.body.clone())).collect()
    }

    /// The same without the paths.
    pub(crate) fn bodies(&self, method: &str) -> Vec<Value> {
        self.sent(method).into_iter().map(|(_, body)| body).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, inside: Arc<Mutex<Inside>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inside = Arc::clone(&inside);
        let service = service_fn(move |request| answer(request, Arc::clone(&inside)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, inside: Arc<Mutex<Inside>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (method, uri) = (request.method().to_string(), request.uri().clone());
    let body = request.into_body().collect().await?.to_bytes();
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    inside.calls.push(Call { method: method.clone(), path: path.clone(), at: Instant::now(), body: body.clone() });
    let faulty = inside.fault.as_mut().and_then(|fault| fault(&method, &path));
    let (code, text) = faulty.unwrap_or_else(|| inside.serve(&method, uri.path(), body));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap();
    Ok(response)
}

impl Inside {
    fn store(&mut self, path: &str, mut object: Value) -> String {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = object.to_string();
        self.objects.insert(path.to_owned(), object);
        text
    }

    fn serve(&mut self, method: &str, path: &str, sent: Value) -> (u16, String) {
        let path = path.strip_suffix("/status").unwrap_or(path);
        match method {
            "GET" => self.objects.get(path).map_or_else(|| status(404), |found| (200, found.to_string())),
            "POST" => {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or_default());
                if self.objects.contains_key(&path) { status(409) } else { (201, self.store(&path, sent)) }
            }
            "PUT" => match self.objects.get(path) {
                None => status(404),
                Some(found) if found["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] => status(409),
                Some(_) => (200, self.store(path, sent)),
            },
            "PATCH" => match self.objects.get(path) {
                None => status(404),
                Some(found) => {
                    let over = &sent["metadata"]["resourceVersion"];
                    if !over.is_null() && *over != found["metadata"]["resourceVersion"] {
                        return status(409);
                    }
                    let after = merged(found, &sent);
                    (200, self.store(path, after))
                }
            },
            _ => status(405),
        }
    }
}

/// An error as the API server writes it.
pub(crate) fn status(code: u16) -> (u16, String) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "InternalError",
    };
    let text = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "a fault", "reason": reason, "code": code});
    (code, text.to_string())
}

/// Leads for ever.
pub(crate) struct Leads;

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}
