//! The configuration as a tree that remembers where each part was written.
//!
//! Every source of settings (a file, an environment variable, a flag) becomes such a tree before anything is known
//! about types. Scalars stay text until a type asks for them, so that `version: 1.10` for a string is `1.10`, and each
//! node knows its line and column, so that every later complaint can point at it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Deeper than any configuration that means something; it bounds every recursion over trees.
pub(super) const DEEPEST: usize = 48;

/// One source of settings.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A file and its text.
    File { path: PathBuf, text: String },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line, such as `--listen`.
    Flag(String),
}

/// All sources; a [`Place`] names one by its number.
pub(super) type Sources = Vec<Source>;

/// Where something was written. Line and column count from 1; line 0 means that only the source is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub source: usize,
    pub line: usize,
    pub column: usize,
    /// Characters on that line, for the caret.
    pub width: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub at: Place,
    pub value: Value,
}

/// A value before its type is known.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing was written: `key:`, `~` or `null`.
    Null,
    /// Text; `plain` if it was written without quotes and may also be a number or a boolean.
    Scalar { text: String, plain: bool },
    /// A list; each item keeps the number it was written at, even when others are taken out.
    List(Vec<(usize, Node)>),
    /// A map.
    Map(BTreeMap<String, Entry>),
}

/// A key's place and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key_at: Place,
    pub value: Node,
}

/// A key path, from the root.
pub(super) type Path = Vec<String>;

impl Place {
    /// A source as a whole.
    pub fn whole(source: usize) -> Self {
        Self { source, line: 0, column: 0, width: 0 }
    }
}

impl Value {
    /// The kind as words for people; never the content, which may be a secret.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Node {
    /// A map without entries.
    pub fn empty_map(at: Place) -> Self {
        Self { at, value: Value::Map(BTreeMap::new()) }
    }

    /// The entries, if it is a map.
    pub fn map(&self) -> Option<&BTreeMap<String, Entry>> {
        match &self.value {
            Value::Map(map) => Some(map),
            Value::Null | Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// The entries, if it is a map.
    pub fn map_mut(&mut self) -> Option<&mut BTreeMap<String, Entry>> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            Value::Null | Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// The text, if it is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value of `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map().and_then(|map| map.get(key)).map(|entry| &entry.value)
    }

    /// The value of `key`, if this is a map that has it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.map_mut().and_then(|map| map.get_mut(key)).map(|entry| &mut entry.value)
    }

    /// The child of this name: a key of a map, or the number a list's item was written at.
    fn child_mut(&mut self, step: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(map) => map.get_mut(step).map(|entry| &mut entry.value),
            Value::List(items) => {
                items.iter_mut().find(|(number, _)| number.to_string() == step).map(|(_, node)| node)
            }
            Value::Null | Value::Scalar { .. } => None,
        }
    }

    /// The node at a path.
    pub fn at_path(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| match &node.value {
            Value::Map(map) => map.get(step).map(|entry| &entry.value),
            Value::List(items) => {
                items.iter().find(|(number, _)| number.to_string() == *step).map(|(_, node)| node)
            }
            Value::Null | Value::Scalar { .. } => None,
        })
    }

    /// Takes the node at a path out. False if there is none, or if it is the root.
    pub fn remove(&mut self, path: &[String]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let mut parent = self;
        for step in parents {
            match parent.child_mut(step) {
                Some(child) => parent = child,
                None => return false,
            }
        }
        match &mut parent.value {
            Value::Map(map) => map.remove(last).is_some(),
            Value::List(items) => {
                let before = items.len();
                items.retain(|(number, _)| number.to_string() != *last);
                items.len() < before
            }
            Value::Null | Value::Scalar { .. } => false,
        }
    }

    /// Follows a dotted path (`rows.2.when.signal.is`) as far as it goes, and returns the path with the numbers that
    /// were written, and the place of what was found last: of the key, which is what a person looks for.
    ///
    /// Numbers in `dotted` count what is in the tree now. Keys may hold dots themselves (service names do), so the
    /// longest key that fits is taken.
    pub fn locate(&self, start: &[String], dotted: &str) -> (Path, Place) {
        let (mut path, mut place, mut node) = (Path::new(), self.at, self);
        for step in start {
            match node.step(step) {
                Some((key_at, child)) => (place, node) = (key_at, child),
                None => return (self::joined(start, dotted), place),
            }
            path.push(step.clone());
        }
        let mut rest = dotted;
        while !rest.is_empty() {
            let Some((written, key_at, child, behind)) = node.longest_step(rest) else {
                path.extend(rest.split('.').map(str::to_owned));
                break;
            };
            path.push(written);
            (place, node, rest) = (key_at, child, behind);
        }
        (path, place)
    }

    fn step(&self, step: &str) -> Option<(Place, &Node)> {
        match &self.value {
            Value::Map(map) => map.get(step).map(|entry| (entry.key_at, &entry.value)),
            Value::List(items) => {
                items.iter().find(|(number, _)| number.to_string() == step).map(|(_, node)| (node.at, node))
            }
            Value::Null | Value::Scalar { .. } => None,
        }
    }

    fn longest_step<'a>(&self, rest: &'a str) -> Option<(String, Place, &Node, &'a str)> {
        match &self.value {
            Value::Map(map) => map
                .iter()
                .filter_map(|(key, entry)| {
                    let behind = rest.strip_prefix(key.as_str())?;
                    let behind = if behind.is_empty() { Some(behind) } else { behind.strip_prefix('.') }?;
                    Some((key.clone(), entry.key_at, &entry.value, behind))
                })
                .max_by_key(|(key, ..)| key.len()),
            Value::List(items) => {
                let (number, behind) = rest.split_once('.').unwrap_or((rest, ""));
                let (written, node) = items.get(number.parse::<usize>().ok()?)?;
                Some((written.to_string(), node.at, node, behind))
            }
            Value::Null | Value::Scalar { .. } => None,
        }
    }

    /// Nodes in this tree, itself included.
    pub fn count(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(|(_, node)| node.count()).sum::<usize>(),
            Value::Map(map) => map.values().map(|entry| entry.value.count()).sum::<usize>(),
        }
    }

    /// Levels of nesting in this tree; 1 for a scalar.
    pub fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
            Value::Map(map) => map.values().map(|entry| entry.value.depth()).max().unwrap_or(0),
        }
    }
}

fn joined(start: &[String], dotted: &str) -> Path {
    let rest = dotted.split('.').filter(|step| !step.is_empty()).map(str::to_owned);
    start.iter().cloned().chain(rest).collect()
}

/// A path as people read it: `services.checkout.watch.soak`; a key that holds dots or control characters is put into
/// quotes.
pub(super) fn show_path(path: &[String]) -> String {
    let odd = |c: char| c == '.' || c.is_control();
    let steps: Vec<String> =
        path.iter().map(|step| if step.contains(odd) { format!("{step:?}") } else { step.clone() }).collect();
    steps.join(".")
}
