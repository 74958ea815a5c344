//! The directory: everybody of a tenant, by id.

use annals::http::{IntoParams, OpenApiRouter, Problem, ToSchema, routes};
use annals::query::{
    Changes, Followable, Listed, Page, PageParams, Path, Query, Reader, Reads, Versioned, not_found,
};
use annals::read_model::{PgConnection, ReadModel, Recorded};
use kernel::StreamVersion;
use serde::{Deserialize, Serialize};

use crate::{Role, UserEvent};

pub(crate) struct UserDirectory;

impl ReadModel for UserDirectory {
    const NAME: &'static str = "user-directory";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["accounts"];
    const TABLES: &'static str = "
        create table users (
            tenant  text not null,
            id      text not null,
            version bigint not null,
            email   text not null,
            name    text not null,
            role    text not null,
            primary key (tenant, id)
        );";
    type Event = UserEvent;

    async fn project(
        events: &[Recorded<UserEvent>],
        db: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let mut rows = Rows::default();
        for Recorded {
            envelope, event, ..
        } in events
        {
            let UserEvent::UserRegistered { email, name, role } = event;
            rows.tenants.push(envelope.stream.tenant().to_owned());
            rows.ids.push(envelope.stream.id().to_owned());
            rows.versions.push(envelope.version.0 as i64);
            rows.emails.push(email.clone());
            rows.names.push(name.clone());
            rows.roles.push(role.as_str().to_owned());
        }
        sqlx::query(
            "insert into users (tenant, id, version, email, name, role)
             select distinct on (tenant, id) *
               from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
                    as registered (tenant, id, version, email, name, role)
              order by tenant, id, version desc
             on conflict (tenant, id) do update
                set version = excluded.version, email = excluded.email,
                    name = excluded.name, role = excluded.role",
        )
        .bind(rows.tenants)
        .bind(rows.ids)
        .bind(rows.versions)
        .bind(rows.emails)
        .bind(rows.names)
        .bind(rows.roles)
        .execute(db)
        .await?;
        Ok(())
    }
}

#[derive(Default)]
struct Rows {
    tenants: Vec<String>,
    ids: Vec<String>,
    versions: Vec<i64>,
    emails: Vec<String>,
    names: Vec<String>,
    roles: Vec<String>,
}

pub(crate) fn queries() -> OpenApiRouter<Reads> {
    OpenApiRouter::new()
        .routes(routes!(list_users).followed::<UserDirectory>(Changes::All))
        .routes(routes!(show_user).followed::<UserDirectory>(Changes::OfKey("id")))
}

/// A user, as the directory shows them.
#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
struct UserRow {
    id: String,
    name: String,
    email: String,
    #[schema(example = "worker")]
    role: String,
    #[serde(skip)]
    version: i64,
}

impl Listed for UserRow {
    const LIST: &'static str = "users-by-name";
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        (self.name.clone(), self.id.clone())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UserFilter {
    /// Only users with this role.
    role: Option<Role>,
}

/// All users, by name
///
/// Managers and admins may see them.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "accounts",
    params(UserFilter, PageParams<UserRow>),
    responses(
        (status = 200, description = "A page of users", body = Page<UserRow>),
        (status = 403, description = "`role-required`"),
    ),
)]
async fn list_users(
    reader: Reader<UserDirectory>,
    Query(filter): Query<UserFilter>,
    page: PageParams<UserRow>,
) -> Result<Page<UserRow>, Problem> {
    reader.caller.require_any(&["manager", "admin"])?;
    let (after_name, after_id) = page.after.clone().unzip();
    let mut snapshot = reader.snapshot().await?;
    let rows = snapshot
        .query_as(
            "select id, name, email, role, version from users
             where tenant = $1
               and ($2::text is null or role = $2)
               and ($3::text is null or (name, id) > ($3, $4))
             order by name, id
             limit $5",
        )
        .bind(filter.role.map(Role::as_str))
        .bind(after_name)
        .bind(after_id)
        .bind(page.rows())
        .fetch_all()
        .await?;
    snapshot.page(&page, rows).await
}

/// One user
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    tag = "accounts",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = UserRow),
        (status = 404, description = "`no-such-user`"),
    ),
)]
async fn show_user(
    reader: Reader<UserDirectory>,
    Path(id): Path<String>,
) -> Result<Versioned<UserRow>, Problem> {
    let user: UserRow = reader
        .snapshot()
        .await?
        .query_as("select id, name, email, role, version from users where tenant = $1 and id = $2")
        .bind(&id)
        .fetch_optional()
        .await?
        .ok_or_else(|| not_found("no-such-user", "There is no such user"))?;
    Ok(Versioned {
        version: StreamVersion(user.version as u64),
        body: user,
    })
}

#[cfg(test)]
mod tests;
