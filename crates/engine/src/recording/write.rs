//! Samples to the file, in a task of their own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::Sample;

/// Samples in a file before neighbours are put together: a day and more at one a second.
pub const MOST_SAMPLES: usize = 100_000;
/// Samples that wait for the disk.
const QUEUE: usize = 120;

/// Where samples are handed in. When it is dropped everything is still written, as long as the runtime lives.
#[derive(Debug)]
pub struct Recorder {
    /// `None` once it is finished.
    samples: Option<mpsc::Sender<Sample>>,
    left_out: Arc<AtomicU64>,
    writing: JoinHandle<()>,
}

impl Recorder {
    /// Goes on with a file, or begins one. Must be called within a Tokio runtime.
    #[must_use]
    pub fn start(path: PathBuf) -> Self {
        Self::bounded(path, MOST_SAMPLES)
    }

    fn bounded(path: PathBuf, most: usize) -> Self {
        let (samples, mut queue) = mpsc::channel::<Sample>(QUEUE);
        let left_out = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&left_out);
        let writing = tokio::spawn(async move {
            let mut book = Book { path, most, file: None, lines: 0 };
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, QUEUE).await > 0 {
                let given = std::mem::take(&mut batch);
                let count = given.len() as u64;
                let written = tokio::task::spawn_blocking(move || {
                    let result = book.append(&given);
                    (book, result)
                });
                let Ok((same, result)) = written.await else { return };
                book = same;
                if let Err(error) = result {
                    lost.fetch_add(count, Ordering::Relaxed);
                    book.file = None;
                    tracing::warn!(file = %book.path.display(), %error, "what was seen of the release could not be recorded");
                }
            }
        });
        Self { samples: Some(samples), left_out, writing }
    }

    /// Hands in a sample. Never waits: one that finds no room is left out.
    pub fn take(&self, sample: Sample) {
        if self.samples.as_ref().is_none_or(|samples| samples.try_send(sample).is_err()) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for what was handed in to be written, two seconds at most. Nothing is taken after that.
    pub async fn finish(&mut self) {
        self.samples = None;
        let _ = timeout(Duration::from_secs(2), &mut self.writing).await;
    }

    /// Samples that could not be kept since this was started.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// The file being written.
struct Book {
    path: PathBuf,
    most: usize,
    file: Option<File>,
    lines: usize,
}

impl Book {
    fn append(&mut self, samples: &[Sample]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                self.lines = mended(&self.path)?;
                open(&self.path)?
            }
        };
        let mut text = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut text, sample)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        self.lines += samples.len();
        if self.lines > self.most {
            self.lines = thin(&self.path)?;
            file = open(&self.path)?;
        }
        self.file = Some(file);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Counts the lines of a file that may not be there, and ends a last one that a crash cut off.
fn mended(path: &Path) -> io::Result<usize> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let (mut lines, mut is_whole, mut reader) = (0, true, BufReader::new(file));
    loop {
        let taken = {
            let text = reader.fill_buf()?;
            if text.is_empty() {
                break;
            }
            lines += text.iter().filter(|byte| **byte == b'\n').count();
            is_whole = text.ends_with(b"\n");
            text.len()
        };
        reader.consume(taken);
    }
    if !is_whole {
        open(path)?.write_all(b"\n")?;
        lines += 1;
    }
    Ok(lines)
}

/// Puts neighbours together. Whoever reads has the old file or the new one.
fn thin(path: &Path) -> io::Result<usize> {
    let fresh = path.with_extension("thinned");
    let mut out = BufWriter::new(OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?);
    let (mut lines, mut pending) = (0, None::<Sample>);
    let mut write = |sample: &Sample| {
        lines += 1;
        serde_json::to_writer(&mut out, sample)?;
        out.write_all(b"\n")
    };
    for sample in super::read::samples(path)? {
        pending = match pending {
            None => Some(sample),
            Some(mut first) => {
                first.extend(sample);
                write(&first)?;
                None
            }
        };
    }
    if let Some(last) = pending {
        write(&last)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(&fresh, path)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{read, sample::tests::second},
        *,
    };

    async fn written(mut recorder: Recorder) {
        recorder.finish().await;
        assert_eq!(recorder.left_out(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_recording_goes_on_after_a_crash_in_the_middle_of_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recordings/1.jsonl");
        let recorder = Recorder::start(path.clone());
        recorder.take(second(1_000, [5, 5], 0));
        written(recorder).await;
        open(&path).unwrap().write_all(b"{\"at\":2000,\"span_").unwrap();
        let recorder = Recorder::start(path.clone());
        recorder.take(second(3_000, [5, 5], 0));
        written(recorder).await;
        let at: Vec<_> = read::samples(&path).unwrap().map(|sample| sample.at.0).collect();
        assert_eq!(at, [1_000, 3_000]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_long_recording_gets_coarser_and_not_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.jsonl");
        for number in 1..=30_u64 {
            let recorder = Recorder::bounded(path.clone(), 10);
            recorder.take(second(number * 1_000, [9, 1], 1));
            written(recorder).await;
        }
        let all: Vec<_> = read::samples(&path).unwrap().collect();
        assert!(all.len() <= 10, "{}", all.len());
        assert_eq!(all.iter().map(|sample| sample.span_ms).sum::<u64>(), 30_000);
        assert_eq!(
            all.iter()
                .map(|sample| (sample.arms[0].requests, sample.arms[1].errors))
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
            (270, 30)
        );
    }

    #[tokio::test]
    async fn a_disk_that_refuses_costs_samples_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file").join("1.jsonl");
        fs::write(folder.path().join("file"), "").unwrap();
        let recorder = Recorder::start(path);
        recorder.take(second(1_000, [5, 5], 0));
        let begun = std::time::Instant::now();
        while recorder.left_out() == 0 {
            assert!(begun.elapsed().as_secs() < 60, "never noticed");
            tokio::task::yield_now().await;
        }
    }
}
