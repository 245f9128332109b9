//! Log files of replicas: kept small while a process writes to them, and read when it has died.
//!
//! Processes append to the file themselves, so rotation cannot swap it under them: it copies the file and empties it. The file is
//! looked at once a second, with two consequences. Lines written between the end of the copy and the emptying (well
//! below a millisecond) are lost. And a file may grow past its limit by what is written in a second; a rotated file keeps
//! the last two limits' worth of that. So a replica takes at most `(2 × keep + 1) × max_bytes` plus a second of output.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use super::LogFile;

/// Lines and characters per line that are kept of a dead process' output.
const TAIL_LINES: usize = 10;
const TAIL_CHARS: usize = 200;
/// How far back the last lines are looked for, in bytes.
const TAIL_BYTES: u64 = 16 * 1024;

impl LogFile {
    /// Opens the file for a process to append to. Returns it with its present length.
    pub(super) fn open(&self) -> io::Result<(File, u64)> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Rotates the file if it is over its limit. Returns whether it was.
    ///
    /// # Errors
    /// If it could not be copied. It was emptied all the same: a full disk would hurt more than a gap in a log.
    pub(super) fn rotate_if_full(&self) -> io::Result<bool> {
        let length = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if length <= self.max_bytes {
            return Ok(false);
        }
        let current = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let copied = if self.keep == 0 { Ok(()) } else { self.keep_copy(&current, length) };
        current.set_len(0)?;
        copied.map(|()| true)
    }

    /// The last lines, from byte `since` on, or with those of the file before if it was `rotated` since then.
    pub(super) fn tail(&self, since: u64, rotated: bool) -> Vec<String> {
        let mut lines = last_lines(&self.path, if rotated { 0 } else { since });
        if rotated && lines.len() < TAIL_LINES {
            let mut before = last_lines(&self.rotated(1), 0);
            before.append(&mut lines);
            lines = before;
        }
        lines.drain(..lines.len().saturating_sub(TAIL_LINES));
        lines
    }

    fn keep_copy(&self, mut current: &File, length: u64) -> io::Result<()> {
        for number in (1..self.keep).rev() {
            match fs::rename(self.rotated(number), self.rotated(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let most = self.max_bytes.saturating_mul(2);
        current.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        io::copy(&mut current.take(most), &mut File::create(self.rotated(1))?).map(|_| ())
    }

    /// `canary-1.log.2`: a higher number is older.
    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// The last lines of a file from byte `since` on. A file that cannot be read has none: this is evidence, not control flow.
fn last_lines(path: &std::path::Path, since: u64) -> Vec<String> {
    let read = || -> io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let since = if since > length { 0 } else { since };
        let from = length.saturating_sub(TAIL_BYTES).max(since);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok((bytes, from > since))
    };
    let Ok((bytes, cut)) = read() else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    // Cut in the middle, the first line is only the end of one; but an only line is better than none.
    let first = usize::from(cut && lines.len() > 1).max(lines.len().saturating_sub(TAIL_LINES));
    lines.iter().skip(first).map(|line| printable(line)).collect()
}

/// A line that is safe to print: no terminal control, no reordering of text, not too long.
fn printable(line: &str) -> String {
    let mut shown = String::new();
    let mut used = 0;
    for character in line.chars() {
        let reorders = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let piece = match character {
            '\t' => " ".to_owned(),
            _ if character.is_control() || reorders => character.escape_default().to_string(),
            _ => character.to_string(),
        };
        used += piece.chars().count();
        if used >= TAIL_CHARS {
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log(dir: &tempfile::TempDir, max_bytes: u64, keep: u32) -> LogFile {
        LogFile { path: dir.path().join("logs/canary-1.log"), max_bytes, keep }
    }

    #[test]
    fn a_full_file_moves_on_and_the_writer_keeps_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 100, 2);
        assert!(!log.rotate_if_full().unwrap(), "there is no file yet");
        let (mut writer, _) = log.open().unwrap();
        for round in 0..4u8 {
            writer.write_all(&[b'a' + round; 99]).unwrap();
            assert!(!log.rotate_if_full().unwrap(), "not full yet");
            writer.write_all(b"!\n").unwrap();
            assert!(log.rotate_if_full().unwrap());
            assert_eq!(fs::metadata(&log.path).unwrap().len(), 0);
        }
        assert!(fs::read_to_string(log.rotated(1)).unwrap().starts_with('d'));
        assert!(fs::read_to_string(log.rotated(2)).unwrap().starts_with('c'));
        assert!(!log.rotated(3).exists(), "only two are kept");
    }

    #[test]
    fn what_a_fast_writer_adds_is_bounded_too() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 100, 1);
        let (mut writer, _) = log.open().unwrap();
        writer.write_all(&[b'x'; 5_000]).unwrap();
        writer.write_all(b"end").unwrap();
        assert!(log.rotate_if_full().unwrap());
        let kept = fs::read_to_string(log.rotated(1)).unwrap();
        assert!(kept.len() == 200 && kept.ends_with("end"), "{kept}");
    }

    #[test]
    fn nothing_is_kept_if_so_asked_and_a_failed_copy_empties_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let none = log(&dir, 10, 0);
        none.open().unwrap().0.write_all(&[b'x'; 50]).unwrap();
        assert!(none.rotate_if_full().unwrap());
        assert!(!none.rotated(1).exists());

        let blocked = log(&dir, 10, 1);
        fs::create_dir(blocked.rotated(1)).unwrap();
        blocked.open().unwrap().0.write_all(&[b'x'; 50]).unwrap();
        assert!(blocked.rotate_if_full().is_err());
        assert_eq!(fs::metadata(&blocked.path).unwrap().len(), 0);
    }

    #[test]
    fn the_tail_is_of_this_start_and_safe_to_print() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 100_000, 1);
        log.open().unwrap().0.write_all(b"of an earlier start\n").unwrap();
        let (mut writer, since) = log.open().unwrap();
        assert_eq!(log.tail(since, false), Vec::<String>::new());
        writer.write_all("one\n\u{1b}[31mred\u{202e}\tx\r\n".as_bytes()).unwrap();
        assert_eq!(log.tail(since, false), ["one", r"\u{1b}[31mred\u{202e} x"]);

        for number in 0..3_000 {
            writeln!(writer, "line {number}").unwrap();
        }
        let tail = log.tail(since, false);
        assert_eq!((tail.len(), tail[0].as_str(), tail[9].as_str()), (10, "line 2990", "line 2999"));
        writer.write_all(&[b'y'; 40_000]).unwrap();
        assert_eq!(log.tail(since, false), [format!("{}…", "y".repeat(199))]);
    }

    #[test]
    fn the_tail_reaches_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 10, 1);
        let (mut writer, since) = log.open().unwrap();
        writer.write_all(b"before the rotation\n").unwrap();
        assert!(log.rotate_if_full().unwrap());
        writer.write_all(b"after\n").unwrap();
        assert_eq!(log.tail(since, true), ["before the rotation", "after"]);
    }
}
