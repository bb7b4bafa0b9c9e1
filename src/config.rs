//! What an operator sets: one typed struct, from a file, the environment and flags, the later ones winning.
//!
//! The file is named by `--config` or `TALLYTREE_CONFIG` (TOML). Variables are `TALLYTREE_` and the field's name, with `__`
//! between the parts of a nested one (`TALLYTREE_POLICY__CREDIT_CONVERSION_RATE=100`). An error names the source of the value.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aggregates::platform::Policy;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Deserializer, Serialize};

use crate::access::jwt::JwtOptions;
use crate::refusals::Retention;

/// The prefix of the environment's variables.
const PREFIX: &str = "TALLYTREE_";

pub use crate::store::Database;

/// Where the time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// The machine's time.
    System,
    /// A clock that stands until POST `/dev/clock` moves it; only with `dev`.
    Manual,
}

/// How log lines are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the ledger lives: `sqlite:DIR` or `postgres://…`.
    pub database: Database,
    /// A copy of the database (a standby) that queries are asked of instead: `postgres://…`. One that is behind answers as of
    /// where it stands, and waits where `min_position` asks for more. None unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_database: Option<Database>,
    /// The address to serve on, or a host's name and a port; port 0 takes a free one.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    /// Allows what only tests want.
    pub dev: bool,
    /// Where the time comes from.
    pub clock: ClockKind,
    /// Which log lines are written, as `tracing-subscriber` filters: `info`, `tallytree=debug,warn`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// How many commands may wait for the writer; one more is told `too_busy`.
    pub queue_commands_max: usize,
    /// How many days the answer to an idempotency key is remembered; at least 30.
    pub idempotency_days: u32,
    /// For how many days it is remembered who was refused what; 0 to remember nothing.
    pub refusals_days: u32,
    /// And how many refusals at the most.
    pub refusals_max: u64,
    /// The issuer whose JSON Web Tokens are taken beside the service's own; none unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtOptions>,
    /// How many requests a second each token may send, on average; 0 for no limit.
    pub requests_per_second: u32,
    /// How many requests a token may send at once, before the average counts.
    pub requests_burst: u32,
    /// The first policy of an empty store. A store that has one keeps it: change it by PUT `/platform/policy`.
    pub policy: Policy,
    /// Folds nothing into the read models, which stay where they are. Not for operators, who cannot set it: `bench size`
    /// measures by it what the read models cost the writer.
    #[serde(skip)]
    pub without_projections: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: Database::Sqlite(PathBuf::from("./tallytree-data")),
            read_database: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7373)),
            dev: false,
            clock: ClockKind::System,
            log: "info".to_owned(),
            log_format: LogFormat::Human,
            queue_commands_max: 4096,
            idempotency_days: 30,
            refusals_days: 90,
            refusals_max: 1_000_000,
            jwt: None,
            requests_per_second: 1_000,
            requests_burst: 2_000,
            policy: Policy::default(),
            without_projections: false,
        }
    }
}

/// Why the configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is wrong; says which and where it came from.
    #[error("{0}")]
    Value(Box<figment::Error>),
    /// The named file is not there.
    #[error("the configuration file {0} does not exist")]
    NoFile(PathBuf),
    /// Values that are right by themselves do not go together.
    #[error("{0}")]
    Combination(String),
}

impl Config {
    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::NoFile(file.to_owned()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self =
            figment.merge(environment()).merge(flags).extract().map_err(|error| ConfigError::Value(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.clock == ClockKind::Manual && !self.dev {
            return Err(ConfigError::Combination("a manual clock is for tests only: it needs --dev".to_owned()));
        }
        if let Some(copy) = &self.read_database
            && !matches!((copy, &self.database), (Database::Postgres(_), Database::Postgres(_)))
        {
            return Err(ConfigError::Combination("read_database is for a copy of a PostgreSQL database".to_owned()));
        }
        if self.idempotency_days < 30 {
            return Err(ConfigError::Combination("idempotency_days must be at least 30".to_owned()));
        }
        if self.requests_per_second > 0 && self.requests_burst == 0 {
            return Err(ConfigError::Combination("requests_burst must be at least 1".to_owned()));
        }
        if let Some(jwt) = &self.jwt {
            jwt.check().map_err(|error| ConfigError::Combination(error.to_string()))?;
        }
        self.policy.check().map_err(|rejection| match rejection {
            aggregates::rejection::Rejection::Invalid { pointer, detail } => {
                ConfigError::Combination(format!("policy{}: {detail}", pointer.replace('/', ".")))
            }
            other => ConfigError::Combination(other.to_string()),
        })
    }

    /// How much of what was refused is remembered.
    #[must_use]
    pub fn refusals_kept(&self) -> Retention {
        let kept = Duration::from_secs(u64::from(self.refusals_days) * 86_400);
        Retention { kept, most: self.refusals_max }
    }

    /// For how long the answer to an idempotency key is remembered.
    #[must_use]
    pub fn idempotency_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.idempotency_days) * 86_400)
    }
}

/// The address that a text names: `IP:PORT`, or `NAME:PORT`, which is looked up now. Of a name's addresses an IPv4 one is
/// taken, as the default is.
///
/// # Errors
/// A sentence, where it names none.
pub fn address_of(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found = text.to_socket_addrs().map_err(|error| format!("{text} is no address to listen on: {error}"))?;
    found.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| format!("{text} has no address"))
}

fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    address_of(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The variables that are fields. Others with our prefix are left alone: an orchestrator may well set `TALLYTREE_PORT`.
fn environment() -> Env {
    Env::prefixed(PREFIX)
        .filter(|name| {
            let name = name.as_str().to_ascii_lowercase();
            let first = name.split("__").next().unwrap_or_default();
            FIELDS.contains(&first)
        })
        .split("__")
}

const FIELDS: &[&str] = &[
    "database",
    "read_database",
    "listen",
    "dev",
    "clock",
    "log",
    "log_format",
    "queue_commands_max",
    "idempotency_days",
    "refusals_days",
    "refusals_max",
    "jwt",
    "requests_per_second",
    "requests_burst",
    "policy",
];

/// What was said on the command line; what was not said is absent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flags {
    /// `--database`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// `--read-database`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_database: Option<Database>,
    /// `--listen`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `--dev`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<bool>,
    /// `--clock`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockKind>,
    /// `--log`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// `--log-format`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("the command line")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(self).data()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::result_large_err)]
mod tests {
    use super::*;
    use figment::Jail;

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        Jail::expect_with(|jail| {
            jail.create_file(
                "tallytree.toml",
                "listen = \"127.0.0.1:1\"\nlog = \"warn\"\n[policy]\ncredit_conversion_rate = 10\n[policy.tiers]\ngold = 12.5\nplatinum = 20\n",
            )?;
            jail.set_env("TALLYTREE_LISTEN", "127.0.0.1:2");
            jail.set_env("TALLYTREE_LOG", "debug");
            jail.set_env("TALLYTREE_POLICY__REFERRAL_BONUS", "7");
            jail.set_env("TALLYTREE_PORT", "tcp://10.0.0.1:80");
            let flags = Flags { log: Some("error".into()), ..Flags::default() };
            let config = Config::load(Some(Path::new("tallytree.toml")), &flags).expect("a configuration");
            assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 2)));
            assert_eq!(config.log, "error");
            assert_eq!(config.policy.credit_conversion_rate, 10);
            assert_eq!(config.policy.referral_bonus.credits(), 7);
            assert_eq!(config.policy.tiers.gold.hundredths(), 1250);
            assert_eq!(config.policy.tiers.platinum.hundredths(), 2000);
            assert_eq!(config.policy.tiers.standard.hundredths(), 0);
            Ok(())
        });
    }

    #[test]
    fn a_host_may_be_named() {
        for (text, port) in [("localhost:7407", 7407), ("127.0.0.1:0", 0), ("[::1]:80", 80)] {
            let address = address_of(text).expect(text);
            assert!(address.ip().is_loopback() && address.port() == port, "{text}: {address}");
        }
        for text in ["localhost", "nowhere", ":80", "localhost:http", ""] {
            assert!(address_of(text).is_err(), "{text}");
        }
        Jail::expect_with(|jail| {
            jail.set_env("TALLYTREE_LISTEN", "localhost:0");
            assert!(Config::load(None, &Flags::default()).expect("a configuration").listen.ip().is_loopback());
            Ok(())
        });
    }

    #[test]
    fn an_error_names_the_source_of_the_value() {
        Jail::expect_with(|jail| {
            jail.set_env("TALLYTREE_LISTEN", "nowhere");
            let error = Config::load(None, &Flags::default()).expect_err("no address").to_string();
            assert!(error.contains("TALLYTREE_") && error.to_lowercase().contains("listen"), "{error}");
            jail.set_env("TALLYTREE_LISTEN", "127.0.0.1:0");
            jail.create_file("tallytree.toml", "[policy]\nlow_credit_treshold = 5\n")?;
            let error =
                Config::load(Some(Path::new("tallytree.toml")), &Flags::default()).expect_err("a typo").to_string();
            assert!(error.contains("tallytree.toml") && error.contains("low_credit_treshold"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn an_issuer_is_set_by_file_or_by_environment() {
        Jail::expect_with(|jail| {
            jail.create_file(
                "tallytree.toml",
                "[jwt]\nissuer = \"https://id.example\"\naudience = [\"a\", \"b\"]\njwks_file = \"keys.json\"\n",
            )?;
            let file = Some(Path::new("tallytree.toml"));
            let jwt = Config::load(file, &Flags::default()).expect("a configuration").jwt.expect("an issuer");
            assert_eq!((jwt.audience.len(), jwt.role_claim.as_str()), (2, "tallytree_role"));

            let inline = r#"{"keys":[{"kty":"OKP"}]}"#;
            jail.set_env("TALLYTREE_JWT__ISSUER", "https://id.example");
            jail.set_env("TALLYTREE_JWT__AUDIENCE", "tallytree");
            jail.set_env("TALLYTREE_JWT__JWKS", inline);
            let jwt = Config::load(None, &Flags::default()).expect("a configuration").jwt.expect("an issuer");
            assert_eq!((jwt.audience, jwt.jwks.as_deref()), (vec!["tallytree".to_owned()], Some(inline)));
            let error = Config::load(file, &Flags::default()).expect_err("a file and a text").to_string();
            assert!(error.contains("jwks"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn a_manual_clock_is_refused_without_dev() {
        // In a jail like its siblings, whose variables it would see otherwise.
        Jail::expect_with(|_| {
            let flags = Flags { clock: Some(ClockKind::Manual), ..Flags::default() };
            assert!(matches!(Config::load(None, &flags), Err(ConfigError::Combination(_))));
            Ok(())
        });
    }
}
