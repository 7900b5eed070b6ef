//! What a buyer without a key may do to the stock of all others: how many units the unpaid orders of
//! one client hold, and whether a flood of checkouts must pass the shop's challenge hook first.
//!
//! Both are decided before a cart is spent, so that nothing is held and the cart stays open. A unit
//! counts until its order is paid, declined or cancelled, or for as long as an order can be paid. The
//! units of a declined order keep nobody from buying: they yield to who pays. Who pays such an order
//! again is counted again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::held_units::{CountedOrders, HeldUnits};
use crate::actors::buyer_data::key_ids_of;
use crate::actors::engine::runtime::{GuestHolds, Runtime};
use crate::cache::{Cache, Limit};
use crate::domain::order::Placed;
use crate::providers::challenge::{
    self, BoughtUnits, Challenge, ChallengeDecision, ChallengeHook, FloodMarks, IfUnavailable,
    Suspicion,
};
use crate::store::personal::PersonalField;
use crate::store::{self, Tables};

/// The period in which a flood is counted.
const MINUTE: Duration = Duration::from_secs(60);

/// A buyer without a key, from a public IP address.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The IP address; of IPv6, the first address of the /64 network.
    pub address: IpAddr,
    /// What the buyer answers to a challenge.
    pub response: Option<String>,
}

impl Guest {
    /// The buyer's network: a /24 of IPv4, or a /56 of IPv6.
    fn network(&self) -> IpNet {
        let bits = if self.address.is_ipv4() { 24 } else { 56 };
        IpNet::new(self.address, bits).map_or_else(|_| self.address.into(), |net| net.trunc())
    }
}

/// What the units of guests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum HoldBound {
    Cart,
    Email,
    Address,
    Network,
}

/// A bound that a checkout would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldExcess {
    /// The bound.
    pub bound: HoldBound,
    /// Its units.
    pub most: u32,
    /// The units of the cart.
    pub requested: u32,
    /// When the cart could be ordered; `None` if it has more units than the bound.
    pub retry_in: Option<Duration>,
}

/// Why a guest may not check out now. Nothing is held.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum GuestRefusal {
    #[error("the buyer would hold too many units")]
    TooManyHeld(HoldExcess),
    #[error("the buyer must solve a challenge first")]
    Challenge(Box<Challenge>),
    #[error("the challenge hook refuses the checkout")]
    Denied,
    #[error("the challenge hook has not decided on the checkout")]
    Undecided,
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Counts of challenges since the start.
#[derive(Debug, Default)]
pub struct ChallengeTally {
    /// Suspicious checkouts that the hook has allowed.
    pub allowed: AtomicU64,
    /// Those for which it asked for a challenge.
    pub challenged: AtomicU64,
    /// Those that it refused.
    pub denied: AtomicU64,
    /// Those that it has not decided on.
    pub failed: AtomicU64,
    /// Whether the hook did not decide on the last one.
    hook_fails: AtomicBool,
}

/// Decides on the checkouts of guests.
pub struct Guests {
    pub(super) cache: Cache,
    pub(super) runtime: Runtime,
    pub(super) store: Arc<dyn Tables>,
    pub(super) hook: Option<Arc<ChallengeHook>>,
    /// How long an order can be paid.
    pub(super) lifetime: Duration,
    /// The orders whose units this node counts.
    pub counted: CountedOrders,
    /// What became of suspicious checkouts.
    pub tally: ChallengeTally,
}

impl Guests {
    /// Admits the checkout of a guest, and counts its units.
    pub(super) async fn admit(
        &self,
        guest: &Guest,
        placed: &Placed,
    ) -> Result<HeldUnits, GuestRefusal> {
        let settings = self.runtime.current();
        let units = placed.lines.iter().map(|line| line.quantity).sum::<i64>();
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let most = settings.holds.cart;
        if most > 0 && units > most {
            let bound = HoldBound::Cart;
            let excess = HoldExcess { bound, most, requested: units, retry_in: None };
            return Err(GuestRefusal::TooManyHeld(excess));
        }
        let email = self.email(placed).await?;
        self.challenge(guest, placed, email.as_deref(), settings.floods).await?;
        self.count(guest, email, (units, settings.holds)).await
    }

