//! JSON read strictly: no duplicate keys, no deep nesting, and every error says at which field it happened.
//!
//! Two programs that read `{"service":"a","service":"b"}` may disagree about the service. Here such a body is refused
//! before anybody decides, so the one who signed it, the one who filtered it and we all read the same.

use super::Refused;
use super::limits::{MAX_BODY_BYTES, MAX_DEPTH, shown};
use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

/// Reads a whole body. Errors: 413 too long; 400 empty, not UTF-8, byte order mark, no JSON, nested deeper than
/// [`MAX_DEPTH`], a key twice in one object.
pub(crate) fn parse(body: &[u8]) -> Result<Value, Refused> {
    parse_within(body, MAX_BODY_BYTES)
}

/// The same for a body of up to `most` bytes.
pub(crate) fn parse_within(body: &[u8], most: usize) -> Result<Value, Refused> {
    if body.len() > most {
        let reason =
            format!("the body has {} bytes, at most {most} are allowed; send smaller batches", body.len());
        return Err(Refused::new(413, reason));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Refused::new(400, "the body is empty; send a JSON object or a list of them"));
    }
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err(Refused::new(400, "the body begins with a byte order mark; send UTF-8 without it"));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        Refused::new(400, format!("the body is not UTF-8 from byte {} on; send UTF-8", error.valid_up_to()))
    })?;
    let path = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { path: &path }.deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let place = path.borrow().concat();
        let place = place.trim_start_matches('.');
        match place {
            "" => Refused::new(400, format!("the body is not usable JSON: {error}")),
            _ => Refused::new(400, format!("the body is not usable JSON at {}: {error}", shown(place))),
        }
    })
}

/// Reads one value; `path` keeps where we are when it fails.
struct Strict<'a> {
    path: &'a RefCell<Vec<String>>,
}

impl Strict<'_> {
    fn inside<T, E>(&self, place: String, read: impl FnOnce(Strict<'_>) -> Result<T, E>) -> Result<T, E> {
        self.path.borrow_mut().push(place);
        let value = read(Strict { path: self.path })?;
        self.path.borrow_mut().pop();
        Ok(value)
    }
    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.path.borrow().len() < MAX_DEPTH {
            true => Ok(()),
            false => Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        while let Some(item) =
            self.inside(format!("[{}]", list.len()), |seed| items.next_element_seed(seed))?
        {
            list.push(item);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {} stands twice", shown(&key))));
            }
            let value = self.inside(format!(".{key}"), |seed| entries.next_value_seed(seed))?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// The fields of one object, read by name; every error is a 422 that says which field, in the words `a.b[2].c`.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// `value` must be an object; `path` says where it stands (empty for the whole body).
    pub(crate) fn of(path: &str, value: &'a Value) -> Result<Self, Refused> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other if path.is_empty() => {
                Err(Refused::new(422, format!("the body must be an object, it is {}", kind(other))))
            }
            other => Err(Refused::field(path, format!("must be an object, it is {}", kind(other)))),
        }
    }

    /// The full name of a field, for messages.
    pub(crate) fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Refuses every field that is not one of `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Refused> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let cut: String = key.chars().take(64).collect();
                let place = self.place(&cut.escape_debug().to_string());
                Err(Refused::field(&place, format!("is not known here; known are {}", known.join(", "))))
            }
        }
    }

    /// The value of a field; `null` is the same as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// All fields as JSON with sorted keys: the same content gives the same text.
    pub(crate) fn canonical(&self) -> String {
        let sorted: std::collections::BTreeMap<_, _> =
            self.map.iter().map(|(key, value)| (key, value.to_string())).collect();
        sorted.iter().map(|(key, value)| format!("{key:?}:{value};")).collect()
    }

    /// A text that may be absent.
    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, Refused> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(Refused::field(&self.place(key), format!("must be a text, it is {}", kind(other))))
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn text(&self, key: &str) -> Result<&'a str, Refused> {
        self.optional_text(key)?
            .ok_or_else(|| Refused::field(&self.place(key), "is missing; it must be a text"))
    }

    /// Yes or no, or absent.
    pub(crate) fn optional_flag(&self, key: &str) -> Result<Option<bool>, Refused> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong =
            || Refused::field(&self.place(key), format!("must be true or false, it is {}", kind(value)));
        value.as_bool().map(Some).ok_or_else(wrong)
    }

    /// A list of texts that may be absent.
    pub(crate) fn optional_texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, Refused> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong =
            || Refused::field(&self.place(key), format!("must be a list of texts, it is {}", kind(value)));
        let list = value.as_array().ok_or_else(wrong)?;
        list.iter().map(|item| item.as_str().ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    /// An object that may be absent.
    pub(crate) fn optional_object(&self, key: &str) -> Result<Option<Fields<'a>>, Refused> {
        self.get(key).map(|value| Fields::of(&self.place(key), value)).transpose()
    }

    /// An object that must be there.
    pub(crate) fn object(&self, key: &str) -> Result<Fields<'a>, Refused> {
        self.optional_object(key)?
            .ok_or_else(|| Refused::field(&self.place(key), "is missing; it must be an object"))
    }

    /// A time that may be absent, as RFC 3339 writes it.
    pub(crate) fn optional_time(&self, key: &str) -> Result<Option<Timestamp>, Refused> {
        self.optional_text(key)?.map(|text| time(&self.place(key), text)).transpose()
    }

    /// A whole number from 0 on that may be absent.
    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<u64>, Refused> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
        let wrong = || format!("must be a whole number from 0 to {}, it is {found}", u64::MAX);
        value.as_u64().map(Some).ok_or_else(|| Refused::field(&self.place(key), wrong()))
    }
}

/// Reads a time as RFC 3339 writes it.
pub(crate) fn time(field: &str, text: &str) -> Result<Timestamp, Refused> {
    let wrong = || format!("{} is not a time; write RFC 3339 such as 2026-03-01T12:00:00Z", shown(text));
    // The longest RFC 3339 time with nanoseconds and an offset has 35 characters.
    if text.len() > 40 {
        return Err(Refused::field(field, wrong()));
    }
    text.parse().map_err(|_| Refused::field(field, wrong()))
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
