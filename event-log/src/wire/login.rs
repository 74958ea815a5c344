//! Logging in to a broker (SASL), before the first request.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::StrBytes,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Connection, WireError, scram::Scram};
use crate::cluster::{
    name,
    security::{Login, Mechanism},
};

/// Answers how long the broker lets the session last; `None` for ever.
pub(super) async fn log_in(
    connection: &mut Connection,
    login: &Login,
) -> Result<Option<Duration>, WireError> {
    let mechanism = login.mechanism.name();
    let request =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let answer = connection.call(1, &request).await?;
    match ResponseError::try_from_code(answer.error_code) {
        None if answer.error_code == 0 => {}
        Some(ResponseError::UnsupportedSaslMechanism) => {
            let offered: Vec<_> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(connection.not_logged_in(format!(
                "it does not offer {mechanism}, only {}",
                offered.join(", ")
            )));
        }
        Some(ResponseError::IllegalSaslState) => {
            return Err(connection.not_logged_in("it takes no login on this port".into()));
        }
        _ => return Err(connection.not_logged_in(name(answer.error_code))),
    }
    let Some(hash) = login.mechanism.scram() else {
        let Mechanism::Plain = login.mechanism else {
            unreachable!("{mechanism} without a hash")
        };
        let credentials = format!("\0{}\0{}", login.user, login.password);
        return Ok(send(connection, credentials).await?.lifetime);
    };

    let scram = Scram::new(hash, &login.user, nonce());
    let challenge = send(connection, scram.first_message()).await?;
    let proof = login
        .prove(&scram, &challenge.text)
        .map_err(|reason| connection.not_logged_in(reason.into()))?;
    let answer = send(connection, proof.message.clone()).await?;
    if !proof.accepts(&answer.text) {
        let reason = "it does not know the password itself: it may be somebody else";
        return Err(connection.not_logged_in(reason.into()));
    }
    Ok(answer.lifetime)
}

struct Answer {
    text: String,
    lifetime: Option<Duration>,
}

async fn send(connection: &mut Connection, message: String) -> Result<Answer, WireError> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let answer = connection.call(2, &request).await?;
    if answer.error_code != 0 {
        let reason = answer.error_message.as_deref().map(str::to_owned);
        let reason = reason.unwrap_or_else(|| name(answer.error_code));
        return Err(connection.not_logged_in(reason));
    }
    Ok(Answer {
        text: String::from_utf8_lossy(&answer.auth_bytes).into_owned(),
        lifetime: u64::try_from(answer.session_lifetime_ms)
            .ok()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis),
    })
}

fn nonce() -> String {
    let mut random = [0; 24];
    SystemRandom::new()
        .fill(&mut random)
        .expect("the system has random bytes");
    BASE64.encode(random)
}
