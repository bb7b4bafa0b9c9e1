//! The others, in this process: the same wallet on cqrs-es and postgres-es, and the best SQL that one can write for it by hand.
//!
//! They are spared what the service does besides: no HTTP, no tokens, no idempotency keys, no hash chain, no order across
//! wallets, no read models but the one row where that is measured. Connections are kept, none is tried out before use.

use std::future::Future;
use std::sync::Arc;

use aggregates::primitives::{Amount, CommandId, CreditSource, Level, PriceSource, ProvisionId, Quantity, ResellerId};
use aggregates::wallet::{Provision, Wallet, WalletCommand, WalletDirective, WalletEvent};
use anyhow::{Context, bail};
use cqrs_es::persist::{GenericQuery, PersistedEventStore};
use cqrs_es::{AggregateError, CqrsFramework, EventEnvelope, Query, View};
use postgres_es::{PostgresCqrs, PostgresEventRepository, PostgresViewRepository};
use serde::{Deserialize, Serialize};
use sqlx::Executor;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::super::setup::{FUNDS, SKU};

/// What became of an attempt to spend one credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// It is durable.
    Yes,
    /// Somebody else was faster on this wallet: it must be tried again.
    Conflict,
}

/// Somebody who is measured.
pub(super) trait Peer: Send + Sync + 'static {
    /// Spends one credit of a wallet.
    fn spend(&self, wallet: usize) -> impl Future<Output = anyhow::Result<Spent>> + Send;
}

/// Makes the tables of all of them, as their own documents say.
pub(super) async fn make_tables(pool: &PgPool) -> anyhow::Result<()> {
    let sql = "create schema against; \
        create table against.events (aggregate_type text not null, aggregate_id text not null, \
        sequence bigint check (sequence >= 0) not null, event_type text not null, event_version text not null, \
        payload json not null, metadata json not null, primary key (aggregate_type, aggregate_id, sequence)); \
        create table against.snapshots (aggregate_type text not null, aggregate_id text not null, \
        last_sequence bigint check (last_sequence >= 0) not null, current_snapshot bigint check (current_snapshot >= 0) not null, \
        payload json not null, primary key (aggregate_type, aggregate_id, last_sequence)); \
        create table against.wallet_rows (view_id text not null, version bigint check (version >= 0) not null, \
        payload json not null, primary key (view_id)); \
        create table against.wallets (id bigint primary key, balance bigint not null, credit_limit bigint not null, \
        sequence bigint not null) with (fillfactor = 10); \
        create table against.provisions (wallet bigint not null, sequence bigint not null, provision uuid not null, \
        amount bigint not null, balance bigint not null, sku text not null, \
        recorded_at timestamptz not null default clock_timestamp(), primary key (wallet, sequence))";
    pool.execute(sqlx::raw_sql(sql)).await.context("making the others' tables")?;
    Ok(())
}

/// How postgres-es is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventStoreUse {
    /// After how many events a snapshot is written; `None`: never, 1: with each.
    pub(super) snapshot_every: Option<usize>,
    /// Whether it keeps a row of each wallet to be read.
    pub(super) with_view: bool,
}

impl EventStoreUse {
    /// In words.
    pub(super) fn name(self) -> String {
        let snapshots = match self.snapshot_every {
            None => "plain".to_owned(),
            Some(1) => "a snapshot with each event".to_owned(),
            Some(events) => format!("a snapshot every {events} events"),
        };
        let view = if self.with_view { ", view row" } else { "" };
        format!("{snapshots}{view}")
    }
}

/// The wallet on postgres-es, with wallets of its own.
pub(super) struct OnEventStore {
    framework: PostgresCqrs<Wallet>,
    wallets: Vec<ResellerId>,
}

/// The row of a wallet that its users would read.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct WalletRow {
    balance: i64,
    reserved: i64,
    provisions: u64,
}

impl View<Wallet> for WalletRow {
    fn update(&mut self, event: &EventEnvelope<Wallet>) {
        (self.balance, self.reserved) = event.payload.after();
        self.provisions += u64::from(matches!(event.payload, WalletEvent::Provisioned { .. }));
    }
}

