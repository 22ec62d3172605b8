//! What is wrong with an SQL step before it is run: in itself, and beside what the step says about itself.

use super::{Backup, DownMigration, MigrationsCheck, SqlCheck, SqlOperation, SqlSpec, SqlText};
use crate::action::sql_text::{Statement, down_part, identifiers, statements, unwrapped};
use crate::action::{EffectClass, Reversibility};
use crate::runbook::check_template;
use crate::units::Span;

type Found = Vec<(String, String)>;

/// Statements, parameters, checks: what a person who approves a plan can read.
const MOST: usize = 64;
/// Of one text. A migration of more is not one that is taken back in a hurry.
const LONGEST_TEXT: usize = 256 * 1024;
/// PostgreSQL cuts longer names off, which would make two names one.
const LONGEST_NAME: usize = 63;
/// Dumps kept. More are an archive, which needs its own keeper.
const MOST_KEPT: u32 = 1_000;
/// Longer than this no step runs.
const LONGEST_TIMEOUT: Span = Span::from_minutes(15);

/// In itself.
pub(super) fn of_spec(spec: &SqlSpec, at: &str) -> Found {
    let mut found = Found::new();
    for (key, span) in [("lock_timeout", spec.lock_timeout), ("statement_timeout", spec.statement_timeout)] {
        // PostgreSQL takes 0 for "no limit".
        if span == Span::default() || span > LONGEST_TIMEOUT {
            found
                .push((format!("{at}.{key}"), format!("must be more than 0s and at most {LONGEST_TIMEOUT}")));
        }
    }
    let at = format!("{at}.operation");
    match &spec.operation {
        SqlOperation::Migrations(check) => migrations(check, &format!("{at}.migrations"), &mut found),
        SqlOperation::Down(one) => down(one, &format!("{at}.down"), &mut found),
        SqlOperation::Statement(all) => {
            let at = format!("{at}.statement.statements");
            count(&at, all.statements.len(), &mut found);
            for (number, text) in all.statements.iter().enumerate() {
                statement(text, &format!("{at}.{number}"), &mut found);
            }
            let alone = all.statements.iter().flat_map(read).any(|one| one.needs_no_transaction());
            if alone && all.statements.len() > 1 {
                let text = "a statement that cannot run inside of a transaction must stand alone in its step";
                found.push((at, text.into()));
            }
        }
        SqlOperation::Check(one) => check(one, &format!("{at}.check"), &mut found),
        SqlOperation::Maintenance(switch) => {
            let at = format!("{at}.maintenance");
            question(&switch.is_set, &format!("{at}.is_set"), &mut found);
            for (key, text) in [("set", &switch.set), ("unset", &switch.unset)] {
                let at = format!("{at}.{key}");
                statement(text, &at, &mut found);
                if read(text).iter().any(Statement::needs_no_transaction) {
                    found.push((format!("{at}.sql"), "cannot run inside of a transaction".into()));
                }
            }
        }
        SqlOperation::Backup(one) => backup(one, &format!("{at}.backup"), &mut found),
        SqlOperation::Restore(restore) => {
            let at = format!("{at}.restore");
            path(&restore.file, &format!("{at}.file"), &mut found);
            path(&restore.programs, &format!("{at}.programs"), &mut found);
            if restore.max_age == Span::default() {
                found.push((format!("{at}.max_age"), "must be more than 0s".into()));
            }
            for (key, name) in
                [("into", &restore.into), ("maintenance_database", &restore.maintenance_database)]
            {
                database(name, &format!("{at}.{key}"), &mut found);
            }
            checks(&restore.checks, &format!("{at}.checks"), &mut found);
        }
        SqlOperation::Swap(swap) => {
            let at = format!("{at}.swap");
            let names = [
                ("live", &swap.live),
                ("restored", &swap.restored),
                ("keep_as", &swap.keep_as),
                ("maintenance_database", &swap.maintenance_database),
            ];
            for (number, (key, name)) in names.iter().enumerate() {
                database(name, &format!("{at}.{key}"), &mut found);
                if let Some((other, _)) = names[..number].iter().find(|(_, other)| other == name) {
                    found.push((format!("{at}.{key}"), format!("is the same database as `{other}`")));
                }
            }
            checks(&swap.checks, &format!("{at}.checks"), &mut found);
        }
    }
    found
}

