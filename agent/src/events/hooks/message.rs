//! The body of a hook's request as JSON: `application/json` and the like, or GitHub's form with the field `payload`.

use super::super::limits::shown;
use super::super::{Refused, json, media_type, refuse_encoded};
use axum::http::HeaderMap;
use percent_encoding::percent_decode;
use serde_json::Value;

/// Reads a body of up to `most` bytes. Without a proof only `application/json` is taken: a page in somebody's browser can send forms and
/// plain text to an address on the same machine without being asked, but not that.
pub(super) fn parse(headers: &HeaderMap, body: &[u8], proved: bool, most: usize) -> Result<Value, Refused> {
    refuse_encoded(headers)?;
    match media_type(headers)?.as_deref() {
        Some("application/json") => json::parse_within(body, most),
        Some("application/x-www-form-urlencoded") if proved => {
            json::parse_within(&payload(body, most)?, most)
        }
        Some(other) if proved && (other.ends_with("+json") || other == "text/json") => {
            json::parse_within(body, most)
        }
        None if proved => json::parse_within(body, most),
        Some(other) => Err(wrong(&format!("{} is not accepted", shown(other)))),
        None => Err(wrong("is missing")),
    }
}

fn wrong(problem: &str) -> Refused {
    Refused::new(415, format!("header content-type: {problem}; send application/json"))
}

/// The field `payload` of a form.
fn payload(body: &[u8], most: usize) -> Result<Vec<u8>, Refused> {
    // Before anything is copied.
    if body.len() > most {
        let reason = format!("the body has {} bytes, at most {most} are allowed", body.len());
        return Err(Refused::new(413, reason));
    }
    let mut fields = body.split(|byte| *byte == b'&').filter_map(|field| field.strip_prefix(b"payload="));
    let (Some(text), None) = (fields.next(), fields.next()) else {
        return Err(Refused::new(
            400,
            "the form must have the field `payload` exactly once; better send application/json",
        ));
    };
    let spaces: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Ok(percent_decode(&spaces).collect())
}
