//! Expressions in CEL: compiled when the configuration is checked, run within bounds on what an outsider sent.
//!
//! CEL itself cannot loop for ever, but it can loop over what the sender chose. Four bounds together keep one message
//! from costing more than a moment, and all of them are counted and not timed, so that the same message always has the
//! same outcome:
//! * an expression is short ([`LONGEST_SOURCE`]), and a macro such as `exists` may not stand inside another one;
//! * the pattern of `matches` is written in the configuration and never taken from a message;
//! * texts and lists are cut before an expression sees them ([`MAX_TEXT`], [`MAX_LIST`]);
//! * all evaluations of one message together have a [`Budget`].
//!
//! There is no function that lets a text grow faster than `+` does, and no way to reach anything outside the message.

use super::super::limits::shown_up_to;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Program, Value};
use jiff::Timestamp;
use serde_json::Value as Json;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

/// The longest expression in bytes: ten lines. The longest of the presets has 200.
const LONGEST_SOURCE: usize = 1_000;

/// The longest text that an expression sees, in characters. Identifiers have at most 256 bytes and summaries 300
/// characters; only the body of a long commit message is cut by this.
pub(crate) const MAX_TEXT: usize = 4_096;

/// The most elements of a list that an expression sees: four times what becomes of one message at most.
pub(crate) const MAX_LIST: usize = 1_000;

/// What all evaluations of one message may cost: nodes of the expression, times the length of the longest list if there
/// is a macro in it. A node takes about a microsecond, so this is at most some tenths of a second.
const BUDGET: u64 = 300_000;

/// What one `matches` costs in nodes: the pattern is compiled each time.
const MATCHES_COST: u64 = 200;

/// What one `+` inside a macro costs in nodes: it makes a text of up to twice [`MAX_TEXT`] for each element, and all of them are
/// held until the list is complete. With this, some ten megabytes are the most.
const JOIN_COST: u64 = 100;

/// How much of what went wrong is told: it may hold values of the message.
const LONGEST_WORDS: usize = 200;

/// Functions that an expression may call, besides operators. The second line is ours.
const FUNCTIONS: [&str; 20] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    "dyn",
    "hasValue",
    "orValue",
    "or", //
    "after_last",
    "before_first",
    "lower",
    "time",
    "unix_ms",
];

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    program: Program,
    nodes: u64,
    loops: bool,
}

/// What is left to spend on one message.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<u64>,
    longest: u64,
}

impl Budget {
    /// For a message whose longest list or object has so many elements.
    pub(crate) fn new(longest: usize) -> Self {
        Self { left: Cell::new(BUDGET), longest: longest.max(1) as u64 }
    }

    fn spend(&self, cost: u64) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(cost));
        left >= cost
    }
}

impl Expression {
    /// Compiles. `variables` are the names it may use. Errors say at which column.
    pub(crate) fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        if source.trim().is_empty() {
            return Err("is empty; write an expression, such as body.name or 'production'".into());
        }
        if source.len() > LONGEST_SOURCE {
            return Err(format!("has {} bytes, at most {LONGEST_SOURCE} are allowed", source.len()));
        }
        let program = environment().compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let column = first.map_or(1, |error| error.pos.1.max(1));
            let words = first.map_or_else(String::new, |error| error.msg.clone());
            format!("{source:?} is no expression: column {column}: {}", words.replace('\n', " "))
        })?;
        let mut look = Look { source, program: &program, known: Vec::new(), nodes: 0, loops: 0, in_loop: 0 };
        look.known.extend(variables.iter().map(|name| (*name).to_owned()));
        look.at(program.expression())?;
        let (nodes, loops) = (look.nodes, look.loops > 0);
        Ok(Self { source: source.to_owned(), program, nodes, loops })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Its value. Errors say what went wrong, in words that may be shown.
    pub(crate) fn evaluate(&self, context: &Context<'_, '_>, budget: &Budget) -> Result<Value, String> {
        let cost = self.nodes * if self.loops { budget.longest } else { 1 };
        if !budget.spend(cost) {
            return Err(
                "this message is too large for the mapping: its lists are too long for so many steps".into(),
            );
        }
        self.program.execute(context).map_err(|error| words(&error))
    }
}

/// What went wrong, without the depths of the values.
fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no field {}", shown_up_to(key, 64)),
        other => {
            let text = other.to_string();
            let text: String = text.chars().take(LONGEST_WORDS).flat_map(char::escape_debug).collect();
            text.replace("\\\"", "\"").replace("\\'", "'")
        }
    }
}

/// Walks an expression once, before anything is run.
struct Look<'a> {
    source: &'a str,
    program: &'a Program,
    known: Vec<String>,
    nodes: u64,
    loops: usize,
    in_loop: usize,
}

