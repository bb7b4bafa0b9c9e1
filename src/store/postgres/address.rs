//! Where a PostgreSQL database is: one URL, several hosts, and what a pooler in between cannot do.
//!
//! `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?…`. The parameters are libpq's (`sslmode`, `sslrootcert`, `user`,
//! `host=/socket/directory` …), and three that are read here:
//!
//! | parameter | meaning |
//! |---|---|
//! | `target_session_attrs` | `read-write` (the default): the first host that takes writes, which after a failover is another one; `any`: the first that answers |
//! | `pgbouncer` | `true` where a pooler in transaction mode is in between: no named prepared statements, nothing set for a session |
//! | `connect_timeout` | seconds for each host, 5 unless said otherwise |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::store::StoreError;

use super::connection::error;

/// For how long each host is tried, unless the URL says otherwise.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Which of several hosts is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The one that takes writes.
    ReadWrite,
    /// Any that answers.
    Any,
}

/// Where a database is. Shown without its password.
#[derive(Clone)]
pub struct Address {
    /// As it was written.
    url: String,
    /// One for each host, in the order in which they are tried.
    hosts: Vec<PgConnectOptions>,
    target: Target,
    pooled: bool,
    connect_time: Duration,
}

impl Address {
    /// The hosts, in the order in which they are tried.
    #[must_use]
    pub fn hosts(&self) -> &[PgConnectOptions] {
        &self.hosts
    }

    /// Which of the hosts is wanted.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether a pooler in transaction mode is in between: then there are no named prepared statements (`persistent(false)`
    /// with every query), every statement stands in an explicit transaction, settings are `set local`, and nothing is listened
    /// to.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// The whole URL, password included: for another process or a file that only its owner reads.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// Connects to the first host that is what is wanted.
    ///
    /// # Errors
    /// [`StoreError::Database`] with what each host said.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        self.connect_as(PgConnectOptions::clone).await
    }

    /// The same with something set for the session, which a pooler would refuse.
    pub(super) async fn connect_as(
        &self,
        set: impl Fn(&PgConnectOptions) -> PgConnectOptions,
    ) -> Result<PgConnection, StoreError> {
        let mut said = Vec::new();
        for host in &self.hosts {
            let options = if self.pooled { host.clone() } else { set(host) };
            match tokio::time::timeout(self.connect_time, self.try_host(&options)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => said.push(format!("{}: {error}", name(host))),
                Err(_) => said.push(format!("{}: no answer within {:?}", name(host), self.connect_time)),
            }
        }
        Err(StoreError::Database(format!("no connection to the database: {}", said.join("; "))))
    }

    async fn try_host(&self, host: &PgConnectOptions) -> Result<PgConnection, StoreError> {
        let mut connection = host.connect().await.map_err(error)?;
        // One host is taken as it is: whoever names one means that one.
        if self.hosts.len() > 1 && self.target == Target::ReadWrite && !takes_writes(&mut connection).await? {
            // Nothing is lost where it does not hear the farewell.
            let _ = connection.close().await;
            return Err(StoreError::Database("it takes no writes".to_owned()));
        }
        Ok(connection)
    }
}

/// Whether a server is a primary that is not read only: what libpq asks for `target_session_attrs=read-write`.
///
/// # Errors
/// What the database says.
pub async fn takes_writes(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let read_only: bool =
        sqlx::query_scalar("select pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean")
            .persistent(false)
            .fetch_one(connection)
            .await
            .map_err(error)?;
    Ok(!read_only)
}

