//! Handlers of the settings that can change at run time: list, show and change them, and list their
//! changes. `actors::engine::runtime` defines the settings and their ranges.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::actors::engine::runtime::{self, Author, RuntimeValue, SettingKind, Shown};
use crate::bus::Notice;
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, versioned};
use crate::http::edge::error::{Error, version_mismatch};
use crate::http::edge::input::Prose;
use crate::http::edge::json_body::Draft;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::operator::schema;
use crate::store::runtime_setting::Row;

/// The value of a setting: a boolean or a whole number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SettingValue {
    /// A switch: on or off.
    Switch(bool),
    /// A whole number.
    Number(u64),
}

impl From<RuntimeValue> for SettingValue {
    fn from(value: RuntimeValue) -> Self {
        match value {
            RuntimeValue::Switch(on) => Self::Switch(on),
            RuntimeValue::Number(number) => Self::Number(number),
        }
    }
}

/// A setting that can change at run time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Setting {
    #[schema(value_type = schema::SettingName)]
    name: String,
    /// The effect of the setting.
    description: String,
    #[schema(value_type = schema::SettingKind)]
    kind: &'static str,
    /// The minimum of a number.
    minimum: Option<u64>,
    /// The maximum of a number.
    maximum: Option<u64>,
    default: SettingValue,
    value: SettingValue,
    /// The number of changes.
    version: i64,
    changed_at: Option<String>,
    /// The principal that made the last change: `key:…` or `session:…`.
    #[schema(value_type = Option<schemas::PrincipalName>)]
    changed_by: Option<String>,
    /// The name of the principal's key or sign-in link.
    changed_by_name: Option<String>,
    /// The reason for the last change.
    reason: Option<String>,
}

impl From<Shown> for Setting {
    fn from(shown: Shown) -> Self {
        let Shown { definition, value, version, last } = shown;
        let (minimum, maximum) = match definition.kind {
            SettingKind::Switch => (None, None),
            SettingKind::Number { min, max } => (Some(min), Some(max)),
        };
        Self {
            name: definition.name,
            description: definition.about,
            kind: definition.kind.into(),
            minimum,
            maximum,
            default: definition.default.into(),
            value: value.into(),
            version,
            changed_at: last.as_ref().map(|row| row.at.to_string()),
            changed_by: last.as_ref().map(|row| row.author().0.to_owned()),
            changed_by_name: last.as_ref().and_then(|row| row.author().1).map(str::to_owned),
            reason: last.map(|row| row.reason),
        }
    }
}

/// All settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsShape {
    data: Vec<Setting>,
}

/// A change of a setting.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettingChange {
    /// The version after the change.
    version: i64,
    before: Option<SettingValue>,
    /// The new value; `null` if the setting was set back to its default.
    after: Option<SettingValue>,
    /// The principal that made the change: `key:…` or `session:…`.
    #[schema(value_type = schemas::PrincipalName)]
    changed_by: String,
    /// The name of the principal's key or sign-in link.
    changed_by_name: Option<String>,
    reason: String,
    request_id: String,
    changed_at: String,
}

impl From<Row> for SettingChange {
    fn from(row: Row) -> Self {
        Self {
            changed_by: row.author().0.to_owned(),
            changed_by_name: row.author().1.map(str::to_owned),
            version: row.version,
            before: serde_json::from_str(&row.before).ok(),
            after: row.value.and_then(|value| serde_json::from_str(&value).ok()),
            reason: row.reason,
            request_id: row.request_id,
            changed_at: row.at.to_string(),
        }
    }
}

/// A new value for a setting, with a reason.
#[derive(Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingInput {
    /// The new value; `null` for the default. Must be present, so that an omission never resets a
    /// setting.
    #[garde(skip)]
    #[schema(required = true, value_type = Option<SettingValue>)]
    value: Value,
    #[garde(dive)]
    reason: Prose<1, 500>,
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        match error {
            runtime::Error::Unknown => Self::not_found("setting"),
            runtime::Error::Invalid(why) => Self::field("value", why),
            runtime::Error::VersionMismatch { version } => version_mismatch(version),
            runtime::Error::TryAgain => Self::new(Code::TryAgain, error.to_string()),
            runtime::Error::Store(error) => error.into(),
        }
    }
}

/// Lists the settings that can change at run time.
#[utoipa::path(get, path = "/v1/admin/settings", tag = "ops",
    responses((status = 200, description = "All settings, by name", body = SettingsShape)))]
pub async fn list_settings(call: RequestParts) -> Result<HttpResponse, Error> {
    let runtime = &call.node().runtime;
    runtime.refresh(call.store()).await?;
    let data = runtime.all().into_iter().map(Setting::from).collect();
    Ok(HttpResponse::Ok().json(SettingsShape { data }))
}

/// Returns a setting.
#[utoipa::path(get, path = "/v1/admin/settings/{name}", tag = "ops",
    params(("name" = inline(schema::SettingName), Path)),
    responses((status = 200, description = "The setting", body = Setting)))]
pub async fn get_setting(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let runtime = &call.node().runtime;
    runtime.refresh(call.store()).await?;
    let shown = runtime.setting(&path).ok_or_else(|| Error::not_found("setting"))?;
    Ok(versioned(StatusCode::OK, shown.version, &Setting::from(shown)))
}

/// Lists the changes of a setting, newest first.
#[utoipa::path(get, path = "/v1/admin/settings/{name}/history", tag = "ops",
    params(("name" = inline(schema::SettingName), Path),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of changes, newest first", body = Page<SettingChange>)))]
pub async fn list_setting_changes(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, before) = (query.limit(), query.after::<i64>("settings"));
    query.check()?;
    call.node().runtime.setting(&path).ok_or_else(|| Error::not_found("setting"))?;
    let mut rows = call.store().runtime_setting_history(&path, before, limit + 1).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("settings", &row.version.to_string()));
    let data = rows.into_iter().map(SettingChange::from).collect();
    let page = Page::<SettingChange> { data, next_cursor: last.filter(|_| more) };
    Ok(HttpResponse::Ok().json(page))
}

/// Changes a setting; it takes effect on all nodes within a second.
#[utoipa::path(put, path = "/v1/admin/settings/{name}", tag = "ops", request_body = SettingInput,
    params(("name" = inline(schema::SettingName), Path)),
    responses((status = 200, description = "The setting", body = Setting)))]
pub async fn put_setting(
    call: RequestParts,
    path: web::Path<String>,
    body: Draft<SettingInput>,
) -> Result<HttpResponse, Error> {
    let cause = call.cause(body.digest);
    let Draft { value: input, faults, .. } = body;
    let runtime = &call.node().runtime;
    let known = runtime.setting(&path).ok_or_else(|| Error::not_found("setting"))?;
    let value = faults.check_with("value", known.definition.read(&input.value))?;
    let author = Author {
        by: cause.by,
        name: cause.name,
        reason: input.reason.into(),
        request_id: cause.request.unwrap_or_default(),
        at: call.now(),
    };
    let write =
        async |version| match runtime.change(call.store(), &path, value, version, &author).await {
            Err(runtime::Error::VersionMismatch { version }) => Ok(Err(version)),
            changed => Ok(Ok(changed?)),
        };
    let shown = call.if_match.write(write).await?;
    if let Some(cluster) = &call.node().cluster {
        cluster.notices().tell(Notice::Settings);
    }
    Ok(versioned(StatusCode::OK, shown.version, &Setting::from(shown)))
}
