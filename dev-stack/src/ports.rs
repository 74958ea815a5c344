//! Ports on loopback for the servers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;

use crate::error::StackError;

const LOWEST: u16 = 12_000;

/// The chosen port if it is free, otherwise any free one.
///
/// Any means below the range from which the kernel takes ports for outgoing connections: there, a client that
/// reconnects while a server is down may be given the server's own port, connect to itself, and keep the server
/// from coming back.
pub(crate) fn port(server: &'static str, chosen: Option<u16>) -> Result<u16, StackError> {
    if let Some(port) = chosen {
        return if is_free(port) {
            Ok(port)
        } else {
            Err(StackError::PortInUse { server, port })
        };
    }
    let span = first_outgoing_port().saturating_sub(LOWEST).max(1_000);
    let start = RandomState::new().build_hasher().finish();
    (0..u64::from(span))
        .map(|step| LOWEST + (start.wrapping_add(step) % u64::from(span)) as u16)
        .find(|port| is_free(*port))
        .ok_or(StackError::PortInUse {
            server,
            port: LOWEST,
        })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn first_outgoing_port() -> u16 {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_port_in_use_is_refused_by_its_number() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let refusal = port("Kafka", Some(number)).unwrap_err().to_string();
        assert!(
            refusal.starts_with(&format!("port {number} on 127.0.0.1 is in use")),
            "{refusal}"
        );
        drop(taken);
        assert_eq!(port("Kafka", Some(number)).unwrap(), number);
    }

    #[test]
    fn free_ports_lie_outside_the_range_of_outgoing_connections() {
        for _ in 0..100 {
            assert!((LOWEST..first_outgoing_port()).contains(&port("Kafka", None).unwrap()));
        }
    }
}
