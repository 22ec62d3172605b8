//! A message as a CloudEvent, for programs that listen on a broker.

use super::{Message, NotifyError};
use rules::ids::fingerprint;
use serde_json::json;

/// The content type of what [`cloud_event`] gives.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The message in a CloudEvent of structured form: type `dev.turnback.KIND.v1`, the service as subject. The identifier is
/// the same for each attempt at one message.
pub(super) fn cloud_event(name: &str, message: &Message) -> Result<Vec<u8>, NotifyError> {
    let refused = |error: serde_json::Error| NotifyError::Refused {
        name: name.to_owned(),
        reason: format!("the message cannot be written as JSON: {error}"),
    };
    let data = serde_json::to_value(message).map_err(refused)?;
    let event = json!({
        "specversion": "1.0",
        "id": format!("msg_{}", fingerprint(&[&data.to_string()], 16)),
        "source": "turnback",
        "type": format!("dev.turnback.{}.v1", message.kind),
        "subject": message.service,
        "time": message.at,
        "datacontenttype": "application/json",
        "data": data,
    });
    serde_json::to_vec(&event).map_err(refused)
}
