//! The routes of gift cards, and the shapes of their requests and answers.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use kontor::actors::engine::host::View;
use kontor::domain::id::OrderId;
use kontor::domain::money::{AMOUNT_MAX, Money};
use kontor::http::api::amount::MoneyInput;
use kontor::http::api::shape::{self, Page};
use kontor::http::docs::schemas;
use kontor::http::edge::call::{RequestParts, created, id, versioned};
use kontor::http::edge::error::Error;
use kontor::http::edge::input::{Text, Whole};
use kontor::http::edge::json_body::Json;
use kontor::http::edge::query::{Query, cursor, cut};
use kontor::http::edge::read_your_writes;
use kontor::store::list_page;

use crate::recipe::gift_card::domain::gift_card::{CardNumber, Command, GiftCard, entity_id};
use crate::recipe::gift_card::store::gift_card::Row;

/// A request to issue a card.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGiftCard {
    /// Its number: lower-case letters, digits and `-`.
    #[garde(dive)]
    number: Text<1, 32>,
    /// Its initial balance.
    #[garde(dive)]
    amount: MoneyInput,
}

/// A request to spend some of a card.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSpend {
    /// The order that it pays for.
    #[garde(skip)]
    #[schema(value_type = schemas::OrderId)]
    order: OrderId,
    /// Minor units of the card's currency.
    #[garde(dive)]
    amount: Whole<1, { AMOUNT_MAX }>,
}

/// A gift card.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GiftCardShape {
    /// Its number.
    number: String,
    /// The balance that is left.
    balance: shape::Money,
    /// The number of orders that it was spent on.
    orders: i64,
    version: i64,
}

/// Lists gift cards.
#[utoipa::path(get, path = "/v1/admin/gift-cards", tag = "gift cards",
    params(("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of gift cards, by number", body = Page<GiftCardShape>)))]
pub async fn list_gift_cards(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let limit = query.limit();
    let after = query.after::<String>("gift_cards").map(|number| vec![number.into()]);
    let writes = query.faults.note(read_your_writes::named(&request));
    query.check()?;
    let seen = read_your_writes::wait(&call, writes).await?;
    let mut rows: Vec<Row> = list_page::page(call.store(), after.as_ref(), limit + 1).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("gift_cards", &row.number));
    let data = rows.iter().map(gift_card_of).collect();
    let page = Page::<GiftCardShape> { data, next_cursor: last.filter(|_| more) };
    Ok(seen.mark(HttpResponse::Ok().json(page)))
}

/// Issues a gift card.
#[utoipa::path(post, path = "/v1/admin/gift-cards", tag = "gift cards", request_body = NewGiftCard,
    responses((status = 201, description = "The card", body = GiftCardShape)))]
pub async fn issue_gift_card(
    call: RequestParts,
    body: Json<NewGiftCard>,
) -> Result<HttpResponse, Error> {
    let NewGiftCard { number, amount } = body.value;
    let number: CardNumber =
        number.parse().map_err(|error| Error::field("number", format!("{error}")))?;
    let currency = amount.currency.read();
    let currency = currency.map_err(|rule| Error::field("amount.currency", rule.message()))?;
    let command = Command::Issue { amount: amount.amount.get(), currency };
    let shape = ask(&call, &number, command, body.digest).await?;
    let place = format!("/v1/admin/gift-cards/{number}");
    let response = created(shape.version, &place, &shape);
    Ok(read_your_writes::wrote(response, entity_id(&number), shape.version))
}

/// Returns a gift card.
#[utoipa::path(get, path = "/v1/admin/gift-cards/{number}", tag = "gift cards",
    params(("number" = String, Path)),
    responses((status = 200, description = "The card", body = GiftCardShape)))]
pub async fn get_gift_card(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let number: CardNumber = id(&path, "gift card")?;
    let read = shape_of(&number);
    let shape = call.node().host::<GiftCard>().read(&entity_id(&number), read).await?;
    let shape = shape.ok_or_else(|| Error::not_found("gift card"))?;
    Ok(versioned(StatusCode::OK, shape.version, &shape))
}

/// Spends some of a gift card on an order.
#[utoipa::path(post, path = "/v1/admin/gift-cards/{number}/spends", tag = "gift cards",
    request_body = NewSpend, params(("number" = String, Path)),
    responses((status = 200, description = "The card", body = GiftCardShape)))]
pub async fn spend_gift_card(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<NewSpend>,
) -> Result<HttpResponse, Error> {
    let number: CardNumber = id(&path, "gift card")?;
    let NewSpend { order, amount } = body.value;
    let command = Command::Spend { order, amount: amount.get() };
    let shape = ask(&call, &number, command, body.digest).await?;
    let response = versioned(StatusCode::OK, shape.version, &shape);
    Ok(read_your_writes::wrote(response, entity_id(&number), shape.version))
}

async fn ask(
    call: &RequestParts,
    number: &CardNumber,
    command: Command,
    digest: u64,
) -> Result<GiftCardShape, Error> {
    let (cards, cause) = (call.node().host::<GiftCard>(), call.cause(digest));
    let entity = entity_id(number);
    let write = async |version| {
        let (command, cause, read) = (command.clone(), cause.clone(), shape_of(number));
        match cards.ask_at_version(&entity, version, command, cause, read).await? {
            Ok(None) | Err(0) => Err(Error::not_found("gift card")),
            Ok(Some(shape)) => Ok(Ok(shape)),
            Err(version) => Ok(Err(version)),
        }
    };
    call.if_match.write(write).await
}

/// The answer for a card's state; `None` if it was not issued.
fn shape_of(
    number: &CardNumber,
) -> impl FnOnce(View<'_, GiftCard>) -> Option<GiftCardShape> + Send + use<> {
    let number = number.to_string();
    move |view| {
        let money = Money { amount: view.state.balance(), currency: view.state.currency()? };
        let orders = i64::try_from(view.state.orders()).unwrap_or(i64::MAX);
        Some(GiftCardShape { number, balance: money.into(), orders, version: view.seq })
    }
}

/// A card as lists show it.
#[must_use]
pub fn gift_card_of(row: &Row) -> GiftCardShape {
    GiftCardShape {
        number: row.number.clone(),
        balance: shape::Money::new(row.balance, row.currency),
        orders: row.orders,
        version: row.version,
    }
}
