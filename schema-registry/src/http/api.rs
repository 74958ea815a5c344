//! One declaration for each route: what it is, who may use it, which handler answers, and what
//! OpenAPI says of it.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, on};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, OpenApi, PathItem, RefOr, Required, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::media;
use crate::access::{Role, authorize};
use crate::registry::Registry;

/// Routes, each with its description.
pub(super) struct Api {
    router: Router<Registry>,
    openapi: OpenApi,
}

/// What is said of a route.
pub(super) struct Route {
    method: HttpMethod,
    path: &'static str,
    role: Role,
    operation: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Route {
    fn new(method: HttpMethod, path: &'static str, role: Role, summary: &str) -> Self {
        let in_path = path.split('/').filter_map(|part| {
            let name = part.strip_prefix('{')?.strip_suffix('}')?;
            Some(parameter(name, ParameterIn::Path))
        });
        Self {
            method,
            path,
            role,
            operation: OperationBuilder::new()
                .summary(Some(summary))
                .parameters(Some(in_path))
                .tag(path.split('/').nth(1).unwrap_or_default()),
            schemas: Vec::new(),
        }
    }

    pub fn get(path: &'static str, summary: &str) -> Self {
        Self::new(HttpMethod::Get, path, Role::Read, summary)
    }

    /// Asks something that takes a body.
    pub fn ask(path: &'static str, summary: &str) -> Self {
        Self::new(HttpMethod::Post, path, Role::Read, summary)
    }

    pub fn post(path: &'static str, summary: &str) -> Self {
        Self::new(HttpMethod::Post, path, Role::Write, summary)
    }

    pub fn put(path: &'static str, summary: &str) -> Self {
        Self::new(HttpMethod::Put, path, Role::Write, summary)
    }

    pub fn delete(path: &'static str, summary: &str) -> Self {
        Self::new(HttpMethod::Delete, path, Role::Write, summary)
    }

    /// Parameters of the query, by their names.
    pub fn query(mut self, names: &[&str]) -> Self {
        for name in names {
            self.operation = self
                .operation
                .parameter(parameter(name, ParameterIn::Query));
        }
        self
    }

    pub fn takes<T: ToSchema + PartialSchema>(mut self) -> Self {
        T::schemas(&mut self.schemas);
        let content = ContentBuilder::new().schema(Some(T::schema())).build();
        let body = RequestBodyBuilder::new()
            .content(media::TYPES[0], content)
            .required(Some(Required::True));
        self.operation = self.operation.request_body(Some(body.build()));
        self
    }

    pub fn answers<T: ToSchema + PartialSchema>(mut self) -> Self {
        T::schemas(&mut self.schemas);
        let content = ContentBuilder::new().schema(Some(T::schema())).build();
        let response = ResponseBuilder::new()
            .description("As asked")
            .content(media::TYPES[0], content);
        self.operation = self.operation.response("200", response.build());
        self
    }
}

impl Api {
    pub fn new() -> Self {
        Self {
            router: Router::new(),
            openapi: service_kit::openapi::empty("Annals schema registry"),
        }
    }

    /// Serves the route with this handler.
    pub fn route<H, T>(mut self, route: Route, handler: H) -> Self
    where
        H: Handler<T, Registry>,
        T: 'static,
    {
        let Route {
            method,
            path,
            role,
            operation,
            schemas,
        } = route;
        let filter = match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Put => MethodFilter::PUT,
            HttpMethod::Delete => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let guarded =
            on(filter, handler).layer(from_fn(move |request, next| authorize(role, request, next)));
        self.router = self.router.route(path, guarded);
        let item = PathItem::new(method, operation_of(operation, role));
        match self.openapi.paths.paths.get_mut(path) {
            Some(there) => there.merge_operations(item),
            None => {
                self.openapi.paths.paths.insert(path.to_owned(), item);
            }
        }
        let components = self.openapi.components.get_or_insert_default();
        components.schemas.extend(schemas);
        self
    }

    pub fn finish(mut self) -> (Router<Registry>, OpenApi) {
        let components = self.openapi.components.get_or_insert_default();
        for (name, scheme) in [
            ("basic", HttpAuthScheme::Basic),
            ("bearer", HttpAuthScheme::Bearer),
        ] {
            let scheme = HttpBuilder::new().scheme(scheme).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        (self.router, self.openapi)
    }
}

fn operation_of(operation: OperationBuilder, role: Role) -> Operation {
    let error = ObjectBuilder::new()
        .property(
            "error_code",
            ObjectBuilder::new().schema_type(Type::Integer),
        )
        .property("message", ObjectBuilder::new().schema_type(Type::String))
        .build();
    let error = ContentBuilder::new().schema(Some(error)).build();
    let refused = ResponseBuilder::new()
        .description("The first three digits of the code are the status")
        .content(media::TYPES[0], error);
    let role = role.in_token();
    operation
        .response("default", refused.build())
        .description(Some(format!("Takes the role `{role}`.")))
        .security(SecurityRequirement::new("basic", [""; 0]))
        .security(SecurityRequirement::new("bearer", [""; 0]))
        .build()
}

fn parameter(name: &str, place: ParameterIn) -> ParameterBuilder {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
}
