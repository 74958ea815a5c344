//! Ports on loopback for the servers.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::Mutex;

use crate::error::StackError;

const LOWEST: u16 = 12_000;

/// A port for one server, free when it was looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Refused when somebody listens there.
    pub fn chosen(server: &'static str, port: u16) -> Result<Port, StackError> {
        if is_free(port) {
            Ok(Port(port))
        } else {
            Err(StackError::PortInUse { server, port })
        }
    }

    /// Any free one below the range from which the kernel takes ports for outgoing connections. In that range, a
    /// client that reconnects while a server is down may be given the server's own port, connect to itself, and keep
    /// the server from coming back.
    pub fn any(server: &'static str) -> Result<Port, StackError> {
        let span = first_outgoing_port().saturating_sub(LOWEST).max(1_000);
        let start = RandomState::new().hash_one(0_u8);
        (0..u64::from(span))
            .map(|step| LOWEST + (start.wrapping_add(step) % u64::from(span)) as u16)
            .find(|port| is_free(*port) && is_first_to_get(*port))
            .map(Port)
            .ok_or(StackError::PortInUse {
                server,
                port: LOWEST,
            })
    }

    pub fn number(self) -> u16 {
        self.0
    }
}

/// A port is looked for some time before its server listens there, and stacks of one process start side by side.
fn is_first_to_get(port: u16) -> bool {
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    HANDED_OUT.lock().is_ok_and(|mut ports| ports.insert(port))
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
        let refusal = Port::chosen("Kafka", number).unwrap_err().to_string();
        assert!(
            refusal.starts_with(&format!("port {number} on 127.0.0.1 is in use")),
            "{refusal}"
        );
        drop(taken);
        assert_eq!(Port::chosen("Kafka", number).unwrap().number(), number);
    }

    #[test]
    fn free_ports_lie_outside_the_range_of_outgoing_connections() {
        for _ in 0..100 {
            assert!(
                (LOWEST..first_outgoing_port()).contains(&Port::any("Kafka").unwrap().number())
            );
        }
    }
}
