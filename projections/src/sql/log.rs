//! The log as few long texts, for who reads much of it (see [`crate::batch`]).

use super::{Connection, Dialect, ViewError};

/// Texts that hold the events of the positions from one up to another, in order, several events each: an event's columns with
/// U+001F between them, events with U+001E. `each` says whether to go on.
///
/// # Errors
/// What the database or `each` says.
pub(crate) async fn lines(
    log: &mut Connection<'_>,
    from: u64,
    end: u64,
    mut each: impl FnMut(&str) -> Result<bool, ViewError> + Send,
) -> Result<(), ViewError> {
    let recorded_at = log.dialect().time("recorded_at");
    let sql = match log.dialect() {
        Dialect::Sqlite => "with recursive blocks(first) as \
             (select $1 union all select first + 64 from blocks where first + 64 < $2) \
             select (select group_concat(line, char(30)) from (select concat_ws(char(31), position, aggregate_type, \
             aggregate_id, sequence, event_type, event_version, recorded_at, hex(hash), command_id, \
             cast(payload as text)) as line \
             from events where position >= first and position < min(first + 64, $2) order by position)) from blocks"
            .to_owned(),
        Dialect::Postgres => {
            format!(
                "select string_agg(concat_ws(chr(31), position, aggregate_type, aggregate_id, sequence, event_type, \
             event_version, {recorded_at}, encode(hash, 'hex'), command_id, cast(payload as text)), chr(30) order by position) \
             from ledger.events where position >= $1 and position < $2 group by (position - $1) / 64 \
             order by (position - $1) / 64"
            )
        }
    };
    log.for_each(&sql, vec![from.into(), end.into()], |row| match row.columns().str_or_null()? {
        Some(lines) => each(lines),
        // Positions have no gaps: after a block without events comes none with any.
        None => Ok(false),
    })
    .await
}
