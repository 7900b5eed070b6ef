use actix_web as _;
use reqwest as _;
use sqlx as _;
use utoipa as _;
use utoipa_swagger_ui as _;
fn main() {}
