//! The process's metrics, as Prometheus reads them.

use std::{sync::OnceLock, thread, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds for every histogram whose name ends in `_seconds`.
const SECONDS: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// The recorder that `metrics::counter!` and its kin write to; installed at the first call.
///
/// # Panics
/// If something else has installed a recorder in this process.
pub fn metrics_handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .and_then(PrometheusBuilder::install_recorder)
            .expect("this is the only recorder of the process, and its buckets are not empty");
        // Histograms keep each sample until they are rendered or this is done.
        let upkeep = handle.clone();
        thread::Builder::new()
            .name("metrics-upkeep".into())
            .spawn(move || {
                loop {
                    thread::sleep(Duration::from_secs(5));
                    upkeep.run_upkeep();
                }
            })
            .expect("a process that cannot start a thread cannot serve");
        handle
    })
}
