//! Histories of finished orders, made fast and true: every event is what the domain decides and
//! folds in, in the order in which a shop would have it, and is written by the journal itself in
//! large commits. Rows and snapshots are those that a server would have left behind.
//!
//! One order every 30 seconds, so that a store of a million holds a year; the last is two days
//! old. An order has two lines of one unit, is paid, captured and shipped: 16 events.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kontor::actors::buyer_data::key_ids;
use kontor::actors::engine::clock::Clock;
use kontor::actors::order_rows::order_row;
use kontor::actors::order_search::{PlacedHashes, search_row};
use kontor::actors::read_models;
use kontor::actors::stock_rows::stock_rows;
use kontor::domain::cart::{self, Cart};
use kontor::domain::counter::{self, Counter};
use kontor::domain::entity::{Cause, EntityId, Event as _, Idempotency, Noun};
use kontor::domain::id::{CartId, Key, OrderId, Sku};
use kontor::domain::money::{Currency, TaxRate, UnitPrice};
use kontor::domain::order::{self, CapturePolicy, Order, PaymentMethod, Placed, ProviderReport};
use kontor::domain::pricing::{Delivery, QuotedLine, Rules, Totals};
use kontor::domain::product::{self, Product};
use kontor::domain::stock::{self, Location, Stock};
use kontor::domain::time::{Span, Timestamp};
use kontor::store::journal::{Append, NewEvent, StateSnapshot};
use kontor::store::list_row;
use kontor::store::order_search::SearchRow;
use kontor::store::personal::key_row;
use kontor::store::projection::{Cursor, ProjectionBatch};
use kontor::store::{self, Store};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::machine::Numbers;
use crate::{Error, Outcome, shop};

/// SKUs that the orders are spread over.
pub const SKUS: u64 = 1_000;
/// Events of one commit.
const COMMIT: usize = 20_000;
/// The time between two orders.
const PACE: Span = Span::from_secs(30);
/// Events after which a host keeps a snapshot, unless the state weighs more.
const SNAPSHOT_EVERY: i64 = 500;
const HOLD: Span = Span::from_secs(15 * 60);
const DEADLINE: Span = Span::from_secs(30 * 60);

/// What was made.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// Finished orders
    pub orders: u64,
    /// Events of all sorts.
    pub events: i64,
    /// How long it took.
    pub secs: f64,
}

/// A SKU by its number.
pub fn sku(number: u64) -> Outcome<Sku> {
    Ok(format!("SKU-{number:05}").parse()?)
}

/// An entity as its host would have it.
#[derive(Default)]
struct Life<N> {
    state: N,
    seq: i64,
    at: Timestamp,
    snapshot: Option<StateSnapshot>,
    snapshot_seq: i64,
}

/// What goes to the writer at once. Stock and snapshots come with the last of all.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    events: usize,
    orders: Vec<store::order::Row>,
    texts: Vec<SearchRow>,
    stock: Vec<store::stock::Row>,
    snapshots: Vec<StateSnapshot>,
}

/// Fills an empty folder; with `shipped`, the goods of every order have gone out.
pub async fn fill(dir: &Path, orders: u64, shipped: bool) -> Outcome<Filled> {
    std::fs::create_dir_all(dir)?;
    let begin = Instant::now();
    let store = Store::open(dir, &store::Options::default()).await?;
    let journal = store.journal();
    let clock = Clock::system();
    let fences = journal.claim(&[0], "bench", Span::from_secs(3_600)).await?;
    let pace = Span::from_millis(PACE.millis().saturating_mul(i64::try_from(orders)?));
    let first = clock.now() - Span::from_secs(2 * 24 * 3600) - pace;
    let (to, mut from) = mpsc::channel(2);
    let sealing = store.clone();
    let generating = tokio::task::spawn_blocking(move || -> Outcome {
        let mut generator = Generator::new((to, sealing), shipped, first)?;
        for number in 0..orders {
            let at = first + Span::from_millis(PACE.millis() * i64::try_from(number)?);
            generator.order(number, at)?;
        }
        generator.finish()
    });
    let mut events: i64 = 0;
    while let Some(Batch { appends, orders, texts, stock, snapshots, .. }) = from.recv().await {
        let records = journal.append(&fences, &appends).await?;
        let after = events;
        events = records.last().map_or(events, |record| record.pos);
        let mut rows = list_row::Batch::default();
        orders.into_iter().for_each(|row| rows.put(row));
        texts.into_iter().for_each(|row| rows.put(row));
        stock.into_iter().for_each(|row| rows.put(row));
        let cursors = [Cursor { shard: 0, after, pos: events }];
        let batch = |projection| ProjectionBatch {
            projection,
            cursors: &cursors,
            ..ProjectionBatch::default()
        };
        let mut batches: Vec<ProjectionBatch<'_>> = read_models::all().names().map(batch).collect();
        if let Some(first) = batches.first_mut() {
            first.rows = Some(&rows);
        }
        store.commit_projections(&batches).await?;
        for snapshot in snapshots {
            journal.put_snapshot(snapshot).await?;
        }
    }
    generating.await??;
    store.close().await;
    Ok(Filled { orders, events, secs: begin.elapsed().as_secs_f64() })
}

