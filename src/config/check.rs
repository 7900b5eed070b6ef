//! What each setting may be: all that is wrong with a configuration is told at once, by the
//! setting's path.
//!
//! Whether a value is of the right type was seen when it was read; what lies outside (a port that
//! is taken, a folder that cannot be written) is seen when it is used.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use super::{Config, mask};
use crate::actors::engine::runtime::{PRODUCTS_CACHED_MAX_SECS, RATE_MAX, SWEEP_MAX_SECS};
use crate::bus::masked;
use crate::cache::check_url;
use crate::domain::money::{AMOUNT_MAX, TaxRate};
use crate::domain::pricing::DeliveryOption;

/// A year, in seconds.
const YEAR_SECS: i64 = 365 * 24 * 3600;
/// The most locations that goods are taken from.
const LOCATIONS_MAX: usize = 100;
/// The most ways of delivery.
const DELIVERY_MAX: usize = 100;

/// A setting that cannot be what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its path, for example `shop.hold_secs`.
    pub path: String,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub wanted: String,
    /// Where it came from, if that is known.
    pub source: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found, wanted, source } = self;
        write!(f, "{path} is {found}")?;
        if let Some(source) = source {
            write!(f, " (from {source})")?;
        }
        write!(f, ": it must {wanted}")
    }
}

/// All that is wrong with a configuration.
#[must_use]
pub fn faults(config: &Config) -> Vec<Fault> {
    let mut found = Faults(Vec::new());
    found.unless(config.data.dir.as_os_str().is_empty(), "data.dir", "\"\"", "name a folder");
    http(config, &mut found);
    shop(config, &mut found);
    delivery(&config.pricing.delivery, &mut found);
    payments(config, &mut found);
    entities(config, &mut found);
    store(config, &mut found);
    cache(config, &mut found);
    bus(config, &mut found);
    cluster(config, &mut found);
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.filter) {
        let filter = format!("{:?}", config.log.filter);
        found.add("log.filter", filter, format!("be a filter such as info: {error}"));
    }
    found.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, found: impl fmt::Display, wanted: impl Into<String>) {
        let (path, found, wanted) = (path.to_owned(), found.to_string(), wanted.into());
        self.0.push(Fault { path, found, wanted, source: None });
    }

    fn unless(&mut self, wrong: bool, path: &str, found: impl fmt::Display, wanted: &str) {
        if wrong {
            self.add(path, found, wanted);
        }
    }

    fn range<N>(&mut self, path: &str, value: N, range: RangeInclusive<N>)
    where
        N: PartialOrd + fmt::Display,
    {
        if !range.contains(&value) {
            self.add(path, value, format!("be from {} to {}", range.start(), range.end()));
        }
    }
}

fn cluster(config: &Config, found: &mut Faults) {
    let cluster = &config.cluster;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let wrong = cluster.node.len() > 64 || !cluster.node.bytes().all(letter);
    let wanted = "be at most 64 letters, digits, - and _, another for each node";
    found.unless(wrong, "cluster.node", &cluster.node, wanted);
    for (path, url) in
        [("cluster.url", &cluster.url), ("payments.webhook_url", &config.payments.webhook_url)]
    {
        let web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        found.unless(!url.is_empty() && !web, path, url, "begin with http:// or https://");
    }
    found.range("cluster.lease_ms", cluster.lease_ms, 1_000..=120_000);
    let wanted = "be at least 100, and at most a third of cluster.lease_ms";
    let wrong = cluster.renew_ms < 100 || cluster.renew_ms.saturating_mul(3) > cluster.lease_ms;
    found.unless(wrong, "cluster.renew_ms", cluster.renew_ms, wanted);
    found.range("cluster.settle_ms", cluster.settle_ms, 0..=600_000);
    found.range("cluster.hand_over_max", cluster.hand_over_max, 1..=1_024);
    found.range("cluster.leave_ms", cluster.leave_ms, 0..=60_000);
}

