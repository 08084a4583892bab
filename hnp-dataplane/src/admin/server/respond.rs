//! What each endpoint answers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::State;
use crate::admin::metrics::Format;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const TOML: &str = "application/toml";

/// The endpoints and what they are for, as `/` lists them.
const ENDPOINTS: [(&str, &str); 5] = [
    (
        "/metrics",
        "metrics for Prometheus (OpenMetrics on request)",
    ),
    (
        "/healthz",
        "200 while the process and each worker's loop are alive, else 500",
    ),
    (
        "/readyz",
        "200 while clients should be sent here, else 503; ?json for machines",
    ),
    (
        "/config",
        "the configuration in force without its secrets, TOML; ?json for machines",
    ),
    (
        "/endpoints",
        "who came to which TLS endpoint with and without a certificate, JSON",
    ),
];

/// Answers any request. A HEAD gets the head of what a GET gets: hyper keeps the body back.
pub(super) fn respond<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path != "/" && !ENDPOINTS.iter().any(|(endpoint, _)| *endpoint == path) {
        return answer(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("no such endpoint; try one of\n{}", list()),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = answer(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET and HEAD are allowed here\n".into(),
        );
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => metrics(state, request),
        "/healthz" => healthz(state, request),
        "/readyz" => readyz(state, request),
        "/config" => config(state, request),
        "/endpoints" => json(StatusCode::OK, &state.metrics.endpoints().report()),
        _ => answer(StatusCode::OK, TEXT, list()),
    }
}

fn list() -> String {
    ENDPOINTS
        .iter()
        .map(|(path, purpose)| format!("{path:12}{purpose}\n"))
        .collect()
}

fn metrics<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    let open_metrics = accepts(request, "application/openmetrics-text");
    let format = if open_metrics {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    };
    answer(
        StatusCode::OK,
        format.content_type(),
        state.metrics.render(format),
    )
}

fn healthz<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    let report = state.health.report();
    let status = if report.alive() {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    if wants_json(request) {
        return json(
            status,
            &Verdict {
                ok: report.alive(),
                report: &report,
            },
        );
    }
    let word = if report.alive() { "alive" } else { "not alive" };
    answer(status, TEXT, format!("{word}\n{}", report.workers_text()))
}

fn readyz<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    let report = state.health.report();
    let status = if report.ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if wants_json(request) {
        return json(
            status,
            &Verdict {
                ok: report.ready(),
                report: &report,
            },
        );
    }
    let word = if report.ready() { "ready" } else { "not ready" };
    answer(status, TEXT, format!("{word}\n{}", report.text()))
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a crate::admin::health::Report,
}

fn config<B>(state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    let loaded = (state.config)();
    if wants_json(request) {
        return json(StatusCode::OK, &loaded.config.redacted());
    }
    match loaded.to_toml() {
        Ok(toml) => answer(StatusCode::OK, TOML, toml),
        Err(error) => failed(&error),
    }
}

/// `?json`, or a client that accepts JSON (and not merely everything).
fn wants_json<B>(request: &Request<B>) -> bool {
    request.uri().query() == Some("json") || accepts(request, JSON)
}

/// Whether `Accept` names that media type, whatever its weight, unless that is 0 (RFC 9110, section 12.5.1). Wildcards do not
/// count: they are from clients that do not care, and those get the text.
fn accepts<B>(request: &Request<B>, media_type: &str) -> bool {
    let values = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        let zero = |weight: &str| weight.parse().is_ok_and(|weight: f32| weight == 0.0);
        named
            && !parts.any(|part| {
                part.strip_prefix("q=")
                    .or(part.strip_prefix("Q="))
                    .is_some_and(zero)
            })
    })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => answer(status, JSON, text + "\n"),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    answer(
        StatusCode::INTERNAL_SERVER_ERROR,
        TEXT,
        format!("HNP cannot show this, which is a defect of HNP: {error}\n"),
    )
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
