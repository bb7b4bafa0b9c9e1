//! Clients and how many each reseller has. Personal data is not here: it lies beside the log, can be erased, and is joined
//! when read, so that nothing has to be erased twice.
//!
//! A reseller sees the records of its own clients only; of its downline's it sees numbers.

use std::collections::BTreeMap;

use aggregates::answer::ClientView;
use aggregates::client::{Client, ClientEvent};
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{ClientId, ClientStatus, ResellerId, UserId};
use serde::Serialize;

use crate::batch::LogEvent;
use crate::dashboard::PLATFORM;
use crate::downline_tree::like_text;
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::{Projection, ScopedRead};

static CLIENTS: Table = Table {
    name: "clients",
    columns: &[
        ("client_id", Merge::Key),
        ("position", Merge::Keep),
        ("reseller_id", Merge::Replace),
        ("status", Merge::Replace),
        ("created_at", Merge::Keep),
    ],
};

static CLIENT_COUNTS: Table = Table {
    name: "client_counts",
    columns: &[("reseller_id", Merge::Key), ("status", Merge::Key), ("clients", Merge::Add)],
};

/// The projection.
#[derive(Debug)]
pub struct Clients;

/// The clients that a batch touches, and by how much it changes the counts.
#[derive(Debug, Default)]
pub struct Rows {
    clients: BTreeMap<ClientId, ClientRow>,
    counts: BTreeMap<(String, ClientStatus), i64>,
}

#[derive(Debug)]
struct ClientRow {
    position: u64,
    owner: ResellerId,
    status: ClientStatus,
    created_at: String,
}

impl Rows {
    fn count(&mut self, owner: ResellerId, status: ClientStatus, change: i64) {
        *self.counts.entry((owner.to_string(), status)).or_default() += change;
        *self.counts.entry((PLATFORM.to_owned(), status)).or_default() += change;
    }
}

impl Projection for Clients {
    const NAME: &'static str = "clients";
    const TABLES: &'static [&'static Table] = &[&CLIENTS, &CLIENT_COUNTS];
    type Rows = Rows;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Rows, ViewError> {
        let touched: BTreeMap<ClientId, ()> = events
            .iter()
            .filter_map(|event| match event.key {
                AggregateKey::Client(client) => Some((client, ())),
                _ => None,
            })
            .collect();
        let sql = "select client_id, position, reseller_id, status, created_at from clients where client_id in";
        let mut rows = Rows::default();
        for row in connection.fetch_by_keys(sql, touched.into_keys()).await? {
            let mut columns = row.columns();
            let client = columns.parse()?;
            let row = ClientRow {
                position: columns.count()?,
                owner: columns.parse()?,
                status: columns.parse()?,
                created_at: columns.string()?,
            };
            rows.clients.insert(client, row);
        }
        Ok(rows)
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Client(client), Event::Client(event)) = (&logged.key, &logged.event) else { continue };
            if let ClientEvent::ClientOnboarded { owner, .. } = event {
                let row = ClientRow {
                    position: logged.position,
                    owner: *owner,
                    status: ClientStatus::Onboarded,
                    created_at: logged.recorded_at.clone(),
                };
                rows.clients.insert(*client, row);
                rows.count(*owner, ClientStatus::Onboarded, 1);
                continue;
            }
            let row = rows.clients.get_mut(client).ok_or_else(|| {
                ViewError::Unreadable(format!("position {} names a client that was not onboarded", logged.position))
            })?;
            let before = (row.owner, row.status);
            let mut state = Client { owner: Some(row.owner), status: Some(row.status), ..Client::default() };
            state.fold(event);
            row.owner = state.owner.unwrap_or(row.owner);
            row.status = state.status.unwrap_or(row.status);
            let after = (row.owner, row.status);
            if before != after {
                rows.count(before.0, before.1, -1);
                rows.count(after.0, after.1, 1);
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for (client, row) in rows.clients {
            changes.put(
                &CLIENTS,
                [
                    Value::text(client),
                    row.position.into(),
                    Value::text(row.owner),
                    row.status.word().into(),
                    row.created_at.into(),
                ],
            );
        }
        for ((reseller, status), change) in rows.counts {
            changes.put(&CLIENT_COUNTS, [reseller.into(), status.word().into(), change.into()]);
        }
        Ok(())
    }
}