/// Fills `history-ORDERS` of a folder and, if asked to, verifies what stands there then.
pub async fn leave(dir: &Path, orders: u64, shipped: bool, verified: bool) -> Outcome {
    let dir = dir.join(format!("history-{orders}"));
    let filled = fill(&dir, orders, shipped).await?;
    println!("{} orders, {} events in {:.1} s", filled.orders, filled.events, filled.secs);
    if verified {
        let begin = Instant::now();
        let store = Store::open_beside(&dir).await?;
        let report = kontor::verify::verify(&store, None, |_| {}).await?;
        store.close().await;
        println!("{report}\nverified in {:.1} s", begin.elapsed().as_secs_f64());
        if !report.ok {
            return Err("the history is not true".into());
        }
    }
    Ok(())
}

struct Generator {
    rules: Rules,
    numbers: Numbers,
    stock: Vec<(Sku, EntityId, Life<Stock>)>,
    priority: Arc<[Location]>,
    counter: Life<Counter>,
    arrived: Vec<OrderId>,
    batch: Batch,
    to: mpsc::Sender<Batch>,
    shipped: bool,
    now: Timestamp,
    store: Store,
    runtime: Handle,
}

impl Generator {
    /// With products and full shelves.
    fn new(
        (to, store): (mpsc::Sender<Batch>, Store),
        shipped: bool,
        first: Timestamp,
    ) -> Outcome<Self> {
        let main: Location = "main".parse()?;
        let mut all = Self {
            rules: Rules::default(),
            numbers: Numbers(1),
            stock: Vec::new(),
            priority: [main.clone()].into(),
            counter: Life::default(),
            arrived: Vec::new(),
            batch: Batch::default(),
            to,
            shipped,
            now: first,
            store,
            runtime: Handle::current(),
        };
        for number in 0..SKUS {
            let sku = sku(number)?;
            all.product(&sku, i64::try_from(number)?)?;
            all.stock.push((sku.clone(), stock::entity_id(&sku), Life::default()));
            let receive = stock::Command::Receive {
                location: main.clone(),
                quantity: 100_000_000,
                from_incoming: false,
                reason: None,
            };
            all.stock(usize::try_from(number)?, &receive, &by("admin"))?;
        }
        Ok(all)
    }

    fn product(&mut self, sku: &Sku, number: i64) -> Outcome {
        let product = Product {
            sku: sku.clone(),
            name: format!("A product called {sku}"),
            description: "Enough words to tell it from another one.".into(),
            category: Some(format!("category-{}", number % 20)),
            prices: [(Currency::GBP, UnitPrice::from_minor(100 + number)?)].into(),
            tax_rate: TaxRate::parse("0.2").unwrap_or_default(),
            active: true,
            restock_at: None,
        };
        let event = product::Event::Created(product.clone());
        let data = serde_json::to_string(&event)?.into();
        let (kind, version) = (event.kind(), event.version());
        self.batch.events += 1;
        self.batch.appends.push(Append {
            entity: product::entity_id(sku),
            after_seq: 0,
            events: vec![NewEvent { kind, version, data }],
            at: self.now,
            cause: serde_json::to_string(&by("admin"))?.into(),
            timer: None,
            rows: vec![
                store::product::Row { value: product, version: 1, updated_at: self.now }.change(),
            ],
        });
        Ok(())
    }

    /// What the stock of a SKU makes of a command.
    fn stock(&mut self, number: usize, command: &stock::Command, cause: &Cause) -> Outcome {
        let (_, entity, life) = &mut self.stock[number];
        life.act(&mut self.batch, entity, command, cause, self.now)
    }

