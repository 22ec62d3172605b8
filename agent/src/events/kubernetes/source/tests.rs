//! What is heard of a cluster in which some objects cannot be looked at, with a server of the test's own.

use super::sweeping::MOST_SILENT;
use super::*;
use crate::clock;
use crate::dispatcher::{EventAnswer, Message};
use crate::events::Incoming;
use crate::events::kubernetes::WatchedKind;
use crate::inlet::Board;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a request.
enum Answer {
    Items(Vec<Value>),
    Page(Vec<Value>, &'static str),
    Object(Value),
    Status(u16),
    Never,
}

use Answer::{Items, Never, Object, Page, Status};

fn cluster(route: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Cluster {
    let route = Arc::new(route);
    let service = tower::service_fn(move |request: Request<Body>| {
        let route = route.clone();
        async move {
            let asked = request.uri().to_string();
            let (status, body) = match route(&asked) {
                _ if asked.contains("watch=true") => std::future::pending().await,
                Never => std::future::pending().await,
                Object(object) => (200, object),
                Status(status) => (status, json!({"message": "no"})),
                Items(items) => (200, json!({"metadata": {"resourceVersion": "1"}, "items": items})),
                Page(items, next) => (200, json!({"metadata": {"continue": next}, "items": items})),
            };
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Cluster::of(kube::Client::new(service, "default"))
}

/// What came through the door: `shop in production: v1`, and what is recorded with it.
type Told = Arc<Mutex<Vec<(String, Value)>>>;

fn hearing(config: &str) -> (Hearing, Told) {
    let name = SourceName::new("cluster").unwrap();
    let source = KubernetesSource::new(name.clone(), &serde_saphyr::from_str(config).unwrap()).unwrap();
    let (messages, mut heard) = mpsc::channel(16);
    let told = Told::default();
    let kept = told.clone();
    tokio::spawn(async move {
        while let Some(Message::Events { news, reply, .. }) = heard.recv().await {
            let mut answers = Vec::new();
            for accepted in news.accepted {
                let Incoming::Deploy(event) = &accepted.incoming else { panic!("a deployment") };
                let words = format!("{} in {}: {}", event.service, event.environment, event.release.version);
                kept.lock().unwrap().push((words, accepted.raw));
                answers.push(EventAnswer::Recorded { sequence: 1 });
            }
            reply.send(answers).unwrap();
        }
    });
    let board = Board::default();
    let reporter = board.reporter(&name, "kubernetes", String::new());
    let hearing = Hearing {
        source,
        inlet: Inlet::new(messages, board),
        reporter,
        memory: Memory::default(),
        claims: Claims::default(),
        elders: Elders::default(),
        backoff: Backoff::default(),
        said: BTreeSet::new(),
        said_of_objects: Said::default(),
    };
    (hearing, told)
}

fn words(told: &Told) -> Vec<String> {
    told.lock().unwrap().iter().map(|(words, _)| words.clone()).collect()
}

fn last_error(hearing: &Hearing) -> String {
    let standings = hearing.inlet.board().standings();
    standings[&hearing.source.name].last_error.clone().map(|(_, words)| words).unwrap_or_default()
}

fn watches(hearing: &Hearing, cluster: &Cluster) -> (Watches, mpsc::Receiver<Seen>) {
    let (sender, seen) = mpsc::channel(MOST_SEEN);
    (Watches::new(cluster, &hearing.source.config, sender), seen)
}

fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"), "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": 1},
    })
}

/// The first and only one of a Deployment.
fn replica_set(namespace: &str, name: &str) -> Value {
    let env = json!([{"configMapRef": {"name": "flags"}}]);
    json!({
        "metadata": {
            "name": format!("{name}-1"), "creationTimestamp": clock::now().to_string(),
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"uid": format!("{namespace}-{name}"), "controller": true}],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "s:v1", "envFrom": env}]}}},
    })
}

