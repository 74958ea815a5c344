//! The description of the queries, completed with what all of them have in common.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref,
        Required, ResponseBuilder, Type,
        path::{Operation, ParameterBuilder, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    position::{POSITION, POSITION_PARAMETER},
    reader::Reads,
};
use service_kit::{Problem, problem::PROBLEM_JSON};

const BEARER: &str = "bearer";

/// The answers that any query may give besides its own.
const COMMON: [(&str, &str); 4] = [
    ("400", "The path, the cursor or the position is malformed"),
    ("401", "There is no valid bearer token"),
    ("422", "A parameter is not valid or not known"),
    (
        "503",
        "The read side is away, or the position is not visible yet",
    ),
];

/// The OpenAPI description of these queries, as the service gives it at `/openapi.json`.
pub fn openapi(queries: Vec<OpenApiRouter<Reads>>) -> OpenApi {
    merge(queries).into_openapi()
}

/// All routes as one, each declared with the bearer token, the position and the common problems.
///
/// # Panics
/// If two contexts have the same route.
pub(crate) fn merge(queries: Vec<OpenApiRouter<Reads>>) -> OpenApiRouter<Reads> {
    let info = InfoBuilder::new()
        .title("Annals queries")
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let empty = OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build());
    let mut all = queries.into_iter().fold(empty, OpenApiRouter::merge);
    complete(all.get_openapi_mut());
    all
}

fn complete(openapi: &mut OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            complete_operation(operation);
        }
    }
    let components = openapi.components.get_or_insert_with(Components::new);
    components
        .schemas
        .insert(Problem::name().into(), Problem::schema());
    components.add_security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("JWT")
                .build(),
        ),
    );
}

fn complete_operation(operation: &mut Operation) {
    operation
        .security
        .get_or_insert_with(|| vec![SecurityRequirement::new(BEARER, [""; 0])]);
    let header = POSITION;
    let places = [
        (header.as_str(), ParameterIn::Header),
        (POSITION_PARAMETER, ParameterIn::Query),
    ];
    for (name, place) in places {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .description(Some(
                "The token of a command's answer: wait until its events are visible",
            ))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build();
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(parameter.into());
    }
    for (status, description) in COMMON {
        let problem = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(Problem::name())))
            .build();
        operation
            .responses
            .responses
            .entry(status.into())
            .or_insert_with(|| {
                ResponseBuilder::new()
                    .description(description)
                    .content(PROBLEM_JSON, problem)
                    .build()
                    .into()
            });
    }
}
