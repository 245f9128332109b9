//! A block of lines at the bottom of a terminal that is redrawn in place, with ordinary lines scrolling above it.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar as _;

/// The block on stderr. Nothing is drawn where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
    drawn: usize,
}

impl Screen {
    /// A screen that draws if it can.
    pub(crate) fn new() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        Self { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none(), drawn: 0 }
    }

    /// Whether a block can be drawn.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether colours help.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Columns of the terminal.
    pub(crate) fn width(&self) -> usize {
        tcgetwinsize(io::stderr()).map_or(100, |size| usize::from(size.ws_col)).clamp(40, 240)
    }

    /// Replaces the block.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        if !self.terminal {
            return;
        }
        let width = self.width();
        let mut text = self.erasing();
        for line in lines {
            text.push_str(&cut(line, width));
            text.push('\n');
        }
        self.drawn = lines.len();
        write(&text);
    }

    /// Writes a line above the block.
    pub(crate) fn scroll(&mut self, line: &str) {
        let text = format!("{}{line}\n", self.erasing());
        self.drawn = 0;
        write(&text);
    }

    /// Takes the block away.
    pub(crate) fn clear(&mut self) {
        let text = self.erasing();
        self.drawn = 0;
        write(&text);
    }

    fn erasing(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) }
    }
}

fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    // There is nowhere to complain if the terminal has gone.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Cuts a line to a width in columns. Escape sequences of colours take none and are kept whole.
fn cut(line: &str, width: usize) -> String {
    let (mut out, mut used, mut in_escape) = (String::with_capacity(line.len()), 0, false);
    for c in line.chars() {
        if in_escape || c == '\x1b' {
            in_escape = c != 'm';
            out.push(c);
            continue;
        }
        let columns = c.width().unwrap_or(0);
        if used + columns > width {
            continue;
        }
        used += columns;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_columns_and_keep_their_colours_whole() {
        assert_eq!(cut("abcdef", 4), "abcd");
        assert_eq!(cut("\x1b[31mabcdef\x1b[0m", 4), "\x1b[31mabcd\x1b[0m");
        assert_eq!(cut("日本語", 4), "日本");
    }
}