    /// Says once that the hook decides no longer, and once that it does again: strangers must not fill the
    /// log with checkouts.
    fn tell_of_hook(&self, error: Option<&challenge::Error>) {
        let has_failed = self.tally.hook_fails.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !has_failed => {
                let error: &dyn std::error::Error = error;
                tracing::warn!(error, "suspicious checkouts cannot be decided on");
            }
            None if has_failed => tracing::info!("suspicious checkouts are decided on again"),
            _ => {}
        }
    }

    /// The keyed hash of the email address of an order; `None` if it was erased.
    async fn email(&self, placed: &Placed) -> Result<Option<String>, GuestRefusal> {
        // All keys of the order, which its answer needs as well: they are read once.
        let mut ids = BTreeSet::new();
        key_ids_of(placed, &mut ids);
        let keys = self.store.personal_keys(&ids).await?;
        let email = keys.open::<String>(PersonalField::Email, &placed.email);
        Ok(email.map(|email| keys.lookups().email(&email)))
    }

    async fn count(
        &self,
        guest: &Guest,
        email: Option<String>,
        (units, holds): (u32, GuestHolds),
    ) -> Result<HeldUnits, GuestRefusal> {
        let bounds = [
            (HoldBound::Email, holds.email, email),
            (HoldBound::Address, holds.address, Some(guest.address.to_string())),
            (HoldBound::Network, holds.network, Some(guest.network().to_string())),
        ];
        let bounds: Vec<_> = bounds
            .into_iter()
            .filter_map(|(bound, most, whose)| Some((bound, most, whose.filter(|_| most > 0)?)))
            .collect();
        let key = |bound: HoldBound, whose: &str| format!("held:{}:{whose}", <&str>::from(bound));
        let counted: Arc<[(String, Limit)]> = bounds
            .iter()
            .map(|(bound, most, whose)| {
                (key(*bound, whose), Limit { count: *most, per: self.lifetime })
            })
            .collect();
        let mut taken = self.cache.take_all(&counted, units);
        // Orders may hold nothing any more, and nobody has heard of it here. Each bound is asked once.
        for _ in 0..counted.len() {
            let Err((nth, _)) = taken else { break };
            if let Some((key, _)) = counted.get(nth) {
                self.counted.ask(key).await;
            }
            taken = self.cache.take_all(&counted, units);
        }
        match taken {
            Ok(()) => {
                let (cache, since) = (self.cache.clone(), Instant::now());
                Ok(HeldUnits { cache, counted, units, since })
            }
            Err((nth, wait)) => {
                let (bound, most) =
                    bounds.get(nth).map_or((HoldBound::Cart, 0), |one| (one.0, one.1));
                let retry_in = (units <= most).then_some(wait);
                let excess = HoldExcess { bound, most, requested: units, retry_in };
                Err(GuestRefusal::TooManyHeld(excess))
            }
        }
    }

    /// Why a checkout is suspicious: there are too many of its kind. Each is counted.
    fn suspect(&self, guest: &Guest, placed: &Placed, floods: FloodMarks) -> Vec<String> {
        let mark = |count: u32| (count > 0).then_some(Limit { count, per: MINUTE });
        let mut reasons = Vec::new();
        if let Some(limit) = mark(floods.sku_checkouts) {
            for line in &placed.lines {
                let reason = format!("sku:{}", line.sku);
                if !reasons.contains(&reason) && self.cache.is_flood(&reason, limit) {
                    reasons.push(reason);
                }
            }
        }
        if let Some(limit) = mark(floods.network_checkouts)
            && self.cache.is_flood(&format!("network:{}", guest.network()), limit)
        {
            reasons.push("network".to_owned());
        }
        reasons
    }

    /// Asks the hook about a suspicious checkout.
    async fn challenge(
        &self,
        guest: &Guest,
        placed: &Placed,
        email: Option<&str>,
        floods: FloodMarks,
    ) -> Result<(), GuestRefusal> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let reasons = self.suspect(guest, placed, floods);
        if reasons.is_empty() {
            return Ok(());
        }
        let units = placed.lines.iter();
        let suspicion = Suspicion {
            address: guest.address.to_string(),
            network: guest.network().to_string(),
            email: email.map(str::to_owned),
            lines: units
                .map(|line| BoughtUnits { sku: line.sku.clone(), quantity: line.quantity })
                .collect(),
            reasons,
            response: guest.response.clone(),
        };
        let count = |outcome: &AtomicU64| outcome.fetch_add(1, Ordering::Relaxed);
        let decision = hook.decide(&suspicion).await;
        self.tell_of_hook(decision.as_ref().err());
        match decision {
            Ok(ChallengeDecision::Allow) => {
                count(&self.tally.allowed);
                Ok(())
            }
            Ok(ChallengeDecision::Challenge { challenge }) => {
                count(&self.tally.challenged);
                Err(GuestRefusal::Challenge(Box::new(challenge)))
            }
            Ok(ChallengeDecision::Deny) => {
                count(&self.tally.denied);
                Err(GuestRefusal::Denied)
            }
            Err(_) => {
                count(&self.tally.failed);
                match hook.if_unavailable {
                    IfUnavailable::Allow => Ok(()),
                    IfUnavailable::Deny => Err(GuestRefusal::Undecided),
                }
            }
        }
    }
}