fn name(host: &PgConnectOptions) -> String {
    match host.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", host.get_host(), host.get_port()),
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("write postgres://USER@HOST/DATABASE")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (mut target, mut pooled, mut connect_time) = (Target::ReadWrite, false, CONNECT_TIME);
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("target_session_attrs", "read-write" | "primary") => target = Target::ReadWrite,
                ("target_session_attrs", "any") => target = Target::Any,
                ("target_session_attrs", other) => {
                    return Err(format!("target_session_attrs is read-write or any, not {other:?}"));
                }
                ("pgbouncer", "true") => pooled = true,
                ("pgbouncer", "false") => pooled = false,
                ("pgbouncer", other) => return Err(format!("pgbouncer is true or false, not {other:?}")),
                ("connect_timeout", seconds) => {
                    let seconds = seconds.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                    let seconds = seconds.ok_or("connect_timeout is a number of seconds, 1 to 600")?;
                    connect_time = Duration::from_secs(seconds);
                }
                _ => others.push(parameter),
            }
        }
        let query = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let hosts = hosts.split(',').map(|host| one(&format!("postgres://{user}{host}/{database}{query}"), pooled));
        let hosts = hosts.collect::<Result<_, _>>()?;
        Ok(Self { url: url.to_owned(), hosts, target, pooled, connect_time })
    }
}

/// The address of one host.
fn one(url: &str, pooled: bool) -> Result<PgConnectOptions, String> {
    // What sqlx says of a URL does not repeat it.
    let options = PgConnectOptions::from_str(url).map_err(|error| format!("no database's URL: {error}"))?;
    let options = if pooled {
        // A pooler refuses what it cannot set again for whoever comes next.
        options.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        options
    };
    let named = options.get_application_name().is_some();
    let options = if named || pooled { options } else { options.application_name("tallytree") };
    Ok(options.disable_statement_logging())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // From the scheme's end to the last `@` before the path stands who and with which password.
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("postgres", ""));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        write!(f, "{scheme}://")?;
        match authority.rsplit_once('@') {
            Some((user, hosts)) => write!(f, "{}@{hosts}", user.split(':').next().unwrap_or_default())?,
            None => f.write_str(authority)?,
        }
        if let Some(path) = path {
            write!(f, "/{path}")?;
        }
        let shown = |parameter: &&str| !parameter.starts_with("password=");
        let query: Vec<&str> = query.into_iter().flat_map(|query| query.split('&')).filter(shown).collect();
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for Address {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn address(url: &str) -> Address {
        url.parse().expect("an address")
    }

    #[test]
    fn several_hosts_share_user_database_and_parameters() {
        let address =
            address("postgres://ann:s%40cret@one:5433,two,[::1]:5434/shop?sslmode=require&target_session_attrs=any");
        let hosts: Vec<_> = address.hosts().iter().map(name).collect();
        assert_eq!(hosts, ["one:5433", "two:5432", "[::1]:5434"]);
        for host in address.hosts() {
            assert_eq!((host.get_username(), host.get_database()), ("ann", Some("shop")));
            assert!(matches!(host.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        }
        assert_eq!(address.target(), Target::Any);
        assert!(!address.is_pooled());
    }

    #[test]
    fn a_socket_is_named_as_with_libpq() {
        let address = address("postgres:///shop?host=/run/postgresql&user=ann&pgbouncer=true&connect_timeout=2");
        assert_eq!(name(&address.hosts()[0]), "/run/postgresql");
        assert!(address.is_pooled());
        assert_eq!((address.target(), address.connect_time), (Target::ReadWrite, Duration::from_secs(2)));
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let shown = |url: &str| format!("{:?}", address(url));
        assert_eq!(shown("postgres://ann:secret@one,two/shop"), "Address(postgres://ann@one,two/shop)");
        assert_eq!(
            shown("postgres://one/shop?user=ann&password=secret&sslmode=disable"),
            "Address(postgres://one/shop?user=ann&sslmode=disable)"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "mysql://one/shop",
            "postgres://one:port/shop",
            "postgres://one/shop?pgbouncer=perhaps",
            "postgres://one/shop?target_session_attrs=standby",
            "postgres://one/shop?connect_timeout=0",
        ] {
            Address::from_str(url).expect_err(url);
        }
    }
}