fn http(config: &Config, found: &mut Faults) {
    let http = &config.http;
    found.range("http.workers", http.workers, 0..=1_024);
    found.range("http.connections_max", http.connections_max, 1..=1_000_000);
    found.range("http.backlog", http.backlog, 1..=65_535);
    found.range("http.keep_alive_secs", http.keep_alive_secs, 0..=86_400);
    found.range("http.head_timeout_secs", http.head_timeout_secs, 1..=3_600);
    found.range("http.body_timeout_secs", http.body_timeout_secs, 1..=3_600);
    found.range("http.answer_timeout_secs", http.answer_timeout_secs, 1..=3_600);
    found.range("http.overload.target_ms", http.overload.target_ms, 1..=10_000);
    let most = http.overload.under_way_max;
    found.range("http.overload.under_way_max", most, 1..=1_000_000);
    found.range("http.body_bytes_max", http.body_bytes_max, 1_024..=1 << 30);
    found.range("http.shutdown_timeout_secs", http.shutdown_timeout_secs, 0..=9);
    found.range(
        "http.products_cached_secs",
        http.products_cached_secs,
        0..=PRODUCTS_CACHED_MAX_SECS,
    );
    let many = http.trusted_proxies.len();
    let path = "http.trusted_proxies";
    found.unless(many > 100, path, format!("a list of {many}"), "name at most 100 networks");
    for (class, count) in [
        ("browse", http.rates.browse),
        ("cart", http.rates.cart),
        ("checkout", http.rates.checkout),
        ("operate", http.rates.operate),
    ] {
        found.range(&format!("http.rates.{class}"), count, 0..=RATE_MAX);
    }
    live(config, found);
}

fn live(config: &Config, found: &mut Faults) {
    let live = &config.http.live;
    let path = "http.live.origins";
    found.unless(live.origins.len() > 100, path, live.origins.len(), "name at most 100 origins");
    for origin in &live.origins {
        let good = reqwest::Url::parse(origin)
            .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin);
        let wanted = "be scheme, host and port, such as https://admin.example.com";
        found.unless(!good, path, format!("{origin:?}"), wanted);
    }
    found.range("http.live.sockets_max", live.sockets_max, 0..=1_000_000);
    found.range("http.live.subscriptions_max", live.subscriptions_max, 1..=1_000);
    found.range("http.live.message_bytes_max", live.message_bytes_max, 1_024..=1 << 20);
    found.range("http.live.messages_per_sec", live.messages_per_sec, 1..=10_000);
    found.range("http.live.frame_bytes_max", live.frame_bytes_max, 256 << 10..=16 << 20);
    found.range("http.live.pause_ms", live.pause_ms, 10..=10_000);
    found.range("http.live.ring_changes", live.ring_changes, 1..=10_000_000);
    found.range("http.live.behind_max", live.behind_max, 1..=10_000_000);
    found.range("http.live.resume_events_max", live.resume_events_max, 0..=1_000_000);
    found.range("http.live.resume_entities_max", live.resume_entities_max, 0..=100_000);
    found.range("http.live.bytes_per_sec", live.bytes_per_sec, 64 << 10..=1 << 33);
    found.range("http.live.ping_secs", live.ping_secs, 1..=3_600);
    found.range("http.live.silence_secs", live.silence_secs, 2..=3_600);
    let path = "http.live.ping_secs";
    let wanted = "be less than http.live.silence_secs, or silent sockets are closed unasked";
    found.unless(live.ping_secs >= live.silence_secs, path, live.ping_secs, wanted);
    found.range("http.live.streams_max", live.streams_max, 0..=1_000_000);
    found.range("http.live.stream_secs", live.stream_secs, 1..=86_400);
}

fn shop(config: &Config, found: &mut Faults) {
    let shop = &config.shop;
    let count = shop.locations.len();
    let names: BTreeSet<&str> = shop.locations.iter().map(|one| one.as_str()).collect();
    let named =
        || format!("{:?}", shop.locations.iter().map(|one| one.as_str()).collect::<Vec<_>>());
    let path = "shop.locations";
    found.unless(count == 0, path, "empty", "name at least one location");
    found.unless(names.len() < count, path, named(), "name each location once");
    let many = format!("have at most {LOCATIONS_MAX} locations");
    found.unless(count > LOCATIONS_MAX, path, format!("a list of {count}"), &many);
    found.range("shop.hold_secs", shop.hold_secs, 1..=YEAR_SECS);
    found.range("shop.payment_deadline_secs", shop.payment_deadline_secs, 1..=YEAR_SECS);
    found.range("shop.timer_poll_ms", shop.timer_poll_ms, 1..=60_000);
    found.range("shop.projection_pause_ms", shop.projection_pause_ms, 0..=60_000);
    found.range("shop.product_believed_ms", shop.product_believed_ms, 0..=600_000);
}

