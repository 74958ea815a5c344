//! Who may do what: reading and writing, by basic authentication or a bearer token. Who says
//! nothing may do what is configured for the anonymous, which is nothing unless it is said.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use service_kit::{Secret, Verifier};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// What somebody may do. Who may write may read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Read,
    Write,
}

impl Role {
    /// What a token must have among its roles.
    pub fn in_token(self) -> &'static str {
        match self {
            Self::Read => "registry-read",
            Self::Write => "registry-write",
        }
    }
}

/// Somebody who logs in with a name and a password.
#[derive(Clone, Debug, Deserialize)]
pub struct User {
    pub name: String,
    pub password: Secret,
    pub role: Role,
}

/// Whom the registry lets in.
#[derive(Clone)]
pub(crate) struct Access(Arc<Doors>);

struct Doors {
    anonymous: Option<Role>,
    users: Vec<Door>,
    tokens: Option<Verifier>,
}

struct Door {
    name: String,
    /// Compared instead of the password: equally long whatever is tried.
    password: [u8; 32],
    role: Role,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    role: Option<Role>,
    /// What a revision of rules is signed with.
    pub name: Option<String>,
}

impl Access {
    pub fn new(anonymous: Option<Role>, users: &[User], tokens: Option<Verifier>) -> Self {
        let users = users.iter().map(|user| Door {
            name: user.name.clone(),
            password: Sha256::digest(user.password.expose()).into(),
            role: user.role,
        });
        Self(Arc::new(Doors {
            anonymous,
            users: users.collect(),
            tokens,
        }))
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let doors = &*self.0;
        let Some(said) = headers.get(header::AUTHORIZATION) else {
            return Ok(Caller {
                role: doors.anonymous,
                name: None,
            });
        };
        let said = said.to_str().unwrap_or_default();
        let (scheme, rest) = said.split_once(' ').unwrap_or_default();
        let caller = if scheme.eq_ignore_ascii_case("basic") {
            doors.by_password(rest.trim())
        } else if scheme.eq_ignore_ascii_case("bearer") {
            doors.by_token(rest.trim())
        } else {
            None
        };
        caller.ok_or(Error::NotAuthenticated)
    }
}

impl Doors {
    fn by_password(&self, encoded: &str) -> Option<Caller> {
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        let password: [u8; 32] = Sha256::digest(password).into();
        let door = self
            .users
            .iter()
            .find(|door| door.name == name && door.password == password)?;
        Some(Caller {
            role: Some(door.role),
            name: Some(door.name.clone()),
        })
    }

    fn by_token(&self, token: &str) -> Option<Caller> {
        let identity = self.tokens.as_ref()?.verify(token).ok()?;
        let role = [Role::Write, Role::Read]
            .into_iter()
            .find(|role| identity.has_role(role.in_token()));
        Some(Caller {
            role,
            name: Some(identity.actor.to_string()),
        })
    }
}

/// Finds out who is asking, before the route is entered.
pub(crate) async fn authenticate(access: Access, mut request: Request, next: Next) -> Response {
    match access.admit(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refuse(error),
    }
}

/// Lets pass who has the role that the route takes.
pub(crate) async fn authorize(needed: Role, request: Request, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        Some(Caller {
            role: Some(role), ..
        }) if *role >= needed => next.run(request).await,
        Some(Caller { name: Some(_), .. }) => refuse(Error::NotAllowed(needed.in_token())),
        _ => refuse(Error::NotAuthenticated),
    }
}

fn refuse(error: Error) -> Response {
    let unauthenticated = matches!(error, Error::NotAuthenticated);
    let mut response = error.into_response();
    if unauthenticated {
        let schemes = [
            r#"Basic realm="schema registry", charset="UTF-8""#,
            "Bearer",
        ];
        for scheme in schemes {
            let scheme = HeaderValue::from_static(scheme);
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, scheme);
        }
    }
    response
}
