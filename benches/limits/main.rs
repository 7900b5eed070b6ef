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

/// Compares kontor with the raw limits of the software under it
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Number of measurements of each side
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    /// The folder for data; by default a temporary one, which is deleted at the end
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Passed by cargo bench; ignored
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Durable events per second through the lane, compared with inserts of 100 rows per commit
    Append {
        /// Events of each run
        #[arg(long, default_value_t = 200_000)]
        events: usize,
        /// Events per entity before its writer starts a new entity
        #[arg(long, default_value_t = 12)]
        lifetime: usize,
    },
    /// Durable reservations per second of one SKU, compared with one UPDATE per commit
    HotSku {
        /// Reservations of each run
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// As append, on PostgreSQL, compared with plain inserts on 4 connections
    PostgresAppend {
        /// Events of each run
        #[arg(long, default_value_t = 400_000)]
        events: usize,
        /// Events per entity before its writer starts a new entity
        #[arg(long, default_value_t = 12)]
        lifetime: usize,
        /// Number of batches that are written at the same time
        #[arg(long, default_value_t = 4)]
        lanes: u16,
    },
    /// As hot-sku, on PostgreSQL, compared with one UPDATE per commit on 32 connections
    PostgresHotSku {
        /// Reservations of each run
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// As postgres-hot-sku, through a node that does not own the SKU, compared with the node that
    /// owns it
    Remote {
        /// Reservations of each run
        #[arg(long, default_value_t = 50_000)]
        reservations: usize,
    },
    /// The cost of a checkout as the history grows
    History {
        /// Finished orders of each store
        #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
        orders: Vec<u64>,
        /// Checkouts of each run, at most 400
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=400))]
        checkouts: u16,
        /// Leave the goods of all orders unshipped: their allocations stay in the state of their
        /// SKUs
        #[arg(long)]
        unshipped: bool,
    },
    /// Seconds from the start of the program until it is ready, after a kill
    Ready {
        /// Finished orders in the store
        #[arg(long, default_value_t = 1_000_000)]
        orders: u64,
        /// Leave the goods of all orders unshipped
        #[arg(long)]
        unshipped: bool,
    },
    /// Bytes of memory used by carts and orders
    Memory {
        /// Number of carts, and of orders
        #[arg(long, default_value_t = 100_000)]
        entities: u64,
    },
    /// Bytes on disk of an order, by event, table and index
    Size {
        /// Finished orders in the store
        #[arg(long, default_value_t = 100_000)]
        orders: u64,
        /// Leave the goods of all orders unshipped
        #[arg(long)]
        unshipped: bool,
    },
    /// Create a store of finished orders in `history-ORDERS` of the folder, and verify it
    Fill {
        /// Finished orders
        #[arg(long, default_value_t = 1_000_000)]
        orders: u64,
        /// Leave the goods of all orders unshipped
        #[arg(long)]
        unshipped: bool,
        /// Do not verify the store
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
