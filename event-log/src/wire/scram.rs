//! SCRAM, the client's side: proving that one knows the password without
//! sending it, and that the broker knows it too. RFC 5802, with SHA-256 (RFC
//! 7677) or SHA-512.
//!
//! Like Kafka's own, without SASLprep: passwords are taken byte by byte.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{digest, hmac, pbkdf2};

/// RFC 7677 and Kafka ask for at least so many: fewer are a broker that is after the password.
const LEAST_ITERATIONS: u32 = 4_096;
/// So many take about a second: more are a broker that wants to keep us busy.
const MOST_ITERATIONS: u32 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

/// What follows from the password, the salt and the iterations. Costs
/// milliseconds, so it is kept for the next connection.
#[derive(Clone)]
pub(crate) struct Keys {
    salt: Vec<u8>,
    iterations: u32,
    client: hmac::Tag,
    server: hmac::Tag,
}

/// One conversation.
pub(crate) struct Scram {
    hash: Hash,
    first_bare: String,
    nonce: String,
}

/// The client's last word, and how the broker's answer to it is checked.
pub(crate) struct Proof {
    pub(crate) message: String,
    signing_key: hmac::Key,
    signed: String,
}

impl Scram {
    /// `nonce`: printable, without a comma, never used before.
    pub(crate) fn new(hash: Hash, user: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            first_bare: format!("n={user},r={nonce}"),
            nonce,
        }
    }

    pub(crate) fn first_message(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the broker's challenge. `keys` are used when they fit it, and replaced otherwise.
    pub(crate) fn prove(
        &self,
        challenge: &str,
        password: &str,
        keys: &mut Option<Keys>,
    ) -> Result<Proof, &'static str> {
        let mut fields = challenge.split(',');
        let mut field = |name: &str| fields.next()?.strip_prefix(name);
        let nonce = field("r=").ok_or("its challenge has no nonce")?;
        let salt = field("s=").ok_or("its challenge has no salt")?;
        let iterations = field("i=").ok_or("its challenge has no iterations")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its challenge answers somebody else");
        }
        let salt = BASE64.decode(salt).map_err(|_| "its salt is not base64")?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or("it asks for fewer iterations than are safe, or for too many")?;
        let keys = match keys {
            Some(keys) if keys.salt == salt && keys.iterations == iterations.get() => keys,
            other => other.insert(self.hash.keys(password, salt, iterations)),
        };

        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.first_bare);
        let stored_key = digest::digest(self.hash.digest(), keys.client.as_ref());
        let signature = self.hash.sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = keys
            .client
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, signature)| key ^ signature)
            .collect();
        Ok(Proof {
            message: format!("{without_proof},p={}", BASE64.encode(proof)),
            signing_key: hmac::Key::new(self.hash.hmac(), keys.server.as_ref()),
            signed,
        })
    }
}

impl Proof {
    /// Whether the broker knows the password as well: otherwise it is somebody else.
    pub(crate) fn accepts(&self, answer: &str) -> bool {
        let signature = answer
            .split(',')
            .next()
            .and_then(|it| it.strip_prefix("v="));
        let signature = signature.and_then(|signature| BASE64.decode(signature).ok());
        signature.is_some_and(|signature| {
            hmac::verify(&self.signing_key, self.signed.as_bytes(), &signature).is_ok()
        })
    }
}

impl Hash {
    fn keys(self, password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Keys {
        let mut salted = vec![0; self.digest().output_len()];
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        pbkdf2::derive(
            algorithm,
            iterations,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        Keys {
            client: self.sign(&salted, b"Client Key"),
            server: self.sign(&salted, b"Server Key"),
            salt,
            iterations: iterations.get(),
        }
    }

    fn sign(self, key: &[u8], text: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), text)
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram() -> Scram {
        Scram::new(Hash::Sha256, "user", NONCE.into())
    }

    #[test]
    fn the_example_of_rfc_7677_is_spoken() {
        assert_eq!(scram().first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = scram().prove(CHALLENGE, "pencil", &mut None).unwrap();
        assert_eq!(
            proof.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(proof.accepts("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_found_out() {
        let proof = scram().prove(CHALLENGE, "pencil", &mut None).unwrap();
        for answer in [
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "v=",
            "",
            "e=other-error",
        ] {
            assert!(!proof.accepts(answer), "{answer:?}");
        }
    }

    #[test]
    fn a_challenge_that_is_not_an_answer_to_ours_is_refused() {
        for challenge in [
            "",
            "r=somebodyelse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=*,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "r=rOprNGfwEbeRWgbNEkqO%x,s=W22ZaJ0SNY7soEsUEjb6gQ==",
        ] {
            assert!(
                scram().prove(challenge, "pencil", &mut None).is_err(),
                "{challenge:?}"
            );
        }
    }

    #[test]
    fn kept_keys_prove_the_same_and_give_way_to_another_salt() {
        let mut keys = None;
        let first = scram().prove(CHALLENGE, "pencil", &mut keys).unwrap();
        // Were they not used, a wrong password would show.
        let again = scram().prove(CHALLENGE, "not needed", &mut keys).unwrap();
        assert_eq!(first.message, again.message);
        let salted_anew = CHALLENGE.replace("W22Z", "X22Z");
        let other = scram().prove(&salted_anew, "pencil", &mut keys).unwrap();
        assert_ne!(first.message, other.message);
    }

    #[test]
    fn separators_in_a_name_are_written_otherwise() {
        let scram = Scram::new(Hash::Sha512, "a,b=c", "x".into());
        assert_eq!(scram.first_message(), "n,,n=a=2Cb=3Dc,r=x");
    }
}
