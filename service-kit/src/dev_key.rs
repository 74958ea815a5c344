//! Tokens for development and tests, signed with a key that is made on the spot.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kernel::{Actor, Tenant};
use p256::{
    SecretKey,
    elliptic_curve::rand_core::OsRng,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use serde::Serialize;

use crate::auth::{ActorKind, Claims, Verifier};

/// The issuer of tokens that are signed with a [`DevKey`].
pub const DEV_ISSUER: &str = "annals-dev";

/// A P-256 key pair that signs tokens.
pub struct DevKey {
    signing: EncodingKey,
    public_pem: String,
}

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    pub actor: Actor,
    pub tenant: Tenant,
    pub roles: Vec<String>,
    pub issuer: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DevKeyError {
    #[error("failed to read the development key {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write the development key {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a P-256 key in PEM (PKCS#8); delete it to have a new one made")]
    Malformed { path: PathBuf },
    #[error(
        "others may read the development key {path}; run `chmod 600 {path}`, or delete it to have a new one made"
    )]
    Exposed { path: PathBuf },
}

impl DevKey {
    /// The key in this file; made, with mode 0600, if there is none. Processes that do so at
    /// the same time get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self, DevKeyError> {
        match load(path) {
            Err(DevKeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let secret = SecretKey::random(&mut OsRng);
                create(path, &secret).map_err(|source| DevKeyError::Write {
                    path: path.into(),
                    source,
                })?;
                load(path)
            }
            loaded => loaded,
        }
    }

    /// A key that is not kept.
    pub fn generate() -> Self {
        Self::of(&SecretKey::random(&mut OsRng))
    }

    /// The public key in PEM, for a [`Verifier`].
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Accepts the tokens of this key.
    pub fn verifier(&self) -> Verifier {
        Verifier::new([self.public_pem()], DEV_ISSUER).expect("the key was written by us")
    }

    /// A signed token that is valid from now for `ttl`, in whole seconds.
    pub fn issue(&self, request: &TokenRequest, ttl: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let iat = now.unwrap_or_default().as_secs();
        let kind = match request.actor {
            Actor::User(_) => ActorKind::User,
            Actor::Service(_) => ActorKind::Service,
            Actor::System(_) => ActorKind::System,
        };
        self.sign(&Claims {
            sub: request.actor.name().into(),
            tenant: request.tenant.clone(),
            roles: request.roles.clone(),
            kind,
            iss: request.issuer.clone(),
            exp: iat.saturating_add(ttl.as_secs()),
            iat,
        })
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &self.signing)
            .expect("claims serialize, and the key is one for ES256")
    }

    fn of(secret: &SecretKey) -> Self {
        let private = secret
            .to_pkcs8_der()
            .expect("a P-256 key has a PKCS#8 form");
        let public_pem = secret.public_key().to_public_key_pem(LineEnding::LF);
        Self {
            signing: EncodingKey::from_ec_der(private.as_bytes()),
            public_pem: public_pem.expect("a P-256 key has a PEM form"),
        }
    }
}

impl TokenRequest {
    /// For this actor in the default tenant, without roles.
    pub fn new(actor: Actor) -> Self {
        Self {
            actor,
            tenant: Tenant::default(),
            roles: Vec::new(),
            issuer: DEV_ISSUER.into(),
        }
    }

    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = tenant;
        self
    }

    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }
}

fn load(path: &Path) -> Result<DevKey, DevKeyError> {
    let unreadable = |source| DevKeyError::Read {
        path: path.into(),
        source,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(DevKeyError::Exposed { path: path.into() });
    }
    let pem = fs::read_to_string(path).map_err(unreadable)?;
    let secret = SecretKey::from_pkcs8_pem(&pem);
    let secret = secret.map_err(|_| DevKeyError::Malformed { path: path.into() })?;
    Ok(DevKey::of(&secret))
}

/// Puts the whole file in place at once, unless another process was first.
fn create(path: &Path, secret: &SecretKey) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let pem = secret
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&draft);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/dev.pem");
        let made = DevKey::load_or_create(&path).unwrap();
        let loaded = DevKey::load_or_create(&path).unwrap();
        assert_eq!(made.public_pem(), loaded.public_pem());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_is_damaged_or_exposed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.pem");
        DevKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            DevKey::load_or_create(&path),
            Err(DevKeyError::Exposed { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(
            DevKey::load_or_create(&path),
            Err(DevKeyError::Malformed { .. })
        ));
    }
}
