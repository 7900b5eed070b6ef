//! The codes of the words by which orders are found, and the conditions of a search. The projection of orders
//! writes a text only if it differs from the stored one. The lists are in `order`.
//!
//! SQLite's index is filled later ([`Store::index_order_texts`]), because that costs more than all
//! other rows of an order. A search also reads the texts that are not in the index yet. PostgreSQL
//! has such a list inside its index.

use super::both::{Builder, Dialect, Writing, fetch_all};
use super::{Backend, Error, Store};
use crate::store::personal::CodedSearch;

crate::table_row! {
    /// The text by which an order is found.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SearchRow in "order_search", key(id), if_changes(text) {
        /// The order.
        pub id: String,
        /// The codes of what searches find in the order, as `personal::lookup` makes them.
        pub text: String,
        /// The seq of the order's last event when the text was last written.
        pub version: i64,
    }
}

impl Store {
    /// Adds some texts of orders to the index, at most `limit`; returns their number. Only a data
    /// folder has an index that must be filled.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn index_order_texts(&self, limit: u32) -> Result<usize, Error> {
        if matches!(self.backend, Backend::Postgres(_)) {
            return Ok(0);
        }
        let text = "SELECT nth FROM order_search_todo ORDER BY nth LIMIT +$1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(i64::from(limit)))?;
        let numbers =
            found.iter().map(|row| row.try_get::<i64>(0)).collect::<Result<Vec<_>, _>>()?;
        if numbers.is_empty() {
            return Ok(0);
        }
        let all = serde_json::Value::from(numbers.as_slice()).to_string();
        let mut writing = self.begin_relaxed().await?;
        if let Writing::Sqlite(writing) = &mut writing {
            for text in [
                "DELETE FROM order_search_index WHERE rowid IN (SELECT value FROM json_each($1))",
                "INSERT INTO order_search_index (rowid, text) SELECT nth, text FROM order_search \
                 WHERE nth IN (SELECT value FROM json_each($1)) ORDER BY nth",
                "DELETE FROM order_search_todo WHERE nth IN (SELECT value FROM json_each($1))",
            ] {
                sqlx::query(text).bind(all.as_str()).execute(writing.connection()?).await?;
            }
        }
        writing.commit().await?;
        Ok(numbers.len())
    }
}

/// Adds the statement of the ids of all orders that have all words of a search.
pub(super) fn push_ids(query: &mut Builder, search: &CodedSearch) {
    if query.dialect() == Dialect::Sqlite {
        query.push(
            "SELECT s.id FROM order_search_index CROSS JOIN order_search AS s \
             ON s.nth = order_search_index.rowid WHERE order_search_index MATCH ",
        );
        query.push_bind(match_all(search));
        push_has(query, search);
        query.push(
            " UNION ALL SELECT s.id FROM order_search_todo AS t CROSS JOIN order_search AS s \
             ON s.nth = t.nth WHERE TRUE",
        );
    } else {
        query.push("SELECT s.id FROM order_search AS s WHERE TRUE");
    }
    push_has(query, search);
}

/// The text for SQLite's index: all codes, each in quotation marks. The index does not know whether
/// the codes follow each other; [`push_has`] does.
fn match_all(search: &CodedSearch) -> String {
    let way = |needles: &Vec<String>| {
        let quoted =
            needles.iter().flat_map(|needle| codes(needle)).map(|code| format!("\"{code}\""));
        format!("({})", quoted.collect::<Vec<_>>().join(" "))
    };
    search.ways().iter().map(way).collect::<Vec<_>>().join(" OR ")
}

/// The codes of a needle.
fn codes(needle: &str) -> impl Iterator<Item = &str> {
    needle.split(' ').filter(|code| !code.is_empty())
}

/// Adds the condition that the text of the row `s` has all words.
pub(super) fn push_has(query: &mut Builder, search: &CodedSearch) {
    for (at, needles) in search.ways().iter().enumerate() {
        query.push(if at == 0 { " AND ((TRUE" } else { ") OR (TRUE" });
        for needle in needles {
            push_contains(query, needle);
        }
    }
    query.push("))");
}

/// Adds the condition that the codes of the row `s` contain a needle.
fn push_contains(query: &mut Builder, needle: &str) {
    match query.dialect() {
        Dialect::Sqlite => {
            query.push(" AND instr(s.text, ").push_bind(needle.to_owned()).push(") > 0");
        }
        // The index knows the first condition alone.
        Dialect::Postgres => {
            query.push(" AND string_to_array(s.text, ' ') @> string_to_array(");
            query.push_bind(codes(needle).collect::<Vec<_>>().join(" "));
            query.push(", ' ') AND strpos(s.text, ").push_bind(needle.to_owned()).push(") > 0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::search_text::Search;
    use crate::store::personal::LookupKeys;

    #[test]
    fn the_index_is_asked_for_all_codes_of_one_way() {
        let search = LookupKeys::new([1; 32]).search(&Search::of("0815-471").unwrap());
        let asked = match_all(&search);
        let ways: Vec<&str> = asked.split(" OR ").collect();
        assert_eq!(ways.len(), 2, "{asked}");
        let count = |way: &str| way.split(' ').count();
        assert_eq!((count(ways[0]), count(ways[1])), (6, 4), "{asked}");
    }
}
