//! Ports for roles that are stopped and started again.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Mutex,
};

/// Below the kernel's range for outgoing connections, from which a port might be taken by somebody
/// else while its role is down.
const LOWEST: u64 = 10_000;
const HIGHEST: u64 = 32_000;

/// An address on loopback that nobody listens on, each time another one.
pub fn free_port() -> SocketAddr {
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut handed_out = HANDED_OUT.lock().expect("nothing panics while it is held");
    let random = RandomState::new();
    (0..u64::MAX)
        .map(|n| (LOWEST + random.hash_one(n) % (HIGHEST - LOWEST)) as u16)
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .find(|port| handed_out.insert(*port))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .expect("some port is free")
}
