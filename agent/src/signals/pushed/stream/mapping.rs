//! Samples from any JSON: rules in CEL, every one that fits counts.
//!
//! What a rule gives is not trusted more than a message in our own form: it comes under the same limits. What is wrong with
//! one sample does not cost the others; it is counted, with rule, key and expression in its reason.

use super::super::batch::Batch;
use super::super::limits::{BadPush, Budget as Room, MOST_LABELS};
use super::super::{LONGEST_NAME, Labels};
use super::Letter;
use super::config::SampleRule;
use super::json::{self, Growth, Said, When, bounds_problem};
use crate::events::hooks::expression::{self, Budget, Expression, Seen};
use cel::{Context, Value};
use jiff::Timestamp;

/// The most rules of a mapping: one for each metric of a service that is watched.
const MOST_RULES: usize = 50;
/// How much of an expression is shown in an error.
const LONGEST_SHOWN: usize = 200;

/// Rules, compiled.
#[derive(Debug)]
pub(super) struct Mapping {
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    name: String,
    when: Option<Expression>,
    for_each: Option<Expression>,
    labels: Vec<(String, Expression)>,
    at: Option<Expression>,
    gives: Gives,
}

#[derive(Debug)]
enum Gives {
    Value(Expression),
    Count(Expression),
    Observation(Expression, Vec<f64>),
    Histogram { bounds: Vec<f64>, counts: Expression, sum: Expression },
}

/// Problems of a mapping: the key below it, such as `0.labels.code`, and what is wrong.
type Wrong = Vec<(String, String)>;

impl Mapping {
    /// Compiles rules. The error is everything that is wrong with them.
    pub(super) fn compile(rules: &[SampleRule]) -> Result<Self, Wrong> {
        let mut wrong = Vec::new();
        if rules.len() > MOST_RULES {
            let words = format!("has {} rules, at most {MOST_RULES} are allowed", rules.len());
            wrong.push((String::new(), words));
        }
        let compiled: Vec<Option<Compiled>> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| {
                let mut below = Vec::new();
                let compiled = Compiled::of(rule, &mut below);
                wrong.extend(below.into_iter().map(|(key, words)| match key.is_empty() {
                    true => (index.to_string(), words),
                    false => (format!("{index}.{key}"), words),
                }));
                compiled
            })
            .collect();
        let rules = compiled.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(Self { rules }) } else { Err(wrong) }
    }

    /// Reads a message. One that no rule fits says nothing; one of which nothing can be used is refused.
    pub(super) fn decode(&self, letter: &Letter) -> Result<Batch, BadPush> {
        let body = json::parse(&letter.body)?;
        let mut seen = Seen::new();
        let mut scope = expression::context();
        scope.add_variable_from_value("body", seen.value(&body));
        scope.add_variable_from_value("topic", Value::from(letter.topic.as_str()));
        let mut reading = Reading {
            at: letter.at,
            budget: Budget::new(seen.longest),
            room: Room::default(),
            batch: Batch::default(),
            first: None,
        };
        seen.notes.into_iter().for_each(|note| reading.refuse(note));
        for rule in &self.rules {
            reading.by(rule, &scope)?;
        }
        match reading.first {
            Some(problem) if reading.batch.series.is_empty() => {
                Err(BadPush::unreadable("the message", problem))
            }
            _ => Ok(reading.batch),
        }
    }
}

