//! What happens to every request before and after its handler: it gets a trace, is counted
//! and timed, and a panic becomes an answer.
//!
//! One layer does all of it: each further one costs two allocations per request.

use std::{
    any::Any,
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use metrics::{Counter, Histogram};
use tower::{Layer, Service};

use crate::{
    problem::Problem,
    prometheus::metrics_handle,
    trace::{TRACEPARENT, TraceContext},
};

/// For `Router::layer`: the trace scope, the metrics and the panic boundary of each request.
///
/// Metrics: `http_requests_total{method, path, status}` and
/// `http_request_duration_seconds{method, path, status}` until the head of the answer, where
/// `path` is the route as it was declared.
#[derive(Clone)]
pub struct RequestLayer {
    series: Arc<SeriesByPath>,
}

#[derive(Clone)]
pub struct RequestService<S> {
    inner: S,
    series: Arc<SeriesByPath>,
}

impl RequestLayer {
    pub fn new() -> Self {
        // Series that were made before the recorder would count into nothing.
        metrics_handle();
        Self {
            series: Arc::default(),
        }
    }
}

impl Default for RequestLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> RequestService<S> {
        RequestService {
            inner,
            series: self.series.clone(),
        }
    }
}

impl<S> Service<Request> for RequestService<S>
where
    S: Service<Request, Error = Infallible>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let trace = TraceContext::of_request(request.headers());
        let method = method_label(request.method());
        let path = request.extensions().get::<MatchedPath>().cloned();
        let series = self.series.clone();
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(trace.scope(async move {
            let mut response = match answer.await {
                Ok(Ok(answer)) => answer.into_response(),
                Err(panic) => after_panic(panic).into_response(),
            };
            let elapsed = started.elapsed();
            let path = path.as_ref().map_or("none", MatchedPath::as_str);
            series.count(path, method, response.status(), elapsed.as_secs_f64());
            tracing::debug!(
                status = response.status().as_u16(),
                elapsed_us = elapsed.as_micros() as u64,
                "answered {method} {path}"
            );
            let headers = response.headers_mut();
            headers.insert(TRACEPARENT, trace.header_value());
            Ok(response)
        }))
    }
}

/// The panic hook has logged it, with its place, where it happened.
fn after_panic(_: Box<dyn Any + Send>) -> Problem {
    Problem::internal_logged()
}

/// Handles on the metrics by route: looking one up by its labels costs a microsecond.
#[derive(Default)]
struct SeriesByPath(RwLock<HashMap<Box<str>, Vec<Series>>>);

#[derive(Clone)]
struct Series {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    duration: Histogram,
}

impl SeriesByPath {
    fn count(&self, path: &str, method: &'static str, status: StatusCode, seconds: f64) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let series = known.get(path).and_then(|all| {
            all.iter()
                .find(|series| series.status == status && series.method == method)
        });
        if let Some(series) = series {
            return series.add(seconds);
        }
        drop(known);
        let series = Series::new(path, method, status);
        series.add(seconds);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Should two requests come here at once, both entries lead to the same metrics.
        known.entry(path.into()).or_default().push(series);
    }
}

impl Series {
    fn new(path: &str, method: &'static str, status: StatusCode) -> Self {
        let labels = [
            ("method", method.to_owned()),
            ("path", path.to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        Self {
            method,
            status,
            requests: metrics::counter!("http_requests_total", &labels),
            duration: metrics::histogram!("http_request_duration_seconds", &labels),
        }
    }

    fn add(&self, seconds: f64) {
        self.requests.increment(1);
        self.duration.record(seconds);
    }
}

/// Clients may invent methods; series must not multiply with them.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