impl Look<'_> {
    fn wrong(&self, at: &IdedExpr, problem: &str) -> String {
        let start = self.program.source_info().offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let lines: Vec<&str> = self.source.get(..start).unwrap_or_default().split('\n').collect();
        let column = lines.last().map_or(0, |line| line.chars().count()) + 1;
        format!("{:?} is not usable: column {column}: {problem}", self.source)
    }

    fn at(&mut self, node: &IdedExpr) -> Result<(), String> {
        self.nodes += 1;
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(node, name),
            Expr::Select(select) => self.at(&select.operand),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.at(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.at(&entry.key).and_then(|()| self.at(&entry.value)),
                EntryExpr::StructField(field) => self.at(&field.value),
            }),
            Expr::Struct(_) => Err(self.wrong(node, "messages cannot be made here")),
            Expr::Call(call) => {
                self.function(node, &call.func_name, &call.args)?;
                call.target.iter().try_for_each(|target| self.at(target))?;
                call.args.iter().try_for_each(|argument| self.at(argument))
            }
            Expr::Comprehension(one) => {
                if self.in_loop > 0 {
                    return Err(self.wrong(node, "a macro such as exists may not stand inside another one"));
                }
                self.loops += 1;
                self.at(&one.iter_range)?;
                self.at(&one.accu_init)?;
                self.in_loop += 1;
                let outside = self.known.len();
                self.known.extend([one.iter_var.clone(), one.accu_var.clone()]);
                self.known.extend(one.iter_var2.clone());
                self.at(&one.loop_cond)?;
                self.at(&one.loop_step)?;
                self.at(&one.result)?;
                self.known.truncate(outside);
                self.in_loop -= 1;
                Ok(())
            }
        }
    }

    fn variable(&self, node: &IdedExpr, name: &str) -> Result<(), String> {
        let types = ["int", "uint", "double", "bool", "string", "list", "map", "null_type"];
        if types.contains(&name) || self.known.iter().any(|known| known == name) {
            return Ok(());
        }
        let known: Vec<&str> =
            self.known.iter().map(String::as_str).filter(|name| !name.starts_with('@')).collect();
        Err(self.wrong(node, &format!("there is no variable `{name}`; there are {}", known.join(", "))))
    }

    fn function(&mut self, node: &IdedExpr, name: &str, arguments: &[IdedExpr]) -> Result<(), String> {
        let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !operator && !FUNCTIONS.contains(&name) {
            let problem = format!("there is no function `{name}`; there are {}", FUNCTIONS.join(", "));
            return Err(self.wrong(node, &problem));
        }
        if name == operators::ADD && self.in_loop > 0 {
            self.nodes += JOIN_COST;
        }
        if name == "matches" {
            self.nodes += MATCHES_COST;
            // As a method the pattern is the only argument, as a function the last one.
            if !arguments.last().is_some_and(|last| matches!(last.expr, Expr::Literal(_))) {
                return Err(self.wrong(node, "the pattern of `matches` must be written here, as a text"));
            }
        }
        Ok(())
    }
}

fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

/// A context with our functions and no variables.
pub(crate) fn context<'v>() -> Context<'static, 'v> {
    let mut context = Context::with_env(Arc::clone(environment()));
    let added = [
        context.add_function("after_last", |text: Arc<String>, mark: Arc<String>| {
            text.rsplit(mark.as_str()).next().unwrap_or_default().to_owned()
        }),
        context.add_function("before_first", |text: Arc<String>, mark: Arc<String>| {
            text.split(mark.as_str()).next().unwrap_or_default().to_owned()
        }),
        context.add_function("lower", |text: Arc<String>| text.to_lowercase()),
        context.add_function("time", |text: Arc<String>| time(&text)),
        context.add_function("unix_ms", |milliseconds: i64| unix_ms(milliseconds)),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "a function of ours has the name of a standard one");
    context
}

fn failed(function: &str, words: String) -> ExecutionError {
    ExecutionError::FunctionError { function: function.into(), message: words }
}

/// A time in one of the forms that senders write, as RFC 3339: RFC 3339 itself, `2021-04-28 21:50:00 +0200` (GitLab),
/// `2021-04-28 21:50:00 UTC` and the same without an offset, which is UTC then.
fn time(text: &str) -> Result<Value, ExecutionError> {
    let wrong = || failed("time", format!("{} is not a time", shown_up_to(text, 64)));
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.to_string().into());
    }
    let text = text.trim_end_matches(" UTC").trim_end_matches('Z');
    let with_offset =
        jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S %z", text).and_then(|parsed| parsed.to_timestamp());
    let at = with_offset.or_else(|_| {
        let civil: jiff::civil::DateTime = text.parse()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp())
    });
    at.map(|at| at.to_string().into()).map_err(|_| wrong())
}

fn unix_ms(milliseconds: i64) -> Result<Value, ExecutionError> {
    Timestamp::from_millisecond(milliseconds)
        .map(|at| at.to_string().into())
        .map_err(|_| failed("unix_ms", format!("{milliseconds} is not a time")))
}

/// A value of the message as expressions see it, and what was cut off.
pub(crate) struct Seen {
    /// The longest list or object.
    pub(crate) longest: usize,
    /// Where something was cut.
    pub(crate) notes: BTreeSet<String>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { longest: 0, notes: BTreeSet::new() }
    }

    /// Turns JSON into a value.
    pub(crate) fn value(&mut self, json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(yes) => Value::Bool(*yes),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::UInt(number),
                // A JSON number that is no integer is a float, or it would not have been read.
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Arc::new(text.chars().take(MAX_TEXT).collect())),
            Json::Array(items) => {
                if items.len() > MAX_LIST {
                    let count = items.len();
                    self.notes.insert(format!(
                        "a list has {count} entries; only the first {MAX_LIST} are looked at"
                    ));
                }
                self.longest = self.longest.max(items.len().min(MAX_LIST));
                Value::List(Arc::new(items.iter().take(MAX_LIST).map(|item| self.value(item)).collect()))
            }
            Json::Object(fields) => {
                self.longest = self.longest.max(fields.len());
                let map: HashMap<Key, Value> =
                    fields.iter().map(|(key, value)| (Key::from(key.clone()), self.value(value))).collect();
                Value::Map(Map { map: Arc::new(map) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
