//! SQL as text, read just far enough to be careful with it.
//!
//! A down migration runs in one transaction together with our own record of it. That only holds if nothing in its text
//! ends the transaction, and a step may only be called harmless if nothing in its text destroys data. So the text is cut
//! into statements and words here, strings, quoted names and comments left out. Nothing else is understood of it, and
//! what cannot be seen into (`DO` blocks) counts as the worst.

use std::collections::BTreeSet;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, without the semicolon.
    pub text: String,
    /// Its words in capitals, without strings, quoted names and comments.
    pub words: Vec<String>,
    /// The highest `$1`, `$2` …
    pub parameters: usize,
    /// Names inside of `${…}`, with their places (bytes from the beginning of `text`, `${` and `}` included).
    pub identifiers: Vec<(std::ops::Range<usize>, String)>,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the SQL text ends inside of {inside}")]
pub struct BadSql {
    inside: &'static str,
}

impl Statement {
    fn first(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn second(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    /// Whether it begins or ends a transaction.
    pub fn controls_transaction(&self) -> bool {
        match self.first() {
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => true,
            "PREPARE" => self.second() == "TRANSACTION",
            _ => false,
        }
    }

    /// Whether it only opens a transaction.
    fn opens(&self) -> bool {
        matches!(self.first(), "BEGIN" | "START")
    }

    /// Whether it only ends one well.
    fn commits(&self) -> bool {
        matches!(self.first(), "COMMIT" | "END") && self.second() != "PREPARED"
    }

    /// Whether PostgreSQL refuses it inside of a transaction.
    pub fn needs_no_transaction(&self) -> bool {
        match self.first() {
            "VACUUM" => true,
            "ALTER" => self.second() == "SYSTEM" || self.says("CONCURRENTLY"),
            "CREATE" | "DROP" => {
                matches!(self.second(), "DATABASE" | "TABLESPACE" | "SUBSCRIPTION")
                    || self.says("CONCURRENTLY")
            }
            "REINDEX" => self.says("CONCURRENTLY") || self.says("DATABASE") || self.says("SYSTEM"),
            _ => false,
        }
    }

    /// Whether it may destroy data, as far as can be seen: it drops, truncates or deletes, overwrites every row, or
    /// hides what it does.
    pub fn destroys(&self) -> bool {
        let deletes = self.words.iter().enumerate().any(|(at, word)| {
            let before = at.checked_sub(1).and_then(|before| self.words.get(before));
            // `ON DELETE CASCADE` only says what is to happen one day.
            word == "DELETE" && before.is_none_or(|before| before != "ON" && before != "FOR")
        });
        let overwrites = self.says("UPDATE") && self.first() == "UPDATE" && !self.says("WHERE");
        deletes
            || overwrites
            || self.says("DROP")
            || self.says("TRUNCATE")
            || matches!(self.first(), "DO" | "CALL")
    }

    /// Why it is not run at all, if so: it reaches out of the database or never ends.
    pub fn refused(&self) -> Option<&'static str> {
        match self.first() {
            "COPY" => Some("copies to or from files and programs, which no step may"),
            "LISTEN" | "UNLISTEN" => Some("waits for messages, which is no effect"),
            _ => None,
        }
    }

    /// Whether it asks and does nothing, as its first word says.
    pub fn asks(&self) -> bool {
        matches!(self.first(), "SELECT" | "WITH" | "VALUES" | "TABLE")
    }
}

/// Cuts a text into its statements; empty ones are left out. Errors: a string, comment or name is not closed.
pub fn statements(text: &str) -> Result<Vec<Statement>, BadSql> {
    let mut found = Vec::new();
    let mut reader = Reader { text, at: 0 };
    loop {
        let statement = reader.statement()?;
        let ended = reader.at >= text.len();
        if !statement.words.is_empty() || statement.parameters > 0 || !statement.identifiers.is_empty() {
            found.push(statement);
        }
        if ended {
            return Ok(found);
        }
    }
}

/// The statements of a migration, without a `BEGIN` and `COMMIT` around all of it: it gets its own transaction.
pub fn unwrapped(mut statements: Vec<Statement>) -> Vec<Statement> {
    let wrapped = statements.len() >= 2
        && statements.first().is_some_and(Statement::opens)
        && statements.last().is_some_and(Statement::commits);
    if wrapped {
        statements.pop();
        statements.remove(0);
    }
    statements
}

/// The part of a file with both directions (`-- migrate:up`, `-- migrate:down`) that goes down; the whole text if there
/// are no such marks. `None`: there is a way up and none down.
pub fn down_part(text: &str) -> Option<&str> {
    let mark = |name: &str| {
        let mut at = 0;
        text.split_inclusive('\n').find_map(|line| {
            let here = at;
            at += line.len();
            let rest = line.trim_start().strip_prefix("--")?.trim_start();
            let rest = rest.strip_prefix("migrate:")?;
            rest.starts_with(name).then_some((here, at))
        })
    };
    match (mark("up"), mark("down")) {
        (Some((up, _)), Some((down, _))) if up > down => Some(&text[down..up]),
        (_, Some((_, after))) => Some(&text[after..]),
        (Some(_), None) => None,
        (None, None) => Some(text),
    }
}

/// The statement with its `${…}` replaced by quoted names. Errors: a name without a value.
pub fn with_identifiers(
    statement: &Statement,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let (mut filled, mut at) = (String::with_capacity(statement.text.len()), 0);
    for (place, name) in &statement.identifiers {
        let value = value(name).ok_or_else(|| format!("${{{name}}} is not among `identifiers`"))?;
        filled.push_str(&statement.text[at..place.start]);
        filled.push_str(&quoted(&value));
        at = place.end;
    }
    filled.push_str(&statement.text[at..]);
    Ok(filled)
}

/// A name as SQL, whatever it is.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The names used in a text.
pub fn identifiers(statements: &[Statement]) -> BTreeSet<&str> {
    statements.iter().flat_map(|one| &one.identifiers).map(|(_, name)| name.as_str()).collect()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Goes on behind the next `end`.
    fn skip_to(&mut self, begin: usize, end: &str, inside: &'static str) -> Result<(), BadSql> {
        let found = self.rest().get(begin..).and_then(|rest| rest.find(end)).ok_or(BadSql { inside })?;
        self.at += begin + found + end.len();
        Ok(())
    }

    fn statement(&mut self) -> Result<Statement, BadSql> {
        let start = self.at;
        let (mut words, mut parameters, mut identifiers) = (Vec::new(), 0, Vec::new());
        while let Some(c) = self.rest().chars().next() {
            let next = self.rest()[c.len_utf8()..].chars().next();
            match (c, next) {
                (';', _) => {
                    let text = self.text[start..self.at].to_owned();
                    self.at += 1;
                    return Ok(Statement { text, words, parameters, identifiers });
                }
                ('-', Some('-')) => {
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                }
                ('/', Some('*')) => self.comment()?,
                ('\'', _) => self.skip_to(1, "'", "a string")?,
                ('"', _) => self.skip_to(1, "\"", "a quoted name")?,
                ('e' | 'E', Some('\'')) => self.escaped()?,
                ('$', Some('{')) => {
                    let from = self.at - start;
                    let name = self.at + 2;
                    self.skip_to(2, "}", "${…}")?;
                    identifiers.push((from..self.at - start, self.text[name..self.at - 1].to_owned()));
                }
                ('$', Some(digit)) if digit.is_ascii_digit() => {
                    let digits: String = self.rest()[1..].chars().take_while(char::is_ascii_digit).collect();
                    self.at += 1 + digits.len();
                    // Absurdly many digits are a number that no list of parameters reaches.
                    parameters = parameters.max(digits.parse().unwrap_or(usize::MAX));
                }
                ('$', _) => self.dollar_quoted()?,
                _ if c.is_alphabetic() || c == '_' => words.push(self.word()),
                _ if c.is_ascii_digit() => {
                    self.word();
                }
                _ => self.at += c.len_utf8(),
            }
        }
        Ok(Statement { text: self.text[start..].to_owned(), words, parameters, identifiers })
    }

    fn word(&mut self) -> String {
        let fits = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '$';
        let word: String = self.rest().chars().take_while(fits).collect();
        self.at += word.len();
        word.to_uppercase()
    }

    /// Comments stand inside of each other.
    fn comment(&mut self) -> Result<(), BadSql> {
        let mut depth = 0_usize;
        while !self.rest().is_empty() {
            if self.rest().starts_with("/*") {
                (depth, self.at) = (depth + 1, self.at + 2);
            } else if self.rest().starts_with("*/") {
                (depth, self.at) = (depth - 1, self.at + 2);
            } else {
                self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(BadSql { inside: "a comment" })
    }

    /// `E'…'`, in which a backslash keeps a quote from ending it.
    fn escaped(&mut self) -> Result<(), BadSql> {
        self.at += 2;
        let mut characters = self.rest().char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => {
                    characters.next();
                }
                '\'' => {
                    self.at += at + 1;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(BadSql { inside: "a string" })
    }

    /// `$$…$$` or `$tag$…$tag$`; a lonely dollar is passed over.
    fn dollar_quoted(&mut self) -> Result<(), BadSql> {
        let fits = |c: &char| c.is_alphanumeric() || *c == '_';
        let tag: String = self.rest()[1..].chars().take_while(fits).collect();
        if !self.rest()[1 + tag.len()..].starts_with('$') {
            self.at += 1;
            return Ok(());
        }
        let quote = format!("${tag}$");
        self.skip_to(quote.len(), &quote, "a $…$ string")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Statement {
        let mut found = statements(text).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn what_only_looks_like_a_statement_is_none() {
        let text = "SELECT 'a;b''; DROP', \"c;d\"\"e\", $$; TRUNCATE $$, $x$ $$ ; $x$, E'\\'; DELETE', 1 -- ; DROP\n\
                    /* ; /* DROP */ ; */ FROM t; ; -- nothing\n";
        assert_eq!(one(text).words, ["SELECT", "FROM", "T"]);
        assert!(!one(text).destroys());
        assert_eq!(statements(" ;; -- x\n/* y */").unwrap(), []);
        assert_eq!(statements("a;b").unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        for text in ["'a", "\"a", "$$a", "$x$ $y$", "/* /* */", "E'a\\'", "${a"] {
            assert!(statements(text).is_err(), "{text}");
        }
        assert!(statements("SELECT a$b, $, $ä$").is_err());
        assert_eq!(one("SELECT cost$, $").words, ["SELECT", "COST$"]);
    }

    #[test]
    fn destruction_is_seen() {
        for text in [
            "DROP TABLE a",
            "alter table a drop column b",
            "TRUNCATE a",
            "DELETE FROM a WHERE b",
            "WITH x AS (delete from a returning *) SELECT * FROM x",
            "UPDATE a SET b = 1",
            "DO $$ BEGIN NULL; END $$",
            "/* harmless */ drop/**/table a",
        ] {
            assert!(one(text).destroys(), "{text}");
        }
        for text in [
            "UPDATE a SET b = 1 WHERE c = 2",
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c ON DELETE CASCADE",
            "SELECT \"drop\", 'truncate' FROM a",
            "INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1",
        ] {
            assert!(!one(text).destroys(), "{text}");
        }
    }

    #[test]
    fn transactions_are_seen() {
        for text in [
            "begin",
            "COMMIT",
            "End",
            "rollback to x",
            "SAVEPOINT x",
            "PREPARE TRANSACTION 'x'",
            "/**/COMMIT",
        ] {
            assert!(one(text).controls_transaction(), "{text}");
        }
        assert!(!one("PREPARE x AS SELECT 1").controls_transaction());
        for text in
            ["CREATE INDEX CONCURRENTLY a ON b (c)", "VACUUM", "ALTER SYSTEM SET a = 1", "drop database x"]
        {
            assert!(one(text).needs_no_transaction(), "{text}");
        }
        assert!(!one("REFRESH MATERIALIZED VIEW CONCURRENTLY a").needs_no_transaction());
        let wrapped = |text| unwrapped(statements(text).unwrap()).len();
        assert_eq!((wrapped("BEGIN; a; b; COMMIT;"), wrapped("BEGIN; a"), wrapped("a; COMMIT")), (2, 2, 2));
        assert_eq!(wrapped("BEGIN; a; COMMIT PREPARED 'x'"), 3);
    }

    #[test]
    fn the_way_down_is_found() {
        assert_eq!(down_part("-- migrate:up\nA;\n-- migrate:down\nB;\n"), Some("B;\n"));
        assert_eq!(
            down_part("--migrate:down transaction:false\nB;\n-- migrate:up\nA;"),
            Some("--migrate:down transaction:false\nB;\n")
        );
        assert_eq!(down_part("-- migrate:up\nA;"), None);
        assert_eq!(down_part("A;"), Some("A;"));
    }

    #[test]
    fn names_are_quoted_where_they_stand() {
        let statement = one("UPDATE ${t} SET a = '${t}' WHERE ${c} = $2");
        assert_eq!(statement.parameters, 2);
        let filled = with_identifiers(&statement, |name| Some(format!("{name}\"; DROP")));
        assert_eq!(filled.unwrap(), "UPDATE \"t\"\"; DROP\" SET a = '${t}' WHERE \"c\"\"; DROP\" = $2");
        assert!(with_identifiers(&statement, |_| None).unwrap_err().contains("${t}"));
    }
}