fn delivery(options: &[DeliveryOption], found: &mut Faults) {
    let path = "pricing.delivery";
    let count = options.len();
    found.unless(count == 0, path, "empty", "have a way of delivery, or no cart can be ordered");
    let many = format!("have at most {DELIVERY_MAX} ways of delivery");
    found.unless(count > DELIVERY_MAX, path, format!("a list of {count}"), &many);
    let mut ids = BTreeSet::new();
    for (index, option) in options.iter().enumerate().take(DELIVERY_MAX) {
        let path = |field: &str| format!("pricing.delivery[{index}].{field}");
        let id = format!("{:?}", option.id);
        let short = |text: &str, max: usize| {
            !text.trim().is_empty()
                && text.chars().count() <= max
                && !text.contains(char::is_control)
        };
        found.unless(!short(&option.id, 64), &path("id"), &id, "have 1 to 64 characters");
        found.unless(!ids.insert(&option.id), &path("id"), &id, "be another than those before it");
        let name = format!("{:?}", option.name);
        found.unless(!short(&option.name, 200), &path("name"), name, "have 1 to 200 characters");
        for (currency, price) in &option.prices {
            let path = format!("{}.{}", path("prices"), currency.code());
            found.range(&path, *price, 0..=AMOUNT_MAX);
        }
        let (free, priced) = (option.free, !option.prices.is_empty());
        let wanted = "name a price, or `free` be true: it is offered in no currency";
        found.unless(!free && !priced, &path("prices"), "empty", wanted);
        let wanted = "be empty where `free` is true";
        found.unless(free && priced, &path("prices"), "set", wanted);
        let rate = option.tax_rate.millionths();
        let wanted = format!("be from 0 to {} millionths (100 %)", TaxRate::ONE);
        found.unless(rate > TaxRate::ONE, &path("tax_rate"), rate, &wanted);
    }
}

fn payments(config: &Config, found: &mut Faults) {
    let payments = &config.payments;
    found.range("payments.retry_after_ms", payments.retry_after_ms, 1..=60_000);
    found.range("payments.ask_after", payments.ask_after, 1..=1_000);
    found.range("payments.stuck_after", payments.stuck_after, 1..=100_000);
    found.range("payments.sweep_secs", payments.sweep_secs, 0..=SWEEP_MAX_SECS);
    let (sandbox, url) = (&config.sandbox, &config.sandbox.url);
    let web = reqwest::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let wanted = "be empty, or an address such as http://127.0.0.1:8081";
    found.unless(!url.is_empty() && !web, "sandbox.url", format!("{url:?}"), wanted);
    found.range("sandbox.timeout_ms", sandbox.timeout_ms, 1..=600_000);
    let breaker = &sandbox.breaker;
    found.range("sandbox.breaker.calls", breaker.calls, 1..=10_000);
    let rate = breaker.failure_rate;
    let good = rate > 0.0 && rate <= 1.0;
    found.unless(!good, "sandbox.breaker.failure_rate", rate, "be above 0 and at most 1");
    found.range("sandbox.breaker.probes", breaker.probes, 1..=10_000);
    found.range("sandbox.breaker.wait_ms", breaker.wait_ms, 1..=3_600_000);
}

fn entities(config: &Config, found: &mut Faults) {
    let entities = &config.entities;
    found.range("entities.commands_max", entities.commands_max, 1..=10_000_000);
    found.range("entities.entity_commands_max", entities.entity_commands_max, 1..=10_000_000);
    found.range("entities.undurable_max", entities.undurable_max, 1..=1_000_000);
    found.range("entities.idle_secs", entities.idle_secs, 1..=86_400);
    found.range("entities.command_timeout_ms", entities.command_timeout_ms, 1..=600_000);
    found.range("entities.snapshot_every", entities.snapshot_every, 1..=1_000_000);
    found.range("entities.effect_pause_ms", entities.effect_pause_ms, 1..=3_600_000);
    found.range("entities.failures_max", entities.failures_max, 1..=1_000);
}

fn bus(config: &Config, found: &mut Faults) {
    let bus = &config.bus;
    if let Err(error) = bus.urls() {
        let wanted = format!("be empty, or an address such as nats://127.0.0.1:4222: {error}");
        found.add("bus.url", format!("{:?}", masked(&bus.url)), wanted);
    }
    found.range("bus.start_wait_ms", bus.start_wait_ms, 0..=60_000);
    found.range("bus.calls_max", bus.calls_max, 1..=1_000_000);
    found.range("bus.events_age_hours", bus.events_age_hours, 1..=24 * 365);
    found.range("bus.events_bytes_max", bus.events_bytes_max, 1 << 20..=1 << 44);
    found.range("bus.events_replicas", bus.events_replicas, 1..=5);
    found.range("bus.events_behind_max", bus.events_behind_max, 0..=1_000_000_000);
}

