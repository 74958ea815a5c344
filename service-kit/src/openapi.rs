//! OpenAPI descriptions, completed with what every route of a service has in common.
//!
//! A context's author writes what is particular to a route; that it wants a token, and that
//! every refusal is a [`Problem`], is added here.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref,
        RefOr, Required, Response, ResponseBuilder, Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::problem::{PROBLEM_JSON, Problem};

const BEARER: &str = "bearer";

/// What the routes of a service have in common.
pub struct Common<'a> {
    /// Refusals that any route may give: status and description.
    pub refusals: &'a [(&'a str, &'a str)],
    /// Parameters that any route takes.
    pub parameters: Vec<Parameter>,
}

/// An empty description of a service.
pub fn empty(title: &str) -> OpenApi {
    let info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// An optional text parameter.
pub fn text_parameter(name: &str, place: ParameterIn, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// Declares for every route the bearer token, the common parameters and refusals, and that
/// refusals without a body of their own are problems.
pub fn complete(openapi: &mut OpenApi, common: &Common<'_>) {
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation, common);
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

fn complete_operation(operation: &mut Operation, common: &Common<'_>) {
    operation
        .security
        .get_or_insert_with(|| vec![SecurityRequirement::new(BEARER, [""; 0])]);
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(common.parameters.iter().cloned().map(Into::into));
    let responses = &mut operation.responses.responses;
    for (status, description) in common.refusals {
        responses
            .entry((*status).into())
            .or_insert_with(|| ResponseBuilder::new().description(*description).into());
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            add_problem(response);
        }
    }
}

fn add_problem(response: &mut Response) {
    if response.content.is_empty() {
        let problem = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(Problem::name())))
            .build();
        response.content.insert(PROBLEM_JSON.into(), problem.into());
    }
}