impl OnEventStore {
    /// With so many new wallets, funded by its own commands.
    pub(super) async fn make(pool: &PgPool, how: EventStoreUse, wallets: usize) -> anyhow::Result<Self> {
        let repository = PostgresEventRepository::new(pool.clone()).with_tables("against.events", "against.snapshots");
        let store = match how.snapshot_every {
            None => PersistedEventStore::new_event_store(repository),
            Some(1) => PersistedEventStore::new_aggregate_store(repository),
            Some(events) => PersistedEventStore::new_snapshot_store(repository, events),
        };
        let mut queries: Vec<Box<dyn Query<Wallet>>> = Vec::new();
        if how.with_view {
            let rows = PostgresViewRepository::<WalletRow, Wallet>::new("against.wallet_rows", pool.clone());
            queries.push(Box::new(GenericQuery::new(Arc::new(rows))));
        }
        let wallets: Vec<ResellerId> = (0..wallets).map(|_| ResellerId(Uuid::now_v7())).collect();
        let made = Arc::new(Self { framework: CqrsFramework::new(store, queries, ()), wallets });
        let mut setting_up = tokio::task::JoinSet::new();
        for first in 0..SETTING_UP {
            let made = Arc::clone(&made);
            setting_up.spawn(async move {
                for wallet in made.wallets.iter().skip(first).step_by(SETTING_UP) {
                    made.fund(*wallet).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = setting_up.join_next().await {
            done??;
        }
        Arc::into_inner(made).context("somebody still sets it up")
    }

    async fn fund(&self, wallet: ResellerId) -> anyhow::Result<()> {
        let open = WalletCommand::Open { reseller: wallet, threshold: Level::new(0)? };
        let add = WalletCommand::AddCredits {
            transaction_id: CommandId(Uuid::now_v7()),
            amount: Amount::new(FUNDS)?,
            source: CreditSource::Purchase,
            reference: None,
            note: None,
        };
        for command in [open, add] {
            if self.execute(wallet, command).await? == Spent::Conflict {
                bail!("nobody else knows this wallet");
            }
        }
        Ok(())
    }

    async fn execute(&self, wallet: ResellerId, command: WalletCommand) -> anyhow::Result<Spent> {
        let directive = WalletDirective { command, hold_on_low_credit: false };
        match self.framework.execute(&wallet.to_string(), directive).await {
            Ok(()) => Ok(Spent::Yes),
            Err(AggregateError::AggregateConflict) => Ok(Spent::Conflict),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many set wallets up at once.
const SETTING_UP: usize = 8;

impl Peer for OnEventStore {
    async fn spend(&self, wallet: usize) -> anyhow::Result<Spent> {
        let wallet = *self.wallets.get(wallet).context("there is no such wallet")?;
        let provision = Provision {
            provision_id: ProvisionId(Uuid::now_v7()),
            amount: 1,
            unit_cost: 1,
            price_source: PriceSource::Tier,
            quantity: Quantity::new(1)?,
            base_cost: Some(1),
            discount_percent: None,
            sku: Some(SKU.parse()?),
            client: None,
            description: None,
            metadata: None,
            commissions: Vec::new(),
        };
        self.execute(wallet, WalletCommand::Provision(Box::new(provision))).await
    }
}

/// One prepared statement that checks, updates and inserts; its own transaction, one message there and back.
pub(super) struct PlainSql {
    pool: PgPool,
    wallets: Vec<i64>,
}

impl PlainSql {
    /// With so many new wallets.
    pub(super) async fn make(pool: &PgPool, wallets: usize) -> anyhow::Result<Self> {
        let sql = "insert into against.wallets (id, balance, credit_limit, sequence) \
                   select (select coalesce(max(id), 0) from against.wallets) + new, $2, 0, 0 \
                   from generate_series(1, $1) as new returning id";
        let made = sqlx::query_scalar(sql).bind(i64::try_from(wallets)?).bind(FUNDS).fetch_all(pool).await?;
        Ok(Self { pool: pool.clone(), wallets: made })
    }
}

impl Peer for PlainSql {
    async fn spend(&self, wallet: usize) -> anyhow::Result<Spent> {
        let wallet = *self.wallets.get(wallet).context("there is no such wallet")?;
        let sql = "with paid as (update against.wallets set balance = balance - $2, sequence = sequence + 1 \
                   where id = $1 and balance + credit_limit >= $2 returning id, sequence, balance) \
                   insert into against.provisions (wallet, sequence, provision, amount, balance, sku) \
                   select id, sequence, $3::uuid, $2, balance, $4 from paid returning balance";
        let provision = Uuid::now_v7().to_string();
        let paid =
            sqlx::query(sql).bind(wallet).bind(1_i64).bind(provision).bind(SKU).fetch_optional(&self.pool).await?;
        if paid.is_none() {
            bail!("a wallet is out of credits");
        }
        Ok(Spent::Yes)
    }
}
