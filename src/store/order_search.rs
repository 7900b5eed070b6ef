//! The texts by which orders are found, and the conditions of a search. The projection of orders
//! writes a text only if it differs from the stored one. The lists are in `order`.
//!
//! SQLite's index is filled later ([`Store::index_order_texts`]), because that costs more than all
//! other rows of an order. A search also reads the texts that are not in the index yet. PostgreSQL
//! has such a list inside its index.

use super::both::{Builder, Dialect, Writing, fetch_all};
use super::{Backend, Error, Store};
use crate::domain::search_text::{Search, trigrams};

crate::table_row! {
    /// The text by which an order is found.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SearchRow in "order_search", key(id), if_changes(text) {
        /// The order.
        pub id: String,
        /// What searches find in the order, as `domain::search_text` makes it.
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

    /// Whether the index of the texts of orders is missing, so that a search may read all of them.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn searches_lack_index(&self) -> Result<bool, Error> {
        let Backend::Postgres(_) = &self.backend else { return Ok(false) };
        let text = "SELECT 1::BIGINT FROM pg_indexes WHERE schemaname = current_schema() \
                    AND indexname = 'order_search_text'";
        Ok(fetch_all!(self.readers(), sqlx::query(text))?.is_empty())
    }
}

/// Adds the statement of the ids of all orders that have all words of a search.
pub(super) fn push_ids(query: &mut Builder, search: &Search) {
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

/// The text for SQLite's index: all parts of three characters, each in quotation marks, without
/// which they would have a meaning in its language. The index does not know whether the parts
/// follow each other; [`push_has`] does.
fn match_all(search: &Search) -> String {
    let way = |needles: &Vec<String>| {
        let parts = needles.iter().flat_map(|needle| trigrams(needle));
        let quoted = parts.map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
        format!("({})", quoted.collect::<Vec<_>>().join(" "))
    };
    search.ways().iter().map(way).collect::<Vec<_>>().join(" OR ")
}

/// Adds the condition that the text of the row `s` has all words.
pub(super) fn push_has(query: &mut Builder, search: &Search) {
    for (at, needles) in search.ways().iter().enumerate() {
        query.push(if at == 0 { " AND ((TRUE" } else { ") OR (TRUE" });
        for needle in needles {
            push_contains(query, needle);
        }
    }
    query.push("))");
}

/// Adds the condition that the text of the row `s` contains a needle.
fn push_contains(query: &mut Builder, needle: &str) {
    match query.dialect() {
        Dialect::Sqlite => {
            query.push(" AND instr(s.text, ").push_bind(needle.to_owned()).push(") > 0");
        }
        // The index knows this operator alone.
        Dialect::Postgres => {
            query.push(" AND s.text LIKE ").push_bind(format!("%{}%", escaped(needle)));
        }
    }
}

/// A text without the characters that have a meaning in a pattern of `LIKE`.
fn escaped(text: &str) -> String {
    let escape = |c| [matches!(c, '\\' | '%' | '_').then_some('\\'), Some(c)];
    text.chars().flat_map(escape).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_for_an_index_is_searched_for_as_it_is() {
        assert_eq!(escaped(r"50%_\a"), r"50\%\_\\a");
        let search = Search::of(r#"a"b*"#).unwrap();
        assert_eq!(match_all(&search), r#"("a""b" """b*")"#);
        let search = Search::of("0815-471").unwrap();
        assert!(match_all(&search).ends_with(r#""-47" "471") OR ("815" "154" "547" "471")"#));
    }
}