fn is_metric(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
    name.len() <= LONGEST_NAME
        && name.chars().all(good)
        && !name.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

impl Compiled {
    fn of(rule: &SampleRule, wrong: &mut Wrong) -> Option<Self> {
        if rule.name.is_empty() || !is_metric(&rule.name) {
            wrong.push(("name".into(), "must be the name of a metric, such as http_requests_total".into()));
        }
        if rule.labels.len() >= MOST_LABELS {
            let words = format!("there are {}, at most {} are allowed", rule.labels.len(), MOST_LABELS - 1);
            wrong.push(("labels".into(), words));
        }
        let (outside, inside) = (["body", "topic"], ["body", "topic", "item"]);
        let scope: &[&str] = if rule.for_each.is_some() { &inside } else { &outside };
        let mut compile = |key: &str, source: &str, scope: &[&str]| {
            Expression::compile(source, scope).map_err(|problem| wrong.push((key.to_owned(), problem))).ok()
        };
        let mut optional = |key: &str, source: &Option<String>, scope: &[&str]| {
            source.as_ref().map(|source| compile(key, source, scope))
        };
        let when = optional("when", &rule.when, scope);
        let for_each = optional("for_each", &rule.for_each, &outside);
        let at = optional("at", &rule.at, scope);
        let value = optional("value", &rule.value, scope).map(|it| it.map(Gives::Value));
        let count = optional("count", &rule.count, scope).map(|it| it.map(Gives::Count));
        let observation = optional("observation", &rule.observation, scope)
            .map(|it| it.map(|it| Gives::Observation(it, rule.bounds.clone())));
        let histogram = rule.histogram.as_ref().map(|fields| {
            let counts = compile("histogram.counts", &fields.counts, scope);
            let sum = compile("histogram.sum", &fields.sum, scope);
            Some(Gives::Histogram { bounds: fields.bounds.clone(), counts: counts?, sum: sum? })
        });
        let labels: Vec<Option<(String, Expression)>> = rule
            .labels
            .iter()
            .map(|(name, source)| Some((name.clone(), compile(&format!("labels.{name}"), source, scope)?)))
            .collect();
        if rule.labels.contains_key("__name__") {
            wrong.push(("labels.__name__".into(), "must not stand here; write `name`".into()));
        }
        let bounds = match (&rule.histogram, &rule.observation) {
            (Some(fields), _) => bounds_problem(&fields.bounds).map(|words| ("histogram.bounds", words)),
            (None, Some(_)) => bounds_problem(&rule.bounds).map(|words| ("bounds", words)),
            (None, None) if rule.bounds.is_empty() => None,
            (None, None) => Some(("bounds", "belongs to `observation`".to_owned())),
        };
        wrong.extend(bounds.map(|(key, words)| (key.to_owned(), words)));
        let mut given: Vec<Option<Gives>> =
            [value, count, observation, histogram].into_iter().flatten().collect();
        if given.len() != 1 {
            let words = format!(
                "gives {} things; write exactly one of value, count, observation, histogram",
                given.len()
            );
            wrong.push((String::new(), words));
            return None;
        }
        Some(Self {
            name: rule.name.clone(),
            when: settled(when)?,
            for_each: settled(for_each)?,
            labels: labels.into_iter().collect::<Option<_>>()?,
            at: settled(at)?,
            gives: given.pop()??,
        })
    }
}

/// Not given, given and compiled, or (outer `None`) not to be compiled.
fn settled<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    given.map_or(Some(None), |compiled| compiled.map(Some))
}

/// One message while it is read.
struct Reading {
    at: Timestamp,
    budget: Budget,
    room: Room,
    batch: Batch,
    /// What went wrong first.
    first: Option<String>,
}

impl Reading {
    fn by(&mut self, rule: &Compiled, scope: &Context<'_, '_>) -> Result<(), BadPush> {
        let Some(list) = &rule.for_each else { return self.give(rule, scope) };
        match self.evaluate(rule, "for_each", list, scope) {
            Ok(Value::List(items)) => items.iter().try_for_each(|item| {
                let mut scope = scope.new_inner_scope();
                scope.add_variable_from_value("item", item.clone());
                self.give(rule, &scope)
            }),
            Ok(other) => {
                self.refuse(wrong(
                    rule,
                    "for_each",
                    list,
                    &format!("must give a list, it gives {}", kind(&other)),
                ));
                Ok(())
            }
            Err(problem) => {
                self.refuse(problem);
                Ok(())
            }
        }
    }

    /// One sample, if the rule fits. What is too much for one message ends it.
    fn give(&mut self, rule: &Compiled, scope: &Context<'_, '_>) -> Result<(), BadPush> {
        let (labels, when, said) = match self.sample(rule, scope) {
            Ok(Some(sample)) => sample,
            Ok(None) => return Ok(()),
            Err(problem) => {
                self.refuse(problem);
                return Ok(());
            }
        };
        if let Err((key, problem)) = json::add(&mut self.batch, &mut self.room, labels, when, said)? {
            self.refuse(format!("rule for {}, `{key}`: {problem}", rule.name));
        }
        Ok(())
    }

