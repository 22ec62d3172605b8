//! The preset `browser-smoke` with a real Chromium: what passes for a page that works, and what does not.
//!
//! The tests run it without a sandbox, which a browser cannot have as root; the pages are the tests' own.

use anyhow::Result;
use serde_json::json;
use std::time::Duration;
use tests::ports;
use tests::site::{Page, Site};
use tests::steps::{Rig, kind, words};

const DOCK: &str = r#"<div id="assistant-dock">How can I help?</div>"#;

async fn look(page: &str) -> Result<(&'static str, String)> {
    look_within(page, 40).await
}

async fn look_within(page: &str, load_seconds: u32) -> Result<(&'static str, String)> {
    let with = json!({
        "page": page, "selector": "#assistant-dock", "seconds": 2, "load_seconds": load_seconds, "sandbox": false,
    });
    let outcome = Rig::preset("browser-smoke", &with)?.first().await;
    Ok((kind(&outcome), words(&outcome)))
}

#[tokio::test]
async fn a_page_that_works_passes_and_what_it_only_says_is_no_error() -> Result<()> {
    let site = Site::start().await?;
    site.put(
        "/tasks",
        Page::html(&format!(r#"{DOCK}<script>console.log("a log"); console.warn("a warning")</script>"#)),
    );
    // The dock comes with a script, as in an application of one page.
    let later = r#"<script>setTimeout(() => {
        document.body.innerHTML = '<div id="assistant-dock">here</div>';
    }, 200)</script>"#;
    site.put("/late", Page::html(later));
    for page in ["/tasks", "/late"] {
        let (kind, words) = look(&site.url(page)).await?;
        assert_eq!(kind, "done", "{page}: {words}");
        assert!(words.contains("was loaded without errors"), "{words}");
    }
    Ok(())
}

#[tokio::test]
async fn errors_of_the_console_and_uncaught_exceptions_fail_and_are_told() -> Result<()> {
    let site = Site::start().await?;
    let cases = [
        (r#"<script>console.error("the dock", "is broken")</script>"#, "console: the dock is broken"),
        (r#"<script>setTimeout(() => startAssistant(), 100)</script>"#, "startAssistant is not defined"),
        (r#"<script>Promise.reject(new Error("no session"))</script>"#, "no session"),
        (r#"<script src="/gone.js"></script>"#, "404"),
    ];
    for (script, told) in cases {
        site.put("/tasks", Page::html(&format!("{DOCK}{script}")));
        let (kind, words) = look(&site.url("/tasks")).await?;
        assert_eq!(kind, "failed, permanent", "{script}: {words}");
        assert!(words.contains(told), "{script}: {words}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_that_does_not_load_fails() -> Result<()> {
    let site = Site::start().await?;
    site.put("/broken", Page::html(DOCK).with_status(500));
    site.put("/never", Page::html(DOCK).after(Duration::from_secs(600)));
    // Its picture never comes.
    site.put("/half", Page::html(&format!(r#"{DOCK}<img src="/never">"#)));
    let nobody = format!("http://127.0.0.1:{}/", ports::free_port()?);
    for (page, told) in [
        (nobody, "ERR_CONNECTION_REFUSED"),
        (site.url("/broken"), "status of 500"),
        (site.url("/never"), "was not loaded within 5 seconds"),
        (site.url("/half"), "was not loaded within 5 seconds"),
    ] {
        let (kind, words) = look_within(&page, 5).await?;
        assert_eq!(kind, "failed, permanent", "{page}: {words}");
        assert!(words.contains(told), "{page}: {words}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dock_that_cannot_be_seen_is_not_visible() -> Result<()> {
    let site = Site::start().await?;
    let cases = [
        ("<main>no dock</main>", "#assistant-dock is not on the page"),
        (r#"<div id="assistant-dock" style="display: none">hidden</div>"#, "#assistant-dock cannot be seen"),
        (
            r#"<div id="assistant-dock" style="visibility: hidden">hidden</div>"#,
            "#assistant-dock cannot be seen",
        ),
        (
            r#"<div style="opacity: 0"><div id="assistant-dock">hidden</div></div>"#,
            "#assistant-dock cannot be seen",
        ),
        (r#"<div id="assistant-dock"></div>"#, "#assistant-dock cannot be seen"),
    ];
    for (body, told) in cases {
        site.put("/tasks", Page::html(body));
        let (kind, words) = look(&site.url("/tasks")).await?;
        assert_eq!(kind, "failed, permanent", "{body}: {words}");
        assert!(words.contains(told), "{body}: {words}");
    }
    Ok(())
}
