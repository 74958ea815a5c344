//! Three brokers that are one cluster.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dev_stack::{ClusterOptions, KafkaCluster, new_temporary_folder, wipe};

use crate::PATIENCE;

#[tokio::test]
async fn cluster_outlives_a_killed_broker_and_takes_it_back() {
    // Nobody listens there; it is only what clients are told.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = elsewhere.local_addr().unwrap().port();
    let mut options = ClusterOptions::new(new_temporary_folder());
    options.advertised[0] = Some(elsewhere);
    let cluster = KafkaCluster::start(options).await.unwrap();
    let ports: Vec<_> = cluster.brokers().iter().map(|it| it.port()).collect();
    let told = [elsewhere, ports[1], ports[2]];
    assert_eq!(
        cluster.bootstrap(),
        told.map(|port| format!("127.0.0.1:{port}")).join(",")
    );
    until_members(ports[0], &told);

    cluster.brokers()[1].kill().await;
    until_members(ports[2], &[elsewhere, ports[2]]);
    cluster.brokers()[1].start().await.unwrap();
    until_members(ports[2], &told);

    let data = cluster.data_dir().to_owned();
    cluster.end().await;
    wipe(&data).unwrap();
}

/// Waits until this broker tells that the cluster's members are at these ports.
fn until_members(asked: u16, ports: &[u16]) {
    let started = Instant::now();
    let wanted: Vec<_> = ports.iter().map(|port| u32::from(*port)).collect();
    let mut told = Vec::new();
    while told != wanted {
        assert!(started.elapsed() < PATIENCE, "{told:?}");
        std::thread::sleep(Duration::from_millis(50));
        told = members(asked).unwrap_or_default();
    }
}

/// Ports of the brokers, by node id: Metadata, version 1.
fn members(asked: u16) -> std::io::Result<Vec<u32>> {
    let mut broker = TcpStream::connect(("127.0.0.1", asked))?;
    broker.set_read_timeout(Some(Duration::from_secs(2)))?;
    broker.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
    let [_size, _correlation_id, count] = [(); 3].map(|()| number(&mut broker));
    let mut members = Vec::new();
    for _ in 0..count? {
        let id = number(&mut broker)?;
        // the host's length and "127.0.0.1", before the port; no rack after it
        broker.read_exact(&mut [0; 2 + 9])?;
        members.push((id, number(&mut broker)?));
        broker.read_exact(&mut [0; 2])?;
    }
    members.sort_unstable();
    Ok(members.into_iter().map(|(_, port)| port).collect())
}

fn number(from: &mut TcpStream) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