    fn sample(
        &self,
        rule: &Compiled,
        scope: &Context<'_, '_>,
    ) -> Result<Option<(Labels, When, Said)>, String> {
        if let Some(when) = &rule.when {
            match self.evaluate(rule, "when", when, scope)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(None),
                other => {
                    let words = format!("must give true or false, it gives {}", kind(&other));
                    return Err(wrong(rule, "when", when, &words));
                }
            }
        }
        let mut labels = Labels::from([("__name__".to_owned(), rule.name.clone())]);
        for (name, source) in &rule.labels {
            let key = format!("labels.{name}");
            let text = match self.evaluate(rule, &key, source, scope)? {
                Value::Null => continue,
                Value::String(text) => text.as_ref().clone(),
                Value::Int(number) => number.to_string(),
                Value::UInt(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Bool(yes) => yes.to_string(),
                other => {
                    let words = format!("must give a text or a number, it gives {}", kind(&other));
                    return Err(wrong(rule, &key, source, &words));
                }
            };
            if !text.is_empty() {
                labels.insert(name.clone(), text);
            }
        }
        let told = rule.at.as_ref().map(|at| self.time(rule, at, scope)).transpose()?;
        let about = When::About(told.unwrap_or(self.at));
        let number = |key: &str, source: &Expression| self.number(rule, key, source, scope);
        Ok(Some(match &rule.gives {
            Gives::Value(source) => (labels, about, Said::Value(number("value", source)?)),
            // Several requests may end in one moment: their time says nothing about which of them is known.
            Gives::Count(source) => (labels, about, Said::Count(number("count", source)?)),
            Gives::Observation(source, bounds) => {
                let seen = number("observation", source)?;
                if !seen.is_finite() {
                    return Err(wrong(rule, "observation", source, &format!("gives {seen}")));
                }
                let mut counts = vec![0.0; bounds.len() + 1];
                counts[bounds.partition_point(|bound| *bound < seen)] = 1.0;
                (labels, about, Said::Histogram(Growth { bounds: bounds.clone(), counts, sum: seen }))
            }
            Gives::Histogram { bounds, counts, sum } => {
                let growth = Growth {
                    bounds: bounds.clone(),
                    counts: self.numbers(rule, counts, scope)?,
                    sum: number("histogram.sum", sum)?,
                };
                (labels, told.map_or(about, When::InOrder), Said::Histogram(growth))
            }
        }))
    }

    fn time(
        &self,
        rule: &Compiled,
        source: &Expression,
        scope: &Context<'_, '_>,
    ) -> Result<Timestamp, String> {
        match self.evaluate(rule, "at", source, scope)? {
            Value::String(text) if text.len() <= 40 => text.parse().map_err(|_| {
                wrong(
                    rule,
                    "at",
                    source,
                    &format!(
                        "gives {text:?}, which is not a time in RFC 3339; time() and unix_ms() make one"
                    ),
                )
            }),
            other => Err(wrong(
                rule,
                "at",
                source,
                &format!("must give a time as text, it gives {}", kind(&other)),
            )),
        }
    }

    fn number(
        &self,
        rule: &Compiled,
        key: &str,
        source: &Expression,
        scope: &Context<'_, '_>,
    ) -> Result<f64, String> {
        let found = self.evaluate(rule, key, source, scope)?;
        as_number(&found).ok_or_else(|| {
            let words =
                format!("must give a number, it gives {}; double() makes one of a text", kind(&found));
            wrong(rule, key, source, &words)
        })
    }

    fn numbers(
        &self,
        rule: &Compiled,
        source: &Expression,
        scope: &Context<'_, '_>,
    ) -> Result<Vec<f64>, String> {
        let key = "histogram.counts";
        let found = match self.evaluate(rule, key, source, scope)? {
            Value::List(items) => items.iter().map(as_number).collect::<Option<Vec<f64>>>(),
            _ => None,
        };
        found.ok_or_else(|| wrong(rule, key, source, "must give a list of numbers"))
    }

    fn evaluate(
        &self,
        rule: &Compiled,
        key: &str,
        source: &Expression,
        scope: &Context<'_, '_>,
    ) -> Result<Value, String> {
        source.evaluate(scope, &self.budget).map_err(|problem| wrong(rule, key, source, &problem))
    }

    fn refuse(&mut self, problem: String) {
        self.first.get_or_insert_with(|| problem.clone());
        self.batch.unusable.samples(1, || problem);
    }
}

fn wrong(rule: &Compiled, key: &str, source: &Expression, problem: &str) -> String {
    let source: String = source.source().chars().take(LONGEST_SHOWN).collect();
    format!("rule for {}, `{key}`: {source:?}: {problem}", rule.name)
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(_) => "a text".into(),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "an object".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number".into(),
        other => format!("a value of type {}", other.type_of()),
    }
}