/// Beside what the step says about itself.
pub(super) fn of_step(spec: &SqlSpec, at: &str, class: EffectClass, risk: Reversibility) -> Found {
    let mut found = Found::new();
    let at = format!("{at}.operation");
    let texts: Vec<&SqlText> = match &spec.operation {
        SqlOperation::Statement(all) => all.statements.iter().collect(),
        SqlOperation::Maintenance(switch) => vec![&switch.set, &switch.unset],
        _ => Vec::new(),
    };
    let all: Vec<Statement> = texts.iter().flat_map(|text| read(text)).collect();
    if class != EffectClass::OneShot && all.iter().any(Statement::needs_no_transaction) {
        let text =
            "runs outside of a transaction, where nothing keeps it from running twice; say `class: one_shot`";
        found.push((at.clone(), text.into()));
    }
    let why = match &spec.operation {
        SqlOperation::Restore(_) => Some("brings back old data"),
        SqlOperation::Swap(_) => Some("puts aside what was written since the backup"),
        SqlOperation::Down(down) => match &down.sql {
            None => Some("runs a file that nobody has read yet"),
            Some(sql) => destroys(&statements(sql).unwrap_or_default()),
        },
        _ => destroys(&all),
    };
    if let (Some(why), true) = (why, risk != Reversibility::Destructive) {
        found.push((
            at,
            format!("{why}; say `reversibility: destructive`, so that it never runs without people"),
        ));
    }
    found
}

fn destroys(all: &[Statement]) -> Option<&'static str> {
    all.iter()
        .any(Statement::destroys)
        .then_some("drops, truncates, deletes or overwrites data, or hides what it does")
}

/// What cannot be read is reported where the text is checked.
fn read(text: &SqlText) -> Vec<Statement> {
    text.statements().unwrap_or_default()
}

fn count(at: &str, many: usize, found: &mut Found) {
    if many == 0 {
        found.push((at.to_owned(), "is empty; add one".into()));
    } else if many > MOST {
        found.push((at.to_owned(), format!("holds {many}; at most {MOST} are allowed")));
    }
}

fn template(text: &str, at: &str, found: &mut Found) {
    found.extend(check_template(text).err().map(|bad| (at.to_owned(), bad.to_string())));
}

/// The text itself: no placeholders, nothing that ends our transaction.
fn readable(sql: &str, at: &str, found: &mut Found) -> Vec<Statement> {
    let mut add = |problem: String| found.push((at.to_owned(), problem));
    if sql.contains("{{") {
        add("holds a placeholder; write $1 and give the value in `parameters`, or ${name} and `identifiers`"
            .into());
    }
    if sql.len() > LONGEST_TEXT {
        add(format!("is longer than {LONGEST_TEXT} bytes"));
    }
    let read = match statements(sql) {
        Ok(read) => unwrapped(read),
        Err(bad) => {
            add(bad.to_string());
            return Vec::new();
        }
    };
    if read.is_empty() {
        add("holds no statement".into());
    }
    for one in &read {
        let words = one.words.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
        if one.controls_transaction() {
            add(format!("{words} would end the transaction that this runs in; leave it out"));
        }
        if let Some(why) = one.refused() {
            add(format!("{words} {why}"));
        }
    }
    read
}

