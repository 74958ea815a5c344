//! Who is let in.

use reqwest::{Method, header};
use schema_registry::{Config, Role, Service, User};
use serde_json::{Value, json};
use service_kit::{DevKey, Secret, SecretUrl, TokenRequest};

use crate::running::{Answer, Running, new_database, start};

async fn guarded(anonymous: Option<Role>, key: &DevKey) -> Running {
    let user = |name: &str, role| User {
        name: name.to_owned(),
        password: Secret::new(format!("{name}'s: password")),
        role,
    };
    let config = Config {
        address: "127.0.0.1:0".to_owned(),
        postgres: SecretUrl::new(new_database().await),
        users: vec![user("rita", Role::Read), user("will", Role::Write)],
        anonymous,
        ..Config::default()
    };
    let service = Service::bind(config).await.unwrap();
    let running = start(service.accept_tokens(key.verifier()));
    running.until_ready(true).await;
    running
}

fn dev_key() -> DevKey {
    let folder = tempfile::tempdir().unwrap();
    DevKey::load_or_create(&folder.path().join("key.pem")).unwrap()
}

fn token(key: &DevKey, roles: &[&str]) -> String {
    let request = TokenRequest::new(kernel::Actor::User("ada".into()));
    let request = roles
        .iter()
        .fold(request, |request, role| request.role(*role));
    let issued = key.issue(&request, std::time::Duration::from_secs(600));
    format!("Bearer {issued}")
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let login = format!("{name}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(login)
    )
}

/// What reading and writing are answered with.
async fn tries(registry: &Running, authorization: Option<&str>) -> [Value; 3] {
    let schema = json!({"schema": "\"string\""});
    let requests = [
        registry.request(Method::GET, "/subjects"),
        registry
            .request(Method::POST, "/compatibility/subjects/s/versions")
            .json(&schema),
        registry
            .request(Method::POST, "/subjects/s/versions")
            .json(&schema),
    ];
    let mut codes = Vec::new();
    for request in requests {
        let request = match authorization {
            Some(said) => request.header(header::AUTHORIZATION, said),
            None => request,
        };
        let answer = Answer::of(request).await;
        codes.push(match &answer.body["error_code"] {
            Value::Null => json!(answer.status.as_u16()),
            code => code.clone(),
        });
    }
    codes.try_into().unwrap()
}

#[tokio::test]
async fn each_role_may_do_what_it_says() {
    let key = dev_key();
    let registry = guarded(None, &key).await;
    let may_not = [json!(40101), json!(40101), json!(40101)];
    let may_read = [json!(200), json!(200), json!(40301)];
    let may_write = [json!(200), json!(200), json!(200)];
    let no_role = [json!(40301), json!(40301), json!(40301)];
    let stranger = token(&dev_key(), &["registry-write"]);
    for (said, expected) in [
        (None, &may_not),
        (Some(basic("rita", "rita's: password")), &may_read),
        (Some(basic("will", "will's: password")), &may_write),
        (Some(basic("rita", "will's: password")), &may_not),
        (Some(basic("nobody", "")), &may_not),
        (Some("Basic ?".to_owned()), &may_not),
        (Some("Digest x".to_owned()), &may_not),
        (Some(token(&key, &["registry-read"])), &may_read),
        (Some(token(&key, &["registry-write"])), &may_write),
        (Some(token(&key, &["manager"])), &no_role),
        (Some(stranger), &may_not),
    ] {
        let found = tries(&registry, said.as_deref()).await;
        assert_eq!(&found, expected, "{said:?}");
    }
    let request = registry.request(Method::GET, "/subjects");
    let refused = request.send().await.unwrap();
    let schemes: Vec<_> = refused
        .headers()
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .collect();
    assert_eq!(schemes.len(), 2, "{schemes:?}");
    // Who runs the registry must see how it is.
    assert_eq!(registry.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn the_anonymous_may_do_what_is_configured() {
    let key = dev_key();
    let registry = guarded(Some(Role::Read), &key).await;
    // Who could log in and has not is asked to.
    assert_eq!(
        tries(&registry, None).await,
        [json!(200), json!(200), json!(40101)]
    );
    // A wrong password is not less than none.
    assert_eq!(
        tries(&registry, Some(&basic("will", "guessed"))).await,
        [json!(40101), json!(40101), json!(40101)]
    );
}

#[tokio::test]
async fn whoever_mends_rules_signs_for_it() {
    let key = dev_key();
    let registry = guarded(None, &key).await;
    let said = token(&key, &["registry-write"]);
    let post = |path: &'static str, body: Value| {
        let request = registry.request(Method::POST, path).json(&body);
        Answer::of(request.header(header::AUTHORIZATION, &said))
    };
    post("/subjects/s/versions", json!({"schema": "\"string\""})).await;
    let rule = json!({"name": "r", "kind": "TRANSFORM", "mode": "UPGRADE", "type": "ANNALS"});
    let mended = post(
        "/subjects/s/versions/1/rules",
        json!({"migrationRules": [rule]}),
    );
    let mended = mended.await;
    assert_eq!(mended.body["author"], "user:ada", "{}", mended.text);
}
