//! The integration tests, as one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Tests for each database: of stories that get what the module's function `shop` opens, in SQLite
/// or in the database with this address.
macro_rules! on_both_databases {
    ($($story:ident)*) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $story() {
                super::$story(super::shop(None).await).await;
            })*
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $story() {
                let database = crate::servers::database();
                super::$story(super::shop(Some(database)).await).await;
            })*
        }
    };
}

mod all_faults;
mod api;
mod availability;
mod browser;
mod bus;
mod buyer_tokens;
mod buyers_view;
mod cache;
mod captures;
mod checkout;
mod checksums;
mod cli_client;
mod cli_output;
mod cli_shop;
mod clocks;
mod cluster;
mod cluster_key;
mod cluster_view;
mod cost;
#[cfg(debug_assertions)]
mod crashes;
mod cross_origin;
mod damage;
mod decline;
mod deploy;
mod doctor;
mod documents;
mod edge;
mod encrypted;
mod erasure;
mod examples;
mod exports;

mod faults;
mod flash;
mod full_disk;
mod golden;
mod guest_holds;
mod guests;
mod history;
mod host;
mod hostage;
mod hostile;
mod house;
mod imports;
mod jobs;
mod journal;
mod kills;
mod lane;
mod lists;
mod live;
mod load;
mod locations;
mod master_keys;
mod move_store;
mod names;
mod nodes;
mod operator;
mod payment_faults;
mod positions;
mod postgres;
mod problems;
mod process;
mod projections;
mod provider_contract;
mod recipe;
mod replica;
mod restores;
mod sandbox_psp;
mod search;
mod security_events;
mod servers;
mod session;
mod settings;
mod shop;
mod shopkeepers;
mod signals;
mod site;
mod stock_faults;
mod store;
mod supply;
mod tokens;
mod two_servers;
mod verify;
mod walks;
