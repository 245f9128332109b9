//! A pseudo terminal: what a command writes there, as bytes and as what a person would see.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::wait;

/// A command whose standard output and error are a terminal. Dropping it kills the command.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    columns: u16,
}

impl Terminal {
    /// Starts a command on a terminal with this many columns.
    ///
    /// # Panics
    /// If there is no pseudo terminal or the command cannot be started.
    #[must_use]
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap();
        command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        // Holds the other ends of the terminal; they must go for its end to be seen.
        drop(command);
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (to, mut from) = (Arc::clone(&bytes), File::from(master));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The system reports the end of the other side as an error.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, bytes, reader: Some(reader), columns }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// What a person sees now, with what has scrolled away.
    #[must_use]
    pub fn seen(&self) -> Seen {
        see(&self.text(), usize::from(self.columns))
    }

    /// Waits for text on the screen.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_for(&self, part: &str) {
        wait::until_or(
            part,
            wait::PATIENCE,
            || self.seen().lines.iter().any(|line| line.contains(part)).then_some(()),
            || self.text().replace('\x1b', "␛"),
        );
    }

    /// Waits for the command's end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn end(mut self) -> (ExitStatus, String, Seen) {
        let status = wait::until("the end of the command", || self.child.try_wait().unwrap());
        // The last bytes may still be on their way.
        let reader = self.reader.take().unwrap();
        wait::until("the end of the terminal", || reader.is_finished().then_some(()));
        (status, self.text(), self.seen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The screen with everything above it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// From the top; trailing spaces are cut.
    pub lines: Vec<String>,
    /// Escape sequences and control characters that a block which is redrawn in place has no need of.
    pub strange: Vec<String>,
    /// How often the cursor was moved up.
    pub moves_up: usize,
    /// Distinct colours and styles that were set.
    pub styles: Vec<String>,
}

/// Interprets what was written: lines, wrapping, moves up, erasing to the end, styles.
#[must_use]
pub fn see(text: &str, columns: usize) -> Seen {
    let (mut seen, mut rows, mut row, mut column) = (Seen::default(), vec![Vec::new()], 0_usize, 0_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                let sequence: String = sequence(&mut characters);
                let number = sequence.trim_start_matches('[').trim_end_matches(char::is_alphabetic).parse().unwrap_or(1);
                match sequence.chars().last() {
                    Some('A') => {
                        row = row.saturating_sub(number);
                        seen.moves_up += 1;
                    }
                    Some('J') if sequence == "[J" => {
                        rows.truncate(row + 1);
                        rows[row].truncate(column);
                    }
                    Some('K') if sequence == "[K" => rows[row].truncate(column),
                    Some('m') if seen.styles.contains(&sequence) => {}
                    Some('m') => seen.styles.push(sequence),
                    _ => seen.strange.push(format!("ESC {sequence}")),
                }
            }
            control if control.is_control() => seen.strange.push(control.escape_default().to_string()),
            character => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                if rows.len() <= row {
                    rows.resize(row + 1, Vec::new());
                }
                if rows[row].len() <= column {
                    rows[row].resize(column + 1, ' ');
                }
                rows[row][column] = character;
                column += 1;
            }
        }
        if rows.len() <= row {
            rows.resize(row + 1, Vec::new());
        }
    }
    seen.lines = rows.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect();
    seen
}

/// What belongs to an escape sequence after its first character.
fn sequence(characters: &mut std::str::Chars<'_>) -> String {
    let mut sequence = String::new();
    for character in characters.by_ref() {
        sequence.push(character);
        if character != '[' && !character.is_ascii_digit() && character != ';' && character != '?' {
            break;
        }
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_redrawn_in_place_and_a_line_that_wraps_spoils_it() {
        let good = see("one\r\ntwo\r\n\x1b[2A\x1b[Jnew\r\n", 10);
        assert_eq!((good.lines, good.moves_up, good.strange), (vec!["new".to_owned(), String::new()], 1, vec![]));
        let wrapped = see("123456789012\r\n\x1b[1A\x1b[Jnew\r\n", 10);
        assert_eq!(wrapped.lines, ["1234567890", "new", ""]);
        assert_eq!(see("a\x07\x1b[2Jb\x1b[31mc", 10).strange, ["\\u{7}", "ESC [2J"]);
    }
}
