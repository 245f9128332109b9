//! Rust source with comments and the contents of literals blanked out, so that a rule sees code and nothing else.
//!
//! Lines and columns stay as they were (one space for each character). Good enough for rules, not a compiler: source that does
//! not compile may be masked oddly.

/// The source with blanks for comments and for what is inside of strings and characters; the quotes stay.
pub(super) fn mask(source: &str) -> String {
    let mut masker = Masker { chars: source.chars().collect(), at: 0, out: String::with_capacity(source.len()) };
    masker.run();
    masker.out
}

struct Masker {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Masker {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('/')) => self.blank_while(|m| m.peek(0) != Some('\n')),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', _) if !self.follows_word() => self.raw_string_or_word(),
                ('\'', _) => self.character_or_lifetime(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        self.out.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        self.out.extend(self.peek(0).map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.at += 1;
    }

    fn blank_while(&mut self, goes_on: impl Fn(&Self) -> bool) {
        while self.at < self.chars.len() && goes_on(self) {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep();
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.keep(),
                '\\' => {
                    self.blank();
                    self.blank();
                }
                _ => self.blank(),
            }
        }
    }

    /// Whether the character before is part of a word, so that an `r` here begins nothing. The prefixes `b` and `c` are no words.
    fn follows_word(&self) -> bool {
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        let before = |n: usize| self.at.checked_sub(n).and_then(|at| self.chars.get(at));
        match before(1) {
            Some('b' | 'c') => before(2).is_some_and(is_word),
            other => other.is_some_and(is_word),
        }
    }

    fn raw_string_or_word(&mut self) {
        let hashes = self.chars.iter().skip(self.at + 1).take_while(|c| **c == '#').count();
        if self.peek(1 + hashes) != Some('"') {
            return self.keep();
        }
        for _ in 0..hashes + 2 {
            self.keep();
        }
        self.blank_while(|m| !(m.peek(0) == Some('"') && (1..=hashes).all(|n| m.peek(n) == Some('#'))));
        for _ in 0..=hashes {
            self.keep();
        }
    }

    fn character_or_lifetime(&mut self) {
        match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                self.keep();
                self.blank();
                self.blank();
                self.blank_while(|m| m.peek(0) != Some('\''));
                self.keep();
            }
            (Some(_), Some('\'')) => {
                self.keep();
                self.blank();
                self.keep();
            }
            _ => self.keep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", 1)"#, r#"f("    ", 1)"#),
            (r##"f(r#"x"y"#, 1)"##, r##"f(r#"   "#, 1)"##),
            (r#"f(br"x\", 1)"#, r#"f(br"  ", 1)"#),
            (r"f('\'', '\u{1F600}', 'x')", r"f('  ', '         ', ' ')"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for r in bar {}", "for r in bar {}"),
            ("r#type", "r#type"),
            ("\"a\nb\" c", "\" \n \" c"),
            ("'\"' x", "' ' x"),
            ("\"open", "\"    "),
            ("/* open", "       "),
            ("'\\", "'  "),
        ];
        for (source, masked) in cases {
            assert_eq!(mask(source).trim_end(), masked.trim_end(), "{source}");
        }
    }
}
