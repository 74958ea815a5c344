//! How many may follow at a time: all together, of one tenant, from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use kernel::Tenant;
use service_kit::Problem;
use tokio::{sync::Notify, time::timeout};

use super::FollowingConfig;

#[derive(Debug)]
pub(crate) struct Limits {
    config: FollowingConfig,
    counts: Arc<Mutex<Counts>>,
    /// Told when one leaves.
    left: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_tenant: HashMap<Tenant, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// A follower's place among those who may, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    tenant: Tenant,
    address: Option<IpAddr>,
    counts: Arc<Mutex<Counts>>,
    left: Arc<Notify>,
}

impl Limits {
    pub fn new(config: &FollowingConfig) -> Self {
        Self {
            config: config.clone(),
            counts: Arc::default(),
            left: Arc::default(),
        }
    }

    /// 503 when the process has no room; 429 when the tenant or the address has enough.
    pub fn enter(&self, tenant: &Tenant, address: Option<IpAddr>) -> Result<Slot, Problem> {
        let mut counts = lock(&self.counts);
        let of_tenant = counts.by_tenant.get(tenant).copied().unwrap_or_default();
        let of_address = address.and_then(|it| counts.by_address.get(&it).copied());
        let of_address = of_address.unwrap_or_default();
        let (few, many) = (
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        );
        for (count, limit, status, who) in [
            (counts.all, self.config.all, many, "this service"),
            (of_tenant, self.config.of_one_tenant, few, "this tenant"),
            (of_address, self.config.of_one_address, few, "this address"),
        ] {
            if count >= limit {
                metrics::counter!("query_followers_refused_total").increment(1);
                return Err(too_many(status, who, limit));
            }
        }
        counts.all += 1;
        *counts.by_tenant.entry(tenant.clone()).or_default() += 1;
        if let Some(address) = address {
            *counts.by_address.entry(address).or_default() += 1;
        }
        metrics::gauge!("query_followers").set(counts.all as f64);
        Ok(Slot {
            tenant: tenant.clone(),
            address,
            counts: self.counts.clone(),
            left: self.left.clone(),
        })
    }

    /// Until nobody follows any more, but not for longer than this.
    pub async fn until_all_left(&self, patience: Duration) {
        let all_left = async {
            loop {
                let left = self.left.notified();
                if lock(&self.counts).all == 0 {
                    return;
                }
                left.await;
            }
        };
        if timeout(patience, all_left).await.is_err() {
            let count = lock(&self.counts).all;
            tracing::warn!("stopped while {count} still followed");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        leave(&mut counts.by_tenant, &self.tenant);
        if let Some(address) = &self.address {
            leave(&mut counts.by_address, address);
        }
        metrics::gauge!("query_followers").set(counts.all as f64);
        self.left.notify_waiters();
    }
}

fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Nothing in between can panic, so nothing is half done.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_many(status: StatusCode, who: &str, limit: usize) -> Problem {
    Problem::new(status, "too-many-followers", "Too many follow already")
        .detail(format!("{who} may have {limit} followers at a time"))
        .retry_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_or_address_does_not_take_the_room_of_all() {
        let limits = Limits::new(&FollowingConfig {
            all: 4,
            of_one_tenant: 2,
            of_one_address: 3,
            ..FollowingConfig::default()
        });
        let [main, acme, third] = ["main", "acme", "third"].map(|it| Tenant::parse(it).unwrap());
        let one = Some([127, 0, 0, 1].into());
        let first = limits.enter(&main, one).unwrap();
        let _second = limits.enter(&main, one).unwrap();
        assert_eq!(limits.enter(&main, None).unwrap_err().status(), 429);
        let _third = limits.enter(&acme, one).unwrap();
        assert_eq!(limits.enter(&acme, one).unwrap_err().status(), 429);
        let _fourth = limits.enter(&acme, None).unwrap();
        assert_eq!(limits.enter(&third, None).unwrap_err().status(), 503);
        drop(first);
        assert!(limits.enter(&third, one).is_ok());
    }
}