    /// A whole order, from its cart to its parcel.
    fn order(&mut self, number: u64, at: Timestamp) -> Outcome {
        self.now = at;
        let key = self.key(at);
        let (order, id) = (OrderId(key), order::entity_id(OrderId(key)));
        let first = self.numbers.next() % SKUS;
        let second = (first + 1 + self.numbers.next() % (SKUS - 1)) % SKUS;
        let places = [usize::try_from(first)?, usize::try_from(second)?];
        let skus = places.map(|place| self.stock[place].0.clone());

        let mut cart: Life<Cart> = Life::default();
        let cart_id = cart::entity_id(CartId(key));
        let sealed = shop::buyer(number % 100_000).sealed(
            &self.store,
            &cart_id,
            Clock::by_hand(at).for_key(),
        );
        let (details, sealing) = self.runtime.block_on(sealed)?;
        let create = cart::Command::Create {
            currency: Currency::GBP,
            details,
            lines: shop::lines(&skus),
            lines_max: cart::LINES_MAX,
            key: sealing,
        };
        cart.act(&mut self.batch, &cart_id, &create, &by("buyer"), at)?;

        self.now = at + Span::from_millis(200);
        let spend = cart::Command::Spend { order };
        cart.act(&mut self.batch, &cart_id, &spend, &by("buyer"), self.now)?;
        let mut life: Life<Order> = Life::default();
        let token = self.runtime.block_on(self.store.seal_payment_token("tok_ok", self.now))?;
        let place = order::Command::Place {
            placed: Arc::new(self.freeze(order, &cart.state)?),
            method: Some(PaymentMethod { provider: "sandbox".into(), token }),
        };
        let idempotency = Some(Idempotency { key: format!("key-{order}"), digest: number });
        let buyer = Cause { idempotency, ..by("buyer") };
        life.act(&mut self.batch, &id, &place, &buyer, self.now)?;

        let saga = by("saga");
        for place in places {
            let reserve = stock::Command::Reserve(stock::Reserve {
                order,
                generation: 1,
                quantity: 1,
                hold_until: self.now + HOLD,
                priority: Arc::clone(&self.priority),
                closed: [].into(),
            });
            self.stock(place, &reserve, &saga)?;
        }
        let total = life.state.total();
        self.tell(&id, &mut life, &order::Command::Reserved { generation: 1 })?;
        let payment = format!("pay_{key}");
        let report = ProviderReport::Authorized { payment, amount: total };
        self.tell(&id, &mut life, &order::Command::Report { attempt: 1, report })?;
        for place in places {
            self.stock(place, &stock::Command::Commit { order }, &saga)?;
        }
        let drawn = self.draw(order)?;
        self.tell(&id, &mut life, &order::Command::Confirm { number: drawn })?;
        let operation = format!("op_{key}");
        self.tell(
            &id,
            &mut life,
            &order::Command::Captured { capture: Some(1), amount: total, operation },
        )?;
        if self.shipped {
            self.ship((order, &id), &mut life, places)?;
        }
        if !life.state.effects().is_empty() || life.state.timer().is_some() {
            return Err(format!("{order} is not finished").into());
        }
        let mut ids = BTreeSet::new();
        key_ids(&life.state, &mut ids);
        let keys = Some(self.runtime.block_on(self.store.personal_keys(&ids))?);
        let hashes = PlacedHashes::of(&id, &life.state, keys.as_ref());
        self.batch.orders.push(order_row(&id, &life.state, life.seq, &hashes));
        let row = search_row(&id, &life.state, life.seq, (keys.as_ref(), &hashes));
        self.batch.texts.push(row);
        if self.batch.events >= COMMIT { self.hand_over() } else { Ok(()) }
    }

    fn tell(&mut self, id: &EntityId, life: &mut Life<Order>, command: &order::Command) -> Outcome {
        life.act(&mut self.batch, id, command, &by("saga"), self.now)
    }

    fn draw(&mut self, order: OrderId) -> Outcome<i64> {
        let draw = counter::Draw { order, arrived: std::mem::take(&mut self.arrived) };
        let id = counter::order_numbers();
        self.counter.act(&mut self.batch, &id, &draw, &by("saga"), self.now)?;
        self.arrived.push(order);
        Ok(self.counter.state.last())
    }

    fn ship(
        &mut self,
        (order, id): (OrderId, &EntityId),
        life: &mut Life<Order>,
        places: [usize; 2],
    ) -> Outcome {
        self.now = self.now + Span::from_secs(10);
        let fulfill = order::Command::Fulfill(order::FulfillmentRequest::default());
        life.act(&mut self.batch, id, &fulfill, &by("key_admin"), self.now)?;
        for place in places {
            let ship = stock::Command::Ship { order, id: "f1".into(), quantity: 1 };
            self.stock(place, &ship, &by("saga"))?;
        }
        self.tell(id, life, &order::Command::Shipped { fulfillment: 1 })
    }

