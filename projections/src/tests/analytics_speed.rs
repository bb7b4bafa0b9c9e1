//! Not a test of correctness: prints how fast analytics and dashboards fold and answer at size. Run it in release:
//! `cargo test --release -p projections -- --ignored --nocapture analytics_at_size`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{
    ClientId, CommandId, CompanyName, CreditSource, Level, PriceSource, ProvisionId, Quantity, Refid, ResellerId,
    ResellerStatus, Tier, Timestamp, UserId,
};
use aggregates::reseller::{Registrar, Registration, ResellerEvent};
use aggregates::wallet::{Provision, WalletEvent};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, SqliteConnection};

use super::Dice;
use crate::analytics::calendar::{Interval, Zone};
use crate::analytics::ranking::{self, RankingRequest, Sort};
use crate::analytics::trends::{self, TrendRequest};
use crate::analytics::{Analytics, performance, standing};
use crate::batch::LogEvent;
use crate::checkpoint::Checkpoints;
use crate::dashboard::Dashboards;
use crate::downline_tree::DownlineTree;
use crate::page::PageRequest;
use crate::sql::{Changes, Folder};
use crate::subject::Subject;
use crate::wallets::Wallets;
use crate::{ReadPool, Scope, ScopedRead, dashboard, downline_health, fold_one};

const RESELLERS: usize = 100_000;
const EVENTS: u64 = 2_000_000;
const DAYS: i64 = 180;
const BATCH: u64 = 4_000;

struct Generator {
    dice: Dice,
    resellers: Vec<(ResellerId, u32)>,
    balances: Vec<i64>,
    position: u64,
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

impl Generator {
    fn logged(&mut self, key: AggregateKey, event: Event) -> LogEvent {
        self.position += 1;
        let of_history = i64::try_from(self.position.min(EVENTS)).unwrap();
        let since = i64::try_from(self.position - self.position.min(EVENTS)).unwrap();
        // What comes after the history comes at 15 000 a second.
        let micros = DAYS * 86_400_000_000 / i64::try_from(EVENTS).unwrap() * of_history + since * 66;
        LogEvent {
            position: self.position,
            key,
            sequence: 1,
            event,
            recorded_at: Timestamp::from_micros(start().micros() + micros).to_string(),
            hash: vec![0; 32],
            command_id: String::new(),
        }
    }

    /// Early numbers far more often than late ones.
    fn skewed(&mut self, among: usize, power: u32) -> usize {
        let most = 1_u128 << 30;
        let roll = u128::from(self.dice.roll(1 << 30));
        usize::try_from(among as u128 * roll.pow(power) / most.pow(power)).unwrap()
    }

    fn register(&mut self) -> Vec<LogEvent> {
        let number = self.resellers.len();
        let parent = (number > 20).then(|| self.skewed(number, 2)).map(|at| self.resellers[at]);
        let parent = parent.filter(|(_, depth)| *depth < 9);
        let depth = parent.map_or(0, |(_, depth)| depth + 1);
        let reseller = ResellerId(self.dice.uuid());
        let registration = Registration {
            reseller,
            user_id: UserId::new(format!("user-{number}")).unwrap(),
            refid: Refid::new(format!("RS-{number}")).unwrap(),
            company_name: CompanyName::new(format!("Company {number}")).unwrap(),
            tier: self.dice.pick(Tier::ALL),
            status: ResellerStatus::Active,
            parent: parent.map(|(parent, _)| parent),
            depth,
            metadata: serde_json::Map::new(),
            referral: None,
            registrar: Registrar::Platform,
            registered_at: start(),
        };
        let registered = ResellerEvent::ResellerRegistered(Box::new(registration));
        let low_credit_threshold = Level::new(500).unwrap();
        let opened = WalletEvent::WalletOpened { reseller, low_credit_threshold, balance: 0, reserved: 0 };
        self.resellers.push((reseller, depth));
        self.balances.push(0);
        vec![
            self.logged(AggregateKey::Reseller(reseller), registered.into()),
            self.logged(AggregateKey::Wallet(reseller), opened.into()),
        ]
    }

