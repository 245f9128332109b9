//! A service that is being deleted: requests end, everything is stopped, and its folder goes where deleted ones are.
//!
//! Whoever asked is answered before that is done, so it is recorded first: a file in the service's folder says that it is deleted and where the
//! folder goes. A server that finds the file goes on with the deletion, whatever became of the one before; it never lets such a service serve.
//! Without room for the file nothing is deleted.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::{
    Refused, ServiceState, Who,
    leftovers::{self, Ending},
    service::{Answer, Ask, Condition, Service, empty, refuse},
    standing::{self, Standing},
};
use crate::{process::start_time_of, store::StoreError};

/// Between two attempts to move a folder that cannot be moved: to see that people repaired what keeps it.
const MOVE_AGAIN: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Deleting {
    /// What serves until it is stopped; `None`: whatever is found of an earlier server, or of a service that could not be opened.
    standing: Option<Box<Standing>>,
    /// The proxy, in case that another server has to go on.
    ending: Option<Ending>,
    /// Where the folder goes.
    grave: PathBuf,
}

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    grave: PathBuf,
    proxy: Option<Ending>,
}

impl Deleting {
    /// A deletion that an earlier server began; `None`: the service is not deleted.
    pub(super) fn found(folder: &Path) -> Option<Self> {
        let Mark { grave, proxy } = marked(folder)?;
        Some(Self { standing: None, ending: proxy, grave })
    }

    /// The same with what serves until it is stopped.
    pub(super) fn of(self, standing: Standing) -> Self {
        Self { standing: Some(Box::new(standing)), ..self }
    }

    /// Whether the service is deleted.
    pub(super) fn is_marked(folder: &Path) -> bool {
        marked(folder).is_some()
    }
}

impl Service {
    /// Records that the service is deleted, and answers; `None` if that cannot be recorded: what serves goes on then.
    pub(super) fn begin_deleting(&mut self, standing: Option<&Standing>, who: &Who, answer: Answer<PathBuf>) -> Option<Deleting> {
        let (grave, ending) = (grave(&self.path, &self.name), standing.and_then(ending));
        let mark = Mark { grave: grave.clone(), proxy: ending };
        if let Err(error) = tokio::task::block_in_place(|| record(&self.path, &mark)) {
            let _ = answer.send(Err(Refused::Store(error)));
            return None;
        }
        self.note(format!("deleted by {}; its journals are in {}", who.name, grave.display()));
        let _ = answer.send(Ok(grave.clone()));
        Some(Deleting { standing: None, ending, grave })
    }

    /// Goes on with a deletion until the folder is moved away.
    pub(super) async fn delete(&mut self, deleting: Deleting) -> Condition {
        let Deleting { standing, ending, grave } = deleting;
        let listen = self.status.borrow().listen.clone();
        self.status.send_replace(empty(&self.name, ServiceState::Deleting, listen));
        let (name, path) = (self.name.clone(), self.path.clone());
        let stopping = async move {
            match standing {
                Some(standing) => standing::stop(*standing).await,
                None => leftovers::stop(&name, &path, ending).await,
            }
        };
        tokio::pin!(stopping);
        // Whoever ends the server waits until it is done: that takes no longer than requests may take to end.
        let mut waiting = Vec::new();
        let mut asks_end = false;
        loop {
            tokio::select! {
                () = &mut stopping => break,
                ask = self.next_ask(), if !asks_end => match ask {
                    None => asks_end = true,
                    Some(Ask::Detach { answer } | Ask::Stop { answer }) => waiting.push(answer),
                    Some(other) => refuse(other, &self.status.borrow(), "the service is being deleted"),
                },
            }
        }
        while let Err(error) = tokio::task::block_in_place(|| bury(&self.path, &grave)) {
            let why = format!("deleted, but its folder cannot be moved to {} ({error}); move it there by hand", grave.display());
            if self.status.borrow().fault.as_ref() != Some(&why) {
                tracing::error!(service = self.name, "{why}");
                self.note(why.clone());
            }
            self.status.send_modify(|status| status.fault = Some(why.clone()));
            if !waiting.is_empty() || asks_end || !self.wait_to_move(&why).await {
                break;
            }
        }
        for answer in waiting {
            let _ = answer.send(());
        }
        Condition::Gone
    }

    /// Answers until it is time for another attempt; says whether there shall be one.
    async fn wait_to_move(&mut self, why: &str) -> bool {
        let again_at = Instant::now() + MOVE_AGAIN;
        loop {
            let ask = tokio::select! {
                () = sleep_until(again_at) => return true,
                ask = self.next_ask() => ask,
            };
            match ask {
                None => return false,
                Some(Ask::Detach { answer } | Ask::Stop { answer }) => {
                    let _ = answer.send(());
                    return false;
                }
                Some(other) => refuse(other, &self.status.borrow(), why),
            }
        }
    }
}

