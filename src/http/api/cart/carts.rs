//! Handlers that create, read and change carts. Prices and totals are computed in `actors`; the
//! checkout is in `checkout`.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use crate::actors::buyer_data::{BuyerData, NewBuyerData};
use crate::actors::engine::host::{self, View};
use crate::domain::cart::{self, Cart, Command, LINES_MAX};
use crate::domain::entity::Cause;
use crate::domain::id::{CartId, Sku};
use crate::domain::money::Currency;
use crate::http::api::amount::PriceInput;
use crate::http::api::cart::keyed_id::{cart_ids, check_cart_key};
use crate::http::api::cart::rejection::too_many_units;
use crate::http::api::cart::schema;
use crate::http::api::cart::shape::{
    CartLine, CartPatch, CartShape, CartStatus, CreatedCartShape, DeliveryOptionShape,
    DeliveryOptions, LinePatch, NewCart, NewLine, NewLines,
};
use crate::http::api::product::availability;
use crate::http::api::shape::{Delivery, Money, Price, Totals};
use crate::http::api::token::cart_token;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, created, id, versioned};
use crate::http::edge::checked;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::if_none_match::{ChangesBetweenVersions, public};
use crate::http::edge::json_body::{Draft, Json};
use crate::http::edge::principal::{Principal, Scope};
use crate::http::edge::problem::Code;

/// Creates a cart.
#[utoipa::path(post, path = "/v1/store/carts", tag = "carts", request_body = NewCart,
    responses((status = 201, description = "The cart, with its token", body = CreatedCartShape)))]
pub async fn create_cart(call: RequestParts, body: Draft<NewCart>) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: new, mut faults, .. } = body;
    if let Some(key) = call.idempotency_key() {
        faults.note(check_cart_key(key, call.principal().id()));
    }
    let currency = match &new.currency {
        Some(code) => code.read().ok(),
        None => Some(call.node().settings.currency),
    };
    let lines = checked_lines(&call, new.lines.into_vec(), currency, false, &mut faults).await?;
    let buyer = NewBuyerData {
        email: new.email.map(|email| Some(email.into())),
        reference: new.reference.map(|reference| Some(reference.into())),
        shipping_address: new.shipping_address.map(|address| Some(address.into())),
        billing_address: new.billing_address.map(|address| Some(address.into())),
        delivery_option: new.delivery_option.map(|option| Some(option.into())),
    };
    check_delivery(&call, &buyer, currency, &mut faults);
    faults.check()?;
    let currency = currency.unwrap_or(call.node().settings.currency);
    let create = async |cart: CartId| -> Result<Command, Error> {
        let entity = cart::entity_id(cart);
        let (details, key) =
            buyer.clone().sealed(call.store(), &entity, call.node().clock.for_key()).await?;
        let lines_max = lines_max(&call);
        Ok(Command::Create { currency, details, lines: lines.clone(), lines_max, key })
    };
    let read = |view: View<'_, Cart>| (view.state.clone(), view.seq);
    let Some(key) = call.idempotency_key() else {
        let cart = CartId(call.node().clock.new_key());
        let command = create(cart).await?;
        let made = call.node().carts.create(&cart::entity_id(cart), command, cause, read).await?;
        return answer_new(&call, cart, made, buyer).await;
    };
    let ids = cart_ids(call.secret(), call.principal().id(), key, call.now());
    let cart = match call.store().newest_cart(&ids).await? {
        Some(there) => there,
        None => ids[0],
    };
    let (carts, old) = (&call.node().carts, cart != ids[0]);
    let command = create(cart).await?;
    let made = carts.ask(&cart::entity_id(cart), command, cause.clone(), read).await;
    let (cart, made) = match made {
        // The key was forgotten after a day: this is another cart.
        Err(host::Error::Rejected(cart::Rejection::Exists)) if old => {
            let command = create(ids[0]).await?;
            (ids[0], carts.ask(&cart::entity_id(ids[0]), command, cause, read).await?)
        }
        made => (cart, made?),
    };
    made.0.open(call.now())?;
    answer_new(&call, cart, made, buyer).await
}

/// Returns a cart.
#[utoipa::path(get, path = "/v1/store/carts/{id}", tag = "carts",
    params(("id" = inline(schemas::CartId), Path)),
    responses((status = 200, description = "The cart", body = CartShape)))]
