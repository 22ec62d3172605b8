//! What a message means: rules are read from the first on, and the first that fits counts.
//!
//! What a rule gives is not trusted more than a message in our own form: it becomes one, and is read by the same code
//! under the same limits.
//!
//! **Identity.** What makes news recognisable must be proved, or whoever has recorded one signed message could send it
//! again under another name. So it is the rule's `id`, which is an expression over the signed body; else the sender's
//! name of the delivery where that is signed along (Standard Webhooks); else the body itself, byte by byte.

use super::super::limits::{self, MAX_BATCH, shown};
use super::super::native::{self, Outer};
use super::super::{Accepted, Context, Incoming, LeftOut, Refused, alertmanager, settle};
use super::Hook;
use super::config::Rule;
use super::expression::{self, Budget, Expression, Seen};
use axum::http::HeaderMap;
use cel::Value;
use rules::ids::SourceName;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most rules of a mapping: the largest preset has seven.
const MOST_RULES: usize = 50;

/// Parts of names of headers that may hold a secret or a proof: expressions do not see them.
const HIDDEN_HEADERS: [&str; 6] = ["authorization", "cookie", "token", "secret", "signature", "password"];

/// Rules, compiled.
#[derive(Debug)]
pub(super) struct Mapping {
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    name: String,
    for_each: Option<Expression>,
    when: Option<Expression>,
    gives: Gives,
}

#[derive(Debug)]
enum Gives {
    Deployment(Vec<(&'static str, Expression)>),
    Report(Vec<(&'static str, Expression)>),
    Alerts,
    Nothing(String),
}

/// What a message said.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// The news in it; none, if it is of a kind that says nothing here.
    pub accepted: Vec<Accepted>,
    /// Why it says nothing, or what was left out of it.
    pub notes: Vec<String>,
    /// Reports in it that were not taken.
    pub left_out: LeftOut,
}

/// Problems of a mapping: the key below it, such as `0.deployment.service`, and what is wrong.
type Wrong = Vec<(String, String)>;

impl Mapping {
    /// Compiles rules. The error is everything that is wrong with them.
    pub(super) fn compile(rules: &[Rule]) -> Result<Self, Wrong> {
        let mut wrong = Vec::new();
        if rules.is_empty() {
            wrong.push((String::new(), "has no rules; write what its messages mean".into()));
        }
        if rules.len() > MOST_RULES {
            wrong.push((
                String::new(),
                format!("has {} rules, at most {MOST_RULES} are allowed", rules.len()),
            ));
        }
        let mut names = BTreeSet::new();
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            // The name becomes a part of identities.
            if SourceName::new(rule.name.as_str()).is_err() || !names.insert(rule.name.as_str()) {
                let text = format!("{} is used before or no name; write a short word", shown(&rule.name));
                wrong.push((format!("{index}.name"), text));
            }
            compiled.push(Compiled::of(rule, index, &mut wrong));
        }
        let rules = compiled.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(Self { rules }) } else { Err(wrong) }
    }

    /// Whether a message may be a group of alerts.
    pub(super) fn reads_alerts(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.gives, Gives::Alerts))
    }
}

impl Compiled {
    fn of(rule: &Rule, index: usize, wrong: &mut Wrong) -> Option<Self> {
        let outside = ["body", "headers", "values"];
        let inside = ["body", "headers", "values", "item"];
        let scope: &[&str] = if rule.for_each.is_some() { &inside } else { &outside };
        let mut compile = |key: String, source: &str, scope: &[&str]| {
            let made = Expression::compile(source, scope);
            made.map_err(|problem| wrong.push((format!("{index}.{key}"), problem))).ok()
        };
        let for_each = rule.for_each.as_ref().map(|source| compile("for_each".into(), source, &outside));
        let when = rule.when.as_ref().map(|source| compile("when".into(), source, scope));
        let mut fields = |kind: &str, all: Vec<(&'static str, &str)>| -> Option<Vec<_>> {
            let one = |(key, source)| Some((key, compile(format!("{kind}.{key}"), source, scope)?));
            all.into_iter().map(one).collect()
        };
        let given = [
            rule.deployment.as_ref().map(|it| Some(Gives::Deployment(fields("deployment", it.all())?))),
            rule.report.as_ref().map(|it| Some(Gives::Report(fields("report", it.all())?))),
            rule.alerts.as_ref().map(|_| Some(Gives::Alerts)),
            rule.nothing.as_ref().map(|why| Some(Gives::Nothing(why.clone()))),
        ];
        let mut given: Vec<Option<Gives>> = given.into_iter().flatten().collect();
        if given.len() != 1 {
            let text = format!(
                "gives {} things; write exactly one of deployment, report, alerts, nothing",
                given.len()
            );
            wrong.push((index.to_string(), text));
            return None;
        }
        let gives = given.pop()??;
        if rule.for_each.is_some() && matches!(gives, Gives::Alerts) {
            wrong.push((format!("{index}.for_each"), "`alerts` reads the whole body by itself".into()));
        }
        let (for_each, when) =
            (for_each.map_or(Some(None), |it| it.map(Some))?, when.map_or(Some(None), |it| it.map(Some))?);
        Some(Self { name: rule.name.clone(), for_each, when, gives })
    }
}

