//! Slack's incoming webhooks, and what speaks their format.
//!
//! Service names, versions and reasons come from outside, so nothing in them may become a mention, a link or a
//! command: `&`, `<` and `>` are escaped as Slack asks, and the texts are `verbatim`, so that Slack neither links
//! addresses nor turns `@here` or `#channel` into something live.

use super::post::{Post, secret};
use super::{BadNotifier, Message, Notifier, NotifyError, clean};
use crate::secrets::Secrets;
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use rules::action::SecretRef;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Of the title, in characters; more does not fit on a line.
const LONGEST_TITLE: usize = 150;
/// Of the text. Slack allows 3000 characters in a section, counted after escaping, which makes `&` five.
const LONGEST_TEXT: usize = 2_900;

/// A channel behind an incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Where the address is. It is a secret: whoever knows it can write to the channel.
    pub url: SecretRef,
    /// The channel, for receivers that let the sender choose (Mattermost, Slack's legacy webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

impl SlackConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if let SecretRef::Env(name) | SecretRef::File(name) = &self.url
            && (name.is_empty() || name.contains("://"))
        {
            let text =
                "must name where the address is, such as `env: SLACK_URL`, and not be the address itself";
            found.push(("url".to_owned(), text.to_owned()));
        }
        if self.channel.as_ref().is_some_and(|channel| channel.trim().is_empty()) {
            found.push((
                "channel".to_owned(),
                "is empty; leave it out for the webhook's own channel".to_owned(),
            ));
        }
        found
    }
}

/// Posts messages to a Slack channel.
pub struct Slack {
    post: Post,
    channel: Option<String>,
}

impl Slack {
    /// Resolves the address. Errors: see [`BadNotifier`].
    pub fn new(name: &str, config: &SlackConfig, secrets: &Secrets) -> Result<Self, BadNotifier> {
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(BadNotifier::Configuration { key: format!("slack.{name}.{key}"), problem });
        }
        let key = format!("slack.{name}.url");
        let url = secret(key.clone(), &config.url, secrets)?;
        Ok(Self { post: Post::new(name, &key, url.expose(), secrets)?, channel: config.channel.clone() })
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Cleaned, and escaped so that the result has at most `longest` characters; an escape is never cut in two.
fn fit(text: &str, longest: usize) -> String {
    let mut length = longest;
    loop {
        let escaped = escape(&clean(text, length));
        let excess = escaped.chars().count().saturating_sub(longest);
        if excess == 0 {
            return escaped;
        }
        // One escaped character gives back up to five; taking a fifth of the excess never takes too much.
        length -= excess.div_ceil(5);
    }
}

/// A link to our own page, if it is one that can stand in Slack's brackets.
fn link(message: &Message) -> Option<String> {
    let url: reqwest::Url = message.link.as_ref()?.parse().ok()?;
    let address = url.as_str();
    let fits = matches!(url.scheme(), "http" | "https")
        && !address.contains(['|', '<', '>'])
        && address.len() <= 1_000;
    fits.then(|| format!("<{}|Open in Turnback>", address.replace('&', "&amp;")))
}

fn payload(message: &Message, channel: Option<&str>) -> Value {
    let title = fit(&message.title.replace('\n', " "), LONGEST_TITLE);
    let sign = if message.page { "🚨 " } else { "" };
    let section =
        |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "verbatim": true, "text": text}});
    let mut blocks = vec![section(format!("{sign}*{title}*"))];
    if !message.text.trim().is_empty() {
        blocks.push(section(fit(message.text.trim(), LONGEST_TEXT)));
    }
    let mut small: Vec<String> = [
        Some(&message.kind).map(|kind| ("kind", kind)),
        message.severity.as_ref().map(|severity| ("severity", severity)),
        message.service.as_ref().map(|service| ("service", service)),
        message.watch.as_ref().map(|watch| ("watch", watch)),
    ]
    .into_iter()
    .flatten()
    .map(|(name, value)| format!("{name}: {}", fit(value, LONGEST_TITLE)))
    .collect();
    small.push(message.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    small.extend(link(message));
    blocks.push(json!({"type": "context", "elements": [
        {"type": "mrkdwn", "verbatim": true, "text": small.join(" · ")}
    ]}));
    let mut payload = json!({
        // What notifications and clients without blocks show.
        "text": format!("{sign}{title}"),
        "link_names": false,
        "unfurl_links": false,
        "blocks": blocks,
    });
    if let Some(channel) = channel {
        payload["channel"] = json!(channel);
    }
    payload
}

#[async_trait]
impl Notifier for Slack {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let body = payload(message, self.channel.as_deref()).to_string();
        self.post.send(&body, || Ok(HeaderMap::new())).await
    }

    fn name(&self) -> &str {
        self.post.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::message;

    #[test]
    fn the_golden_message() {
        let message = message("checkout v2 turned back", true);
        assert_eq!(
            payload(&message, Some("#deploys")),
            json!({
                "text": "🚨 checkout v2 turned back",
                "link_names": false,
                "unfurl_links": false,
                "channel": "#deploys",
                "blocks": [
                    {"type": "section", "text": {"type": "mrkdwn", "verbatim": true,
                        "text": "🚨 *checkout v2 turned back*"}},
                    {"type": "section", "text": {"type": "mrkdwn", "verbatim": true,
                        "text": "errors rose from 0.1% to 7%\nplan p-1 ran"}},
                    {"type": "context", "elements": [{"type": "mrkdwn", "verbatim": true,
                        "text": "kind: rolled_back · severity: major · service: shop/checkout · watch: w-1 · \
                                 2026-03-04 05:06:07 UTC · <https://turnback.example/w-1?a=1&amp;b=2|Open in Turnback>"}]},
                ],
            })
        );
    }

    #[test]
    fn nothing_from_outside_comes_alive() {
        let mut message = message("<!channel> & <@U123> <https://evil.example|click>", false);
        message.text = "<!here> \u{202e}\u{7} &lt;!everyone&gt;".into();
        message.service = Some("<!subteam^S1>".into());
        message.link = Some("javascript:alert(1)".into());
        let text = payload(&message, None).to_string();
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        assert!(
            text.contains("&lt;!channel&gt; &amp; &lt;@U123&gt;")
                && text.contains("&amp;lt;!everyone&amp;gt;")
        );
        assert!(!text.contains('\u{202e}') && !text.contains("javascript") && !text.contains("\"channel\""));
        message.link = Some("https://turnback.example/|x>".into());
        assert!(!payload(&message, None).to_string().contains("|x>"));
    }

    #[test]
    fn long_texts_keep_to_slacks_limits_and_escapes_stay_whole() {
        for text in ["&".repeat(10_000), "a".repeat(10_000), "ä<".repeat(5_000), "🦀".repeat(5_000)] {
            let fitted = fit(&text, LONGEST_TEXT);
            let length = fitted.chars().count();
            assert!((LONGEST_TEXT - 5..=LONGEST_TEXT).contains(&length), "{length}");
            assert!(fitted.ends_with('…'));
            let unescaped = fitted.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "");
            assert!(!unescaped.contains('&'), "an escape was cut");
        }
        assert_eq!(fit("short", LONGEST_TEXT), "short");
    }

    #[test]
    fn the_address_itself_is_no_reference() {
        let config = SlackConfig {
            url: SecretRef::Env("https://hooks.slack.com/x".into()),
            channel: Some(" ".into()),
        };
        let keys: Vec<String> = config.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["url", "channel"]);
    }
}
