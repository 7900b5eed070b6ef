//! Kontor beside the raw limit of what it stands on, in one run:
//! `cargo bench --bench limits -- NAME [--runs 5] [--json]`.
//!
//! Kontor and the limit take turns, so that the noise of the machine hits both. No figure is
//! asserted here; the counts that do not wobble are, in `tests/it/cost.rs`.

mod append;
mod figure;
mod generate;
mod history;
mod hot_sku;
mod machine;
mod memory;
mod postgres;
mod raw;
mod ready;
mod remote;
mod shop;
mod size;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What anything here may fail with: shown, and the process ends.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Error>;

/// Kontor beside the raw limits.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// How often each side is measured.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
    /// Answer JSON in place of text.
    #[arg(long, global = true)]
    json: bool,
    /// Where data goes; deleted at the end unless it is given.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Durable events a second through the lane, beside rows of a table in commits of 100.
    Append {
        /// Events of each run.
        #[arg(long, default_value_t = 200_000)]
        events: usize,
        /// Events of an entity before its writer goes on to a new one.
        #[arg(long, default_value_t = 12)]
        lifetime: usize,
    },
    /// Durable reservations a second of one SKU, beside an UPDATE in a commit each.
    HotSku {
        /// Reservations of each run.
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// As append, on PostgreSQL, beside plain inserts of 4 connections.
    PostgresAppend {
        /// Events of each run.
        #[arg(long, default_value_t = 400_000)]
        events: usize,
        /// Events of an entity before its writer goes on to a new one.
        #[arg(long, default_value_t = 12)]
        lifetime: usize,
        /// How many batches are written at the same time.
        #[arg(long, default_value_t = 4)]
        lanes: u16,
    },
    /// As hot-sku, on PostgreSQL, beside an UPDATE in a commit each on 32 connections.
    PostgresHotSku {
        /// Reservations of each run.
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// As postgres-hot-sku, through a node that has not the SKU, beside the one that has it.
    Remote {
        /// Reservations of each run.
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// What a checkout costs as history grows.
    History {
        /// Finished orders of each store.
        #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
        orders: Vec<u64>,
        /// Checkouts of each run, at most 400.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=400))]
        checkouts: u16,
        /// Leave the goods of all orders in the house: they stay in the state of their SKUs.
        #[arg(long)]
        unshipped: bool,
    },
    /// Seconds from start to ready after a kill.
    Ready {
        /// Finished orders in the store.
        #[arg(long, default_value_t = 1_000_000)]
        orders: u64,
        /// Leave the goods of all orders in the house.
        #[arg(long)]
        unshipped: bool,
    },
    /// Bytes in memory of carts and orders that are awake.
    Memory {
        /// Carts, and orders.
        #[arg(long, default_value_t = 100_000)]
        entities: u64,
    },
    /// Bytes on disk of an order, by what they are for.
    Size {
        /// Finished orders in the store.
        #[arg(long, default_value_t = 100_000)]
        orders: u64,
        /// Leave the goods of all orders in the house.
        #[arg(long)]
        unshipped: bool,
    },
    /// Leaves a store of finished orders in `history-ORDERS` of the folder, and verifies it.
    Fill {
        /// Finished orders.
        #[arg(long, default_value_t = 1_000_000)]
        orders: u64,
        /// Leave the goods of all orders in the house.
        #[arg(long)]
        unshipped: bool,
        /// Believe it unverified.
        #[arg(long)]
        unverified: bool,
    },
}

/// What every measurement is told.
struct Setting {
    runs: usize,
    json: bool,
    place: machine::Place,
}

impl Setting {
    fn dir(&self) -> &Path {
        self.place.path()
    }
}

fn main() -> Outcome {
    let Args { what, runs, json, dir, bench: _ } = Args::parse();
    let setting = Setting { runs: runs.max(1), json, place: machine::Place::new(dir)? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match what {
            What::Append { events, lifetime } => append::run(&setting, events, lifetime).await,
            What::HotSku { reservations } => hot_sku::run(&setting, reservations).await,
            What::PostgresAppend { events, lifetime, lanes } => {
                postgres::append(&setting, events, lifetime, lanes).await
            }
            What::PostgresHotSku { reservations } => {
                postgres::hot_sku(&setting, reservations).await
            }
            What::Remote { reservations } => remote::run(&setting, reservations).await,
            What::History { orders, checkouts, unshipped } => {
                history::run(&setting, &orders, checkouts.into(), !unshipped).await
            }
            What::Ready { orders, unshipped } => ready::run(&setting, orders, !unshipped).await,
            What::Memory { entities } => memory::run(&setting, entities).await,
            What::Size { orders, unshipped } => size::run(&setting, orders, !unshipped).await,
            What::Fill { orders, unshipped, unverified } => {
                generate::leave(setting.dir(), orders, !unshipped, !unverified).await
            }
        }
    })
}
