//! The preset `nginx-cache-purge` on a real nginx: users get stale pages until theirs is purged, and no other is.

use anyhow::Result;
use serde_json::json;
use tests::edge::Edge;
use tests::site::{Page, Site};
use tests::steps::{Rig, kind, words};

const PAGES: [&str; 5] = ["/tasks", "/documents", "/onboarding", "/assistant", "/prices"];

fn release(site: &Site, version: &str) {
    for page in PAGES {
        site.put(page, Page::html(&format!("{page} of {version}")));
    }
}

fn purge(edge: &Edge, page: &str) -> Result<Rig> {
    Rig::preset("nginx-cache-purge", &json!({ "edge": edge.purge(), "page": page }))
}

#[tokio::test]
async fn a_page_stays_stale_until_it_is_purged_and_only_what_is_purged_goes() -> Result<()> {
    let site = Site::start().await?;
    release(&site, "v2");
    let edge = Edge::start(site.address()).await?;
    for page in PAGES {
        assert_eq!(edge.get(page).await?.cache, "MISS", "{page}");
    }
    release(&site, "v1");
    for page in PAGES {
        let stale = edge.get(page).await?;
        assert!(stale.cache == "HIT" && stale.text.contains("of v2"), "{page}: {stale:?}");
        assert_eq!(site.asked(page), 1, "{page}");
    }
    for page in ["tasks", "documents"] {
        let purged = purge(&edge, page)?.first().await;
        assert_eq!(kind(&purged), "done", "{purged:?}");
        assert!(words(&purged).contains("200"), "{purged:?}");
    }
    for (page, version, cache) in [
        ("/tasks", "v1", "HIT"),
        ("/documents", "v1", "HIT"),
        ("/onboarding", "v2", "HIT"),
        ("/assistant", "v2", "HIT"),
        ("/prices", "v2", "HIT"),
    ] {
        let served = edge.get(page).await?;
        assert!(
            served.cache == cache && served.text.contains(&format!("of {version}")),
            "{page}: {served:?}"
        );
        let asked = if version == "v1" { 2 } else { 1 };
        assert_eq!(site.asked(page), asked, "from the cache: {page}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_origin_has_no_more_leaves_the_cache_and_an_edge_that_takes_no_purges_is_told() -> Result<()>
{
    let site = Site::start().await?;
    release(&site, "v2");
    let edge = Edge::start(site.address()).await?;
    edge.get("/tasks").await?;
    site.put("/tasks", Page::html("moved away").with_status(404));
    let gone = purge(&edge, "tasks")?.first().await;
    assert_eq!(kind(&gone), "done", "{gone:?}");
    assert_eq!(edge.get("/tasks").await?.status, 404);

    site.put("/purge/tasks", Page::html("no purge here").with_status(403));
    let with = json!({ "edge": site.url("/purge"), "page": "tasks" });
    let refused = Rig::preset("nginx-cache-purge", &with)?.first().await;
    assert_eq!(kind(&refused), "failed, permanent", "{refused:?}");
    Ok(())
}
