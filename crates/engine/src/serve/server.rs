//! The services by name, and what can be asked of them.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serin_core::release::{Action, Check, Command};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Applied, EventId, Refused, Retention, Run, ServiceStatus, Subscription, Who,
    deleting::Deleting,
    events::Events,
    passed,
    queue::Queued,
    service::{self, Ask, Handle, Tools},
};
use crate::{
    preflight,
    process::reserve,
    run::Document,
    store::{Lock, Reader, ReleaseId, ReleaseRow, StateFolder, StoreError},
    systemd::Sockets,
};

/// How long a service may take to answer. It answers between two steps; only a disk that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most services of one server.
const MOST_SERVICES: usize = 1_000;
/// Names that an error lists.
const MOST_NAMED: usize = 10;

/// What to serve, and how.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The server's state folder.
    pub state: PathBuf,
    /// The running binary, for proxies and for `{{serin}}`.
    pub serin_exe: PathBuf,
    /// Services that serve from the start: the stable version and the traffic settings of these documents. A service that the state
    /// folder knows goes on with what it knows.
    pub services: Vec<Document>,
    /// Listening sockets that were opened for this process. A service whose address is none of theirs opens its own.
    pub sockets: Sockets,
    /// How much of the past is kept, per service.
    pub retention: Retention,
}

/// A running server. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where the services' folders are.
    folder: PathBuf,
    services: Mutex<BTreeMap<String, Handle>>,
    tools: Tools,
    /// Nothing is started any more.
    ending: AtomicBool,
    _lock: Lock,
}

impl Server {
    /// Takes the state folder, finds its services again and starts the new ones. Returns when each of them has a task; that they serve is
    /// seen in their status. Must be called within a runtime of several threads.
    ///
    /// # Errors
    /// If another process has the folder, or it cannot be used. A service that fails is reported in its status.
    pub async fn start(config: ServerConfig) -> Result<Self, StoreError> {
        let folder = StateFolder::create(&config.state)?;
        let lock = Lock::take(&folder)?;
        let services_dir = folder.path().join("services");
        fs::create_dir_all(&services_dir).map_err(|error| StoreError::io("cannot create", &services_dir, error))?;
        let process = u32::try_from(RandomState::new().hash_one(std::process::id()) >> 32).unwrap_or_default();
        let events = Arc::new(Events::new(process));
        let tools = Tools { serin_exe: config.serin_exe, events, sockets: config.sockets, retention: config.retention };
        let inner = Inner { folder: services_dir, services: Mutex::default(), tools, ending: AtomicBool::new(false), _lock: lock };
        let server = Self { inner: Arc::new(inner) };
        // Before the first replica of any of them gets a port.
        config.services.iter().for_each(|document| reserve(document.release.traffic.listen.port()));
        server.find_again(config.services)?;
        Ok(server)
    }