pub async fn get_cart(call: RequestParts, path: web::Path<String>) -> Result<HttpResponse, Error> {
    let cart: CartId = id(&path, "cart")?;
    let found = open_cart(&call, cart).await?;
    answer(&call, StatusCode::OK, cart, found, None).await
}

/// Changes the details of a cart: email, reference, addresses, delivery option.
#[utoipa::path(patch, path = "/v1/store/carts/{id}", tag = "carts", request_body = CartPatch,
    params(("id" = inline(schemas::CartId), Path)),
    responses((status = 200, description = "The cart", body = CartShape)))]
pub async fn update_cart(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<CartPatch>,
) -> Result<HttpResponse, Error> {
    let cart: CartId = id(&path, "cart")?;
    let cause = call.cause(body.digest);
    let Draft { value: patch, mut faults, .. } = body;
    let buyer = NewBuyerData {
        email: patch.email.map(|email| email.map(Into::into)),
        reference: patch.reference.map(|reference| reference.map(Into::into)),
        shipping_address: patch.shipping_address.map(|address| address.map(Into::into)),
        billing_address: patch.billing_address.map(|address| address.map(Into::into)),
        delivery_option: patch.delivery_option.map(|option| option.map(Into::into)),
    };
    let currency = match &buyer.delivery_option {
        Some(Some(_)) => open_cart(&call, cart).await?.0.currency(),
        _ => None,
    };
    check_delivery(&call, &buyer, currency, &mut faults);
    faults.check()?;
    let entity = cart::entity_id(cart);
    let (details, key) = buyer.sealed(call.store(), &entity, call.node().clock.for_key()).await?;
    change(&call, cart, Command::Update { details, key }, cause, Error::from).await
}

/// Adds lines to a cart.
#[utoipa::path(post, path = "/v1/store/carts/{id}/lines", tag = "carts", request_body = schema::NewLines,
    params(("id" = inline(schemas::CartId), Path)),
    responses((status = 200, description = "The cart", body = CartShape)))]
pub async fn add_lines(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<NewLines>,
) -> Result<HttpResponse, Error> {
    let cart: CartId = id(&path, "cart")?;
    let cause = call.cause(body.digest);
    let (found, _) = open_cart(&call, cart).await?;
    let currency = found.currency().ok_or_else(|| Error::from(cart::Rejection::NotFound))?;
    let Draft { value: new, mut faults, .. } = body;
    let (lines, single) = new.list();
    let lines = checked_lines(&call, lines, Some(currency), single, &mut faults).await?;
    faults.check()?;
    let command = Command::AddLines { lines, lines_max: lines_max(&call) };
    change(&call, cart, command, cause, |rejection| match rejection {
        cart::Rejection::TooManyUnits { full } if single => {
            too_many_units(&full, |_| "quantity".to_owned())
        }
        many @ cart::Rejection::TooManyLines { .. } if single => {
            Error::field("sku", many.to_string())
        }
        other => other.into(),
    })
    .await
}

/// Sets the quantity of a cart line.
#[utoipa::path(patch, path = "/v1/store/carts/{id}/lines/{line}", tag = "carts",
    request_body = LinePatch,
    params(("id" = inline(schemas::CartId), Path), ("line" = inline(checked::LineId), Path)),
    responses((status = 200, description = "The cart", body = CartShape)))]
pub async fn set_quantity(
    call: RequestParts,
    path: web::Path<(String, String)>,
    body: Json<LinePatch>,
) -> Result<HttpResponse, Error> {
    let (cart, line) = (id(&path.0, "cart")?, id(&path.1, "line")?);
    let cause = call.cause(body.digest);
    let quantity = body.value.quantity.get();
    let agrees_prices = call.principal().may(Scope::OrdersWrite);
    let command = Command::SetQuantity { line, quantity, agrees_prices };
    change(&call, cart, command, cause, Error::from).await
}

/// Removes a line from a cart.
#[utoipa::path(delete, path = "/v1/store/carts/{id}/lines/{line}", tag = "carts",
    params(("id" = inline(schemas::CartId), Path), ("line" = inline(checked::LineId), Path)),
    responses((status = 200, description = "The cart", body = CartShape)))]
pub async fn remove_line(
    call: RequestParts,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Error> {
    let (cart, line) = (id(&path.0, "cart")?, id(&path.1, "line")?);
    let cause = call.cause(0);
    change(&call, cart, Command::RemoveLine { line }, cause, Error::from).await
}

/// Lists the delivery options.
#[utoipa::path(get, path = "/v1/store/delivery-options", tag = "carts",
    responses((status = 200, description = "The delivery options", body = DeliveryOptions)))]
