//! What a recipe's tests do to a database behind the back of a server: the tables that its migration
//! would bring, and damage.

use kontor::config::Config;
use kontor::store::{Options, Store};
use kontor::verify::{Books, VerifyReport, verify_with};
use sqlx::Connection as _;

/// Opens the store of a server that does not run.
async fn open(config: &Config) -> Store {
    if config.store.url.is_empty() {
        Store::open(&config.data.dir, &config.store).await.unwrap()
    } else {
        Store::connect(&config.store.url, &Options::default()).await.unwrap()
    }
}

/// Makes a store, with the table that a migration of SQLite's or PostgreSQL's would bring.
pub async fn migrate(config: &Config, [sqlite, postgres]: [&'static str; 2]) {
    open(config).await.close().await;
    sql(config, if config.store.url.is_empty() { sqlite } else { postgres }).await;
}

/// Runs statements.
pub async fn sql(config: &Config, text: &'static str) {
    if config.store.url.is_empty() {
        let url = format!("sqlite://{}", config.data.dir.join("kontor.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(config.store.url.reveal()).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// What the proof says, by these books.
pub async fn proof(config: &Config, books: Books) -> VerifyReport {
    let store = open(config).await;
    let report = verify_with(books, &store, None, |_| {}).await.unwrap();
    store.close().await;
    report
}
