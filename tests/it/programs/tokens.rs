//! API tokens: made, used, limited, revoked, and in no file.

use reqwest::{Method, header};
use serde_json::json;

use super::{Program, answer, listening, nowhere, token};
use crate::hands::{done, lines, refused};
use crate::support::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn trap_135_a_token_is_shown_once_limited_and_revoked_and_is_nowhere() {
    let house = House::new(3);
    let port = listening(&house.path("realmsync.toml"));
    // Without a daemon, then with one.
    let admin = token(&house, "console", &["--scope=admin,read"]);
    let _daemon = house.daemon();
    let verify = token(&house, "vpn", &["--scope", "verify", "--expires", "90d"]);
    for text in [&admin, &verify] {
        assert!(text.starts_with("rs_") && text.len() == 51, "{text}");
    }
    let said = refused(&house, &["api-tokens", "create", "vpn", "--scope=read"]);
    assert!(said.contains("there is a token `vpn` already"), "{said}");
    let said = house.run(&["api-tokens", "create", "x", "--scope=fly"]);
    assert_eq!(said.code, 64, "{}", said.err);
    let said = refused(
        &house,
        &[
            "api-tokens",
            "create",
            "x",
            "--scope=read",
            "--realm=nowhere",
        ],
    );
    assert!(said.contains("no realm `nowhere`"), "{said}");
    let all = lines(&house, &["api-tokens", "list"]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["scopes"], json!(["read", "admin"]));
    assert!(all[1]["expires_at"].is_string() && all[1].get("token").is_none());

    let nobody = Program::at(port);
    let got = nobody.call(Method::GET, "api-tokens", None).await;
    assert_eq!(got.status, 401);
    assert_eq!(got.header("www-authenticate"), "Bearer realm=\"realmsync\"");
    assert_eq!(got.header("content-type"), "application/problem+json");
    assert_eq!(
        (&got.body["type"], &got.body["status"]),
        (&json!("unauthorized"), &json!(401))
    );
    let slip = format!("{}A", &admin[..admin.len() - 1]);
    for wrong in [slip.as_str(), "rs_", "x"] {
        let got = nobody
            .with(wrong)
            .call(Method::GET, "api-tokens", None)
            .await;
        assert_eq!(got.status, 401, "{wrong}");
        assert!(got.header("www-authenticate").contains("invalid_token"));
    }
    let got = nobody
        .call(
            Method::GET,
            &format!("api-tokens?access_token={admin}"),
            None,
        )
        .await;
    assert_eq!(got.status, 401, "a token in the query is none");

    let vpn = nobody.with(&verify);
    let got = vpn.call(Method::GET, "api-tokens", None).await;
    assert_eq!(got.status, 403);
    assert!(got.header("www-authenticate").contains("scope=\"admin\""));

    let admin = nobody.with(&admin);
    let got = admin.call(Method::GET, "api-tokens?limit=1", None).await;
    assert_eq!(
        (
            got.status.as_u16(),
            got.body["items"].as_array().unwrap().len()
        ),
        (200, 1)
    );
    let next = got.body["next"].as_str().unwrap();
    let got = admin
        .call(Method::GET, &format!("api-tokens?after={next}"), None)
        .await;
    assert_eq!(
        (&got.body["items"][0]["name"], &got.body["next"]),
        (&json!("vpn"), &json!(null))
    );
    for query in ["limit=0", "limit=x", "after=x"] {
        let got = admin
            .call(Method::GET, &format!("api-tokens?{query}"), None)
            .await;
        assert_eq!(got.status, 422, "{query}");
    }
    let got = admin.call(Method::GET, "nothing", None).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["type"]),
        (404, &json!("not-found"))
    );
    let got = admin.call(Method::PUT, "api-tokens", None).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["type"]),
        (405, &json!("method-not-allowed"))
    );
    let allowed = got.header("allow");
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    let post = || admin.request(Method::POST, "api-tokens");
    let got = answer(post().body("{}").header(header::CONTENT_TYPE, "text/plain")).await;
    assert_eq!(got.status, 415);
    let got = answer(post().json(&json!({"name": "x".repeat(70_000)}))).await;
    assert_eq!(got.status, 413);
    let got = answer(post().json(&json!({"name": "a\u{0}b", "scopes": ["fly"], "x": 1}))).await;
    assert_eq!(got.status, 422);
    let pointers: Vec<_> = got.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].clone())
        .collect();
    assert_eq!(pointers, ["/name", "/scopes/0", "/x"]);
    let got = answer(post().json(&json!({"name": "vpn", "scopes": ["read"]}))).await;
    assert_eq!(
        (got.status.as_u16(), &got.body["type"]),
        (409, &json!("refused"))
    );

    // What it makes is limited as it is, and ends.
    let got = answer(
        post().json(&json!({"name": "r only", "scopes": ["admin", "verify"], "realm": "r"})),
    )
    .await;
    assert_eq!(got.status, 201, "{}", got.body);
    let of_r = got.body["token"].as_str().unwrap().to_owned();
    let limited = nobody.with(&of_r);
    let asked = json!({"name": "all", "scopes": ["admin"]});
    assert_eq!(limited.post("api-tokens", &asked).await.status, 403);
    let got = limited.call(Method::GET, "api-tokens", None).await;
    assert_eq!(got.body["items"].as_array().unwrap().len(), 1);
    let id = got.body["items"][0]["id"].as_str().unwrap().to_owned();
    let got = admin
        .call(Method::DELETE, &format!("api-tokens/{id}"), None)
        .await;
    assert_eq!(got.status, 204);
    for gone in [id.as_str(), "x", "%ff"] {
        let got = admin
            .call(Method::DELETE, &format!("api-tokens/{gone}"), None)
            .await;
        assert_eq!(
            (got.status.as_u16(), &got.body["type"]),
            (404, &json!("not-found"))
        );
    }
    done(&house, &["api-tokens", "revoke", "vpn"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for program in [&limited, &vpn] {
        let got = program.call(Method::GET, "api-tokens", None).await;
        assert_eq!(got.status, 401);
        assert!(got.body["detail"].as_str().unwrap().contains("was revoked"));
    }
    done(
        &house,
        &[
            "api-tokens",
            "create",
            "brief",
            "--scope=admin",
            "--expires=1s",
        ],
    );
    let brief = token(&house, "briefer", &["--scope=admin", "--expires=1s"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let got = nobody
        .with(&brief)
        .call(Method::GET, "api-tokens", None)
        .await;
    assert_eq!(got.status, 401);
    assert!(got.body["detail"].as_str().unwrap().contains("expired"));

    // A hundred in a second, and its use is noted.
    let all = futures_util::future::join_all(
        (0..400).map(|_| admin.call(Method::GET, "api-tokens?limit=1", None)),
    )
    .await;
    let refused: Vec<_> = all.iter().filter(|got| got.status == 429).collect();
    assert!(!refused.is_empty());
    assert_eq!(refused[0].header("retry-after"), "1");
    assert!(all.iter().all(|got| got.status == 200 || got.status == 429));
    let used = lines(&house, &["api-tokens", "list"]);
    assert!(used[0]["last_used_at"].is_string(), "{used:?}");

    let acts: Vec<_> = lines(&house, &["audit"])
        .into_iter()
        .map(|line| {
            (
                line["act"].clone(),
                line["from"].clone(),
                line["by"].clone(),
            )
        })
        .collect();
    assert!(
        acts.contains(&(
            json!("api-token-create"),
            json!("api"),
            json!("token:console")
        )),
        "{acts:?}"
    );
    assert_eq!(
        acts.iter()
            .filter(|(act, ..)| act == "api-token-revoke")
            .count(),
        2
    );
    assert_eq!(done(&house, &["audit", "verify"])["whole"], json!(true));
    nowhere(house.folder.path(), &[&of_r, &verify, &of_r[3..30]]);
}