pub async fn list_delivery_options(call: RequestParts) -> Result<HttpResponse, Error> {
    let options = call.node().pricing.rules.delivery.iter().map(|option| DeliveryOptionShape {
        id: option.id.clone(),
        name: option.name.clone(),
        prices: option.prices.iter().map(|(code, price)| Money::new(*price, *code)).collect(),
        free: option.free,
    });
    let shape = DeliveryOptions { data: options.collect() };
    Ok(public(serde_json::to_vec(&shape).map_err(Error::internal)?, Duration::ZERO))
}

async fn open_cart(call: &RequestParts, cart: CartId) -> Result<(Cart, i64), Error> {
    let read = |view: View<'_, Cart>| (view.state.clone(), view.seq);
    let found = call.node().carts.read(&cart::entity_id(cart), read).await?;
    found.0.open(call.now())?;
    Ok(found)
}

async fn change(
    call: &RequestParts,
    cart: CartId,
    command: Command,
    cause: Cause,
    refused: impl Fn(cart::Rejection) -> Error,
) -> Result<HttpResponse, Error> {
    let (carts, entity) = (&call.node().carts, cart::entity_id(cart));
    let read = |view: View<'_, Cart>| (view.state.clone(), view.seq);
    let write = async |version| match carts
        .ask_at_version(&entity, version, command.clone(), cause.clone(), read)
        .await
    {
        Ok(Err(0)) => Err(cart::Rejection::NotFound.into()),
        Ok(asked) => Ok(asked),
        Err(host::Error::Rejected(rejection)) => Err(refused(rejection)),
        Err(error) => Err(error.into()),
    };
    let changed = call.if_match.write(write).await?;
    changed.0.open(call.now())?;
    answer(call, StatusCode::OK, cart, changed, None).await
}

/// The most lines that the caller may put into a cart.
fn lines_max(call: &RequestParts) -> usize {
    match call.principal() {
        Principal::Anyone => call.node().settings.guest_cart_lines,
        Principal::Key(_) | Principal::Session(_) => LINES_MAX,
    }
}

/// Checks that the SKU of each line can be sold in the currency, and that the caller may set agreed
/// prices, and adds all faults to `faults`. An unknown currency is a fault already.
async fn checked_lines(
    call: &RequestParts,
    lines: Vec<NewLine>,
    currency: Option<Currency>,
    single: bool,
    faults: &mut RequestFaults,
) -> Result<Vec<cart::NewLine>, Error> {
    let may_price = call.principal().must(Scope::OrdersWrite);
    let mut checked = Vec::with_capacity(lines.len());
    let mut seen = BTreeSet::new();
    for (index, line) in lines.into_iter().enumerate().take(LINES_MAX) {
        let field = |name: &str| {
            if single { name.to_owned() } else { format!("lines[{index}].{name}") }
        };
        let price = line.unit_price.as_ref().and_then(PriceInput::read);
        if let (Some((code, _)), Some(currency)) = (price, currency)
            && code != currency
        {
            let message = format!("must be in the cart's currency, {}", currency.code());
            faults.add(Code::CurrencyMismatch, field("unit_price.currency"), message);
        }
        if let (Some(_), Err(refused)) = (&line.unit_price, &may_price) {
            let message = format!("needs the scope orders:write: {}", refused.detail());
            faults.add(refused.code(), field("unit_price"), message);
        }
        // A text that is no SKU is a fault already.
        let Ok(sku) = line.sku.read() else { continue };
        let agreed = line.unit_price.is_some();
        if seen.insert((sku.clone(), agreed))
            && let Some((code, message)) = unsellable(call, &sku, currency, agreed).await?
        {
            faults.add(code, field("sku"), message);
        }
        let agreed_price = price.map(|(_, price)| price);
        let until = call.now() + call.node().settings.agreed_price_lifetime();
        let agreed_until = agreed_price.map(|_| until);
        let quantity = line.quantity.get();
        checked.push(cart::NewLine { sku, quantity, agreed_price, agreed_until });
    }
    Ok(checked)
}

