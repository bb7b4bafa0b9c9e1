//! Referral codes: one row each, with how often it was used. Whether its time is over is said when it is read: nothing stored
//! is relative to now.
//!
//! A code is its owner's and the operator's to see: an upline is told no more of it than a stranger.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{ReferralCode, ReferralTag, RequestId, ResellerId, Timestamp};
use aggregates::reseller::ResellerEvent;
use serde::Serialize;

use crate::batch::LogEvent;
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::{Projection, ScopedRead};

static REFERRAL_CODES: Table = Table {
    name: "referral_codes",
    columns: &[
        ("code", Merge::Key),
        ("position", Merge::Keep),
        ("reseller_id", Merge::Keep),
        ("tag", Merge::Keep),
        ("max_uses", Merge::Keep),
        ("uses", Merge::Replace),
        ("expires_at", Merge::Keep),
        ("revoked", Merge::Replace),
        ("request_id", Merge::Keep),
        ("created_at", Merge::Keep),
    ],
};

const COLUMNS: &str = "code, position, reseller_id, tag, max_uses, uses, expires_at, revoked, request_id, created_at";

/// The projection.
#[derive(Debug)]
pub struct Referrals;

/// A code after its last event.
#[derive(Debug, Clone)]
pub struct CodeRow {
    position: u64,
    reseller: ResellerId,
    tag: ReferralTag,
    max_uses: u64,
    uses: u64,
    expires_at: Timestamp,
    revoked: bool,
    request: RequestId,
    created_at: String,
}

fn read(columns: &mut Columns<'_>) -> Result<(ReferralCode, CodeRow), ViewError> {
    let code = columns.parse()?;
    let row = CodeRow {
        position: columns.count()?,
        reseller: columns.parse()?,
        tag: columns.parse()?,
        max_uses: columns.count()?,
        uses: columns.count()?,
        expires_at: columns.parse()?,
        revoked: columns.boolean()?,
        request: columns.parse()?,
        created_at: columns.string()?,
    };
    Ok((code, row))
}

/// The code that an event is about.
fn code_of(event: &Event) -> Option<&ReferralCode> {
    match event {
        Event::Reseller(
            ResellerEvent::ReferralCodeIssued { code, .. }
            | ResellerEvent::ReferralCodeRevoked { code }
            | ResellerEvent::ReferralCompleted { code, .. },
        ) => Some(code),
        _ => None,
    }
}

impl Projection for Referrals {
    const NAME: &'static str = "referrals";
    const TABLES: &'static [&'static Table] = &[&REFERRAL_CODES];
    type Rows = BTreeMap<ReferralCode, CodeRow>;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        let touched: BTreeSet<&ReferralCode> = events.iter().filter_map(|event| code_of(&event.event)).collect();
        let sql = format!("select {COLUMNS} from referral_codes where code in");
        let rows = connection.fetch_by_keys(&sql, touched).await?;
        rows.iter().map(|row| read(&mut row.columns())).collect()
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Reseller(reseller), Event::Reseller(event)) = (&logged.key, &logged.event) else {
                continue;
            };
            if let ResellerEvent::ReferralCodeIssued { code, tag, max_uses, expires_at, request } = event {
                let row = CodeRow {
                    position: logged.position,
                    reseller: *reseller,
                    tag: tag.clone(),
                    max_uses: (*max_uses).into(),
                    uses: 0,
                    expires_at: *expires_at,
                    revoked: false,
                    request: *request,
                    created_at: logged.recorded_at.clone(),
                };
                rows.insert(code.clone(), row);
                continue;
            }
            let Some(code) = code_of(&logged.event) else { continue };
            let row = rows.get_mut(code).ok_or_else(|| {
                ViewError::Unreadable(format!("position {} names a referral code that was not issued", logged.position))
            })?;
            match event {
                ResellerEvent::ReferralCompleted { .. } => row.uses += 1,
                _ => row.revoked = true,
            }
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for (code, row) in rows {
            changes.put(
                &REFERRAL_CODES,
                [
                    code.as_str().into(),
                    row.position.into(),
                    Value::text(row.reseller),
                    row.tag.as_str().into(),
                    row.max_uses.into(),
                    row.uses.into(),
                    Value::text(row.expires_at),
                    row.revoked.into(),
                    Value::text(row.request),
                    row.created_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// What can be done with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// It can be used.
    Active,
    /// It was made void.
    Revoked,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
}

/// A referral code.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CodeView {
    /// The code.
    pub code: ReferralCode,
    /// Whose it is.
    pub reseller_id: ResellerId,
    /// What it is for.
    pub tag: ReferralTag,
    /// What can be done with it.
    pub state: CodeState,
    /// How often it was used.
    pub uses: u64,
    /// How often it may be used.
    pub max_uses: u64,
    /// From when on it is void.
    pub expires_at: Timestamp,
    /// The request that asked for it.
    pub request_id: RequestId,
    /// When it was issued.
    pub created_at: Timestamp,
}

impl CodeRow {
    /// In the order in which using it would be refused.
    fn state(&self, now: Timestamp) -> CodeState {
        match self {
            Self { revoked: true, .. } => CodeState::Revoked,
            Self { expires_at, .. } if now >= *expires_at => CodeState::Expired,
            Self { uses, max_uses, .. } if uses >= max_uses => CodeState::UsedUp,
            _ => CodeState::Active,
        }
    }
}

/// Codes, newest first: the viewer's own; for the operator's staff those of one reseller, or all.
///
/// # Errors
/// [`ViewError::InvalidCursor`], or what the database says.
pub async fn list(
    scoped: &mut ScopedRead,
    reseller: Option<ResellerId>,
    now: Timestamp,
    page: &PageRequest,
) -> Result<Page<CodeView>, ViewError> {
    let owner = scoped.viewer().or(reseller);
    let of_the_owner = if owner.is_some() { " and reseller_id = $3" } else { "" };
    let sql = format!(
        "select {COLUMNS} from referral_codes where position < $1{of_the_owner} order by position desc limit $2"
    );
    let values =
        vec![page.position()?.unwrap_or(i64::MAX).into(), page.rows_and_one().into(), Value::text_or_null(owner)];
    let rows = scoped.connection().fetch(&sql, values).await?;
    let rows = rows.iter().map(|row| {
        let (code, row) = read(&mut row.columns())?;
        let view = CodeView {
            code,
            reseller_id: row.reseller,
            state: row.state(now),
            tag: row.tag,
            uses: row.uses,
            max_uses: row.max_uses,
            expires_at: row.expires_at,
            request_id: row.request,
            created_at: row.created_at.parse().map_err(ViewError::unreadable)?,
        };
        Ok((i64::try_from(row.position).map_err(ViewError::unreadable)?, view))
    });
    Ok(Page::of(page, rows.collect::<Result<_, ViewError>>()?))
}
