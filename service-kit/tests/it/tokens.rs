//! Tokens over the wire.

use std::time::Duration;

use axum::{Extension, Router, routing::get};
use kernel::Actor;
use service_kit::{DevKey, Identity, Problem, TokenRequest};

use crate::{client, problem, start};

#[tokio::test]
async fn a_handler_learns_who_calls_and_others_are_sent_away() {
    let key = DevKey::generate();
    let router = Router::new()
        .route(
            "/me",
            get(async |caller: Identity| caller.actor.to_string()),
        )
        .route(
            "/admin",
            get(async |caller: Identity| -> Result<&str, Problem> {
                caller.require_any(&["admin"])?;
                Ok("welcome")
            }),
        )
        .layer(Extension(key.verifier()));
    let server = start(router).await;
    let get = async |path: &str, authorization: Option<String>| {
        let mut request = client().get(server.url(path));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.send().await.unwrap()
    };
    let hour = Duration::from_secs(3600);
    let ada = TokenRequest::new(Actor::User("ada".into()));

    let token = key.issue(&ada, hour);
    let answer = get("/me", Some(format!("bearer {token}"))).await;
    assert_eq!(answer.text().await.unwrap(), "user:ada");
    let answer = get("/admin", Some(format!("Bearer {token}"))).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(problem(answer).await["code"], "role-required");
    let admin = key.issue(&ada.clone().role("admin"), hour);
    let answer = get("/admin", Some(format!("Bearer {admin}"))).await;
    assert_eq!(answer.status(), 200);

    let expired = key.issue(&ada, Duration::ZERO);
    let forged = DevKey::generate().issue(&ada, hour);
    for (authorization, code, challenge) in [
        (None, "token-missing", "Bearer"),
        (Some("Basic YTpi".into()), "token-missing", "Bearer"),
        (
            Some(format!("Bearer {forged}")),
            "token-invalid",
            r#"Bearer error="invalid_token""#,
        ),
        (
            Some(format!("Bearer {expired}")),
            "token-expired",
            r#"Bearer error="invalid_token", error_description="expired""#,
        ),
    ] {
        let answer = get("/me", authorization).await;
        assert_eq!(answer.status(), 401, "{code}");
        assert_eq!(answer.headers()["www-authenticate"], challenge);
        assert_eq!(problem(answer).await["code"], code);
    }
}
