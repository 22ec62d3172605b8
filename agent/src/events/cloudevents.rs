//! CloudEvents 1.0 over HTTP: binary, structured and batch.
//!
//! Why our own binding and not the SDK's: the SDK has no batch for HTTP, lets empty and duplicated attributes pass,
//! does not decode percent-encoded header values, reads `dataref` as just another extension, and its errors do not
//! say which event of a batch they mean. A binary message is turned into its structured form first, so all
//! three ways are read by the same code and the ledger keeps the same record.
//!
//! What may be inside: a CDEvent, or our own form under the types [`DEPLOYMENT_TYPE`] and [`REPORT_TYPE`].

use super::json::{self, Fields};
use super::limits::{self, shown};
use super::native::{self, Outer};
use super::{Context, Outcome, Refused, cdevents, single_header};
use axum::http::HeaderMap;
use base64::Engine as _;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The type of a CloudEvent whose data is the deployment shape of our own form.
pub const DEPLOYMENT_TYPE: &str = "dev.turnback.deployment.v1";
/// The type of a CloudEvent whose data is the report shape of our own form.
pub const REPORT_TYPE: &str = "dev.turnback.report.v1";

/// The most attributes of one event. The standard has eight; the rest are extensions such as `traceparent`.
const MAX_ATTRIBUTES: usize = 64;

/// The attributes that we use.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) time: Option<Timestamp>,
}

impl Attributes {
    /// `id` is unique within `source`, so both together make the identity.
    pub(super) fn identity(&self) -> String {
        format!("{}|{}", self.id, self.source)
    }
    /// The name of an attribute, for messages.
    pub(super) fn place(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Does the request carry a CloudEvent in its headers?
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("ce-"))
}

/// The structured form of a binary message. Errors: 400 duplicate or unreadable headers and bodies that are no JSON.
pub(super) fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
    let mut event = Map::new();
    for name in headers.keys().filter(|name| name.as_str().starts_with("ce-")) {
        let Some(text) = single_header(headers, name)? else { continue };
        let attribute = &name.as_str()["ce-".len()..];
        if matches!(attribute, "data" | "data_base64" | "datacontenttype") {
            return Err(Refused::new(
                400,
                format!("header {name}: not an attribute of a binary event; send data as the body"),
            ));
        }
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
            Refused::new(400, format!("header {name}: {} is not percent-encoded UTF-8", shown(text)))
        })?;
        event.insert(attribute.to_owned(), Value::String(decoded.into_owned()));
    }
    event.insert("data".to_owned(), json::parse(body)?);
    Ok(Value::Object(event))
}

/// Reads one event in structured form. Errors: 422 that names the attribute.
pub(super) fn structured(context: Context<'_>, path: &str, event: &Value) -> Result<Outcome, Refused> {
    let fields = Fields::of(path, event)?;
    let attributes = attributes(path, event, &fields)?;
    let data = data(&fields)?;
    let inside = fields.place("data");
    let mut outcome = match attributes.kind.as_str() {
        kind if cdevents::is_ours(kind) => cdevents::parse(context, &inside, &data, Some(&attributes))?,
        DEPLOYMENT_TYPE => {
            let outer = outer(&attributes, &inside, &data)?;
            Outcome::Usable(Box::new(native::deployment(context, &inside, &data, outer)?))
        }
        REPORT_TYPE => {
            let outer = outer(&attributes, &inside, &data)?;
            Outcome::Usable(Box::new(native::report(context, &inside, &data, outer)?))
        }
        other => Outcome::Silent(format!(
            "`{}`: {} says nothing here; understood are {DEPLOYMENT_TYPE}, {REPORT_TYPE} and {}",
            fields.place("type"),
            shown(other),
            cdevents::UNDERSTOOD
        )),
    };
    if let Outcome::Usable(accepted) = &mut outcome {
        accepted.raw = event.clone();
    }
    Ok(outcome)
}

fn attributes(path: &str, event: &Value, fields: &Fields<'_>) -> Result<Attributes, Refused> {
    let count = event.as_object().map_or(0, Map::len);
    if count > MAX_ATTRIBUTES {
        return Err(Refused::new(
            422,
            format!("the event has {count} attributes, at most {MAX_ATTRIBUTES} are allowed"),
        ));
    }
    match fields.text("specversion")? {
        "1.0" => {}
        other => {
            let problem = format!("{} is not spoken here; send CloudEvents 1.0", shown(other));
            return Err(Refused::field(&fields.place("specversion"), problem));
        }
    }
    if fields.get("dataref").is_some() {
        let problem = "data is never fetched from elsewhere; send it in the event";
        return Err(Refused::field(&fields.place("dataref"), problem));
    }
    let text = |key: &str| limits::identity(&fields.place(key), fields.text(key)?);
    Ok(Attributes {
        path: path.to_owned(),
        id: text("id")?,
        source: text("source")?,
        kind: text("type")?,
        time: fields.optional_time("time")?,
    })
}

/// The data as JSON, wherever it stands.
fn data(fields: &Fields<'_>) -> Result<Value, Refused> {
    if let Some(media) = fields.optional_text("datacontenttype")? {
        let kind = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind != "application/json" && !kind.ends_with("+json") {
            let problem = format!("{} is not read here; send application/json", shown(media));
            return Err(Refused::field(&fields.place("datacontenttype"), problem));
        }
    }
    let place = fields.place("data_base64");
    match (fields.get("data"), fields.optional_text("data_base64")?) {
        (Some(_), Some(_)) => Err(Refused::field(&place, "stands beside `data`; send one of them")),
        (Some(data), None) => Ok(data.clone()),
        (None, Some(text)) => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| Refused::field(&place, format!("is not base64: {error}")))?;
            json::parse(&bytes).map_err(|refused| Refused::field(&place, refused.reason))
        }
        (None, None) => {
            Err(Refused::field(&fields.place("data"), "is missing; the event says nothing without it"))
        }
    }
}

/// Our own form inside: the event gives identity and time; an `id` of its own must be the same.
fn outer(attributes: &Attributes, inside: &str, data: &Value) -> Result<Outer, Refused> {
    if let Some(own) = data.get("id").and_then(Value::as_str)
        && own != attributes.id
    {
        let problem = format!(
            "{} differs from the event's id {}; send one identity",
            shown(own),
            shown(&attributes.id)
        );
        return Err(Refused::field(&format!("{inside}.id"), problem));
    }
    Ok(Outer { identity: Some(attributes.identity()), at: attributes.time })
}