/// The proxy of a service that stands.
fn ending(standing: &Standing) -> Option<Ending> {
    let pid = standing.stood.keeper.link().borrow().as_ref()?.hello().pid;
    Some(Ending { pid, start_time: start_time_of(pid)?, drain_ms: standing.stood.world.drain_ms })
}

/// What the mark says, if there is one.
fn marked(folder: &Path) -> Option<Mark> {
    let text = match fs::read(mark_path(folder)) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return None,
        // It is there. That much is sure, and the rest can be made up.
        Err(_) => Vec::new(),
    };
    let mark: Option<Mark> = serde_json::from_slice(&text).ok();
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fresh = grave(folder, &name);
    // Its name alone: the state folder may have been moved since.
    let grave = match mark.as_ref().and_then(|mark| mark.grave.file_name()) {
        Some(kept) => fresh.with_file_name(kept),
        None => fresh,
    };
    Some(Mark { grave, proxy: mark.and_then(|mark| mark.proxy) })
}

/// Where the folder of a deleted service goes.
fn grave(folder: &Path, name: &str) -> PathBuf {
    let state = folder.parent().and_then(Path::parent);
    state.map_or_else(|| folder.to_owned(), |state| state.join("deleted").join(format!("{name}-{}", crate::process::now().0)))
}

/// Records that a service is deleted, so that it survives the machine.
fn record(folder: &Path, mark: &Mark) -> Result<(), StoreError> {
    let path = mark_path(folder);
    let fresh = path.with_extension("new");
    let write = || {
        // A service that was never opened may have no folder yet.
        fs::create_dir_all(folder)?;
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(mark)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        sync_dir(folder)
    };
    write().map_err(|error| {
        for path in [&fresh, &path] {
            let _ = fs::remove_file(path);
        }
        StoreError::io("nothing was deleted: that it is to be could not be recorded in", &path, error)
    })
}

/// Moves the folder away, and then its mark: whoever puts the folder back by hand wants the service back.
fn bury(folder: &Path, grave: &Path) -> io::Result<()> {
    if let Some(parent) = grave.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::rename(folder, grave) {
        // People were faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(()),
        moved => moved?,
    }
    // Not before the move is durable: a folder that came back after a power failure must still be known as deleted.
    let parents = [folder.parent(), grave.parent()];
    if parents.into_iter().flatten().all(|dir| sync_dir(dir).is_ok()) {
        let _ = fs::remove_file(mark_path(grave));
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn mark_path(folder: &Path) -> PathBuf {
    folder.join("deleted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> (tempfile::TempDir, PathBuf) {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("services/shop");
        fs::create_dir_all(&folder).unwrap();
        (state, folder)
    }

    #[test]
    fn a_mark_says_where_the_folder_goes_and_does_not_go_along() {
        let (state, folder) = service();
        assert!(marked(&folder).is_none());
        let grave = grave(&folder, "shop");
        let proxy = Some(Ending { pid: 7, start_time: 8, drain_ms: 9 });
        record(&folder, &Mark { grave: grave.clone(), proxy }).unwrap();
        let found = Deleting::found(&folder).unwrap();
        assert_eq!((&found.grave, found.ending), (&grave, proxy));
        bury(&folder, &grave).unwrap();
        assert!(!folder.exists() && grave.is_dir() && grave.starts_with(state.path().join("deleted")));
        assert!(!Deleting::is_marked(&grave), "put back by hand, it would be deleted again");
        bury(&folder, &grave).unwrap();
    }

    #[test]
    fn a_mark_counts_whatever_is_in_it() {
        let (state, folder) = service();
        let at = |grave: &str| serde_json::to_string(&Mark { grave: grave.into(), proxy: None }).unwrap();
        for text in [String::new(), "{".to_owned(), at(".."), at("/"), at("/elsewhere/deleted/shop-7")] {
            fs::write(mark_path(&folder), &text).unwrap();
            let grave = marked(&folder).unwrap().grave;
            assert_eq!(grave.parent(), Some(state.path().join("deleted").as_path()), "{text}");
            assert!(grave.file_name().unwrap().to_string_lossy().starts_with("shop-"), "{text}: {}", grave.display());
        }
    }

    #[test]
    fn what_cannot_be_recorded_is_not_deleted() {
        let (_state, folder) = service();
        // No room is simulated by something in the way.
        fs::create_dir_all(folder.join("deleted.new")).unwrap();
        let error = record(&folder, &Mark { grave: grave(&folder, "shop"), proxy: None }).unwrap_err().to_string();
        assert!(error.starts_with("nothing was deleted"), "{error}");
        assert!(!Deleting::is_marked(&folder));
    }
}
