//! The shadow tables of a rebuild: made like the live ones, put in their place, taken away.
//!
//! A shadow is made from the live table's own definition and its indexes', as the database has them. While what has come since is
//! caught up with, views that only the rebuilding connection sees carry the live names and show the shadows, so that projections
//! load from them with the SQL they always use; the name of a table that is not rebuilt shows nothing and fails, so that none can
//! be read unseen.
//!
//! The exchange renames the live tables away, the shadows into their place, and the indexes after them, so that after a rebuild
//! the schema is what it was, name by name. SQLite has no statement that renames an index: its row in the schema is changed
//! instead, in the way that SQLite documents for changes that leave the content alone; renaming the tables in the same
//! transaction makes every other connection read the schema anew.
//!
//! What was replaced is dropped afterwards, one index or table at a time: freeing a large one takes a while.

use std::time::Duration;

use crate::Declared;
use crate::sql::direct::{Writing, aside};
use crate::sql::{Connection, Table, ViewError};

/// What shadows' names begin with.
pub(super) const SHADOW: &str = "rebuild_";
/// What the names of tables that were replaced begin with.
const RETIRED: &str = "retired_";
/// How long others have the write lock between two drops.
const PAUSE: Duration = Duration::from_millis(20);

/// A table or an index as the schema has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    is_table: bool,
    name: String,
    table: String,
    sql: String,
}

/// What is rebuilt, as it was when the shadows were made.
#[derive(Debug)]
pub(super) struct Shadows {
    tables: Vec<&'static str>,
    objects: Vec<Object>,
}

async fn objects(connection: &mut Connection<'_>) -> Result<Vec<Object>, ViewError> {
    let rows = connection
        .fetch(
            // Tables before their indexes. What has no text belongs to its table and goes with it.
            "select type = 'table', name, tbl_name, sql from main.sqlite_schema where type in ('table', 'index') and \
             sql is not null order by type desc, name",
            Vec::new(),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.columns();
            Ok(Object {
                is_table: columns.boolean()?,
                name: columns.string()?,
                table: columns.string()?,
                sql: columns.string()?,
            })
        })
        .collect()
}

/// The definition with the first mention of this name, quoted or not, replaced.
fn renamed(sql: &str, from: &str, to: &str) -> Option<String> {
    let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let at = sql.match_indices(from).map(|(at, _)| at).find(|at| {
        let before = at.checked_sub(1).and_then(|before| sql.as_bytes().get(before));
        let after = sql.as_bytes().get(at + from.len());
        !before.is_some_and(|byte| is_of_a_name(*byte)) && !after.is_some_and(|byte| is_of_a_name(*byte))
    })?;
    Some(format!("{}{to}{}", &sql[..at], &sql[at + from.len()..]))
}

impl Object {
    /// What folding needs: unlike the other indexes, unique ones hold rows to what they promise, and it may load by them.
    fn is_needed_to_fold(&self) -> bool {
        self.is_table || self.sql.starts_with("CREATE UNIQUE INDEX ")
    }

    fn is_left(&self) -> bool {
        self.table.starts_with(SHADOW) || self.table.starts_with(RETIRED)
    }

    /// The definition of its shadow.
    fn shadow(&self) -> Result<String, ViewError> {
        let of_table = |sql: &str| renamed(sql, &self.table, &format!("{SHADOW}{}", self.table));
        let shadow = if self.is_table {
            of_table(&self.sql)
        } else {
            // The index's own name comes first, then the table's.
            renamed(&self.sql, &self.name, &format!("{SHADOW}{}", self.name)).and_then(|sql| of_table(&sql))
        };
        shadow.ok_or_else(|| unlike(self))
    }
}

fn unlike(object: &Object) -> ViewError {
    ViewError::unreadable(format!("the definition of {}: {}", object.name, object.sql))
}