fn statement(text: &SqlText, at: &str, found: &mut Found) {
    let read = readable(&text.sql, &format!("{at}.sql"), found);
    if read.len() > 1 {
        found.push((
            format!("{at}.sql"),
            "holds more than one statement; give each an entry of its own".into(),
        ));
    }
    let highest = read.iter().map(|one| one.parameters).max().unwrap_or(0);
    let given = text.parameters.len();
    if given != highest || given > MOST {
        let problem = format!("has {given} values and the text wants {highest}; at most {MOST} are allowed");
        found.push((format!("{at}.parameters"), problem));
    }
    for (number, value) in text.parameters.iter().enumerate() {
        let at = format!("{at}.parameters.{number}");
        match value {
            serde_json::Value::String(text) => template(text, &at, found),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                found
                    .push((at, "must be a text, a number, true, false or null; write JSON as a text".into()));
            }
            _ => {}
        }
    }
    let used = identifiers(&read);
    for name in used.iter().filter(|name| !text.identifiers.contains_key(**name)) {
        found.push((format!("{at}.identifiers"), format!("does not say what ${{{name}}} is")));
    }
    for (name, one) in &text.identifiers {
        let at = format!("{at}.identifiers.{name}");
        template(&one.name, &at, found);
        if !used.contains(name.as_str()) {
            found.push((at.clone(), format!("is not used; the text has no ${{{name}}}")));
        }
        if one.one_of.is_empty() || one.one_of.iter().any(|name| name.is_empty() || name.len() > LONGEST_NAME)
        {
            found.push((format!("{at}.one_of"), "must list the names that it may be".into()));
        } else if !one.name.contains("{{") && !one.one_of.contains(&one.name) {
            found.push((format!("{at}.name"), "is not in `one_of`".into()));
        }
    }
}

fn question(text: &SqlText, at: &str, found: &mut Found) {
    statement(text, at, found);
    if read(text).iter().any(|one| !one.asks()) {
        found
            .push((format!("{at}.sql"), "must be a question that begins with SELECT, WITH or VALUES".into()));
    }
    if text.rows.is_some() {
        found.push((format!("{at}.rows"), "a question changes no rows".into()));
    }
}

fn check(one: &SqlCheck, at: &str, found: &mut Found) {
    question(&one.ask, &format!("{at}.ask"), found);
    template(&one.equals, &format!("{at}.equals"), found);
    if one.role.as_ref().is_some_and(|role| !is_plain(role, "_-")) {
        found.push((format!("{at}.role"), "must be the plain name of a role".into()));
    }
    for (name, value) in &one.settings {
        let at = format!("{at}.settings.{name}");
        template(value, &at, found);
        // Without a dot it is one of PostgreSQL's own, our time-outs among them.
        if !is_plain(name, "_.") || !name.contains('.') {
            found.push((at, "must be a setting of an application, with a dot in its name".into()));
        }
    }
}

fn checks(all: &[SqlCheck], at: &str, found: &mut Found) {
    count(at, all.len(), found);
    for (number, one) in all.iter().enumerate() {
        check(one, &format!("{at}.{number}"), found);
    }
}

fn table(name: &Option<String>, at: &str, found: &mut Found) {
    let bad = |name: &String| {
        name.split('.').count() > 2
            || name.split('.').any(|part| !is_plain(part, "_") || part.len() > LONGEST_NAME)
    };
    if name.as_ref().is_some_and(bad) {
        found.push((format!("{at}.table"), "must be TABLE or SCHEMA.TABLE".into()));
    }
}

fn migrations(check: &MigrationsCheck, at: &str, found: &mut Found) {
    table(&check.table, at, found);
    let all = check.newest.iter().chain(&check.applied).chain(&check.absent);
    let many = all.clone().count();
    if many == 0 || many > MOST {
        let text =
            format!("must say what is expected (`newest`, `applied`, `absent`), in at most {MOST} versions");
        found.push((at.to_owned(), text));
    }
    all.for_each(|version| template(version, at, found));
}

fn down(one: &DownMigration, at: &str, found: &mut Found) {
    table(&one.table, at, found);
    template(&one.version, &format!("{at}.version"), found);
    one.previous.iter().for_each(|version| template(version, &format!("{at}.previous"), found));
    if one.previous.is_some() && one.tool != super::MigrationTool::GolangMigrate {
        found.push((format!("{at}.previous"), "only golang_migrate needs it".into()));
    }
    match (&one.sql, &one.file) {
        (Some(sql), None) => down_text(sql, &format!("{at}.sql"), found),
        (None, Some(file)) => path(file, &format!("{at}.file"), found),
        _ => found.push((at.to_owned(), "needs either `sql` or `file`".into())),
    }
    let digits = |text: &String| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    if one.sha256.as_ref().is_some_and(|text| one.file.is_none() || !digits(text)) {
        found.push((format!("{at}.sha256"), "must be the 64 hexadecimal digits of `file`".into()));
    }
}

