//! What happened in a run: a fingerprint always, and words only when somebody will read them.

use crate::random::mix;

/// The lines that are shown of a failing run.
const SHOWN: usize = 40;

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Transcript {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Transcript {
    /// `in_words`: keep lines too.
    pub(crate) fn new(in_words: bool) -> Self {
        Self { hash: 0, lines: in_words.then(Vec::new) }
    }

    /// Takes in something that happened, by a number.
    pub(crate) fn mix(&mut self, word: u64) {
        self.hash = mix(self.hash ^ word).wrapping_add(0x1234_5677);
    }

    /// Takes in bytes.
    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    /// Takes in a line, at a time in milliseconds.
    pub(crate) fn line(&mut self, at_ms: u64, words: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, ms) = (at_ms / 1_000, at_ms % 1_000);
            lines.push(format!("{seconds:>8}.{ms:03}  {}", words()));
        }
    }

    /// The fingerprint of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines; those of the time before are counted.
    pub(crate) fn tail(&self) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        let left_out = lines.len().saturating_sub(SHOWN);
        let mut shown = Vec::new();
        if left_out > 0 {
            shown.push(format!("              … {left_out} lines before"));
        }
        shown.extend_from_slice(&lines[left_out..]);
        shown
    }
}
