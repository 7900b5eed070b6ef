//! What an operator sees of all nodes, and does with them: draining, moving a shard, letting it
//! go. The nodes beside this one are only told of here; what they do is not looked at.

use kontor::domain::time::Span;
use kontor::store::node::NodeRow;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::Site;

const LEASE: Span = Span::from_secs(3_600);

async fn beside(site: &Site, id: &str, version: &str, lease: Span) {
    let app = site.app.as_ref().unwrap();
    let node = NodeRow {
        id: id.to_owned(),
        url: format!("http://{id}.example:8080"),
        machine: "another".to_owned(),
        version: version.to_owned(),
        started_at: app.node.clock.now(),
    };
    app.store.heartbeat(&node, lease).await.unwrap();
}

async fn look(site: &Site) -> Value {
    site.admin(Method::GET, "/cluster", None).await.expect(200)
}

fn node<'a>(cluster: &'a Value, id: &str) -> &'a Value {
    let all = cluster["nodes"].as_array().unwrap();
    all.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("{all:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_is_the_whole_cluster() {
    let site = Site::open().await;
    site.sell("A", 100, 5).await;
    let cluster = look(&site).await;
    let here = cluster["here"]["id"].as_str().unwrap();
    assert_eq!(cluster["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&node(&cluster, here)["state"], &node(&cluster, here)["shards"]),
        (&json!("live"), &json!(1))
    );
    assert_eq!(node(&cluster, here)["can_drain"], false);
    let shard = &cluster["shards"][0];
    assert_eq!(
        (&shard["id"], &shard["owner"], &shard["pinned_to"]),
        (&json!(0), &json!(here), &Value::Null)
    );
    assert!(shard["last_pos"].as_i64().unwrap() > 1 && shard["epoch"].as_i64().unwrap() > 0);
    assert!(shard["lane_depth"].is_number());
    let names: Vec<&str> = cluster["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sqlite", "cache"]);
    assert_eq!(cluster["findings"], json!([]));
    let path = format!("/cluster/nodes/{here}/drain");
    let refused = site.admin(Method::POST, &path, None).await;
    assert!(
        [404, 409].contains(&refused.status),
        "nobody else could take its shard: {}",
        refused.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_drained_and_shards_moved_after_a_look() {
    let site = Site::open().await;
    beside(&site, "node-b", "0.1.0", LEASE).await;
    beside(&site, "node-c", "9.9.9", LEASE).await;
    beside(&site, "node-d", "0.1.0", Span::from_millis(-1)).await;
    let cluster = look(&site).await;
    assert_eq!(node(&cluster, "node-b")["state"], "live");
    assert_eq!(node(&cluster, "node-b")["url"], "http://node-b.example:8080");
    assert_eq!(node(&cluster, "node-d")["state"], "dead");
    let findings = cluster["findings"].to_string();
    assert!(findings.contains("node-d is dead") && findings.contains("9.9.9"), "{findings}");

    let post = async |path: &str, body| site.admin(Method::POST, path, body).await;
    let plan = post("/cluster/nodes/node-b/drain?dry_run=true", None).await.expect(200);
    assert_eq!((&plan["dry_run"], &plan["moves"][0]["to"]), (&json!(true), &json!("node-c")));
    assert_eq!(node(&look(&site).await, "node-b")["state"], "live", "nothing has happened");
    post("/cluster/nodes/node-b/drain", None).await.expect(200);
    assert_eq!(node(&look(&site).await, "node-b")["state"], "draining");
    assert_eq!(post("/cluster/nodes/nobody/drain", None).await.status, 404);
    assert_eq!(post("/cluster/nodes/node-d/drain?dry_run=true", None).await.status, 404);
    post("/cluster/nodes/node-b/undrain", None).await.expect(202);
    assert_eq!(node(&look(&site).await, "node-b")["state"], "live");

    let to = |to: &str, dry_run: bool| Some(json!({"to": to, "dry_run": dry_run}));
    let path = "/cluster/shards/0/move";
    let plan = post(path, to("node-c", true)).await.expect(200);
    let here = cluster["here"]["id"].clone();
    let expected = json!({"dry_run": true, "moves": [{"shard": 0, "from": here, "to": "node-c"}]});
    assert_eq!(plan, expected);
    let pinned = async || look(&site).await["shards"][0]["pinned_to"].clone();
    assert_eq!(pinned().await, Value::Null, "nothing has happened");
    for bad in ["nobody", "node-d"] {
        assert_eq!(post(path, to(bad, false)).await.status, 422, "{bad}");
    }
    assert_eq!(post("/cluster/shards/999/move", to("node-c", false)).await.status, 404);
    post(path, to("node-c", false)).await.expect(200);
    assert_eq!(pinned().await, "node-c");
    site.admin(Method::DELETE, "/cluster/shards/0/pin", None).await.expect(204);
    assert_eq!(pinned().await, Value::Null);
}