    fn sell(&mut self) -> LogEvent {
        let at = self.skewed(self.resellers.len(), 3);
        let (reseller, _) = self.resellers[at];
        let amount = 1 + i64::try_from(self.dice.roll(1_000)).unwrap();
        match self.dice.roll(20) {
            0 => {
                let client = ClientId(self.dice.uuid());
                let details_hash = String::new();
                let event =
                    ClientEvent::ClientOnboarded { client, owner: reseller, details_hash, onboarded_at: start() };
                self.logged(AggregateKey::Client(client), event.into())
            }
            1..5 => {
                self.balances[at] += 3 * amount;
                let event = WalletEvent::CreditsAdded {
                    transaction_id: CommandId(self.dice.uuid()),
                    amount: 3 * amount,
                    source: CreditSource::Bonus,
                    reference: None,
                    note: None,
                    balance: self.balances[at],
                    reserved: 0,
                };
                self.logged(AggregateKey::Wallet(reseller), event.into())
            }
            5..8 => {
                self.balances[at] += amount;
                let event = WalletEvent::CommissionEarned {
                    provision_id: ProvisionId(self.dice.uuid()),
                    seller: reseller,
                    amount,
                    balance: self.balances[at],
                    reserved: 0,
                };
                self.logged(AggregateKey::Wallet(reseller), event.into())
            }
            _ => {
                self.balances[at] -= amount;
                let provision = Box::new(Provision {
                    provision_id: ProvisionId(self.dice.uuid()),
                    amount,
                    unit_cost: amount,
                    price_source: PriceSource::Tier,
                    quantity: Quantity::ONE,
                    base_cost: None,
                    discount_percent: None,
                    sku: None,
                    client: None,
                    description: None,
                    metadata: None,
                    commissions: Vec::new(),
                });
                let event = WalletEvent::Provisioned { provision, balance: self.balances[at], reserved: 0 };
                self.logged(AggregateKey::Wallet(reseller), event.into())
            }
        }
    }