/// The text of a down migration, wherever it came from.
fn down_text(sql: &str, at: &str, found: &mut Found) {
    let Some(part) = down_part(sql) else {
        found.push((at.to_owned(), "has a part `-- migrate:up` and none `-- migrate:down`".into()));
        return;
    };
    let read = readable(part, at, found);
    if read.iter().any(Statement::needs_no_transaction) {
        let text = "holds a statement that cannot run inside of a transaction; make it a `statement` step of its own";
        found.push((at.to_owned(), text.into()));
    }
    if read.iter().any(|one| !one.identifiers.is_empty()) {
        found.push((at.to_owned(), "holds ${…}, which a migration cannot".into()));
    }
}

/// What keeps a text from being run as a down migration, if anything.
pub fn down_text_problem(sql: &str) -> Option<String> {
    let mut found = Found::new();
    down_text(sql, "", &mut found);
    found.into_iter().next().map(|(_, problem)| problem)
}

fn backup(one: &Backup, at: &str, found: &mut Found) {
    path(&one.directory, &format!("{at}.directory"), found);
    path(&one.programs, &format!("{at}.programs"), found);
    if [&one.directory, &one.programs].iter().any(|text| text.contains("{{")) {
        found.push((at.to_owned(), "may not hold placeholders".into()));
    }
    if !is_plain(&one.name, "_-") || one.name.len() > LONGEST_NAME {
        found.push((format!("{at}.name"), "must be letters, digits, _ and -".into()));
    }
    if one.keep == 0 || one.keep > MOST_KEPT {
        found.push((format!("{at}.keep"), format!("must be between 1 and {MOST_KEPT}")));
    }
}

/// An absolute path that cannot lead out of where it points, whatever a placeholder holds.
fn path(path: &str, at: &str, found: &mut Found) {
    template(path, at, found);
    if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        found.push((at.to_owned(), "must be an absolute path without `..`".into()));
    }
}

fn database(name: &str, at: &str, found: &mut Found) {
    template(name, at, found);
    if !name.contains("{{") && (!is_plain(name, "_-") || name.len() > LONGEST_NAME) {
        found.push((at.to_owned(), format!("must be at most {LONGEST_NAME} letters, digits, _ and -")));
    }
}