/// How many clients there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClientNumbers {
    /// All that have not been forgotten.
    pub total: u64,
    /// Those that can be provisioned for.
    pub active: u64,
}

/// How many clients a reseller has (or `platform`: all of the network's).
///
/// # Errors
/// What the database says.
pub(crate) async fn numbers(connection: &mut Connection<'_>, owner: &str) -> Result<ClientNumbers, ViewError> {
    let rows = connection
        .fetch("select status, clients from client_counts where reseller_id = $1", vec![owner.into()])
        .await?;
    let mut numbers = ClientNumbers::default();
    for row in &rows {
        let mut columns = row.columns();
        let (status, clients): (ClientStatus, u64) = (columns.parse()?, columns.count()?);
        if status != ClientStatus::Forgotten {
            numbers.total += clients;
        }
        if status == ClientStatus::Active {
            numbers.active = clients;
        }
    }
    Ok(numbers)
}

const COLUMNS: &str = "c.position, c.client_id, c.reseller_id, c.status, p.name, p.email, p.metadata, c.created_at";
const TABLES: &str = "clients c left join ledger.personal_data p on p.client_id = c.client_id";

fn read_view(columns: &mut Columns<'_>) -> Result<(i64, ClientView), ViewError> {
    let position = columns.integer()?;
    let view = ClientView {
        id: columns.parse()?,
        reseller_id: columns.parse()?,
        status: columns.parse()?,
        name: columns.parse_or_null()?,
        email: columns.parse_or_null()?,
        metadata: columns.json_or_null()?.unwrap_or_default(),
        created_at: columns.parse()?,
    };
    Ok((position, view))
}

/// One client, where the viewer owns it or is the operator.
///
/// # Errors
/// What the database says.
pub async fn find(read: &mut ScopedRead, client: ClientId) -> Result<Option<ClientView>, ViewError> {
    let sql = format!(
        "select {COLUMNS} from {TABLES} where c.client_id = $1 and (cast($2 as text) is null or c.reseller_id = $2)"
    );
    let values = vec![Value::text(client), Value::text_or_null(read.viewer())];
    let row = read.connection().fetch_one(&sql, values).await?;
    Ok(row.map(|row| read_view(&mut row.columns())).transpose()?.map(|(_, view)| view))
}

/// Which clients are asked for.
#[derive(Debug, Clone, Default)]
pub struct ClientFilter {
    /// In this status.
    pub status: Option<ClientStatus>,
    /// With this text in the name or the e-mail.
    pub q: Option<String>,
    /// Of this reseller (the operator's staff only; a reseller sees its own anyway).
    pub reseller_id: Option<ResellerId>,
    /// Of the reseller that this user belongs to.
    pub user_id: Option<UserId>,
}

/// Clients in the order in which they were taken on.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn list(
    read: &mut ScopedRead,
    filter: &ClientFilter,
    page: &PageRequest,
) -> Result<Page<ClientView>, ViewError> {
    let viewer = read.viewer();
    let values = vec![
        page.position()?.unwrap_or(0).into(),
        page.rows_and_one().into(),
        Value::text_or_null(viewer),
        Value::text_or_null(filter.reseller_id),
        Value::text_or_null(filter.user_id.as_ref()),
        Value::text_or_null(filter.status),
        filter.q.as_deref().map(|text| format!("%{}%", like_text(text))).into(),
    ];
    let mut sql = format!("select {COLUMNS} from {TABLES} where c.position > $1");
    for (asked, condition) in [
        (viewer.is_some(), " and c.reseller_id = $3"),
        (filter.reseller_id.is_some(), " and c.reseller_id = $4"),
        (
            filter.user_id.is_some(),
            " and c.reseller_id in (select reseller_id from resellers where user_claimed = 1 and user_id = $5)",
        ),
        (filter.status.is_some(), " and c.status = $6"),
        (filter.q.is_some(), " and (lower(p.name) like $7 escape '\\' or lower(p.email) like $7 escape '\\')"),
    ] {
        if asked {
            sql.push_str(condition);
        }
    }
    sql.push_str(" order by c.position limit $2");
    let rows = read.connection().fetch(&sql, values).await?;
    let rows = rows.iter().map(|row| read_view(&mut row.columns())).collect::<Result<_, _>>()?;
    Ok(Page::of(page, rows))
}
