//! Where settings come from: defaults, then a TOML file, then the environment.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Error as FigmentError, Figment, Metadata, Profile, Provider, Source,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::ignored;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "annals.toml";

const PREFIX: &str = "ANNALS_";

/// Every message is one line and says where the value came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read the configuration file {path}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
    #[error("unknown setting `{key}` in {path}")]
    UnknownKey { key: String, path: PathBuf },
}

/// Reads the settings `T`: its serde defaults, then the TOML file (this one, or
/// `./annals.toml` if there is one), then the environment.
///
/// `ANNALS_KAFKA__HOST=x` sets `host` in the table `kafka`; an empty variable counts as not
/// set; lists are written `[a, b]`. A setting in the file that `T` does not know is an
/// error. A variable that it does not know is only told on stderr: a container
/// orchestrator may set `ANNALS_PORT` and others for a service that is called annals, so
/// leave `deny_unknown_fields` out of `T`.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (settings, ignored) = read(file, variables)?;
    for variable in ignored {
        eprintln!("annals: ignored {variable}, which is not a setting");
    }
    Ok(settings)
}

/// The settings, and the variables that are none.
fn read<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(T, Vec<String>), ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        // figment takes a file that cannot be read for an empty one.
        fs::read(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let figment = figment.merge(Environment(variables.collect()));
    // Lossy: variables are text, and only `T` knows which of them is a number.
    let known: Known<T> = figment
        .extract_lossy()
        .map_err(|errors| ConfigError::Invalid(explain(errors)))?;
    let mut ignored = Vec::new();
    for key in known.unknown {
        // figment knows the origin of a list, not of what is in it.
        let list = key.split('[').next().unwrap_or(&key);
        match figment.find_metadata(list).map(|it| it.source.clone()) {
            Some(Some(Source::File(path))) => return Err(ConfigError::UnknownKey { key, path }),
            _ => ignored.push(variable(list.split('.'))),
        }
    }
    Ok((known.settings, ignored))
}

/// The first error, on one line; the others show up once it is mended.
fn explain(errors: FigmentError) -> String {
    let Some(error) = errors.into_iter().next() else {
        return "no reason is known".into();
    };
    let source = error.metadata.as_ref().and_then(|it| it.source.as_ref());
    let key = error.path.join(".");
    let place = match (source, key.is_empty()) {
        (Some(Source::File(path)), true) => format!(" in {}", path.display()),
        (Some(Source::File(path)), false) => format!(" for `{key}` in {}", path.display()),
        (Some(_), _) => format!(" in {}", variable(error.path.iter().map(String::as_str))),
        (None, false) => format!(" for `{key}`"),
        (None, true) => String::new(),
    };
    let message = match &error.kind {
        Kind::MissingField(name) => {
            let keys = error.path.iter().map(String::as_str).chain([&**name]);
            let variable = variable(keys);
            return format!("`{name}` is missing{place}; set it in the file or as {variable}");
        }
        kind => kind.to_string(),
    };
    // A parser of TOML draws several lines.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{message}{place}")
}

fn variable<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let keys = keys.collect::<Vec<_>>().join("__");
    format!("{PREFIX}{}", keys.to_ascii_uppercase())
}

/// Settings, with the keys that were there but are not among them.
struct Known<T> {
    settings: T,
    unknown: Vec<String>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Known<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (settings, unknown) = ignored::deserialize(deserializer)?;
        Ok(Self { settings, unknown })
    }
}

/// Variables as they are: figment's own provider would guess types, and a generation that is
/// called `1` is text.
struct Environment(Vec<(String, String)>);

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment").source(Source::Custom("environment".into()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, FigmentError> {
        let mut settings = Dict::new();
        for (name, text) in &self.0 {
            let Some(name) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let keys: Vec<_> = name.split("__").collect();
            let value = match text.starts_with(['[', '{']) {
                true => text.parse().unwrap_or_else(|never| match never {}),
                false => Value::from(text.clone()),
            };
            put(&mut settings, &keys, value);
        }
        Ok(Map::from([(Profile::Default, settings)]))
    }
}

