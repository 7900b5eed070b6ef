//! The schemas of errors: the codes with members of their own have schemas of their own, and each
//! error answer of an operation refers to those that it may have, so that `code` tells a client
//! which members there are.

use std::collections::BTreeMap;

use actix_web::http::Method;
use strum::VariantArray as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{OneOfBuilder, Schema};
use utoipa::openapi::{Components, Ref, RefOr};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::http::edge::error::VersionMismatch;
use crate::http::edge::input::string;
use crate::http::edge::problem::{Code, ErrorCode, FieldError};
use crate::http::edge::problem_body::{
    MEDIA_TYPE, Problem, invalid_request_schema, problem_name, problem_schema,
};
use crate::http::edge::route::{Route, Routes};

/// The codes of all operations that have members of their own.
const OF_ALL: [Code; 2] = [Code::InvalidRequest, Code::VersionMismatch];

/// The codes with members of their own, for each operation.
pub struct OwnMembers(BTreeMap<&'static str, Vec<Code>>);

/// Adds the schemas of errors. Those of the nouns' codes are already there.
pub fn add_schemas(components: &mut Components) {
    components.schemas.insert(FieldError::name().into_owned(), FieldError::schema());
    components.schemas.insert(ErrorCode::name().into_owned(), ErrorCode::schema());
    components.schemas.extend(problem_schema::<VersionMismatch>());
    components.schemas.extend([invalid_request_schema()]);
    let mut general = Problem::schema();
    if let RefOr::T(Schema::Object(problem)) = &mut general {
        let has_own = |code: &&Code| components.schemas.contains_key(&problem_name(**code));
        let others = Code::VARIANTS.iter().filter(|code| !has_own(code)).map(|code| code.as_str());
        let about = "The error code, for programs. Stable; /docs/errors/{code} explains each.";
        let code = string().description(Some(about)).enum_values(Some(others));
        problem.properties.insert("code".to_owned(), code.into());
    }
    components.schemas.insert(Problem::name().into_owned(), general);
}

impl OwnMembers {
    /// The codes that the lists of routes declare.
    #[must_use]
    pub fn of(routes: &Routes) -> Self {
        let declared = routes.lists().iter().flat_map(|list| list.problems);
        Self(declared.map(|(operation, codes)| (*operation, codes.to_vec())).collect())
    }

    /// Refers, in each error answer of an operation, to the schemas of the problems that it may
    /// have.
    pub fn refine(&self, operation: &mut Operation, route: &Route) {
        let declared = self.0.get(route.operation).map(Vec::as_slice).unwrap_or_default();
        let changes = route.method != Method::GET && route.path.starts_with("/v1/admin/");
        let state = changes.then_some(Code::WrongState);
        let codes = || OF_ALL.into_iter().chain(state).chain(declared.iter().copied());
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            let is_of = |code: &Code| code.status().as_str() == status;
            let own: Vec<Code> = codes().filter(is_of).collect();
            if let Some(RefOr::T(content)) = response.content.get_mut(MEDIA_TYPE) {
                let general = Code::VARIANTS.iter().filter(|code| is_of(code)).count() > own.len();
                content.schema = Some(union(&own, general));
            }
        }
    }
}

/// The schema of a problem with one of these codes, or with one without members of its own.
fn union(own: &[Code], general: bool) -> RefOr<Schema> {
    let mut names: Vec<String> = own.iter().map(|code| problem_name(*code)).collect();
    if general || names.is_empty() {
        names.push(Problem::name().into_owned());
    }
    match names.as_slice() {
        [one] => Ref::from_schema_name(one).into(),
        many => many
            .iter()
            .fold(OneOfBuilder::new(), |all, name| all.item(Ref::from_schema_name(name)))
            .into(),
    }
}
