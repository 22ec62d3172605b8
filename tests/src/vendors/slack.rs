//! Slack: takes messages, and refuses with 200 as the real one does.

use super::{Answer, Vendors};
use serde_json::json;

/// Where messages go.
const POST: &str = "/api/chat.postMessage";

impl Vendors {
    /// Plays Slack under the name `slack`: a message with a token, a channel and a text is taken.
    pub fn slack(&self) {
        let mut number = 0;
        self.on("slack", "POST", POST, move |asked| {
            let body = asked.json();
            let with_token =
                asked.headers.get("authorization").is_some_and(|token| token.starts_with("Bearer "));
            if !with_token {
                return Answer::json(200, &json!({ "ok": false, "error": "not_authed" }));
            }
            if body["channel"].as_str().is_none_or(str::is_empty)
                || body["text"].as_str().is_none_or(str::is_empty)
            {
                return Answer::json(200, &json!({ "ok": false, "error": "no_text" }));
            }
            number += 1;
            Answer::json(200, &json!({ "ok": true, "channel": body["channel"], "ts": format!("{number}.0") }))
        });
    }

    /// The messages that Slack took, as channel and text, in their order.
    pub fn messages(&self) -> Vec<(String, String)> {
        let asked = self.asked();
        let messages = asked.iter().filter(|asked| asked.vendor == "slack" && asked.path == POST);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        messages.map(|message| (text(&message.json()["channel"]), text(&message.json()["text"]))).collect()
    }
}