fn put(settings: &mut Dict, keys: &[&str], value: Value) {
    let [key, rest @ ..] = keys else { return };
    if rest.is_empty() {
        settings.insert((*key).into(), value);
        return;
    }
    let table = settings
        .entry((*key).into())
        .or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, table) = table {
        put(table, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::secret::SecretUrl;

    #[derive(Debug, Deserialize)]
    #[serde(default)]
    struct Settings {
        generation: String,
        port: u16,
        verbose: bool,
        hosts: Vec<String>,
        kafka: Kafka,
        postgres: Option<SecretUrl>,
        shards: Option<Vec<Shard>>,
    }

    #[derive(Debug, Deserialize)]
    struct Shard {
        #[allow(dead_code)]
        number: u8,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Kafka {
        host: String,
        retries: Option<u32>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                generation: "1".into(),
                port: 8401,
                verbose: false,
                hosts: Vec::new(),
                kafka: Kafka::default(),
                postgres: None,
                shards: None,
            }
        }
    }

    fn load_from(
        toml: &str,
        variables: &[(&str, &str)],
    ) -> Result<(Settings, Vec<String>), ConfigError> {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let variables = variables
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()));
        read(Some(file.path()), variables)
    }

    #[track_caller]
    fn refused(toml: &str, variables: &[(&str, &str)]) -> String {
        let message = load_from(toml, variables).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let toml = "port = 1\n[kafka]\nhost = \"file\"\nretries = 3\n";
        let variables = [
            ("ANNALS_KAFKA__HOST", "env"),
            ("PATH", "x"),
            ("ANNALS_PORT", ""),
        ];
        let (settings, ignored) = load_from(toml, &variables).unwrap();
        assert_eq!(settings.generation, "1");
        assert_eq!(settings.port, 1);
        assert_eq!(settings.kafka.host, "env");
        assert_eq!(settings.kafka.retries, Some(3));
        assert_eq!(ignored, [""; 0]);
    }

    #[test]
    fn a_variable_takes_the_type_of_its_setting() {
        let (settings, _) = load_from(
            "",
            &[
                ("ANNALS_GENERATION", "2"),
                ("ANNALS_PORT", "9000"),
                ("ANNALS_VERBOSE", "true"),
                ("ANNALS_HOSTS", "[a, b]"),
                ("ANNALS_KAFKA__RETRIES", "7"),
                ("ANNALS_KAFKA__HOST", "127.0.0.1:9092"),
            ],
        )
        .unwrap();
        assert_eq!(settings.generation, "2");
        assert_eq!(settings.port, 9000);
        assert!(settings.verbose);
        assert_eq!(settings.hosts, ["a", "b"]);
        assert_eq!(settings.kafka.retries, Some(7));
        assert_eq!(settings.kafka.host, "127.0.0.1:9092");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named_with_the_file() {
        let message = refused("[kafka]\nhosst = \"x\"\n", &[]);
        assert!(message.contains("`kafka.hosst`"), "{message}");
        assert!(message.contains(".toml"), "{message}");
        let message = refused("[[shards]]\nnumber = 1\nnumer = 2\n", &[]);
        assert!(message.contains("`shards[0].numer`"), "{message}");
    }

    #[test]
    fn an_unknown_variable_is_told_and_ignored() {
        let (_, ignored) = load_from("", &[("ANNALS_KAFKA__HOSST", "x")]).unwrap();
        assert_eq!(ignored, ["ANNALS_KAFKA__HOSST"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_place() {
        let message = refused("port = \"many\"\n", &[]);
        assert!(
            message.contains("`port` in ") && message.contains("many"),
            "{message}"
        );
        let message = refused("", &[("ANNALS_KAFKA__RETRIES", "many")]);
        assert!(message.contains("in ANNALS_KAFKA__RETRIES"), "{message}");
    }

    #[test]
    fn a_file_that_is_missing_or_not_toml_is_named() {
        let missing = read::<Settings>(Some(Path::new("no/such.toml")), std::iter::empty());
        assert!(missing.unwrap_err().to_string().contains("no/such.toml"));
        let message = refused("port = = 1\n", &[]);
        assert!(message.contains(".toml"), "{message}");
    }

    #[test]
    fn a_secret_is_printed_neither_when_it_fits_nor_when_it_does_not() {
        let url = "postgres://ada:hunter2@db/annals";
        let (settings, _) = load_from("", &[("ANNALS_POSTGRES", url)]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.postgres.unwrap().expose(), url);
        let message = refused("postgres = 424242\n", &[]);
        assert!(!message.contains("424242"), "{message}");
    }
}