fn store(config: &Config, found: &mut Faults) {
    let (store, lane) = (&config.store, &config.store.lane);
    let wanted = "be empty, or an address such as postgres://user:password@host:5432/database";
    for (path, url) in [("store.url", &store.url), ("store.replica_url", &store.replica_url)] {
        found.unless(!url.is_empty() && !url.is_postgres(), path, format!("{url:?}"), wanted);
    }
    let alone = store.url.is_empty() && !store.replica_url.is_empty();
    let replica = format!("{:?}", store.replica_url);
    found.unless(alone, "store.replica_url", replica, "be empty, as store.url is");
    found.range("store.replica_lag_max_ms", store.replica_lag_max_ms, 0..=3_600_000);
    found.range("store.shards", store.shards, 1..=1_024);
    found.range("store.lanes", store.lanes, 0..=64);
    found.range("store.read_connections", store.read_connections, 1..=64);
    found.range("store.write_connections", store.write_connections, 1..=64);
    found.range("store.lane.queue_appends", lane.queue_appends, 1..=10_000_000);
    found.range("store.lane.queue_bytes", lane.queue_bytes, 1_024..=1 << 36);
    found.range("store.lane.batch_appends", lane.batch_appends, 1..=100_000);
    found.range("store.lane.batch_bytes", lane.batch_bytes, 1_024..=1 << 30);
}

fn cache(config: &Config, found: &mut Faults) {
    let cache = &config.cache;
    let good = cache.url.is_empty() || check_url(&cache.url).is_ok();
    let wanted = "be empty, or an address such as redis://127.0.0.1:6379";
    found.unless(!good, "cache.url", format!("{:?}", mask::password(&cache.url)), wanted);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = (1..=64).contains(&cache.prefix.len()) && cache.prefix.bytes().all(letter);
    let wanted = "have 1 to 64 letters, digits, dots, dashes and underscores";
    found.unless(!good, "cache.prefix", format!("{:?}", cache.prefix), wanted);
    found.range("cache.timeout_ms", cache.timeout_ms, 1..=10_000);
    found.range("cache.retry_ms", cache.retry_ms, 10..=60_000);
    found.range("cache.poll_ms", cache.poll_ms, 10..=1_000);
    found.range("cache.bytes_max", cache.bytes_max, 0..=1 << 36);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(faults(&Config::default()), []);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut config = Config::default();
        config.shop.hold_secs = 0;
        config.shop.payment_deadline_secs = -1;
        config.shop.timer_poll_ms = 0;
        config.shop.locations = [].into();
        config.http.body_bytes_max = 0;
        config.http.connections_max = 0;
        config.http.live.ping_secs = 60;
        config.sandbox.url = "psp".into();
        config.sandbox.breaker.failure_rate = f32::NAN;
        config.entities.commands_max = 0;
        config.store.read_connections = 0;
        config.store.lane.batch_appends = 0;
        config.cache.url = "redis:6379".into();
        config.cache.prefix = "a b".into();
        config.cache.poll_ms = 0;
        config.bus.url = "http://u:secret@a".into();
        config.bus.calls_max = 0;
        config.log.filter = "a=b=c".into();
        let mut option = config.pricing.delivery[1].clone();
        option.prices.values_mut().for_each(|price| *price = -1);
        option.tax_rate = serde_json::from_str("1000001").unwrap();
        config.pricing.delivery.push(option);
        let found = faults(&config);
        let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
        let expected = [
            "http.connections_max",
            "http.body_bytes_max",
            "http.live.ping_secs",
            "shop.locations",
            "shop.hold_secs",
            "shop.payment_deadline_secs",
            "shop.timer_poll_ms",
            "pricing.delivery[2].id",
            "pricing.delivery[2].prices.EUR",
            "pricing.delivery[2].prices.GBP",
            "pricing.delivery[2].prices.USD",
            "pricing.delivery[2].tax_rate",
            "sandbox.url",
            "sandbox.breaker.failure_rate",
            "entities.commands_max",
            "store.read_connections",
            "store.lane.batch_appends",
            "cache.url",
            "cache.prefix",
            "cache.poll_ms",
            "bus.url",
            "bus.calls_max",
            "log.filter",
        ];
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        let mut wanted = expected;
        wanted.sort_unstable();
        assert_eq!(sorted, wanted);
        assert!(found.iter().all(|fault| !fault.to_string().contains("secret")));
        let hold = found.iter().find(|fault| fault.path == "shop.hold_secs").unwrap();
        assert_eq!(hold.to_string(), "shop.hold_secs is 0: it must be from 1 to 31536000");
    }
}
