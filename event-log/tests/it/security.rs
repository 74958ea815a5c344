//! TLS and logins, against a broker that wants them, and what is said when they do not fit.

use std::{
    fs,
    net::TcpListener,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dev_stack::{DevStack, Options, Source, new_temporary_folder};
use event_log::{
    Position,
    cluster::{Cluster, ClusterError, Login, Mechanism, Security, Tls},
    consume::{Arrival, Consumer},
};
use kafka_protocol::{
    messages::{
        AlterUserScramCredentialsRequest, MetadataRequest,
        alter_user_scram_credentials_request::ScramCredentialUpsertion,
    },
    protocol::StrBytes,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ring::pbkdf2;
use tokio::time::{Duration, Instant, sleep};

use crate::shard::{PARTITION, Shard, in_time};

const USER: &str = "ada";
const PASSWORD: &str = "correct horse";
const LOGGED_IN_FOR: Duration = Duration::from_secs(5);

/// A Kafka with a listener of each kind, all with a certificate for localhost.
struct SecuredKafka {
    stack: DevStack,
    ca_file: PathBuf,
    ssl: String,
    sasl_ssl: String,
    /// Takes PLAIN alone, for as long as `LOGGED_IN_FOR` at a time.
    sasl: String,
}

impl SecuredKafka {
    async fn start() -> Self {
        let folder = new_temporary_folder();
        fs::create_dir_all(&folder).unwrap();
        let ca_file = folder.join("ca.pem");
        let key_store = folder.join("broker.pem");
        write_certificates(&ca_file, &key_store);
        let [ssl, sasl_ssl, sasl] = free_addresses();
        let mut settings = vec![
            (
                "additional.listeners".to_owned(),
                format!("SSL://{ssl},SASL_SSL://{sasl_ssl},SASL_PLAINTEXT://{sasl}"),
            ),
            setting("ssl.keystore.type", "PEM"),
            setting("ssl.keystore.location", &key_store.display().to_string()),
            setting(
                "sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            ),
            setting(
                "listener.name.sasl_plaintext.sasl.enabled.mechanisms",
                "PLAIN",
            ),
            setting(
                "listener.name.sasl_plaintext.connections.max.reauth.ms",
                &LOGGED_IN_FOR.as_millis().to_string(),
            ),
        ];
        let module = "org.apache.kafka.common.security";
        for (listener, mechanism, login) in [
            ("sasl_ssl", "plain", "plain.PlainLoginModule"),
            ("sasl_plaintext", "plain", "plain.PlainLoginModule"),
            ("sasl_ssl", "scram-sha-256", "scram.ScramLoginModule"),
            ("sasl_ssl", "scram-sha-512", "scram.ScramLoginModule"),
        ] {
            let users = match mechanism {
                "plain" => format!(" user_{USER}=\"{PASSWORD}\""),
                _ => String::new(),
            };
            settings.push((
                format!("listener.name.{listener}.{mechanism}.sasl.jaas.config"),
                format!("{module}.{login} required{users};"),
            ));
        }
        let mut options = Options::new(folder.join("stack"));
        options.postgres = Source::Existing("none".into());
        options.kafka_settings = settings;
        let stack = DevStack::start(options).await.unwrap();
        add_scram_user(&Cluster::new(stack.kafka())).await;
        Self {
            stack,
            ca_file,
            ssl,
            sasl_ssl,
            sasl,
        }
    }

    fn tls(&self) -> Option<Tls> {
        Some(Tls::new(Some(&self.ca_file)).unwrap())
    }
}

fn reached(address: &str, tls: Option<Tls>, login: Option<(Mechanism, &str)>) -> Cluster {
    let login = login.map(|(mechanism, password)| Login::new(mechanism, USER, password));
    Cluster::new(address).secured(Security { tls, login })
}

#[tokio::test]
async fn owners_and_readers_get_through_with_the_right_settings() {
    let kafka = SecuredKafka::start().await;
    let plain = Shard::on(kafka.stack.kafka()).await;
    let mut value = 0;
    for (address, tls, mechanism) in [
        (&kafka.ssl, true, None),
        (&kafka.sasl, false, Some(Mechanism::Plain)),
        (&kafka.sasl_ssl, true, Some(Mechanism::Plain)),
        (&kafka.sasl_ssl, true, Some(Mechanism::ScramSha256)),
        (&kafka.sasl_ssl, true, Some(Mechanism::ScramSha512)),
    ] {
        let tls = tls.then(|| kafka.tls()).flatten();
        let cluster = reached(address, tls, mechanism.map(|it| (it, PASSWORD)));
        // The user is known a moment after it was added.
        in_time(async {
            while cluster.reach().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let shard = Shard {
            cluster: cluster.clone(),
            ..plain.clone()
        };
        let mut owner = shard.own().await.unwrap();
        value += 1;
        let offset = owner.append(value).await.unwrap();
        let from = Position {
            topic: shard.events.clone(),
            partition: PARTITION,
            offset,
        };
        let (consumer, feeds) = Consumer::open(&cluster, "secured", &[from]).unwrap();
        let arrived = in_time(async {
            tokio::select! {
                arrived = feeds[0].next() => arrived.unwrap(),
                error = consumer.attend() => panic!("{error}"),
            }
        });
        match arrived.await {
            Arrival::Record(record) => assert_eq!(record.position.offset, offset),
            Arrival::End => panic!("{mechanism:?}: nothing was read"),
        }
        drop(feeds);
        consumer.close().await;
    }
    a_login_is_renewed_before_it_runs_out(&kafka, &plain).await;
    what_does_not_fit_is_said_in_one_line(&kafka).await;
    kafka.stack.stop().await;
}

/// One Kafka serves all stories: it takes seconds to start.
async fn a_login_is_renewed_before_it_runs_out(kafka: &SecuredKafka, shard: &Shard) {
    let cluster = reached(&kafka.sasl, None, Some((Mechanism::Plain, PASSWORD)));
    in_time(async {
        loop {
            let began = Instant::now();
            let connection = cluster.connect_leader(&shard.events, PARTITION);
            let mut connection = connection.await.unwrap();
            let was_open = connection.is_open();
            while connection.is_open() {
                sleep(Duration::from_millis(1)).await;
            }
            let asked = connection.ask(&MetadataRequest::default()).await;
            // On a busy machine it may have run out since, and this showed nothing.
            if began.elapsed() < LOGGED_IN_FOR {
                // Not closed by the broker: given up before it would be.
                asked.unwrap();
                return assert!(was_open);
            }
        }
    })
    .await;
}

async fn what_does_not_fit_is_said_in_one_line(kafka: &SecuredKafka) {
    let stranger = kafka.ca_file.with_file_name("stranger.pem");
    write_certificates(&stranger, &kafka.ca_file.with_file_name("unused.pem"));
    let stranger = Some(Tls::new(Some(&stranger)).unwrap());
    let by_number = kafka.ssl.replace("localhost", "127.0.0.1");
    let plain = kafka.stack.kafka();
    let right = |mechanism| Some((mechanism, PASSWORD));
    let wrong = |mechanism| Some((mechanism, "wrong"));
    use Mechanism::{Plain, ScramSha256, ScramSha512};
    for (case, cluster, said, final_) in [
        (
            "a wrong password",
            reached(&kafka.sasl_ssl, kafka.tls(), wrong(Plain)),
            "as ada: Authentication failed",
            true,
        ),
        (
            "a wrong password, proved",
            reached(&kafka.sasl_ssl, kafka.tls(), wrong(ScramSha512)),
            "as ada: Authentication failed",
            true,
        ),
        (
            "a mechanism that is not offered",
            reached(&kafka.sasl, None, right(ScramSha256)),
            "it does not offer SCRAM-SHA-256, only PLAIN",
            true,
        ),
        (
            "an authority that is not trusted",
            reached(&kafka.ssl, stranger, None),
            "ANNALS_KAFKA_SECURITY__CA_FILE",
            true,
        ),
        (
            "a certificate for another host",
            reached(&by_number, kafka.tls(), None),
            "not valid for name",
            true,
        ),
        (
            "no TLS where it is wanted",
            reached(&kafka.ssl, None, None),
            "speaks TLS on this port",
            true,
        ),
        (
            "TLS where it is not spoken",
            reached(plain, kafka.tls(), None),
            "it may not speak TLS on this port",
            true,
        ),
        (
            "no login where one is wanted",
            reached(&kafka.sasl, None, None),
            "it may want a login",
            false,
        ),
        (
            "a login where none is taken",
            reached(plain, None, right(Plain)),
            "it takes no login on this port",
            true,
        ),
    ] {
        let error: ClusterError = in_time(cluster.reach()).await.expect_err(case);
        let text = error.to_string();
        assert!(text.contains(said), "{case}: {text}");
        assert!(!text.contains('\n'), "{case}: {text}");
        assert!(!text.contains(PASSWORD), "{case}: {text}");
        assert_eq!(!error.is_temporary(), final_, "{case}: {text}");
    }
}

#[test]
fn passwords_are_not_printed() {
    let cluster = reached("127.0.0.1:1", None, Some((Mechanism::Plain, PASSWORD)));
    assert!(!format!("{cluster:?}").contains(PASSWORD));
}

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = new_temporary_folder();
    fs::create_dir_all(&folder).unwrap();
    let empty = folder.join("empty.pem");
    let missing = Tls::new(Some(&empty)).unwrap_err();
    assert!(missing.to_string().contains("failed to read"), "{missing}");
    fs::write(&empty, "nothing").unwrap();
    let error = Tls::new(Some(&empty)).unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

fn setting(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

/// An authority, and a key with a certificate from it.
fn write_certificates(ca_file: &Path, key_store: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = ca_file.file_stem().unwrap().to_str().unwrap();
    authority.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    fs::write(ca_file, authority.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    // By name: OpenSSL, which librdkafka stands on, compares no addresses.
    let mut broker = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    // With the authority's own name it would be taken for self-signed.
    let name = &mut broker.distinguished_name;
    name.push(DnType::CommonName, "a broker");
    let broker = broker.signed_by(&key, &authority).unwrap();
    fs::write(key_store, key.serialize_pem() + &broker.pem()).unwrap();
}

/// Where nobody takes them before the broker does: below the ports that the kernel gives away, and
/// below those of the other stacks.
fn free_addresses() -> [String; 3] {
    let mut free = (10_000..12_000).rev().filter_map(|port| {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        Some(format!("localhost:{}", listener.local_addr().ok()?.port()))
    });
    [(); 3].map(|()| free.next().unwrap())
}

async fn add_scram_user(cluster: &Cluster) {
    const ITERATIONS: u32 = 4_096;
    let upsertion = |mechanism: i8, algorithm, length: usize| {
        let salt = b"some salt";
        let mut salted = vec![0; length];
        let iterations = NonZeroU32::new(ITERATIONS).unwrap();
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            PASSWORD.as_bytes(),
            &mut salted,
        );
        ScramCredentialUpsertion::default()
            .with_name(StrBytes::from_static_str(USER))
            .with_mechanism(mechanism)
            .with_iterations(ITERATIONS as i32)
            .with_salt(Bytes::from_static(salt))
            .with_salted_password(Bytes::from(salted))
    };
    // Any broker would do; there is one once the coordinators are ready.
    let mut broker = in_time(async {
        loop {
            match cluster.connect_coordinator("any").await {
                Ok(broker) => return broker,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    // A user can be given one credential in a request.
    for credential in [
        upsertion(1, pbkdf2::PBKDF2_HMAC_SHA256, 32),
        upsertion(2, pbkdf2::PBKDF2_HMAC_SHA512, 64),
    ] {
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
        let answer = broker.call(0, &request).await.unwrap();
        assert_eq!(answer.results[0].error_code, 0);
    }
}