/// The records of whatever workload is asked for by its selector, `app=NAME` or none.
fn records(asked: &str, namespace: &str) -> Answer {
    let name = asked.rsplit("app%3D").next().unwrap_or_default();
    Items(vec![replica_set(namespace, name)])
}

#[tokio::test]
async fn what_is_wrong_with_one_object_makes_nobody_deaf_to_the_others() {
    let cluster = cluster(|asked| match asked {
        _ if asked.contains("/replicasets") && asked.contains("locked") => Status(403),
        _ if asked.contains("/replicasets") => records(asked, "shop"),
        _ if asked.contains("/daemonsets") => Status(500),
        _ if asked.contains("/deployments") && asked.contains("continue=two") => {
            Items(vec![deployment("shop", "last")])
        }
        _ if asked.contains("/deployments") => {
            let mut hostile = deployment("shop", "hostile");
            let values: Vec<String> = (0..9_000).map(|nth| format!("value-{nth}")).collect();
            hostile["spec"]["selector"] =
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]});
            let mut page = vec![hostile, deployment("locked", "one"), deployment("locked", "two")];
            page.extend([
                deployment("locked", "three"),
                deployment("locked", "four"),
                deployment("shop", "web"),
            ]);
            Page(page, "two")
        }
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment, stateful_set]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true), "and not before it is time again");
    assert_eq!(words(&told), ["web in production: v1", "last in production: v1"]);
    assert_eq!(watches.running(), 2);
    let said = last_error(&hearing);
    let first = "5 objects are not heard, the first: Deployment shop/hostile: ";
    assert!(said.starts_with(first) && said.contains("cannot be asked with a query of"), "{said}");
    // What a watch shows of it ends nothing either.
    let hostile = Seen::Object(WatchedKind::Deployment, Box::new(deployment("locked", "one")));
    assert!(hearing.heard(&cluster, hostile).await);
    // A list that does not come is another matter.
    let (mut deaf, _) = self::hearing("{services: ['*'], kinds: [daemon_set, deployment]}");
    assert!(matches!(deaf.reconcile(&cluster, &mut watches).await, Err(Trouble::Lost(_))));
}