    /// Every service, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ServiceStatus> {
        self.lock().values().map(Handle::status).collect()
    }

    /// How a service is right now.
    ///
    /// # Errors
    /// If there is none of this name.
    pub async fn get(&self, service: &str) -> Result<ServiceStatus, Refused> {
        let handle = self.handle(service)?;
        // Asked freshly, because releases do not publish what nobody looks at.
        match self.ask(&handle, Ask::Status).await {
            Ok(mut status) => {
                handle.count_questions(&mut status);
                Ok(status)
            }
            Err(_) => Ok(handle.status()),
        }
    }

    /// Begins a release, creating the service if need be. Applying the same document again changes nothing.
    ///
    /// # Errors
    /// If the service is in a state that forbids it, or a check fails that can be made now.
    pub async fn apply(&self, document: Document, who: Who) -> Result<Applied, Refused> {
        let name = document.release.name.clone();
        let known = self.lock().get(&name).cloned();
        match known {
            Some(handle) => self.ask(&handle, |answer| Ask::Apply { document: Box::new(document), who, answer }).await?,
            None => {
                self.check_new(&document)?;
                let handle = self.create(&document)?;
                self.ask(&handle, |answer| Ask::Apply { document: Box::new(document), who, answer }).await?.map(|_| Applied::Created)
            }
        }
    }

    /// What would become of a document that was applied now, with the checks that were made for it. Nothing is changed.
    ///
    /// # Errors
    /// As for [`Server::apply`].
    pub async fn dry_run(&self, document: Document) -> Result<(Applied, Vec<Check>), Refused> {
        let known = self.lock().get(&document.release.name).cloned();
        match known {
            Some(handle) => self.ask(&handle, |answer| Ask::DryRun { document: Box::new(document), answer }).await?,
            None => {
                has_room(&self.lock())?;
                Ok((Applied::Created, self.check_new(&document)?))
            }
        }
    }

    /// Releases the document of the last release once more, after it was rolled back.
    ///
    /// # Errors
    /// If there is no such release, or the service is in a state that forbids it.
    pub async fn retry(&self, service: &str, who: Who) -> Result<Applied, Refused> {
        let handle = self.handle(service)?;
        self.ask(&handle, |answer| Ask::Retry { who, answer }).await?
    }

    /// Acts on the release of a service.
    ///
    /// # Errors
    /// If there is none, or its state forbids it.
    pub async fn act(&self, service: &str, action: Action, who: Who) -> Result<(), Refused> {
        let handle = self.handle(service)?;
        let command = Command { action, by: who.name, reason: who.reason };
        self.ask(&handle, |answer| Ask::Act { command, answer }).await?
    }

    /// Takes the traffic back to the version before: of a release under way, and of one that succeeded as long as the old version is kept.
    ///
    /// # Errors
    /// If there is nothing to go back to.
    pub async fn rollback(&self, service: &str, who: Who) -> Result<(), Refused> {
        let handle = self.handle(service)?;
        self.ask(&handle, |answer| Ask::Rollback { who, answer }).await?
    }

    /// Stops a service for good: no client is served any more. Its journals stay in the folder that the answer names.
    ///
    /// # Errors
    /// If a release is under way.
    pub async fn delete(&self, service: &str, who: Who) -> Result<PathBuf, Refused> {
        let handle = self.handle(service)?;
        let answered = self.ask(&handle, |answer| Ask::Delete { who, answer }).await;
        // Draining takes its time; its end is in the events. An answer that came too late may have been a yes.
        if !matches!(answered, Ok(Err(_))) {
            self.forget_when_gone(service.to_owned(), handle, None);
        }
        answered?
    }

    /// The newest runs of a service, newest first.
    ///
    /// # Errors
    /// If there is no such service, or its store cannot be read.
    pub fn runs(&self, service: &str, limit: u32) -> Result<Vec<ReleaseRow>, Refused> {
        Ok(self.reader(service)?.1.releases(limit)?)
    }

    /// A run with at most `most` entries of its journal after an entry; the newest run if no number is given.
    ///
    /// # Errors
    /// If there is no such service or run, or its store cannot be read.
    pub fn run(&self, service: &str, number: Option<i64>, after: u64, most: usize) -> Result<Run, Refused> {
        let (folder, reader) = self.reader(service)?;
        let missing = || Refused::Invalid(format!("{service} has no such run; `serin history {service}` lists them"));
        let row = match number {
            None => reader.releases(1)?.into_iter().next(),
            Some(number) => reader.release(ReleaseId(number))?,
        };
        let row = row.ok_or_else(missing)?;
        let journal = reader.entries_after(&folder, row.id, after, most)?;
        Ok(Run { row, journal })
    }

    /// What happens from here on, and what happened after an event that the reader saw last.
    #[must_use]
    pub fn events(&self, after: Option<EventId>) -> Subscription {
        self.inner.tools.events.subscribe(after)
    }

    /// Events that wait for the slowest of those who read them live, at most about a thousand.
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.inner.tools.events.waiting()
    }

    /// Ends the tasks of all services. Everything they started keeps running and serving, for the next server to take over.
    pub async fn detach(&self) {
        self.end(|answer| Ask::Detach { answer }).await;
    }

    /// Takes canaries' traffic back, lets requests end and stops everything. Releases under way go on with the next server.
    pub async fn stop(&self) {
        self.end(|answer| Ask::Stop { answer }).await;
    }

    async fn end(&self, ask: impl Fn(oneshot::Sender<()>) -> Ask) {
        self.inner.ending.store(true, Ordering::SeqCst);
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        let mut ends = Vec::new();
        for handle in handles {
            let (answer, answered) = oneshot::channel();
            if handle.asks.send(ask(answer)).await.is_ok() {
                ends.push(answered);
            }
        }
        for ended in ends {
            // A service that is gone has ended as well.
            let _ = ended.await;
        }
        self.lock().clear();
    }

    /// What the folder knows, then what is declared beside that.
    fn find_again(&self, mut declared: Vec<Document>) -> Result<(), StoreError> {
        let dir = &self.inner.folder;
        let entries = fs::read_dir(dir).map_err(|error| StoreError::io("cannot read", dir, error))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if Deleting::is_marked(&entry.path()) {
                // The server before did not get round to it. What is declared under the same name begins after that.
                let handle = service::find_again(&name, entry.path(), self.inner.tools.clone());
                let position = declared.iter().position(|document| document.release.name == name);
                self.lock().insert(name.clone(), handle.clone());
                self.forget_when_gone(name, handle, position.map(|position| declared.remove(position)));
            } else if StateFolder::existing(&entry.path()).is_some() {
                let handle = service::find_again(&name, entry.path(), self.inner.tools.clone());
                self.lock().insert(name, handle);
            } else if let Some(queued) = StateFolder::at(&entry.path()).ok().and_then(|folder| Queued::kept(&folder)) {
                // It was created, and the server died before there was more than that.
                let handle = service::create(entry.path(), queued.document, self.inner.tools.clone());
                self.lock().insert(name, handle);
            }
        }
        for document in declared {
            self.declare(document);
        }
        Ok(())
    }

    /// Waits in the background for the end of a service that is being deleted. `then`: what is declared to be in its place.
    fn forget_when_gone(&self, service: String, handle: Handle, then: Option<Document>) {
        let server = self.clone();
        tokio::spawn(async move {
            handle.gone().await;
            let mut services = server.lock();
            // Another one may have its name by now.
            if services.get(&service).is_some_and(|known| known.asks.same_channel(&handle.asks)) {
                services.remove(&service);
            }
            drop(services);
            // It also ends with the server.
            let is_free = !server.inner.ending.load(Ordering::SeqCst) && !Deleting::is_marked(&handle.folder);
            if let Some(document) = then.filter(|_| is_free) {
                server.declare(document);
            }
        });
    }

    fn declare(&self, document: Document) {
        let name = document.release.name.clone();
        let mut services = self.lock();
        services.entry(name.clone()).or_insert_with(|| service::create(self.service_dir(&name), document, self.inner.tools.clone()));
    }

    /// Checks of a document whose service is not known yet: nobody but a socket unit may have its address.
    fn check_new(&self, document: &Document) -> Result<Vec<Check>, Refused> {
        let held = self.is_held(document.release.traffic.listen);
        passed(preflight::static_checks(&document.release, &document.dir, &self.inner.folder, held))
    }

    fn create(&self, document: &Document) -> Result<Handle, Refused> {
        let mut services = self.lock();
        has_room(&services)?;
        let name = &document.release.name;
        let create = || service::create(self.service_dir(name), document.clone(), self.inner.tools.clone());
        Ok(services.entry(name.clone()).or_insert_with(create).clone())
    }

    /// Whether somebody else opened the socket for a new service, and no other service has it.
    fn is_held(&self, listen: SocketAddr) -> bool {
        let name = listen.to_string();
        self.inner.tools.sockets.at(listen).is_some() && !self.list().iter().any(|service| service.listen == name)
    }

    fn service_dir(&self, name: &str) -> PathBuf {
        self.inner.folder.join(name)
    }

    fn handle(&self, service: &str) -> Result<Handle, Refused> {
        let services = self.lock();
        services
            .get(service)
            .cloned()
            .ok_or_else(|| Refused::Unknown { name: service.to_owned(), known: services.keys().take(MOST_NAMED).cloned().collect() })
    }

    fn reader(&self, service: &str) -> Result<(StateFolder, Reader), Refused> {
        let handle = self.handle(service)?;
        let folder = StateFolder::existing(&handle.folder).ok_or_else(|| Refused::Conflict(format!("{service} was not released yet")))?;
        let reader = Reader::open(&folder)?;
        Ok((folder, reader))
    }

    async fn ask<T>(&self, handle: &Handle, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            handle.asks.send(ask(answer)).await.ok()?;
            answered.await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten().ok_or(Refused::NoAnswer)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Handle>> {
        self.inner.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(services: &BTreeMap<String, Handle>) -> Result<(), Refused> {
    if services.len() >= MOST_SERVICES {
        return Err(Refused::Conflict(format!("there are {MOST_SERVICES} services already; delete one that is not needed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::systemd::Listener;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_address_that_a_socket_unit_opened_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let opened = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = opened.local_addr().unwrap();
        let text = format!(
            "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop}}
spec:
  workload:
    processes:
      stable: {{command: [/bin/sleep, '1000']}}
      canary: {{command: [/bin/sleep, '1000']}}
  traffic: {{embedded: {{listen: '{listen}'}}}}
  strategy: {{canary: {{stages: [{{weight: 50, hold: 1s}}]}}}}
"
        );
        let document = Document::reread("/shop.yaml", text).unwrap();
        let start = |name: &str, sockets| {
            let retention = Retention { runs: 1, keep_ms: 1 };
            let (state, serin_exe) = (dir.path().join(name), PathBuf::from("/bin/false"));
            Server::start(ServerConfig { state, serin_exe, services: Vec::new(), sockets, retention })
        };
        let alone = start("alone", Sockets::default()).await.unwrap();
        let Err(Refused::Preflight(checks)) = alone.dry_run(document.clone()).await else { panic!("the address is taken") };
        assert!(checks.iter().any(|check| check.name == "listen address" && check.detail.contains("in use")), "{checks:?}");
        let sockets = Sockets::among(vec![("shop".to_owned(), Listener::Tcp(opened))]);
        let passed_on = start("passed-on", sockets).await.unwrap();
        assert_eq!(passed_on.dry_run(document).await.unwrap().0, Applied::Created);
        assert!(alone.list().is_empty() && passed_on.list().is_empty());
    }
}