/// Begins with a letter or digit and holds nothing else but these.
fn is_plain(text: &str, further: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || further.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(operation: &str, class: EffectClass, risk: Reversibility) -> Vec<String> {
        let text = format!("{{ url: {{ env: U }}, operation: {operation} }}");
        let spec: SqlSpec = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let all = [spec.problems("s"), spec.step_problems("s", class, risk)].concat();
        all.into_iter().map(|(key, _)| key.trim_start_matches("s.operation").to_owned()).collect()
    }

    fn lookup(operation: &str) -> Vec<String> {
        keys(operation, EffectClass::Lookup, Reversibility::Reversible)
    }

    #[test]
    fn what_is_good_has_no_problems() {
        for operation in [
            "{ migrations: { tool: drizzle, newest: '17' } }",
            "{ down: { tool: sqlx, version: '{{from.version}}', sql: 'ALTER TABLE a ADD b int; COMMENT ON TABLE a IS 1' } }",
            "{ statement: { statements: [{ sql: 'UPDATE ${t} SET a = $1 WHERE b = $2', parameters: [1, '{{service}}'], \
             identifiers: { t: { name: '{{environment}}', one_of: [production, staging] } }, rows: 1 }] } }",
            "{ check: { ask: { sql: 'SELECT public.is_member_of($1::uuid)', parameters: [x] }, role: authenticated, \
             settings: { request.jwt.claims: '{}' } } }",
            "{ maintenance: { turn: set, is_set: { sql: 'SELECT on_ FROM f' }, set: { sql: 'INSERT INTO f VALUES (true)' }, \
             unset: { sql: 'UPDATE f SET on_ = false WHERE true' } } }",
            "{ backup: { directory: /backups, name: shop } }",
        ] {
            assert_eq!(lookup(operation), [""; 0], "{operation}");
        }
        let restore = "{ restore: { file: '/b/{{from.version}}.dump', into: 'shop_{{plan}}', checks: [{ ask: { sql: SELECT true } }] } }";
        assert_eq!(keys(restore, EffectClass::Lookup, Reversibility::Destructive), [""; 0]);
        let alone = "{ statement: { statements: [{ sql: CREATE INDEX CONCURRENTLY a ON b (c) }] } }";
        assert_eq!(keys(alone, EffectClass::OneShot, Reversibility::Reversible), [""; 0]);
    }

    #[test]
    fn problems_name_the_key() {
        let check = "checks: [{ ask: { sql: SELECT true } }]";
        let cases = [
            (
                "{ migrations: { tool: rails, table: 'a b' } }".to_owned(),
                vec![".migrations.table", ".migrations"],
            ),
            ("{ down: { tool: rails, version: '1' } }".into(), vec![".down", ""]),
            ("{ down: { tool: rails, version: '1', file: /x/../y } }".into(), vec![".down.file", ""]),
            ("{ down: { tool: rails, version: '1', sql: 'a; COMMIT; b' } }".into(), vec![".down.sql"]),
            ("{ down: { tool: rails, version: '1', sql: 'DROP TABLE a' } }".into(), vec![""]),
            ("{ down: { tool: rails, version: '1', sql: 'VACUUM' } }".into(), vec![".down.sql"]),
            ("{ statement: { statements: [] } }".into(), vec![".statement.statements"]),
            (
                "{ statement: { statements: [{ sql: \"UPDATE a SET b = '{{service}}' WHERE c = $1\" }] } }"
                    .into(),
                vec![".statement.statements.0.sql", ".statement.statements.0.parameters"],
            ),
            ("{ statement: { statements: [{ sql: a; b }] } }".into(), vec![".statement.statements.0.sql"]),
            (
                "{ statement: { statements: [{ sql: 'COPY a TO PROGRAM $$x$$' }] } }".into(),
                vec![".statement.statements.0.sql"],
            ),
            (
                "{ statement: { statements: [{ sql: 'SELECT ${t}' }] } }".into(),
                vec![".statement.statements.0.identifiers"],
            ),
            ("{ statement: { statements: [{ sql: VACUUM }] } }".into(), vec![""]),
            ("{ statement: { statements: [{ sql: DELETE FROM a WHERE b }] } }".into(), vec![""]),
            ("{ check: { ask: { sql: UPDATE a SET b = 1 WHERE c } } }".into(), vec![".check.ask.sql"]),
            (
                "{ check: { ask: { sql: SELECT 1 }, role: 'a\"b', settings: { lock_timeout: '0' } } }".into(),
                vec![".check.role", ".check.settings.lock_timeout"],
            ),
            (
                "{ backup: { directory: backups, name: '../x', keep: 0 } }".into(),
                vec![".backup.directory", ".backup.name", ".backup.keep"],
            ),
            (
                format!("{{ restore: {{ file: x, into: 'a b', {check} }} }}"),
                vec![".restore.file", ".restore.into", ""],
            ),
            ("{ restore: { file: /x, into: a, checks: [] } }".into(), vec![".restore.checks", ""]),
            (
                format!("{{ swap: {{ live: a, restored: a, keep_as: postgres, {check} }} }}"),
                vec![".swap.restored", ".swap.maintenance_database", ""],
            ),
        ];
        for (operation, expected) in cases {
            assert_eq!(lookup(&operation), expected, "{operation}");
        }
    }

    #[test]
    fn time_outs_may_not_be_endless() {
        let text = "{ url: { env: U }, operation: { backup: { directory: /b, name: a } }, lock_timeout: 0s }";
        let spec: SqlSpec = serde_saphyr::from_str(text).unwrap();
        assert_eq!(spec.problems("s")[0].0, "s.lock_timeout");
    }
}
