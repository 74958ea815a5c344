use annals::read_model::testing::given;
use serde_json::json;
use sqlx::PgPool;

use super::UserDirectory;
use crate::{Role, UserEvent};

fn registered(email: &str, name: &str, role: Role) -> UserEvent {
    UserEvent::UserRegistered {
        email: email.into(),
        name: name.into(),
        role,
    }
}

#[tokio::test]
async fn the_directory_has_everybody_of_each_tenant() {
    let stack = dev_stack::shared().await;
    let database = stack.fresh_database().await.unwrap();
    let postgres = PgPool::connect(&database).await.unwrap();
    given::<UserDirectory>()
        .event(
            "main/user/1",
            registered("ada@example.com", "Ada", Role::Worker),
        )
        .event(
            "main/user/2",
            registered("mia@example.com", "Mia", Role::Manager),
        )
        .event(
            "acme/user/1",
            registered("ada@example.com", "Ada", Role::Admin),
        )
        .then(
            &postgres,
            "select tenant, id, email, name, role, version from users order by tenant, id",
            json!([
                { "tenant": "acme", "id": "1", "email": "ada@example.com", "name": "Ada",
                  "role": "admin", "version": 1 },
                { "tenant": "main", "id": "1", "email": "ada@example.com", "name": "Ada",
                  "role": "worker", "version": 1 },
                { "tenant": "main", "id": "2", "email": "mia@example.com", "name": "Mia",
                  "role": "manager", "version": 1 },
            ]),
        )
        .await;
}