#[tokio::test]
async fn a_server_that_is_gone_is_not_asked_about_each_object_and_one_that_shows_nothing_is_not_heard() {
    let asked_for_records = Arc::new(Mutex::new(0));
    let count = asked_for_records.clone();
    let all = || (0..20).map(|nth| deployment("shop", &format!("web-{nth}"))).collect();
    let gone = cluster(move |asked| match asked.contains("/replicasets") {
        true => {
            *count.lock().unwrap() += 1;
            Status(503)
        }
        false if *count.lock().unwrap() > 0 => Status(503),
        false => Items(all()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment]}");
    let (mut watches, _seen) = watches(&hearing, &gone);
    assert!(matches!(hearing.reconcile(&gone, &mut watches).await, Err(Trouble::Lost(_))));
    assert_eq!(*asked_for_records.lock().unwrap(), MOST_SILENT);
    let shut = cluster(move |asked| match asked.contains("/replicasets") {
        true => Status(403),
        false => Items(all()),
    });
    let trouble = hearing.reconcile(&shut, &mut watches).await.unwrap_err().to_string();
    assert!(trouble.contains("20 objects") && trouble.contains("no permission to see"), "{trouble}");
    assert_eq!(words(&told), [""; 0]);
}

#[tokio::test]
async fn configuration_that_cannot_be_read_holds_no_news_up() {
    let cluster = cluster(|asked| match asked {
        _ if asked.contains("/configmaps/") => Never,
        _ if asked.contains("/replicasets") => records(asked, "shop"),
        _ if asked.contains("/deployments") => Items(vec![deployment("shop", "a"), deployment("shop", "b")]),
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment], digests: [config_map]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    let began = Instant::now();
    let first = async {
        while told.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (began.elapsed(), told.lock().unwrap().len())
    };
    let (listed, (within, count)) = tokio::join!(hearing.reconcile(&cluster, &mut watches), first);
    assert_eq!(listed, Ok(true));
    assert!(within < Duration::from_millis(5_500) && count == 1, "{count} after {within:?}");
    let told = told.lock().unwrap();
    let configuration = &told[1].1["configuration"];
    assert_eq!(
        *configuration,
        json!([{"kind": "ConfigMap", "name": "flags", "unknown": "no answer in time"}])
    );
}

#[tokio::test]
async fn one_name_is_one_workload() {
    let deleted = Arc::new(Mutex::new(false));
    let is_deleted = deleted.clone();
    let cluster = cluster(move |asked| {
        let named = |namespace| {
            let mut object = deployment(namespace, "web");
            object["metadata"]["labels"] = json!({"app.kubernetes.io/name": "checkout"});
            object
        };
        let production = (!*is_deleted.lock().unwrap()).then(|| named("shop-prod"));
        match asked {
            _ if asked.contains("/replicasets") => {
                records(asked, if asked.contains("shop-prod") { "shop-prod" } else { "shop-staging" })
            }
            _ if asked.contains("fieldSelector") => {
                assert!(asked.contains("/namespaces/shop-prod/deployments?") && asked.contains("name%3Dweb"));
                Items(production.into_iter().collect())
            }
            _ if asked.contains("/deployments") => {
                Items(production.into_iter().chain([named("shop-staging")]).collect())
            }
            _ => Items(Vec::new()),
        }
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    for _ in 0..2 {
        assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true));
        let raw = told.lock().unwrap()[0].1.clone();
        assert_eq!((words(&told).len(), &raw["namespace"]), (1, &json!("shop-prod")));
    }
    let said = last_error(&hearing);
    let both =
        "Deployment shop-staging/web and Deployment shop-prod/web are both called checkout in production";
    assert!(said.starts_with("1 object is not heard") && said.contains(both), "{said}");
    assert!(said.contains("{{namespace}}") && said.contains("`namespaces`"), "{said}");
    *deleted.lock().unwrap() = true;
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true));
    assert_eq!(words(&told), ["checkout in production: v1", "checkout in production: v1"]);
    assert_eq!(told.lock().unwrap()[1].1["namespace"], "shop-staging");
}

#[tokio::test]
async fn whoever_cannot_be_looked_at_has_no_name() {
    let cluster = cluster(|asked| match asked {
        _ if asked.contains("/replicasets") && asked.contains("locked") => Status(403),
        _ if asked.contains("/replicasets") => records(asked, "shop"),
        _ if asked.contains("/deployments") => {
            Items(vec![deployment("locked", "web"), deployment("shop", "web")])
        }
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true));
    assert_eq!(words(&told), ["web in production: v1"]);
}

#[tokio::test]
async fn a_canary_is_called_as_its_targets_own_news_calls_it() {
    let configured = |mut object: Value, name: &str| {
        object["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": name}}]);
        object
    };
    let first = configured(replica_set("shop", "web"), "one");
    let mut second = configured(replica_set("shop", "web"), "two");
    second["metadata"]["name"] = json!("web-2");
    second["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "2"});
    let mut target = deployment("shop", "web");
    target["spec"]["template"] = second["spec"]["template"].clone();
    let primary = configured(first.clone(), "one-primary");
    let canary = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "canary"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "web"}},
        "status": {"phase": "Progressing", "conditions": [
            {"type": "Promoted", "lastUpdateTime": clock::now().to_string()}]},
    });
    let cluster = cluster(move |asked| match asked {
        _ if asked.contains("/replicasets") => Items(vec![first.clone(), second.clone()]),
        _ if asked.ends_with("/deployments/web") => Object(target.clone()),
        _ if asked.ends_with("/deployments/web-primary") => Object(primary.clone()),
        _ if asked.contains("/deployments") => Items(vec![target.clone()]),
        _ if asked.contains("/canaries") => Items(vec![canary.clone()]),
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment, canary]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true), "{}", last_error(&hearing));
    let words = words(&told);
    assert!(words[0].starts_with("web in production: v1+") && words.len() == 2, "{words:?}");
    assert_eq!(words[0], words[1]);
}