/// One message while it is read.
pub(super) struct Reading<'a> {
    pub(super) hook: &'a Hook,
    pub(super) context: Context<'a>,
    pub(super) headers: &'a HeaderMap,
    /// The raw body, for its digest and for [`alertmanager`].
    pub(super) raw: &'a [u8],
    pub(super) body: &'a Json,
}

impl Reading<'_> {
    /// Reads the message by the hook's rules.
    pub(super) fn read(&self) -> Result<Heard, Refused> {
        let mut seen = Seen::new();
        let mut scope = expression::context();
        scope.add_variable_from_value("body", seen.value(self.body));
        scope.add_variable_from_value("headers", seen.value(&visible(self.headers)));
        scope.add_variable_from_value("values", seen.value(&json!(self.hook.values)));
        let budget = Budget::new(seen.longest);
        let notes: Vec<String> = seen.notes.into_iter().collect();
        for rule in &self.hook.mapping.rules {
            let Some(mut heard) = self.by(rule, &scope, &budget)? else { continue };
            // What expressions do not see of a group of alerts is read all the same.
            if !matches!(rule.gives, Gives::Alerts) {
                heard.notes.extend(notes);
            }
            return Ok(heard);
        }
        let names: Vec<&str> = self.hook.mapping.rules.iter().map(|rule| rule.name.as_str()).collect();
        Err(Refused::new(
            422,
            format!(
                "hook `{}`: none of its rules ({}) fits this message; correct them, or add a last rule with `nothing` \
                 for messages that say nothing",
                self.context.source,
                names.join(", ")
            ),
        ))
    }

    /// What the message means by this rule; `None` if the rule does not fit.
    fn by(
        &self,
        rule: &Compiled,
        scope: &cel::Context<'_, '_>,
        budget: &Budget,
    ) -> Result<Option<Heard>, Refused> {
        let Some(list) = &rule.for_each else {
            if !self.fits(rule, scope, budget)? {
                return Ok(None);
            }
            let item = Item { rule, index: 0, raw: self.body };
            return self.give(&item, scope, budget).map(Some);
        };
        let items = match self.evaluate(rule, "for_each", list, scope, budget)? {
            Value::List(items) => items,
            other => {
                return Err(self.wrong(
                    rule,
                    "for_each",
                    list,
                    &format!("must give a list, it gives {}", kind(&other)),
                ));
            }
        };
        let mut heard = Heard::default();
        let mut left_out = Vec::new();
        let mut fitted = false;
        for (index, value) in items.iter().take(MAX_BATCH).enumerate() {
            let mut scope = scope.new_inner_scope();
            scope.add_variable_from_value("item", value.clone());
            if !self.fits(rule, &scope, budget)? {
                continue;
            }
            fitted = true;
            let raw = to_json(value);
            match self.give(&Item { rule, index, raw: &raw }, &scope, budget) {
                Ok(given) => {
                    heard.accepted.extend(given.accepted);
                    heard.notes.extend(given.notes);
                }
                // One that cannot be used must not cost the others.
                Err(refused) => left_out.push(refused.reason),
            }
        }
        if items.len() > MAX_BATCH {
            heard
                .notes
                .push(format!("the list has {} items; only the first {MAX_BATCH} were read", items.len()));
        }
        if !left_out.is_empty() {
            heard.left_out.unusable = left_out.len() as u64;
            heard.accepted = settle(heard.accepted, left_out)?;
        }
        Ok(fitted.then_some(heard))
    }

    fn fits(&self, rule: &Compiled, scope: &cel::Context<'_, '_>, budget: &Budget) -> Result<bool, Refused> {
        let Some(when) = &rule.when else { return Ok(true) };
        match self.evaluate(rule, "when", when, scope, budget)? {
            Value::Bool(fits) => Ok(fits),
            other => Err(self.wrong(
                rule,
                "when",
                when,
                &format!("must give true or false, it gives {}", kind(&other)),
            )),
        }
    }

    fn give(&self, item: &Item<'_>, scope: &cel::Context<'_, '_>, budget: &Budget) -> Result<Heard, Refused> {
        let (word, fields) = match &item.rule.gives {
            Gives::Nothing(why) => {
                let notes = vec![format!("nothing to record: {why}")];
                return Ok(Heard { notes, ..Heard::default() });
            }
            Gives::Alerts => {
                let Context { source, now } = self.context;
                let labels = &self.hook.alert_labels;
                let alerts = alertmanager::parse_alerts_with(source, labels, self.raw, now)?;
                let alertmanager::Alerts { accepted, left_out } = alerts;
                return Ok(Heard { accepted, left_out, ..Heard::default() });
            }
            Gives::Deployment(fields) => ("deployment", fields),
            Gives::Report(fields) => ("report", fields),
        };
        let mut form = Map::new();
        for (key, expression) in fields {
            let place = format!("{word}.{key}");
            let value = self.evaluate(item.rule, &place, expression, scope, budget)?;
            let value = match to_json(&value) {
                Json::Null => continue,
                Json::String(text) if text.is_empty() => continue,
                Json::String(text) => Json::String(self.renamed(key, text)),
                number @ Json::Number(_) if *key == "sequence" => number,
                _ => {
                    let problem = format!("must give a text, it gives {}", kind(&value));
                    return Err(self.wrong(item.rule, &place, expression, &problem));
                }
            };
            form.insert((*key).to_owned(), value);
        }
        self.accept(item, word, form)
    }

    /// Reads what a rule gave as a message in our own form.
    fn accept(&self, item: &Item<'_>, word: &str, form: Map<String, Json>) -> Result<Heard, Refused> {
        let identity = match form.contains_key("id") {
            true => None,
            false => Some(format!("{}#{}.{}", self.delivery()?, item.rule.name, item.index)),
        };
        let without_id = identity.is_some() && self.signed_delivery().is_none();
        let outer = Outer { identity, at: None };
        let form = Json::Object(form);
        let read = match word {
            "deployment" => native::deployment(self.context, word, &form, outer),
            _ => native::report(self.context, word, &form, outer),
        };
        let mut accepted = read.map_err(|refused| self.unfit(item.rule, &refused))?;
        accepted.raw = item.raw.clone();
        if without_id {
            accepted
                .notes
                .push("no `id`: exactly the same body counts as a repetition, whenever it comes".into());
        }
        debug_assert!(matches!(
            (&accepted.incoming, word),
            (Incoming::Deploy(_), "deployment") | (Incoming::Report(_), _)
        ));
        Ok(Heard { accepted: vec![accepted], ..Heard::default() })
    }

    /// A name of the sender, in our words.
    fn renamed(&self, key: &str, text: String) -> String {
        match key {
            "service" => self.hook.service_names.get(&text).map_or(text, ToString::to_string),
            "environment" => self.hook.environment_names.get(&text).map_or(text, ToString::to_string),
            _ => text,
        }
    }

    fn signed_delivery(&self) -> Option<&str> {
        self.hook.key.credential.signed_identity(self.headers)
    }

    /// What makes this delivery recognisable, of what is proved.
    fn delivery(&self) -> Result<String, Refused> {
        match self.signed_delivery() {
            Some(id) => limits::identity("header webhook-id", id),
            None => Ok(format!("sha256:{}", crate::events::digest(self.raw))),
        }
    }

    fn evaluate(
        &self,
        rule: &Compiled,
        place: &str,
        expression: &Expression,
        scope: &cel::Context<'_, '_>,
        budget: &Budget,
    ) -> Result<Value, Refused> {
        expression.evaluate(scope, budget).map_err(|problem| self.wrong(rule, place, expression, &problem))
    }

    fn wrong(&self, rule: &Compiled, place: &str, expression: &Expression, problem: &str) -> Refused {
        let (hook, name) = (self.context.source, &rule.name);
        let source = limits::shown_up_to(expression.source(), 200);
        Refused::new(422, format!("hook `{hook}`, rule `{name}`, `{place}`: {source}: {problem}"))
    }

    fn unfit(&self, rule: &Compiled, refused: &Refused) -> Refused {
        let table =
            ["service", "environment"].into_iter().find(|key| refused.reason.contains(&format!(".{key}`")));
        let advice = table
            .map_or(String::new(), |key| format!("; `{key}_names` of the hook can give it another name"));
        let text =
            format!("hook `{}`, rule `{}`: {}{advice}", self.context.source, rule.name, refused.reason);
        Refused::new(refused.status, text)
    }
}

/// What one rule is read for.
struct Item<'a> {
    rule: &'a Compiled,
    index: usize,
    /// What is kept in the ledger.
    raw: &'a Json,
}

/// The headers that expressions see.
fn visible(headers: &HeaderMap) -> Json {
    let mut seen = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        let hidden = HIDDEN_HEADERS.iter().any(|part| name.contains(part));
        if let Some(text) = value.to_str().ok().filter(|_| !hidden) {
            seen.entry(name).or_insert(text);
        }
    }
    json!(seen)
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(number) => Json::from(*number),
        Value::UInt(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::String(text.as_ref().clone()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map.map.iter().map(|(key, value)| (key.to_string(), to_json(value))).collect(),
        // Optional values, types and the like: nothing that a message could hold.
        _ => Json::Null,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(_) => "a text".into(),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "an object".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number; string() makes a text of it".into(),
        other => format!("a value of type {}", other.type_of()),
    }
}
