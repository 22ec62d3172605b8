//! Reads the little grammar that selectors and scraped text share: names, and strings in quotes.

/// What is wrong and where (in characters from the beginning of the text, from 1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) text: String,
}

/// A place in a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, place: 0 }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.place..]
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Goes past `wanted` if it stands here.
    pub(super) fn accept(&mut self, wanted: char) -> bool {
        self.accept_text(wanted.encode_utf8(&mut [0; 4]))
    }

    /// Goes past `wanted` if it stands here.
    pub(super) fn accept_text(&mut self, wanted: &str) -> bool {
        let there = self.rest().starts_with(wanted);
        if there {
            self.place += wanted.len();
        }
        there
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.place += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// The characters up to the next white space, which may be none.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find([' ', '\t']).unwrap_or(rest.len())];
        self.place += word.len();
        word
    }

    /// A metric's name, if one begins here.
    pub(super) fn metric_name(&mut self) -> Option<String> {
        self.name(|c| c == ':')
    }

    /// A label's name.
    pub(super) fn label_name(&mut self) -> Result<String, Problem> {
        self.name(|_| false).ok_or_else(|| self.problem("expected a label's name"))
    }

    fn name(&mut self, extra: impl Fn(char) -> bool) -> Option<String> {
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || extra(c);
        let rest = self.rest();
        if !rest.starts_with(begins) {
            return None;
        }
        let end = rest.find(|c: char| !begins(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
        self.place += end;
        Some(rest[..end].to_string())
    }

    /// A string in single or double quotes, its escapes resolved as in PromQL.
    pub(super) fn quoted(&mut self) -> Result<String, Problem> {
        self.string(Self::escape)
    }

    /// A string in quotes as in scraped text, where a backslash before an unknown character is only a backslash.
    /// Prometheus reads it like that; a path of Windows in a label must not make a service look broken.
    pub(super) fn label_value(&mut self) -> Result<String, Problem> {
        self.string(|scanner, value| match scanner.peek() {
            Some('\\' | '"' | 'n') => scanner.escape(value),
            Some(_) | None => {
                value.push('\\');
                Ok(())
            }
        })
    }

    fn string(
        &mut self,
        escape: impl Fn(&mut Self, &mut String) -> Result<(), Problem>,
    ) -> Result<String, Problem> {
        let Some(quote @ ('"' | '\'')) = self.peek() else {
            return Err(self.problem("expected a value in quotes"));
        };
        self.accept(quote);
        let mut value = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.problem("a quote is not closed"));
            };
            self.accept(c);
            match c {
                c if c == quote => return Ok(value),
                '\\' => escape(self, &mut value)?,
                '\n' => return Err(self.problem("a quote is not closed before the line ends")),
                c => value.push(c),
            }
        }
    }

    /// Appends what a backslash and the character here stand for.
    fn escape(&mut self, value: &mut String) -> Result<(), Problem> {
        let c = self.peek().ok_or_else(|| self.problem("a quote is not closed"))?;
        self.accept(c);
        value.push(match c {
            '\\' | '"' | '\'' => c,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            c => {
                let words = format!("\\{c} is not a known escape; a backslash is written as \\\\");
                return Err(self.problem(&words));
            }
        });
        Ok(())
    }

    fn code(&mut self, digits: usize) -> Result<char, Problem> {
        let bad = self.problem(&format!("expected an escape with {digits} hexadecimal digits"));
        let text = self.rest().get(..digits).ok_or(bad.clone())?;
        let code =
            u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+')).ok_or(bad.clone())?;
        // Above 7f, \x means a byte and not a character, which a value here cannot hold.
        if digits == 2 && code > 0x7f {
            return Err(bad);
        }
        self.place += digits;
        char::from_u32(code).ok_or(bad)
    }

    /// A problem at this place.
    pub(super) fn problem(&self, text: &str) -> Problem {
        let place = self.text[..self.place].chars().count() + 1;
        Problem { text: format!("{text} (at character {place})") }
    }
}