impl Shadows {
    /// Makes a shadow for each table of these projections, and the views that show them in the live ones' place.
    pub(super) async fn create(
        connection: &mut rusqlite::Connection,
        projections: &[&'static Declared],
    ) -> Result<Self, ViewError> {
        let tables: Vec<&'static str> =
            projections.iter().flat_map(|projection| projection.tables).map(|table| table.name).collect();
        let mut connection = Connection::direct(connection);
        let mut objects = objects(&mut connection).await?;
        let others: Vec<String> = objects
            .iter()
            .filter(|object| object.is_table && object.name != "checkpoints" && !tables.contains(&object.name.as_str()))
            .map(|object| object.name.clone())
            .collect();
        objects.retain(|object| tables.contains(&object.table.as_str()));
        for object in objects.iter().filter(|object| object.is_table) {
            connection.execute(&object.shadow()?, Vec::new()).await?;
        }
        for table in &tables {
            let view = format!("create temp view {table} as select * from main.{SHADOW}{table}");
            connection.execute(&view, Vec::new()).await?;
        }
        for table in &others {
            let view =
                format!("create temp view {table} as select * from main.\"{table}, which is not declared as read\"");
            connection.execute(&view, Vec::new()).await?;
        }
        Ok(Self { tables, objects })
    }

    /// The definitions of the indexes that are still to be made, best after the tables are filled: sorting once costs a fraction of
    /// inserting row by row. Before they are there, nothing should be loaded.
    pub(super) fn indexes_to_come(&self) -> Result<Vec<String>, ViewError> {
        self.objects.iter().filter(|object| !object.is_table).map(Object::shadow).collect()
    }

    /// What makes some of the live tables in another database, with as much as folding needs.
    pub(super) fn definitions(&self, tables: &[&Table]) -> impl Iterator<Item = &str> {
        let is_of_them = |object: &&Object| tables.iter().any(|table| table.name == object.table);
        let objects = self.objects.iter().filter(is_of_them).filter(|object| object.is_needed_to_fold());
        objects.map(|object| object.sql.as_str())
    }

    /// Puts the shadows in the live tables' place; the live ones are retired. Within a transaction; afterwards this connection
    /// must be closed: what it knows of the schema is no longer true.
    pub(super) async fn exchange(&self, connection: &mut rusqlite::Connection) -> Result<(), ViewError> {
        let mut connection = Connection::direct(connection);
        let views = connection.fetch("select name from temp.sqlite_schema where type = 'view'", Vec::new()).await?;
        for view in views {
            connection.execute(&format!("drop view temp.{}", view.columns().str()?), Vec::new()).await?;
        }
        let mut live = objects(&mut connection).await?;
        live.retain(|object| self.tables.contains(&object.table.as_str()));
        if live != self.objects {
            return Err(ViewError::Unreadable(
                "the schema was changed while the rebuild went on, perhaps by a newer version; run it again".into(),
            ));
        }
        for table in &self.tables {
            connection.execute(&format!("alter table main.{table} rename to {RETIRED}{table}"), Vec::new()).await?;
            connection.execute(&format!("alter table main.{SHADOW}{table} rename to {table}"), Vec::new()).await?;
        }
        connection.execute("pragma writable_schema = on", Vec::new()).await?;
        for index in objects(&mut connection).await?.iter().filter(|object| !object.is_table) {
            let name = if index.table.starts_with(RETIRED) {
                format!("{RETIRED}{}", index.name)
            } else if let Some(name) = index.name.strip_prefix(SHADOW) {
                name.to_owned()
            } else {
                continue;
            };
            let sql = renamed(&index.sql, &index.name, &name).ok_or_else(|| unlike(index))?;
            let values = vec![name.into(), sql.into(), index.name.as_str().into(), index.table.as_str().into()];
            let update = "update main.sqlite_schema set name = $1, sql = $2 \
                          where type = 'index' and name = $3 and tbl_name = $4";
            connection.execute(update, values).await?;
        }
        connection.execute("pragma writable_schema = reset", Vec::new()).await?;
        Ok(())
    }
}

/// Whether there is something that [`drop_leftovers`] would drop, unless a rebuild is going on.
pub(super) async fn has_leftovers(connection: &mut rusqlite::Connection) -> Result<bool, ViewError> {
    Ok(objects(&mut Connection::direct(connection)).await?.iter().any(Object::is_left))
}

/// Drops what rebuilds have left: shadows of one that was interrupted, and tables that were replaced. Says how many there were.
/// Only for the holder of the rebuilds' lock.
pub(super) async fn drop_leftovers(connection: &mut rusqlite::Connection) -> Result<usize, ViewError> {
    let mut left = objects(&mut Connection::direct(connection)).await?;
    left.retain(Object::is_left);
    // Indexes first: a table takes those along that it still has, all in one transaction.
    for object in left.iter().rev() {
        let what = if object.is_table { "table" } else { "index" };
        let writing = Writing::begin(connection).await?;
        aside(|| {
            writing.connection.execute_batch(&format!("drop {what} if exists main.{}", object.name))?;
            writing.commit()
        })?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_itself_is_replaced() {
        let index = "CREATE INDEX prices_by_sku on \"prices\" (sku, prices)";
        assert_eq!(renamed(index, "prices", "x").as_deref(), Some("CREATE INDEX prices_by_sku on \"x\" (sku, prices)"));
        assert_eq!(renamed("CREATE TABLE repriced (a)", "price", "x"), None);
    }
}
