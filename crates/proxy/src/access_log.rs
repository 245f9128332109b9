//! The access log: a JSON line per request, written by a thread of its own so that a slow disk never slows a request.
//!
//! The queue is bounded. Lines that do not fit are dropped and counted, and the log says how many, before the next line
//! that does fit. A full file becomes `<path>.1`. Queries, cookies and authorization are never written.
//!
//! Thread and queue are made when a table first asks for a log: most proxies have none, and each would pay for it.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
};

use serde::Serialize;
use serin_core::traffic::{Arm, Assignment, Outcome};

use crate::{lock, table::AccessLog};

/// Most lines waiting for the disk.
const QUEUE: usize = 8192;

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// When it ended, RFC 3339.
    pub(crate) time: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// What the client saw; 0 if it went away before there was an answer.
    pub(crate) status: u16,
    /// `None`: it was not assigned to an arm.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) arm: Option<Arm>,
    pub(crate) assignment: Option<Assignment>,
    pub(crate) weight_bps: u16,
    pub(crate) table_version: u64,
    pub(crate) duration_us: u64,
    /// Bytes of the answer's body handed to the client's connection.
    pub(crate) bytes: u64,
}

enum Message {
    Line(Box<Line>),
    Stop,
}

/// The data path's end of the log.
#[derive(Debug, Default)]
pub(crate) struct LogWriter {
    queue: OnceLock<SyncSender<Message>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    enabled: AtomicBool,
    config: Arc<Mutex<Option<AccessLog>>>,
    dropped: Arc<AtomicU64>,
}

impl LogWriter {
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// Where lines go from now on. Without a thread for it there is no log, until the next table asks for one.
    pub(crate) fn configure(&self, log: Option<AccessLog>) {
        let wanted = log.is_some();
        *lock(&self.config) = log;
        let started = if wanted { self.start() } else { Ok(()) };
        if let Err(error) = &started {
            tracing::error!(%error, "no access log: its thread cannot be started");
        }
        self.enabled.store(wanted && started.is_ok(), Relaxed);
    }

    /// Queues a line; never waits.
    pub(crate) fn write(&self, line: Line) {
        if self.is_enabled() && self.queue.get().is_none_or(|queue| queue.try_send(Message::Line(Box::new(line))).is_err()) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Writes what is queued and ends the thread. False if that had died: a bug.
    pub(crate) fn stop(&self) -> bool {
        if let Some(queue) = self.queue.get() {
            // A thread that is gone already has nothing left to write.
            let _ = queue.send(Message::Stop);
        }
        lock(&self.thread).take().is_none_or(|thread| thread.join().is_ok())
    }

    fn start(&self) -> std::io::Result<()> {
        let mut thread = lock(&self.thread);
        if self.queue.get().is_some() {
            return Ok(());
        }
        let (queue, lines) = sync_channel(QUEUE);
        let (config, dropped) = (self.config.clone(), self.dropped.clone());
        let builder = std::thread::Builder::new().name("serin-access-log".to_owned());
        *thread = Some(builder.spawn(move || write_lines(&lines, &config, &dropped))?);
        self.queue.get_or_init(|| queue);
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Message>, config: &Mutex<Option<AccessLog>>, dropped: &AtomicU64) {
    let mut log: Option<LogFile> = None;
    loop {
        let message = match lines.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                if let Some(log) = &mut log {
                    log.flush(dropped);
                }
                match lines.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        let Message::Line(line) = message else {
            if let Some(log) = &mut log {
                log.flush(dropped);
            }
            return;
        };
        let Some(wanted) = lock(config).clone() else {
            log = None;
            continue;
        };
        if log.as_ref().is_none_or(|log| log.config != wanted) {
            if let Some(log) = &mut log {
                log.flush(dropped);
            }
            log = Some(LogFile { config: wanted, file: None, bytes: 0, complained: false });
        }
        if let Some(log) = &mut log {
            log.write(&line, dropped);
        }
    }
}

struct LogFile {
    config: AccessLog,
    file: Option<BufWriter<File>>,
    bytes: u64,
    complained: bool,
}

impl LogFile {
    fn write(&mut self, line: &Line, dropped: &AtomicU64) {
        let lost = dropped.swap(0, Relaxed);
        let written = (|| {
            if lost > 0 {
                self.append(&format!("{{\"dropped\":{lost}}}"))?;
            }
            self.append(&serde_json::to_string(line)?)
        })();
        self.note(written, lost + 1, dropped);
    }

    fn flush(&mut self, dropped: &AtomicU64) {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        self.note(flushed, 0, dropped);
    }

    /// Says once per stretch of failures that lines are being lost; they are counted and the next line retries.
    fn note(&mut self, result: std::io::Result<()>, lines: u64, dropped: &AtomicU64) {
        match result {
            Ok(()) => self.complained = false,
            Err(error) => {
                dropped.fetch_add(lines, Relaxed);
                self.file = None;
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(path = %self.config.path.display(), %error, "access log lines are lost until the file can be written");
                }
            }
        }
    }

    fn append(&mut self, line: &str) -> std::io::Result<()> {
        let size = line.len() as u64 + 1;
        if self.file.is_some() && self.bytes + size > self.config.max_bytes {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.open()?;
            if self.bytes > 0 && self.bytes + size > self.config.max_bytes {
                self.rotate()?;
                self.open()?;
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        self.bytes += size;
        Ok(())
    }

    fn open(&mut self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.config.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(BufWriter::new(file));
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.flush()?;
        }
        let mut old = self.config.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.config.path, PathBuf::from(old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line {
        Line {
            time: "2026-01-01T00:00:00.000Z".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            status: 200,
            outcome: Some(Outcome::Success),
            arm: Some(Arm::Canary),
            assignment: Some(Assignment::Random),
            weight_bps: 500,
            table_version: 3,
            duration_us: 1200,
            bytes: 5,
        }
    }

    #[test]
    fn lines_are_json_whatever_they_hold_and_a_full_file_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let writer = LogWriter::default();
        writer.write(line("/before it was switched on"));
        writer.configure(Some(AccessLog { path: path.clone(), max_bytes: 4096 }));
        for n in 0..30 {
            writer.write(line(&format!("/{n}/\"\n\u{1b}[31m\u{202e}é")));
        }
        assert!(writer.stop());
        let (old, new) = (std::fs::read_to_string(dir.path().join("access.log.1")).unwrap(), std::fs::read_to_string(&path).unwrap());
        assert!(old.len() <= 4096 && new.len() <= 4096);
        let lines: Vec<serde_json::Value> = old.lines().chain(new.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 30);
        assert_eq!(lines[29]["path"], "/29/\"\n\u{1b}[31m\u{202e}é");
        assert_eq!((&lines[0]["arm"], &lines[0]["outcome"]), (&"canary".into(), &"success".into()));
    }

    #[test]
    fn lost_lines_are_confessed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not-there").join("access.log");
        let dropped = AtomicU64::new(0);
        let config = AccessLog { path: path.clone(), max_bytes: 4096 };
        let mut log = LogFile { config, file: None, bytes: 0, complained: false };
        log.write(&line("/a"), &dropped);
        log.write(&line("/b"), &dropped);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        log.write(&line("/c"), &dropped);
        log.flush(&dropped);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("{\"dropped\":2}\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