    fn batch(&mut self, size: u64) -> Vec<LogEvent> {
        let mut events = Vec::new();
        while (events.len() as u64) < size {
            if self.resellers.len() < RESELLERS {
                events.extend(self.register());
            } else {
                events.push(self.sell());
            }
        }
        events
    }
}

/// Folds a batch into the named projections and says how long each took to load and fold, and all to write.
async fn fold(folder: &mut Folder, events: &[LogEvent], spent: &mut [Duration; 5]) {
    let mut locked = folder.look().await.unwrap().lock().await.unwrap();
    let (mut connection, memory) = locked.connection();
    let checkpoints = Checkpoints::load(&mut connection).await.unwrap();
    let mut changes = Changes::default();
    let begun = Instant::now();
    fold_one::<DownlineTree>(
        &mut connection,
        &checkpoints.of(<DownlineTree as crate::Projection>::NAME),
        events,
        (&mut changes, memory),
    )
    .await
    .unwrap();
    fold_one::<Wallets>(
        &mut connection,
        &checkpoints.of(<Wallets as crate::Projection>::NAME),
        events,
        (&mut changes, memory),
    )
    .await
    .unwrap();
    connection.apply(std::mem::take(&mut changes)).await.unwrap();
    spent[0] += begun.elapsed();
    let begun = Instant::now();
    fold_one::<Dashboards>(
        &mut connection,
        &checkpoints.of(<Dashboards as crate::Projection>::NAME),
        events,
        (&mut changes, memory),
    )
    .await
    .unwrap();
    spent[1] += begun.elapsed();
    let begun = Instant::now();
    connection.apply(std::mem::take(&mut changes)).await.unwrap();
    spent[2] += begun.elapsed();
    let begun = Instant::now();
    fold_one::<Analytics>(
        &mut connection,
        &checkpoints.of(<Analytics as crate::Projection>::NAME),
        events,
        (&mut changes, memory),
    )
    .await
    .unwrap();
    spent[3] += begun.elapsed();
    let begun = Instant::now();
    let reached = crate::checkpoint::Reached::at(events.last().unwrap());
    checkpoints.advance(crate::NAMES, &reached, &mut changes);
    connection.apply(changes).await.unwrap();
    locked.commit().await.unwrap();
    spent[4] += begun.elapsed();
}

async fn empty_log(dir: &Path) -> SqliteConnection {
    // Readers attach it.
    std::fs::File::create(dir.join("index.db")).unwrap();
    let mut log =
        SqliteConnectOptions::new().filename(dir.join("ledger.db")).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("create table events (position integer primary key)").execute(&mut log).await.unwrap();
    log
}

struct Times(Vec<Duration>);

impl Times {
    fn told(mut self, what: &str) {
        self.0.sort();
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!("{what:<34} p50 {:>7.2} ms  p99 {:>7.2} ms  most {:>7.2} ms", at(50), at(99), at(100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn analytics_at_size() {
    // A store that an earlier run was told to leave is gone on with.
    let kept = std::env::var_os("TALLYTREE_SPEED_STORE").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| temporary.path().to_owned());
    if !dir.join("ledger.db").exists() {
        std::fs::create_dir_all(&dir).unwrap();
        empty_log(&dir).await.close().await.unwrap();
    }
    let mut folder = Folder::open(&dir.as_path().into()).await.unwrap();
    let folded = Checkpoints::load(&mut folder.look().await.unwrap().views()).await.unwrap().of("analytics").position;
    let mut generator = Generator { dice: Dice(5), resellers: Vec::new(), balances: Vec::new(), position: 0 };
    let (mut first, mut spent, mut sold) = ([Duration::ZERO; 5], [Duration::ZERO; 5], 0_u64);
    while generator.position < folded.max(EVENTS) {
        let selling = generator.resellers.len() == RESELLERS;
        let events = generator.batch(BATCH);
        if events.last().unwrap().position > folded {
            fold(&mut folder, &events, if selling { &mut spent } else { &mut first }).await;
            sold += if selling { BATCH } else { 0 };
        }
    }
    for (what, spent) in
        ["tree and wallets", "dashboards: fold", "dashboards: write", "analytics: fold", "analytics: write"]
            .iter()
            .zip(spent)
    {
        println!("{what:<20} {:>6.2} µs an event", spent.as_secs_f64() * 1e6 / sold.max(1) as f64);
    }
    let (mut live, batches) = ([Duration::ZERO; 5], 50);
    for _ in 0..batches {
        let events = generator.batch(BATCH);
        fold(&mut folder, &events, &mut live).await;
    }
    let live = live.map(|spent| spent.as_secs_f64() * 1e6 / (batches * BATCH) as f64);
    println!("at 15 000 a second, the same five: {live:.2?}, together {:.2} µs an event", live.iter().sum::<f64>());
    let depth = generator.resellers.iter().map(|(_, depth)| *depth).max().unwrap();
    let size = std::fs::metadata(dir.join("views.db")).unwrap().len() >> 20;
    println!("{} resellers, {} levels, {} events, views.db {size} MiB", RESELLERS, depth + 1, generator.position);
    let resellers: Vec<ResellerId> = generator.resellers.iter().map(|(id, _)| *id).collect();

    // 4 000 events a second are folded meanwhile.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(40));
        while !stopped.load(Ordering::SeqCst) {
            pace.tick().await;
            let events = generator.batch(160);
            fold(&mut folder, &events, &mut [Duration::ZERO; 5]).await;
        }
    });
    let pool = ReadPool::open(&dir.as_path().into()).await.unwrap();
    let mut dice = Dice(6);
    let now = start().plus_seconds(DAYS * 86_400);
    let subject = |dice: &mut Dice, round: usize| match round % 4 {
        0 => None,
        1 => Some(resellers[usize::try_from(dice.roll(30)).unwrap()]),
        2 => Some(resellers[usize::try_from(dice.roll(3_000)).unwrap()]),
        _ => Some(dice.pick(&resellers)),
    };
    let instant = |dice: &mut Dice, whole_days: bool| {
        let seconds = i64::try_from(dice.roll(u64::try_from(DAYS * 86_400).unwrap())).unwrap();
        start().plus_seconds(if whole_days { seconds / 86_400 * 86_400 } else { seconds })
    };
    async fn begin(pool: &ReadPool, named: Option<ResellerId>) -> (ScopedRead, Subject) {
        let mut read = Scope::All.begin(pool, 0, Duration::from_secs(1)).await.unwrap();
        let subject = Subject::find(&mut read, named).await.unwrap().unwrap();
        (read, subject)
    }
    let rounds = 400;
    let mut times = Times(Vec::new());
    for round in 0..rounds {
        let named = subject(&mut dice, round);
        let begun = Instant::now();
        let (mut read, _) = begin(&pool, named).await;
        dashboard::find(&mut read, named, now).await.unwrap().unwrap();
        times.0.push(begun.elapsed());
    }
    times.told("dashboard");
    for (what, zone, whole_days, interval) in [
        ("daily trend, all of it, UTC", "UTC", true, Some(Interval::Daily)),
        ("monthly trend, all of it, UTC", "UTC", true, Some(Interval::Monthly)),
        ("trends, any instants, UTC", "UTC", false, None),
        ("monthly trend, +05:30", "+05:30", true, Some(Interval::Monthly)),
        ("daily trend, all of it, Berlin", "Europe/Berlin", true, Some(Interval::Daily)),
        ("daily trend, all of it, +12:00", "+12:00", true, Some(Interval::Daily)),
    ] {
        let mut times = Times(Vec::new());
        for round in 0..rounds {
            let named = subject(&mut dice, round);
            let zone: Zone = zone.parse().unwrap();
            let (a, b) = (instant(&mut dice, whole_days), instant(&mut dice, whole_days));
            let all = interval.is_some();
            let request = TrendRequest {
                interval: interval.unwrap_or_else(|| dice.pick(&[Interval::Daily, Interval::Weekly, Interval::Yearly])),
                zone,
                from: (!all).then_some(a.min(b)),
                to: (!all).then_some(a.max(b)),
                now,
            };
            let begun = Instant::now();
            let (mut read, subject) = begin(&pool, named).await;
            trends::credits(&mut read, &subject, &request).await.unwrap().unwrap();
            times.0.push(begun.elapsed());
        }
        times.told(what);
    }
    for (what, all, whole_days) in [
        ("top resellers, all of it", true, true),
        ("top resellers, dates", false, true),
        ("top resellers, instants", false, false),
    ] {
        let mut times = Times(Vec::new());
        for round in 0..rounds {
            let named = subject(&mut dice, round);
            let (a, b) = (instant(&mut dice, whole_days), instant(&mut dice, whole_days));
            let request = RankingRequest {
                limit: dice.pick(&[5, 50, 500]),
                sort: dice.pick(&[Sort::Provisioned, Sort::Added, Sort::Acquisitions, Sort::Commissions]),
                from: (!all).then_some(a.min(b)),
                to: (!all).then_some(a.max(b)),
            };
            let begun = Instant::now();
            let (mut read, subject) = begin(&pool, named).await;
            ranking::top(&mut read, &subject, &request).await.unwrap();
            times.0.push(begun.elapsed());
        }
        times.told(what);
    }
    let mut others: Vec<Times> = (0..6).map(|_| Times(Vec::new())).collect();
    for round in 0..100 {
        let named = subject(&mut dice, round);
        let (mut read, subject) = begin(&pool, named).await;
        let page = PageRequest::default();
        let to = instant(&mut dice, true);
        let month_before = to.plus_seconds(-30 * 86_400);
        let mut begun = Instant::now();
        let mut lap = |times: &mut Times| times.0.push(std::mem::replace(&mut begun, Instant::now()).elapsed());
        standing::tiers(&mut read, &subject, None, Some(to)).await.unwrap();
        lap(&mut others[0]);
        standing::clients(&mut read, &subject).await.unwrap();
        lap(&mut others[1]);
        performance::performance(&mut read, &subject, None, None, &page).await.unwrap();
        lap(&mut others[2]);
        performance::performance(&mut read, &subject, Some(month_before), Some(to), &page).await.unwrap();
        lap(&mut others[3]);
        downline_health::health(&mut read, &subject, 50, now).await.unwrap();
        lap(&mut others[4]);
        standing::outstanding(&mut read, &subject).await.unwrap();
        lap(&mut others[5]);
    }
    let whats = [
        "tier snapshot with to",
        "clients by status",
        "performance",
        "performance of a month",
        "health",
        "outstanding",
    ];
    for (what, times) in whats.into_iter().zip(others) {
        times.told(what);
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
}
