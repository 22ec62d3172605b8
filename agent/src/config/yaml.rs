//! YAML text to a tree, through the event parser that `serde-saphyr` is built on.
//!
//! `serde_saphyr::from_str` stops at the first problem and needs a type; here a whole file is read, whatever is wrong
//! with its content, and the types come later. Duplicate keys are found here, since a map cannot hold them. Aliases
//! (`*name`) are copied into place under a limit on the whole, so that a "billion laughs" is refused after a thousandth
//! of a second instead of filling the memory.

use super::report::{Finding, Show};
use super::tree::{DEEPEST, Entry, Node, Place, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Values in one file, copies by aliases included. A configuration for a hundred services has some ten thousand.
const MOST_NODES: usize = 100_000;

/// Reads one document. Findings that leave the rest of the text readable (duplicate keys) go to `findings`; the error
/// is the one that does not.
pub(super) fn parse(text: &str, source: usize, findings: &mut Vec<Finding>) -> Result<Node, Box<Finding>> {
    let options = granit_parser::options! { flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST, emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder =
        Builder { parser, source, nodes: 0, anchors: BTreeMap::new(), path: Vec::new(), findings };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_some() => {
                let finding = Finding::new(builder.place(&span), &[], "a second document begins here");
                let finding = finding.expected("one document in a file");
                return refuse(finding.advice("put it into a file of its own, or remove the `---`"));
            }
            Event::DocumentStart(..) => {}
            event => root = Some(builder.node(event, &span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { at: Place::whole(source), value: Value::Null }))
}

fn refuse<T>(finding: Finding) -> Result<T, Box<Finding>> {
    Err(Box::new(finding))
}

struct Builder<'text, 'f> {
    parser: Parser<'text, StrInput<'text>>,
    source: usize,
    nodes: usize,
    anchors: BTreeMap<usize, Node>,
    /// Where the reading is, for findings.
    path: Vec<String>,
    findings: &'f mut Vec<Finding>,
}

impl<'text> Builder<'text, '_> {
    fn place(&self, span: &Span) -> Place {
        let width = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        };
        Place {
            source: self.source,
            line: span.start.line(),
            column: span.start.col() + 1,
            width: width.max(1),
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, Box<Finding>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let mark = error.marker();
                let place =
                    Place { source: self.source, line: mark.line().max(1), column: mark.col() + 1, width: 1 };
                let words = error.info();
                let words = if words.is_empty() { "this cannot be read" } else { &words };
                let finding = Finding::new(place, &[], format!("not YAML: {words}"));
                refuse(
                    finding.advice("check the indentation, quotes and brackets here and in the lines before"),
                )
            }
        }
    }

    /// Counts nodes, and refuses when there are too many or they are too deep.
    fn admit(&mut self, place: Place, depth: usize, count: usize) -> Result<(), Box<Finding>> {
        self.nodes += count;
        if self.nodes > MOST_NODES {
            let text = format!("there are more than {MOST_NODES} values, copies by aliases (*name) included");
            let finding = Finding::new(place, &[], text);
            return refuse(finding.advice("use fewer aliases, or split the configuration"));
        }
        if depth > DEEPEST {
            let text = format!("values are nested more than {DEEPEST} deep");
            let finding = Finding::new(place, &[], text);
            return refuse(
                finding.advice("no setting is nested that deep; look for a bracket that is not closed"),
            );
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'text>, span: &Span, depth: usize) -> Result<Node, Box<Finding>> {
        let at = self.place(span);
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                // An alias inside of its own anchor is not there yet: that would be an endless value.
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return refuse(Finding::new(at, &[], "an alias that stands inside of what it names"));
                };
                self.admit(at, depth + node.depth(), node.count())?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.admit(at, depth, 1)?;
                (scalar(text.into_owned(), style, self.known_tag(tag, at)?), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.admit(at, depth, 1)?;
                self.known_tag(tag, at)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.admit(at, depth, 1)?;
                self.known_tag(tag, at)?;
                (self.entries(depth)?, anchor)
            }
            _ => return refuse(Finding::new(at, &[], "this cannot stand here")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            // Kept copies count too, so that memory is bounded by the same limit.
            self.admit(at, depth, node.count())?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Box<Finding>> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            self.path.push(items.len().to_string());
            items.push((items.len(), self.node(event, &span, depth + 1)?));
            self.path.pop();
        }
        Ok(Value::List(items))
    }

    fn entries(&mut self, depth: usize) -> Result<Value, Box<Finding>> {
        let mut map: BTreeMap<String, Entry> = BTreeMap::new();
        let mut merged = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key_at = self.place(&span);
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, &span, depth + 1)?;
            let Some((event, span)) = self.next()? else {
                break;
            };
            self.path.push(key.text().unwrap_or_default().to_owned());
            let value = self.node(event, &span, depth + 1)?;
            let path = self.path.clone();
            self.path.pop();
            let Some(key) = key.text().map(str::to_owned) else {
                let text = format!("{} cannot be a key", key.value.kind());
                self.findings.push(Finding::new(key_at, &self.path, text).expected("a name"));
                continue;
            };
            match map.get(&key) {
                _ if merge => merged.push((key_at, value)),
                None => drop(map.insert(key, Entry { key_at, value })),
                Some(first) => {
                    let text = format!(
                        "the key `{key}` is given twice; it is already in line {}",
                        first.key_at.line
                    );
                    let finding = Finding::new(key_at, &path, text).expected("each key once");
                    // What follows may be a secret that nobody looks at any more.
                    let show = Show::UpToHere;
                    self.findings.push(Finding { show, ..finding.advice("remove one of the two") });
                }
            }
        }
        for (key_at, value) in merged {
            self.merge(&mut map, key_at, value);
        }
        Ok(Value::Map(map))
    }

    /// `<<: *base`: entries of another map, where there are none of that name.
    fn merge(&mut self, map: &mut BTreeMap<String, Entry>, key_at: Place, value: Node) {
        let bases = match value.value {
            Value::List(items) => items.into_iter().map(|(_, node)| node).collect(),
            _ => vec![value],
        };
        for base in bases {
            match base.value {
                Value::Map(entries) => {
                    for (key, entry) in entries {
                        map.entry(key).or_insert(entry);
                    }
                }
                other => {
                    let text = format!("`<<` is given {}", other.kind());
                    self.findings.push(
                        Finding::new(key_at, &[&self.path[..], &["<<".to_owned()]].concat(), text)
                            .expected("a map, or a list of maps"),
                    );
                }
            }
        }
    }

    /// True if the tag says that this is a text; false without a tag. Other tags mean types that do not exist here.
    fn known_tag(&self, tag: Option<Cow<'text, Tag>>, at: Place) -> Result<bool, Box<Finding>> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.core_suffix() == Some("str") => Ok(true),
            Some(tag) => match tag.core_suffix() {
                Some("int" | "float" | "bool" | "null" | "map" | "seq") => Ok(false),
                _ => {
                    let text = format!("the tag {} means nothing here", tag.original());
                    let finding = Finding::new(at, &[], text);
                    refuse(finding.advice("remove it; put the value into quotes if it begins with `!`"))
                }
            },
        }
    }
}

fn scalar(text: String, style: ScalarStyle, tagged_text: bool) -> Value {
    let plain = style == ScalarStyle::Plain && !tagged_text;
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ => Value::Scalar { text, plain },
    }
}
