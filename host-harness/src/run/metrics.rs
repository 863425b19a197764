//! Counts what happens while the program runs, and serves the counts: `/metrics` as Prometheus text, and `/healthz`.

use super::queue::{self, Message};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::WeakSender;

/// Time without progress after which `/healthz` reports the worker as stuck; usually the output accepts nothing.
const STUCK: Duration = Duration::from_secs(30);

macro_rules! metrics {
    (counters { $($(#[doc = $counter_help:literal])* $counter:ident,)* } gauges { $($(#[doc = $gauge_help:literal])* $gauge:ident,)* }) => {
        /// The program's own counts. [`Metrics::set_module_stats`] adds those of the module.
        pub struct Metrics {
            $($(#[doc = $counter_help])* pub $counter: IntCounter,)*
            $($(#[doc = $gauge_help])* pub $gauge: IntGauge,)*
            /// Duration of calls into the module, in seconds.
            pub call_seconds: Histogram,
            module: Mutex<Value>,
            last_progress: Mutex<Instant>,
            registry: Registry,
        }

        impl Metrics {
            /// Starts with all counts at 0.
            pub fn new() -> Metrics {
                let registry = Registry::new();
                let buckets = vec![1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
                let call = HistogramOpts::new("psexec_filter_call_seconds", "Duration of calls into the module, in seconds.").buckets(buckets);
                Metrics {
                    $($counter: register(&registry, IntCounter::new(
                        concat!("psexec_filter_", stringify!($counter), "_total"), concat!($($counter_help),*).trim())),)*
                    $($gauge: register(&registry, IntGauge::new(
                        concat!("psexec_filter_", stringify!($gauge)), concat!($($gauge_help),*).trim())),)*
                    call_seconds: register(&registry, Histogram::with_opts(call)),
                    module: Mutex::new(Value::Null),
                    last_progress: Mutex::new(Instant::now()),
                    registry,
                }
            }
        }
    };
}

metrics! {
    counters {
        /// Lines that were received.
        lines,
        /// Bytes that were received.
        line_bytes,
        /// Alerts that were written, inside a record or on a line of their own.
        alerts_written,
        /// Lines passed on unexamined because the call into the module failed.
        failed_calls,
        /// Lines passed on unexamined because they are longer than --max-line.
        lines_too_long,
        /// Lines longer than --max-line that were cut because there was no room for the rest, which was skipped.
        lines_cut,
        /// Bytes of those lines that were skipped.
        skipped_bytes,
        /// Lines without a newline at the end of a connection; they are examined and get a newline.
        unfinished_lines,
        /// Restarts of the module after a call that trapped or took too long.
        restarts,
        /// Times that module and policy were read again (SIGHUP).
        reloads,
        /// Connections that were accepted.
        connections,
        /// Connections that broke.
        client_errors,
        /// Snapshots written to --state.
        snapshots,
        /// Snapshots that could not be taken or written.
        snapshot_failures,
        /// Writes that the output did not accept and that were tried again.
        output_retries,
    }
    gauges {
        /// Clients that are connected.
        clients,
        /// Batches of lines in the queue before the module.
        queued_batches,
        /// Size of the last snapshot that was written, in bytes.
        snapshot_bytes,
        /// Unix time of the last snapshot that was written.
        snapshot_time_seconds,
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// Registers a metric. Names and help are constants, and the names differ, so this cannot fail.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("a metric's name is valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("a metric's name is its own");
    metric
}

impl Metrics {
    /// Replaces the module's counters by `stats`, the JSON that its `psexec_filter_stats` returns.
    pub fn set_module_stats(&self, stats: &str) {
        if let Ok(stats) = serde_json::from_str(stats) {
            *self.module.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        }
    }

    /// Records that the worker makes progress.
    pub fn mark_progress(&self) {
        *self
            .last_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn since_progress(&self) -> Duration {
        self.last_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// All counts as Prometheus text.
    fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut families = self.registry.gather();
        let module = self
            .module
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (name, value) in module.as_object().into_iter().flatten() {
            if let Some(value) = value.as_i64() {
                let gauge = IntGauge::new(
                    format!("psexec_filter_module_{name}"),
                    format!("`{name}` in the module's statistics."),
                )?;
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        for (name, value) in module["counters"].as_object().into_iter().flatten() {
            let name = format!("psexec_filter_module_{name}_total");
            let counter = IntCounter::new(
                name,
                "A counter of the module; plugin/src/counters.rs explains it.",
            )?;
            counter.inc_by(value.as_u64().unwrap_or_default());
            families.extend(counter.collect());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    queue: WeakSender<Message>,
}

/// Starts to serve the counts. The error is a message for the operator.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    queue: WeakSender<Message>,
) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| {
            format!("--metrics {address}: cannot listen there: {error}; is the port in use?")
        })?;
    tracing::info!(
        "serving http://{}/metrics and /healthz",
        listener.local_addr().unwrap_or(address)
    );
    let routes = axum::Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(health))
        .with_state(Shared { metrics, queue });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(
                "http://{address}: metrics are no longer served: {error}; records are still passed on"
            );
        }
    });
    Ok(())
}

async fn text(
    State(Shared { metrics, queue }): State<Shared>,
) -> Result<([(&'static str, &'static str); 1], Vec<u8>), StatusCode> {
    if let Some(queue) = queue.upgrade() {
        metrics.queued_batches.set(queue::length(&queue) as i64);
    }
    let text = metrics
        .render()
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([("content-type", "text/plain; version=0.0.4")], text))
}

async fn health(State(Shared { metrics, .. }): State<Shared>) -> (StatusCode, String) {
    let since = metrics.since_progress();
    if since < STUCK {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!(
            "no progress for {} s: the output accepts nothing, or a call into the module does not return\n",
            since.as_secs()
        ),
    )
}
