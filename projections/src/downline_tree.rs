//! The network: one row per reseller, with the line of its ancestors as a path.
//!
//! A freeze is stored on the reseller that carries it and derived from the path for its downline, so freezing 10 000 resellers
//! writes one row. What is counted over a downline stands in `dashboards` and is joined here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use aggregates::answer::{ResellerView, SettingsView};
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Authority, Credits, Percent, Refid, ResellerId, ResellerStatus, Tier, UserId};
use aggregates::rejection::{Above, SeenAuthority};
use aggregates::reseller::{Profile, Registrar, Registration, Reseller, ResellerEvent, Settings};
use serde::Serialize;

use crate::batch::LogEvent;
use crate::downline_then::DownlineThen;
use crate::page::{Page, PageRequest, cursor_of, position_of};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::statement_lines::last_line;
use crate::{Projection, Scope, ScopedRead, reseller_history, wallets};

static RESELLERS: Table = Table {
    name: "resellers",
    columns: &[
        ("reseller_id", Merge::Key),
        ("position", Merge::Keep),
        ("refid", Merge::Keep),
        ("user_id", Merge::Keep),
        ("user_claimed", Merge::Replace),
        ("company_name", Merge::Replace),
        ("tier", Merge::Replace),
        ("status", Merge::Replace),
        ("parent_id", Merge::Keep),
        ("depth", Merge::Keep),
        ("path", Merge::Keep),
        ("freezes", Merge::Replace),
        ("metadata", Merge::Replace),
        ("settings", Merge::Replace),
        ("margin_percent", Merge::Replace),
        ("created_at", Merge::Keep),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct DownlineTree;

/// A reseller after its last event.
#[derive(Debug, Clone, PartialEq)]
pub struct ResellerRow {
    position: u64,
    user_claimed: bool,
    path: String,
    created_at: String,
    registration: Registration,
    settings: Settings,
    freezes: BTreeSet<Authority>,
}

const COLUMNS: &str = "r.reseller_id, r.position, r.refid, r.user_id, r.user_claimed, r.company_name, r.tier, r.status, \
                       r.parent_id, r.depth, r.path, r.freezes, r.metadata, r.settings, r.created_at";

impl ResellerRow {
    fn read(columns: &mut Columns<'_>) -> Result<Self, ViewError> {
        let reseller = columns.parse()?;
        let position = columns.count()?;
        let (refid, user_id) = (columns.parse()?, columns.parse()?);
        let user_claimed = columns.boolean()?;
        let (company_name, tier, status) = (columns.parse()?, columns.parse()?, columns.parse()?);
        let (parent, depth) = (columns.parse_or_null()?, u32::try_from(columns.integer()?));
        let path = columns.string()?;
        let freezes = columns.json()?;
        let metadata = columns.json()?;
        let settings = columns.json()?;
        let created_at = columns.string()?;
        let registration = Registration {
            reseller,
            user_id,
            refid,
            company_name,
            tier,
            status,
            parent,
            depth: depth.map_err(ViewError::unreadable)?,
            metadata,
            // Neither is shown; folding does not look at them again.
            referral: None,
            registrar: Registrar::Platform,
            registered_at: created_at.parse().map_err(ViewError::unreadable)?,
        };
        Ok(Self { position, user_claimed, path, created_at, registration, settings, freezes })
    }

    /// Folds an event by the aggregate's own fold.
    fn fold(&mut self, event: &ResellerEvent) {
        self.user_claimed |= matches!(event, ResellerEvent::ResellerApproved { .. });
        let mut reseller = Reseller {
            profile: Some(Box::new(Profile { registration: self.registration.clone() })),
            settings: std::mem::take(&mut self.settings),
            freezes: std::mem::take(&mut self.freezes),
            ..Reseller::default()
        };
        reseller.fold(event);
        (self.settings, self.freezes) = (reseller.settings, reseller.freezes);
        if let Some(profile) = reseller.profile {
            self.registration = profile.registration;
        }
    }
}

impl Projection for DownlineTree {
    const NAME: &'static str = "downline_tree";
    const TABLES: &'static [&'static Table] = &[&RESELLERS];
    type Rows = BTreeMap<ResellerId, (ResellerRow, bool)>;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        let mut touched = BTreeSet::new();
        for logged in events {
            match (&logged.key, &logged.event) {
                (_, Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                    touched.extend(registration.parent);
                }
                (AggregateKey::Reseller(reseller), _) => {
                    touched.insert(*reseller);
                }
                _ => {}
            }
        }
        let sql = format!("select {COLUMNS} from resellers r where r.reseller_id in");
        let mut rows = BTreeMap::new();
        for row in connection.fetch_by_keys(&sql, touched).await? {
            let row = ResellerRow::read(&mut row.columns())?;
            rows.insert(row.registration.reseller, (row, false));
        }
        Ok(rows)
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        let unknown = |logged: &LogEvent| {
            ViewError::Unreadable(format!("position {} names a reseller that is not registered", logged.position))
        };
        for logged in events {
            let (AggregateKey::Reseller(reseller), Event::Reseller(event)) = (&logged.key, &logged.event) else {
                continue;
            };
            if let ResellerEvent::ResellerRegistered(registration) = event {
                let above = match registration.parent {
                    Some(parent) => rows.get(&parent).ok_or_else(|| unknown(logged))?.0.path.clone(),
                    None => "/".to_owned(),
                };
                let row = ResellerRow {
                    position: logged.position,
                    user_claimed: registration.registrar == Registrar::Platform,
                    path: format!("{above}{reseller}/"),
                    created_at: logged.recorded_at.clone(),
                    registration: (**registration).clone(),
                    settings: Settings::default(),
                    freezes: BTreeSet::new(),
                };
                rows.insert(*reseller, (row, true));
                continue;
            }
            // A price is the child's cost, not what the child is: `prices` has it.
            if matches!(event, ResellerEvent::PriceSet { .. } | ResellerEvent::PriceCleared { .. }) {
                continue;
            }
            let (row, changed) = rows.get_mut(reseller).ok_or_else(|| unknown(logged))?;
            row.fold(event);
            *changed = true;
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for (reseller, (row, _)) in rows.into_iter().filter(|(_, (_, changed))| *changed) {
            let registration = row.registration;
            changes.put(
                &RESELLERS,
                [
                    Value::text(reseller),
                    row.position.into(),
                    Value::text(registration.refid),
                    Value::text(registration.user_id),
                    row.user_claimed.into(),
                    Value::text(registration.company_name),
                    registration.tier.word().into(),
                    registration.status.word().into(),
                    Value::text_or_null(registration.parent),
                    registration.depth.into(),
                    row.path.into(),
                    Value::json(&row.freezes)?,
                    Value::json(&registration.metadata)?,
                    Value::json(&row.settings)?,
                    Value::text_or_null(row.settings.margin_percent),
                    row.created_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// The ids on a path, top first.
pub fn ids_on(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|id| !id.is_empty())
}

/// The freezes of all resellers on these paths, by reseller.
async fn freezes_on<'p>(
    connection: &mut Connection<'_>,
    paths: impl Iterator<Item = &'p str>,
) -> Result<HashMap<String, BTreeSet<Authority>>, ViewError> {
    let ids: BTreeSet<&str> = paths.flat_map(ids_on).collect();
    let rows = connection
        .fetch_by_keys("select reseller_id, freezes from resellers where freezes <> '[]' and reseller_id in", ids)
        .await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.columns();
            Ok((columns.string()?, columns.json()?))
        })
        .collect()
}

/// Whose freeze lies on the reseller with this path: the highest, as far as the viewer may know.
fn frozen_by(
    path: &str,
    freezes: &HashMap<String, BTreeSet<Authority>>,
    viewer: Option<ResellerId>,
) -> Option<SeenAuthority> {
    let line: Vec<&str> = ids_on(path).collect();
    let level = |reseller: ResellerId| {
        let id = reseller.to_string();
        line.iter().position(|above| *above == id)
    };
    let highest = line.iter().filter_map(|id| freezes.get(*id)).flatten().min_by_key(|authority| match authority {
        Authority::Platform => (0, None),
        Authority::Reseller(reseller) => (1, level(*reseller)),
        Authority::LowCreditPolicy => (2, None),
    })?;
    Some(match *highest {
        Authority::Platform => SeenAuthority::Elsewhere(Above::Platform),
        Authority::LowCreditPolicy => SeenAuthority::Elsewhere(Above::LowCreditPolicy),
        Authority::Reseller(by) => match viewer {
            Some(viewer) if level(by) < level(viewer) => SeenAuthority::Elsewhere(Above::Upline),
            _ => SeenAuthority::Reseller(by),
        },
    })
}

fn view(
    row: ResellerRow,
    freezes: &HashMap<String, BTreeSet<Authority>>,
    viewer: Option<ResellerId>,
) -> Result<ResellerView, ViewError> {
    let frozen_by = frozen_by(&row.path, freezes, viewer);
    let registration = row.registration;
    Ok(ResellerView {
        id: registration.reseller,
        refid: registration.refid,
        user_id: registration.user_id,
        company_name: registration.company_name,
        tier: registration.tier,
        status: registration.status,
        frozen: frozen_by.is_some(),
        frozen_by,
        parent_id: registration.parent.filter(|_| viewer != Some(registration.reseller)),
        depth: registration.depth,
        metadata: registration.metadata,
        created_at: row.created_at.parse().map_err(ViewError::unreadable)?,
    })
}

/// One reseller.
///
/// # Errors
/// What the database says.
pub async fn find(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<ResellerView>, ViewError> {
    let Some(row) = find_row(read, reseller).await? else { return Ok(None) };
    let freezes = freezes_on(&mut read.connection(), std::iter::once(row.path.as_str())).await?;
    view(row, &freezes, read.viewer()).map(Some)
}

/// One reseller as it was after its last event up to a position, which must not lie beyond the read; `None` also where it was not
/// registered yet.
///
/// # Errors
/// What the database says.
pub async fn find_at(
    read: &mut ScopedRead,
    reseller: ResellerId,
    position: u64,
) -> Result<Option<ResellerView>, ViewError> {
    let Some(mut row) = find_row(read, reseller).await? else { return Ok(None) };
    let mut line = reseller_history::at(&mut read.connection(), ids_on(&row.path), position).await?;
    let freezes = line.iter().map(|(id, above)| (id.to_string(), above.freezes.clone())).collect();
    let Some(profile) = line.remove(&reseller).and_then(|then| then.profile) else { return Ok(None) };
    row.registration = profile.registration;
    view(row, &freezes, read.viewer()).map(Some)
}

async fn find_row(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<ResellerRow>, ViewError> {
    let sql = format!("select {COLUMNS} from resellers r where r.path >= $1 and r.path < $2 and r.reseller_id = $3");
    let values = read.range_and([Value::text(reseller)]);
    let row = read.connection().fetch_one(&sql, values).await?;
    row.map(|row| ResellerRow::read(&mut row.columns())).transpose()
}

/// A reseller's settings, with its wallet's threshold.
///
/// # Errors
/// What the database says.
pub async fn settings(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<SettingsView>, ViewError> {
    let Some(row) = find_row(read, reseller).await? else { return Ok(None) };
    let wallet = wallets::find(read, reseller).await?;
    Ok(Some(SettingsView {
        settings: row.settings,
        low_credit_threshold: wallet.map(|wallet| wallet.low_credit_threshold),
    }))
}

/// Which resellers are asked for.
#[derive(Debug, Clone, Default)]
pub struct ResellerFilter {
    /// Of this user, where the user is taken by it.
    pub user_id: Option<UserId>,
    /// With this public reference.
    pub refid: Option<Refid>,
    /// Of this tier.
    pub tier: Option<Tier>,
    /// In this status.
    pub status: Option<ResellerStatus>,
    /// With this text in the company name or as the beginning of the public reference.
    pub q: Option<String>,
}

/// The text as a part of a `like` pattern, in lower case.
pub(crate) fn like_text(text: &str) -> String {
    text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Resellers in the order in which they registered.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn list(
    read: &mut ScopedRead,
    filter: &ResellerFilter,
    page: &PageRequest,
) -> Result<Page<ResellerView>, ViewError> {
    let text = filter.q.as_deref().map(like_text);
    let values = read.range_and([
        page.position()?.unwrap_or(0).into(),
        page.rows_and_one().into(),
        Value::text_or_null(filter.user_id.as_ref()),
        Value::text_or_null(filter.refid.as_ref()),
        Value::text_or_null(filter.tier),
        Value::text_or_null(filter.status),
        text.as_ref().map(|text| format!("%{text}%")).into(),
        text.as_ref().map(|text| format!("{text}%")).into(),
    ]);
    // Each condition stands only where it is asked for, so that the database can use the index that fits.
    let mut sql = format!("select {COLUMNS} from resellers r where r.position > $3");
    for (asked, condition) in [
        // All of the network is read in its order; a subtree by its paths, and sorted.
        (read.scope() != Scope::All, " and r.path >= $1 and r.path < $2"),
        (filter.user_id.is_some(), " and r.user_claimed = 1 and r.user_id = $5"),
        (filter.refid.is_some(), " and r.refid = $6"),
        (filter.tier.is_some(), " and r.tier = $7"),
        (filter.status.is_some(), " and r.status = $8"),
        (filter.q.is_some(), " and (lower(r.company_name) like $9 escape '\\' or lower(r.refid) like $10 escape '\\')"),
    ] {
        if asked {
            sql.push_str(condition);
        }
    }
    sql.push_str(" order by r.position limit $4");
    let rows = read.connection().fetch(&sql, values).await?;
    let rows: Vec<ResellerRow> =
        rows.iter().map(|row| ResellerRow::read(&mut row.columns())).collect::<Result<_, _>>()?;
    let freezes = freezes_on(&mut read.connection(), rows.iter().map(|row| row.path.as_str())).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let position = i64::try_from(row.position).map_err(ViewError::unreadable)?;
        views.push((position, view(row, &freezes, read.viewer())?));
    }
    Ok(Page::of(page, views))
}

/// The line of a reseller, top first, as far as prices must know it; prices are for one product. `None` where it is not in
/// sight.
///
/// # Errors
/// What the database says.
pub async fn line(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<Vec<LineMember>>, ViewError> {
    let Some(path) = read.path_of(reseller).await? else { return Ok(None) };
    let rows = read
        .connection()
        .fetch_by_keys(
            "select reseller_id, tier, status, margin_percent, depth from resellers where reseller_id in",
            ids_on(&path),
        )
        .await?;
    let mut line = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        let member = LineMember {
            id: columns.parse()?,
            tier: columns.parse()?,
            status: columns.parse()?,
            margin_percent: columns.parse_or_null()?,
        };
        line.push((columns.integer()?, member));
    }
    line.sort_by_key(|(depth, _)| *depth);
    Ok(Some(line.into_iter().map(|(_, member)| member).collect()))
}

/// One reseller of a line, without the price that depends on the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // DOMAIN's words
pub struct LineMember {
    pub id: ResellerId,
    pub tier: Tier,
    pub status: ResellerStatus,
    pub margin_percent: Option<Percent>,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct TreeNode {
    pub id: ResellerId,
    pub refid: Refid,
    pub company_name: String,
    pub tier: Tier,
    pub status: ResellerStatus,
    pub frozen: bool,
    pub depth: u32,
    /// `None` without a wallet.
    pub balance: Option<Credits>,
    pub children_count: u64,
    pub downline_count: u64,
    #[cfg_attr(feature = "schema", schema(no_recursion))]
    pub children: Vec<TreeNode>,
    /// Present where not all children are shown: send it back with this node as `root`.
    pub children_cursor: Option<String>,
    #[serde(skip)]
    position: i64,
    /// Its number in the order of registration; 0 where nodes are shown as they are.
    #[serde(skip)]
    ordinal: u64,
}

/// The tree below the platform: as a node, without what only a reseller has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct PlatformNode {
    pub children_count: u64,
    pub downline_count: u64,
    pub children: Vec<TreeNode>,
    pub children_cursor: Option<String>,
}

/// A page of the tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Tree {
    /// Below a reseller.
    Reseller(Box<TreeNode>),
    /// The whole network.
    Platform(PlatformNode),
}

/// Which page of the tree is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRequest {
    /// Below which reseller; `None` for the viewer itself, or the platform.
    pub root: Option<ResellerId>,
    /// How many levels below the root, 1 to 64.
    pub depth: u32,
    /// How many nodes in the whole answer. The root of a page that a cursor continues was shown before and does not count.
    pub limit: u32,
    /// Goes on after the children of `root` that were shown.
    pub cursor: Option<String>,
    /// As it was after this position, which must not lie beyond the read; `None` for as it is.
    pub at: Option<u64>,
}

/// The select of nodes, up to a condition, of those who were there after the position `$1`: as they are.
const NODES: &str = "select r.reseller_id, r.refid, r.company_name, r.tier, r.status, r.freezes, r.depth, w.balance, \
                     d.children, d.downline, r.position, cast(0 as bigint), r.parent_id \
                     from resellers r left join wallets w on w.reseller_id = r.reseller_id \
                     left join dashboards d on d.reseller_id = r.reseller_id where r.position <= $1 and ";
/// The same as they were, but for what [`restate`] mends. What was held then stands in the last statement line.
fn nodes_then() -> String {
    format!(
        "select r.reseller_id, r.refid, r.company_name, r.tier, r.status, r.freezes, r.depth, \
         case when exists (select 1 from wallet_terms t where t.reseller_id = r.reseller_id and t.position <= $1) then \
         coalesce({balance}, 0) end, d.children, d.downline, r.position, \
         (select m.ordinal from analytics_members m where m.reseller_id = r.reseller_id), r.parent_id \
         from resellers r left join dashboards d on d.reseller_id = r.reseller_id where r.position <= $1 and ",
        balance = last_line("balance", "r.reseller_id", "$1"),
    )
}

/// The select of nodes, and its `$1`.
fn nodes(then: Option<&DownlineThen>) -> (Cow<'static, str>, Value) {
    match then {
        None => (NODES.into(), i64::MAX.into()),
        Some(then) => (nodes_then().into(), then.position.into()),
    }
}

/// Gives nodes the names, tiers, statuses, freezes of their own, and numbers of others below them, that they had.
async fn restate<'n>(
    read: &mut ScopedRead,
    nodes: impl Iterator<Item = &'n mut TreeNode>,
    then: Option<&DownlineThen>,
) -> Result<(), ViewError> {
    let Some(then) = then else { return Ok(()) };
    let nodes: Vec<&mut TreeNode> = nodes.collect();
    let ids: Vec<ResellerId> = nodes.iter().map(|node| node.id).collect();
    let past = reseller_history::at(&mut read.connection(), ids, then.position).await?;
    for node in nodes {
        (node.children_count, node.downline_count) =
            then.below(node.ordinal, (node.children_count, node.downline_count));
        let Some(reseller) = past.get(&node.id) else { continue };
        node.frozen = !reseller.freezes.is_empty();
        if let Some(profile) = &reseller.profile {
            node.company_name = profile.registration.company_name.to_string();
            node.tier = profile.registration.tier;
            node.status = profile.registration.status;
        }
    }
    Ok(())
}

/// Reads a node; `frozen` says only its own freezes yet.
fn read_node(columns: &mut Columns<'_>) -> Result<(TreeNode, Option<String>), ViewError> {
    let node = TreeNode {
        id: columns.parse()?,
        refid: columns.parse()?,
        company_name: columns.string()?,
        tier: columns.parse()?,
        status: columns.parse()?,
        frozen: columns.str()? != "[]",
        depth: u32::try_from(columns.integer()?).map_err(ViewError::unreadable)?,
        balance: columns.integer_or_null()?,
        children_count: columns.count()?,
        downline_count: columns.count()?,
        children: Vec::new(),
        children_cursor: None,
        position: columns.integer()?,
        ordinal: columns.count()?,
    };
    Ok((node, columns.string_or_null()?))
}

/// A page of the tree, breadth first. `None` where the root is not in sight.
///
/// Cost: two statements a level; no more rows are read than are shown, plus the siblings of the last one shown.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn tree(read: &mut ScopedRead, request: &TreeRequest) -> Result<Option<Tree>, ViewError> {
    let after = request.cursor.as_deref().map(position_of).transpose()?;
    let mut left = i64::from(request.limit.clamp(1, crate::page::LIMIT_MAX));
    let then = match request.at {
        Some(position) => Some(DownlineThen::at(read, position).await?),
        None => None,
    };
    let then = then.as_ref();
    let root = match request.root.or(read.viewer()) {
        Some(reseller) => {
            let Some(root) = root_node(read, reseller, then).await? else { return Ok(None) };
            Some(root)
        }
        None => None,
    };
    if root.is_some() && after.is_none() {
        left -= 1;
    }
    // All nodes of the page in breadth-first order, each with the index of its parent; the root, or the platform, is none.
    let mut nodes: Vec<(Option<usize>, TreeNode)> = Vec::new();
    let (root_id, root_frozen, root_children) = match &root {
        Some(node) => (Some(node.id), node.frozen, node.children_count),
        None => (None, false, platform_counts(read, then).await?.0),
    };
    // The children of the root, then level by level those of what was found.
    let mut root_cursor = None;
    if left > 0 {
        let found = children_of(read, root_id, after.unwrap_or(0), left + 1, then).await?;
        let more = i64::try_from(found.len()).is_ok_and(|count| count > left);
        for mut node in found.into_iter().take(usize::try_from(left).unwrap_or(0)) {
            node.frozen |= root_frozen;
            nodes.push((None, node));
        }
        left -= i64::try_from(nodes.len()).unwrap_or(left);
        root_cursor = nodes.last().filter(|_| more).map(|(_, last)| cursor_of(last.position));
    } else if root_children > 0 {
        root_cursor = Some(cursor_of(after.unwrap_or(0)));
    }
    let mut level = 0..nodes.len();
    for _ in 1..request.depth.clamp(1, aggregates::reseller::DEPTH_MAX) {
        if left <= 0 || level.is_empty() {
            break;
        }
        let begin = nodes.len();
        left = expand(read, &mut nodes, level, left, then).await?;
        level = begin..nodes.len();
    }
    // Whoever has children of which none was looked for says where they begin.
    let mut shown = vec![0_u64; nodes.len()];
    for (parent, _) in &nodes {
        if let Some(shown) = parent.and_then(|parent| shown.get_mut(parent)) {
            *shown += 1;
        }
    }
    let last_children = last_child_positions(&nodes);
    for (index, (_, node)) in nodes.iter_mut().enumerate() {
        if shown[index] < node.children_count {
            node.children_cursor = Some(cursor_of(last_children[index]));
        }
    }
    let children = nest(nodes);
    Ok(Some(match root {
        Some(mut root) => {
            root.children = children;
            root.children_cursor = root_cursor;
            Tree::Reseller(Box::new(root))
        }
        None => {
            let (children_count, downline_count) = platform_counts(read, then).await?;
            Tree::Platform(PlatformNode { children_count, downline_count, children, children_cursor: root_cursor })
        }
    }))
}

fn last_child_positions(nodes: &[(Option<usize>, TreeNode)]) -> Vec<i64> {
    let mut last = vec![0; nodes.len()];
    for (parent, node) in nodes {
        if let Some(last) = parent.and_then(|parent| last.get_mut(parent)) {
            *last = node.position.max(*last);
        }
    }
    last
}

/// Puts every node into its parent; children come after their parents, so from the last one on.
fn nest(mut nodes: Vec<(Option<usize>, TreeNode)>) -> Vec<TreeNode> {
    let mut top = Vec::new();
    while let Some((parent, mut node)) = nodes.pop() {
        node.children.reverse();
        match parent.and_then(|parent| nodes.get_mut(parent)) {
            Some((_, parent)) => parent.children.push(node),
            None => top.push(node),
        }
    }
    top.reverse();
    top
}

async fn root_node(
    read: &mut ScopedRead,
    reseller: ResellerId,
    then: Option<&DownlineThen>,
) -> Result<Option<TreeNode>, ViewError> {
    let Some(path) = read.path_of(reseller).await? else { return Ok(None) };
    let (nodes, position) = nodes(then);
    let sql = format!("{nodes} r.reseller_id = $2");
    let row = read.connection().fetch_one(&sql, vec![position, Value::text(reseller)]).await?;
    let Some(row) = row else { return Ok(None) };
    let (mut node, _) = read_node(&mut row.columns())?;
    restate(read, std::iter::once(&mut node), then).await?;
    node.frozen = match then {
        None => !freezes_on(&mut read.connection(), std::iter::once(path.as_str())).await?.is_empty(),
        Some(then) => {
            let line = reseller_history::at(&mut read.connection(), ids_on(&path), then.position).await?;
            line.values().any(|above| !above.freezes.is_empty())
        }
    };
    Ok(Some(node))
}

async fn platform_counts(read: &mut ScopedRead, then: Option<&DownlineThen>) -> Result<(u64, u64), ViewError> {
    let sql = "select children, downline from dashboards where reseller_id = 'platform'";
    let now = match read.connection().fetch_one(sql, Vec::new()).await? {
        Some(row) => {
            let mut columns = row.columns();
            (columns.count()?, columns.count()?)
        }
        None => (0, 0),
    };
    Ok(then.map_or(now, |then| then.top(now)))
}

/// The children of one node after a position, in order, at most `limit`. Whoever sees a node sees its children.
async fn children_of(
    read: &mut ScopedRead,
    parent: Option<ResellerId>,
    after: i64,
    limit: i64,
    then: Option<&DownlineThen>,
) -> Result<Vec<TreeNode>, ViewError> {
    let condition =
        if parent.is_some() { "r.parent_id = $2" } else { "r.parent_id is null and cast($2 as text) is null" };
    let (nodes, position) = nodes(then);
    let sql = format!("{nodes} {condition} and r.position > $3 order by r.position limit $4");
    let values = vec![position, Value::text_or_null(parent), after.into(), limit.into()];
    let rows = read.connection().fetch(&sql, values).await?;
    let mut found: Vec<TreeNode> =
        rows.iter().map(|row| read_node(&mut row.columns()).map(|(node, _)| node)).collect::<Result<_, _>>()?;
    restate(read, found.iter_mut(), then).await?;
    Ok(found)
}

/// Appends the children of one level's nodes, at most `left`; returns how many more may be shown.
async fn expand(
    read: &mut ScopedRead,
    shown: &mut Vec<(Option<usize>, TreeNode)>,
    level: std::ops::Range<usize>,
    mut left: i64,
    then: Option<&DownlineThen>,
) -> Result<i64, ViewError> {
    // The counts say whose children fit in whole: those come in one statement, and of the next one a part.
    let mut whole: HashMap<String, usize> = HashMap::new();
    let mut part = None;
    for index in level {
        let node = &shown[index].1;
        let count = i64::try_from(node.children_count).unwrap_or(i64::MAX);
        if count == 0 {
            continue;
        }
        if count > left {
            part = Some((index, node.id));
            break;
        }
        left -= count;
        whole.insert(node.id.to_string(), index);
    }
    let (nodes, position) = nodes(then);
    let mut connection = read.connection();
    let sql = format!("{nodes} {}", connection.dialect().one_of("r.parent_id", 2));
    let mut found = Vec::new();
    let rows = match whole.is_empty() {
        true => Vec::new(),
        false => connection.fetch(&sql, vec![position, Value::texts(whole.keys())]).await?,
    };
    for row in rows {
        let (node, parent) = read_node(&mut row.columns())?;
        let parent = parent.and_then(|parent| whole.get(&parent).copied());
        found.push((parent.ok_or_else(|| ViewError::unreadable("a child without its parent"))?, node));
    }
    restate(read, found.iter_mut().map(|(_, node)| node), then).await?;
    found.sort_by_key(|(parent, node)| (*parent, node.position));
    if let Some((index, parent)) = part.filter(|_| left > 0) {
        let children = children_of(read, Some(parent), 0, left, then).await?;
        found.extend(children.into_iter().map(|node| (index, node)));
        left = 0;
    }
    if part.is_some() {
        left = 0;
    }
    for (parent, mut node) in found {
        node.frozen |= shown[parent].1.frozen;
        shown.push((Some(parent), node));
    }
    Ok(left)
}
