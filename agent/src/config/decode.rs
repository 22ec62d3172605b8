//! A tree to a typed value.
//!
//! The types are plain `serde` structs. What is particular here: a number can fill a text (`OrgID: 1234`), nothing
//! (`signals:` with all below it commented out) is an empty map or list, a struct is never read from a list, and every
//! fault knows its path and place.

use super::fault::{Fault, Reason};
use super::tree::{Entry, Node, Value};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, Unexpected, Visitor};
use std::cell::RefCell;
use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};
use std::slice;

/// The keys that the types know, and those that were used: what the documented example must hold.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// By the name of a struct: its keys; by the name of an enum: its variants.
    pub known: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// The same for what was found.
    pub used: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Reads a node.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    node: &'a Node,
    trace: Option<&'a RefCell<Trace>>,
}

impl<'a> Decoder<'a> {
    /// For this node.
    pub fn new(node: &'a Node) -> Self {
        Self { node, trace: None }
    }

    /// Notes what the types ask for.
    #[cfg(test)]
    pub fn traced(node: &'a Node, trace: &'a RefCell<Trace>) -> Self {
        Self { node, trace: Some(trace) }
    }

    fn child(self, node: &'a Node) -> Self {
        Self { node, trace: self.trace }
    }

    fn note(self, name: &'static str, known: &'static [&'static str]) {
        let Some(trace) = self.trace else {
            return;
        };
        let mut trace = trace.borrow_mut();
        trace.known.entry(name).or_default().extend(known);
        let used = trace.used.entry(name).or_default();
        match &self.node.value {
            Value::Map(map) => used.extend(map.keys().cloned()),
            Value::Scalar { text, .. } => drop(used.insert(text.clone())),
            Value::Null | Value::List(_) => {}
        }
    }

    fn refuse(self, expected: &dyn de::Expected) -> Fault {
        let found = match &self.node.value {
            Value::Scalar { text, .. } => super::fault::found(&Unexpected::Str(text)),
            other => other.kind().to_owned(),
        };
        Fault::new(Reason::Invalid { found, expected: expected.to_string() })
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Map(map) => visitor.visit_map(Entries { parent: self, entries: map.iter(), value: None }),
            Value::Null => {
                visitor.visit_map(Entries { parent: self, entries: BTreeMap::new().iter(), value: None })
            }
            Value::Scalar { .. } | Value::List(_) => Err(self.refuse(&visitor)),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { parent: self, items: items.iter() }),
            Value::Null => visitor.visit_seq(Items { parent: self, items: [].iter() }),
            Value::Scalar { .. } | Value::Map(_) => Err(self.refuse(&visitor)),
        }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Map(_) => self.map(visitor),
            Value::List(_) => self.list(visitor),
            Value::Scalar { text, plain: false } => visitor.visit_str(text),
            Value::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                _ => number(text, visitor),
            },
        }
    }

    fn variant<'de, V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.note(name, known);
        match &self.node.value {
            Value::Scalar { .. } if name == SECRET => Err(Fault::new(Reason::InlineSecret)),
            Value::Scalar { text, .. } => visitor.visit_enum(StrDeserializer::<Fault>::new(text)),
            Value::Map(map) if map.len() == 1 => match map.iter().next() {
                Some((key, entry)) => visitor.visit_enum(Variant { parent: self, name, key, entry }),
                None => Err(Fault::new(Reason::NotOne { found: "nothing".into(), known })),
            },
            Value::Map(map) if !map.is_empty() => {
                let keys: Vec<&str> = map.keys().map(String::as_str).take(8).collect();
                Err(Fault::new(Reason::NotOne { found: format!("the keys {}", keys.join(", ")), known }))
            }
            other => Err(Fault::new(Reason::NotOne { found: other.kind().into(), known })),
        }
    }
}

/// The name of `rules::action::SecretRef`, as its derived code gives it.
const SECRET: &str = "SecretRef";

fn number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Fault> {
    // Rust would also read `inf`, `nan` and `infinity`, which are words here.
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit());
    match text {
        _ if !numeric => visitor.visit_str(text),
        _ => match (text.parse::<u64>(), text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), ..) => visitor.visit_u64(whole),
            (_, Ok(whole), _) => visitor.visit_i64(whole),
            (_, _, Ok(fraction)) if fraction.is_finite() => visitor.visit_f64(fraction),
            _ => visitor.visit_str(text),
        },
    }
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.any(visitor).map_err(|fault| fault.at(self.node.at))
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match &self.node.value {
            Value::Scalar { text, .. } => visitor.visit_str(text),
            Value::Null | Value::List(_) | Value::Map(_) => Err(self.refuse(&visitor)),
        };
        read.map_err(|fault| fault.at(self.node.at))
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => visitor.visit_some(self),
        }
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.list(visitor).map_err(|fault| fault.at(self.node.at))
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.map(visitor).map_err(|fault| fault.at(self.node.at))
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.note(name, known);
        self.map(visitor).map_err(|fault| fault.at(self.node.at))
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let read = self.variant(name, known, visitor).map_err(|fault| fault.at(self.node.at));
        if name == SECRET { read.map_err(|fault| fault.secret().moved_to(self.node.at)) } else { read }
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

struct Entries<'a> {
    parent: Decoder<'a>,
    entries: btree_map::Iter<'a, String, Entry>,
    value: Option<(&'a str, &'a Entry)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, entry)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, entry));
        let node = Node { at: entry.key_at, value: Value::Scalar { text: key.clone(), plain: true } };
        let read = seed.deserialize(Decoder::new(&node));
        // Of the key it is known where it stands, whatever the type says.
        read.map(Some).map_err(|fault| fault.moved_to(entry.key_at).within(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, entry)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(self.parent.child(&entry.value))
            .map_err(|fault| fault.at(entry.value.at).within(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Items<'a> {
    parent: Decoder<'a>,
    items: slice::Iter<'a, (usize, Node)>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((number, node)) = self.items.next() else {
            return Ok(None);
        };
        let read = seed.deserialize(self.parent.child(node));
        read.map(Some).map_err(|fault| fault.at(node.at).within(number.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Variant<'a> {
    parent: Decoder<'a>,
    name: &'static str,
    key: &'a str,
    entry: &'a Entry,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.key.into_deserializer();
        match seed.deserialize(name) {
            Ok(value) => Ok((value, self)),
            // Here the word is a key, and nothing else can stand beside it.
            Err(Fault { reason: Reason::UnknownWord { known, .. }, .. }) => {
                Err(Fault::new(Reason::UnknownKey { known }).at(self.entry.key_at).within(self.key))
            }
            Err(fault) => Err(fault.at(self.entry.key_at)),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match &self.entry.value.value {
            Value::Null => Ok(()),
            other => {
                let reason = Reason::Invalid {
                    found: other.kind().into(),
                    expected: format!("nothing: write only `{}`", self.key),
                };
                Err(Fault::new(reason).at(self.entry.value.at).within(self.key))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let read = seed.deserialize(self.parent.child(&self.entry.value));
        read.map_err(|fault| fault.at(self.entry.value.at).within(self.key))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        let read = self.parent.child(&self.entry.value).list(visitor);
        read.map_err(|fault| fault.at(self.entry.value.at).within(self.key))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let child = self.parent.child(&self.entry.value);
        // All struct variants of an enum share one set of names in the trace.
        child.note(self.name, known);
        child.map(visitor).map_err(|fault| fault.at(self.entry.value.at).within(self.key))
    }
}