    /// What a checkout freezes of a cart.
    fn freeze(&self, order: OrderId, cart: &Cart) -> Outcome<Placed> {
        let mut lines = Vec::new();
        for line in cart.lines() {
            let number: i64 = line.sku.as_str().trim_start_matches("SKU-").parse()?;
            let price = UnitPrice::from_minor(100 + number)?;
            let rate = TaxRate::parse("0.2").unwrap_or_default();
            let named = (line.sku.clone(), format!("A product called {}", line.sku));
            lines.push(QuotedLine::new(line.id, named, line.quantity, (price, rate), &self.rules)?);
        }
        let option = self.rules.delivery_option("standard").ok_or("no delivery")?;
        let delivery = Delivery::of(option, Currency::GBP, &self.rules).ok_or("no delivery")?;
        let totals = Totals::of(&lines, Some(&delivery), self.rules.tax_included)?;
        Ok(Placed {
            order,
            currency: Currency::GBP,
            email: cart.email().ok_or("no email")?.clone(),
            reference: None,
            lines,
            shipping_address: cart.shipping_address().ok_or("no address")?.clone(),
            billing_address: None,
            delivery,
            totals,
            rounding: self.rules.rounding,
            capture: CapturePolicy::AtOnce,
            deadline_at: self.now + DEADLINE,
            hold: HOLD,
        })
    }

    /// A key as it would have been drawn then.
    fn key(&mut self, at: Timestamp) -> Key {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.numbers.next().to_le_bytes());
        let millis = u64::try_from(at.millis()).unwrap_or(0);
        Key::new(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    fn hand_over(&mut self) -> Outcome {
        let batch = std::mem::take(&mut self.batch);
        self.to.blocking_send(batch).map_err(|_| Error::from("the writer has ended"))
    }

    fn finish(mut self) -> Outcome {
        for (_, id, life) in &mut self.stock {
            self.batch.stock.extend(stock_rows(id, &life.state, life.seq, life.at));
            self.batch.snapshots.extend(life.snapshot.take());
        }
        self.batch.snapshots.extend(self.counter.snapshot.take());
        self.hand_over()
    }
}

fn by(who: &str) -> Cause {
    Cause { by: who.into(), ..Cause::default() }
}

/// A snapshot as a host writes it; no idempotency key is remembered by what has one here.
#[derive(serde::Serialize)]
struct Kept<'a, N> {
    state: &'a N,
    keys: HashMap<String, u64>,
}

impl<N: Noun> Life<N> {
    /// Decides a command, folds in what it leads to, and puts that into the batch.
    fn act(
        &mut self,
        batch: &mut Batch,
        entity: &EntityId,
        command: &N::Command,
        cause: &Cause,
        now: Timestamp,
    ) -> Outcome {
        let decided = self.state.decide(command, now).map_err(|error| error.to_string())?;
        if decided.is_empty() {
            return Err(format!("{} led to nothing", N::command_name(command)).into());
        }
        let after_seq = self.seq;
        let mut events = Vec::with_capacity(decided.len());
        for event in &decided {
            let data = serde_json::to_string(event)?.into();
            events.push(NewEvent { kind: event.kind(), version: event.version(), data });
            self.state.evolve(event, now);
            self.seq += 1;
        }
        self.at = now;
        let weight = i64::try_from(self.state.weight())?;
        if self.seq - self.snapshot_seq >= SNAPSHOT_EVERY.max(weight) {
            let kept = Kept { state: &self.state, keys: HashMap::new() };
            let data = serde_json::to_string(&kept)?;
            let (entity, seq) = (entity.clone(), self.seq);
            self.snapshot_seq = seq;
            self.snapshot =
                Some(StateSnapshot { entity, seq, state_version: N::STATE_VERSION, data });
        }
        let cause = Cause { command: N::command_name(command).into(), ..cause.clone() };
        batch.events += events.len();
        batch.appends.push(Append {
            entity: entity.clone(),
            after_seq,
            events,
            at: now,
            cause: serde_json::to_string(&cause)?.into(),
            timer: None,
            rows: N::new_key(command).map(key_row).into_iter().collect(),
        });
        Ok(())
    }
}
