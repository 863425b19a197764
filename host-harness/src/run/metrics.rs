//! What is counted while the program runs, and where it can be read: Prometheus text on `/metrics`, and `/healthz`.

use super::worker::Message;
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

/// Without a sign of life for so long the worker counts as stuck: mostly, the output takes nothing.
const STUCK: Duration = Duration::from_secs(30);

macro_rules! metrics {
    (counters { $($(#[doc = $counter_help:literal])* $counter:ident,)* } gauges { $($(#[doc = $gauge_help:literal])* $gauge:ident,)* }) => {
        /// The program's own counts. Those of the module come with [`Metrics::note_module`].
        pub struct Metrics {
            $($(#[doc = $counter_help])* pub $counter: IntCounter,)*
            $($(#[doc = $gauge_help])* pub $gauge: IntGauge,)*
            /// Seconds that a call into the module took.
            pub call_seconds: Histogram,
            module: Mutex<Value>,
            alive: Mutex<Instant>,
            registry: Registry,
        }

        impl Metrics {
            /// All at 0.
            pub fn new() -> Metrics {
                let registry = Registry::new();
                let buckets = vec![1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
                let call = HistogramOpts::new("psexec_filter_call_seconds", "Seconds that a call into the module took.").buckets(buckets);
                Metrics {
                    $($counter: register(&registry, IntCounter::new(
                        concat!("psexec_filter_", stringify!($counter), "_total"), concat!($($counter_help),*).trim())),)*
                    $($gauge: register(&registry, IntGauge::new(
                        concat!("psexec_filter_", stringify!($gauge)), concat!($($gauge_help),*).trim())),)*
                    call_seconds: register(&registry, Histogram::with_opts(call)),
                    module: Mutex::new(Value::Null),
                    alive: Mutex::new(Instant::now()),
                    registry,
                }
            }
        }
    };
}

metrics! {
    counters {
        /// Lines that came.
        lines,
        /// Bytes that came.
        line_bytes,
        /// Alerts that were written, inside a record or on a line of their own.
        alerts_written,
        /// Lines passed on unexamined because the module gave no answer.
        failed_calls,
        /// Lines passed on unexamined because they are longer than --max-line.
        lines_too_long,
        /// Such lines that were ended here because the rest did not come in time.
        lines_cut,
        /// Lines without a newline at the end of a connection; examined, and ended here.
        unfinished_lines,
        /// Times the module was started again after a call that died or took too long.
        restarts,
        /// Times the module and its policy were read again (SIGHUP).
        reloads,
        /// Connections that were accepted.
        connections,
        /// Connections that broke.
        client_errors,
        /// Snapshots written to --state.
        snapshots,
        /// Snapshots that could not be written.
        snapshot_failures,
        /// Times the output did not take what was written and it was tried again.
        output_retries,
    }
    gauges {
        /// Clients that are connected.
        clients,
        /// Batches of lines that wait for the module.
        queued_batches,
        /// Bytes of the last snapshot.
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

/// Names and help are constants and differ, so neither step can fail.
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
    /// Takes the module's counters, as its `psexec_filter_stats` gives them.
    pub fn note_module(&self, stats: &str) {
        if let Ok(stats) = serde_json::from_str(stats) {
            *self.module.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        }
    }

    /// Notes that the worker is not stuck.
    pub fn note_alive(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Everything as Prometheus text.
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
                    format!("The module's `{name}`, see the README."),
                )?;
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        for (name, value) in module["counters"].as_object().into_iter().flatten() {
            let name = format!("psexec_filter_module_{name}_total");
            let counter = IntCounter::new(
                name,
                "A counter of the module, explained in plugin/src/counters.rs.",
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

/// Serves the counts from now on. The error is a message for people.
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
            tracing::error!("metrics are no longer served: {error}");
        }
    });
    Ok(())
}

async fn text(
    State(Shared { metrics, queue }): State<Shared>,
) -> Result<([(&'static str, &'static str); 1], Vec<u8>), StatusCode> {
    if let Some(queue) = queue.upgrade() {
        metrics
            .queued_batches
            .set((queue.max_capacity() - queue.capacity()) as i64);
    }
    let text = metrics
        .render()
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([("content-type", "text/plain; version=0.0.4")], text))
}

async fn health(State(Shared { metrics, .. }): State<Shared>) -> (StatusCode, String) {
    match metrics.silent_for() {
        silent if silent < STUCK => (StatusCode::OK, "ok\n".to_owned()),
        silent => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "stuck for {} s: the output takes nothing, or a call into the module does not return\n",
                silent.as_secs()
            ),
        ),
    }
}