#[tokio::test]
async fn after_a_start_a_name_belongs_to_the_oldest_that_has_it() {
    let created = |namespace: &str, at: &str| {
        let mut object = deployment(namespace, "web");
        object["metadata"]["creationTimestamp"] = json!(at);
        object
    };
    let (young, old) = (created("aaa", "2026-02-01T00:00:00Z"), created("prod", "2026-01-01T00:00:00Z"));
    let cluster = cluster(move |asked| match asked {
        _ if asked.contains("/replicasets") => {
            records(asked, if asked.contains("/aaa/") { "aaa" } else { "prod" })
        }
        _ if asked.contains("fieldSelector") => Items(vec![old.clone()]),
        // Neither the order of a page nor that of pages nor that of kinds says who is older.
        _ if asked.contains("/deployments") && asked.contains("continue=two") => Items(vec![old.clone()]),
        _ if asked.contains("/deployments") => Page(vec![young.clone()], "two"),
        _ if asked.contains("/rollouts") => Status(404),
        _ => Status(403),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [rollout, canary, deployment]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(true));
    let told: Vec<Value> = told.lock().unwrap().iter().map(|(_, raw)| raw["namespace"].clone()).collect();
    assert_eq!(told, ["prod"]);
    let said = last_error(&hearing);
    assert!(said.contains("Deployment aaa/web and Deployment prod/web are both called web"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_about_which_there_is_no_answer_cuts_no_other_off() {
    let cluster = cluster(|asked| match asked {
        _ if asked.contains("/namespaces/a/replicasets") => Never,
        _ if asked.contains("/replicasets") => records(asked, "z"),
        _ if asked.contains("/deployments") => {
            let mut all: Vec<Value> = (0..200).map(|nth| deployment("a", &format!("slow-{nth}"))).collect();
            all.push(deployment("z", "web"));
            Items(all)
        }
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    let began = Instant::now();
    let listed = hearing.reconcile(&cluster, &mut watches).await;
    assert_eq!(listed, Ok(false), "and soon again");
    assert_eq!(words(&told), ["web in production: v1"]);
    assert_eq!(watches.running(), 1);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let said = last_error(&hearing);
    assert!(said.starts_with("200 objects are not heard, the first: Deployment a/slow-0: "), "{said}");
}

#[tokio::test]
async fn a_target_that_its_controller_has_not_come_to_is_looked_at_again_soon() {
    let canary = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "canary"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "web"}},
        "status": {"phase": "Progressing"},
    });
    let cluster = cluster(move |asked| match asked {
        _ if asked.contains("/replicasets") => records(asked, "shop"),
        _ if asked.contains("/deployments/web-primary") => Status(404),
        // Its template is none of those of which there are records.
        _ if asked.contains("/deployments/web") => Object(deployment("shop", "web")),
        _ if asked.contains("/deployments") => Items(vec![deployment("shop", "web")]),
        _ if asked.contains("/canaries") => Items(vec![canary.clone()]),
        _ => Items(Vec::new()),
    });
    let (mut hearing, told) = hearing("{services: ['*'], kinds: [deployment, canary]}");
    let (mut watches, _seen) = watches(&hearing, &cluster);
    assert_eq!(hearing.reconcile(&cluster, &mut watches).await, Ok(false));
    assert_eq!(words(&told), ["web in production: v1"]);
    let said = last_error(&hearing);
    assert!(said.contains("Canary shop/web: ") && said.contains("has not taken up"), "{said}");
}