/// The reason why a SKU cannot be put into a cart; `None` if it can. With an `agreed` price, the
/// product only has to exist.
async fn unsellable(
    call: &RequestParts,
    sku: &Sku,
    currency: Option<Currency>,
    agreed: bool,
) -> Result<Option<(Code, String)>, Error> {
    let row = call.node().catalog.get(sku).await?;
    Ok(match (row, currency) {
        (None, _) => Some((Code::UnknownSku, format!("must be a product: {sku} is none"))),
        (Some(_), _) if agreed => None,
        (Some(row), _) if !row.value.active => {
            Some((Code::ProductInactive, format!("must be an active product: {sku} is not")))
        }
        (Some(row), Some(currency)) if !row.value.prices.contains_key(&currency) => {
            let message = format!("must have a price in {}: {sku} has none", currency.code());
            Some((Code::CurrencyMismatch, message))
        }
        (Some(_), _) => None,
    })
}

fn check_delivery(
    call: &RequestParts,
    details: &NewBuyerData,
    currency: Option<Currency>,
    faults: &mut RequestFaults,
) {
    let Some(Some(wanted)) = &details.delivery_option else { return };
    let option = call.node().pricing.rules.delivery_option(wanted);
    let what = match (option, currency) {
        (None, _) => "is not a delivery option".to_owned(),
        (Some(option), Some(currency)) if option.price(currency).is_none() => {
            format!("has no price in {}", currency.code())
        }
        (Some(_), _) => return,
    };
    let message = format!("{what}; GET /v1/store/delivery-options lists them");
    faults.add(Code::UnknownDeliveryOption, "delivery_option", message);
}

/// The answer with a cart that was created with these data, unless it was changed since.
async fn answer_new(
    call: &RequestParts,
    cart: CartId,
    made: (Cart, i64),
    buyer: NewBuyerData,
) -> Result<HttpResponse, Error> {
    let known = (made.1 == 1).then(|| buyer.of_new_cart());
    answer(call, StatusCode::CREATED, cart, made, known).await
}

/// The answer with a cart. Its buyer's data are opened if they are not known.
///
/// # Errors
/// 404, or the store's.
pub(super) async fn answer(
    call: &RequestParts,
    status: StatusCode,
    id: CartId,
    (cart, version): (Cart, i64),
    known: Option<BuyerData>,
) -> Result<HttpResponse, Error> {
    let missing = || Error::from(host::Error::Rejected(cart::Rejection::NotFound));
    let currency = cart.currency().ok_or_else(missing)?;
    let priced = call.node().pricing.price(&cart, call.now()).await?;
    let skus: Vec<Sku> = cart.lines().iter().map(|line| line.sku.clone()).collect();
    let stock = availability::read(call, &skus).await?;
    let lines = cart.lines().iter().zip(&priced.lines).map(|(chosen, priced)| {
        let line = &priced.line;
        let until = chosen.agreed_until.filter(|_| priced.agreed);
        CartLine {
            id: line.id.to_string(),
            sku: line.sku.to_string(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: Price::new(line.unit_price, currency),
            unit_price_until: until.map(|until| until.to_string()),
            tax_rate: line.tax_rate.to_string(),
            total: Money::new(line.total, currency),
            tax: Money::new(line.tax, currency),
            available: priced.available,
            availability: priced.product.as_ref().filter(|_| priced.available).and_then(|row| {
                let asked = (&row.value, line.quantity);
                availability::shown(&call.node().settings, &stock, asked, call.now())
            }),
        }
    });
    let requirements = priced.requirements.iter();
    let buyer = match known {
        Some(known) => known,
        None => BuyerData::of_cart(call.store(), &cart).await?,
    };
    let cart = CartShape {
        id: id.to_string(),
        status: if cart.spent_on().is_some() { CartStatus::Spent } else { CartStatus::Open },
        version,
        currency: currency.code(),
        email: buyer.email,
        reference: buyer.reference,
        lines: lines.collect(),
        shipping_address: buyer.shipping_address.as_ref().map(Into::into),
        billing_address: buyer.billing_address.as_ref().map(Into::into),
        delivery: priced.delivery.as_ref().map(|delivery| Delivery::new(delivery, currency)),
        totals: Totals::new(&priced.totals, currency),
        requirements: requirements.map(Into::into).collect(),
        created_at: cart.created_at().to_string(),
        updated_at: cart.updated_at().to_string(),
        expires_at: cart.expires_at().to_string(),
    };
    if status == StatusCode::CREATED {
        let token = cart_token(call.secret(), id, call.now());
        let shape = CreatedCartShape { cart, token };
        return Ok(created(version, &format!("/v1/store/carts/{id}"), &shape));
    }
    let mut response = versioned(status, version, &cart);
    response.extensions_mut().insert(ChangesBetweenVersions);
    Ok(response)
}
