//! A TCP proxy in front of a broker that breaks connections and holds requests back on demand.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use kafka_protocol::messages::ApiKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// The requests that things happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Metadata,
    FindCoordinator,
    Produce,
    InitProducerId,
    /// An `InitProducerId` that expects an epoch, as the second of a take-over does.
    InitExpecting,
    AddPartitionsToTxn,
    EndTxn,
    Other,
}

/// What happens to one request.
#[derive(Clone)]
pub enum Fault {
    /// The broker never gets it, and the connection is gone.
    LoseRequest,
    /// The broker has done it, and the connection is gone before the answer.
    LoseAnswer,
    /// It waits here before the broker gets it.
    Hold(Gate),
}

/// Where a held request waits.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Resolves when a request waits at the gate.
    pub async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

type Faults = Arc<Mutex<VecDeque<(Kind, Fault)>>>;
type Seen = Arc<Mutex<Vec<Kind>>>;

/// Ends with the test's runtime.
pub struct Proxy {
    pub address: String,
    faults: Faults,
    seen: Seen,
    /// Increased when all connections are to end.
    hang_up: watch::Sender<u32>,
}

impl Proxy {
    pub async fn before(broker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (faults, seen) = (Faults::default(), Seen::default());
        let route = Route {
            broker: broker.into(),
            proxy_port: listener.local_addr().unwrap().port(),
            faults: faults.clone(),
            seen: seen.clone(),
        };
        let (hang_up, hung_up) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (route, mut hung_up) = (route.clone(), hung_up.clone());
                hung_up.mark_unchanged();
                // An error here is what the test asked for, or the broker's end.
                tokio::spawn(async move {
                    tokio::select! {
                        _ = route.serve(client) => {}
                        _ = hung_up.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            faults,
            seen,
            hang_up,
        }
    }

    /// Ends every connection, as a broker does with idle ones.
    pub fn hang_up(&self) {
        self.hang_up.send_modify(|times| *times += 1);
    }

    /// What happens to the next requests of this kind, one after the other.
    pub fn next(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().map(|fault| (kind, fault));
        self.faults.lock().unwrap().extend(faults);
    }

    /// Holds the next request of this kind back that nothing else happens to.
    pub fn hold(&self, kind: Kind) -> Gate {
        let gate = Gate {
            reached: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        };
        self.next(kind, [Fault::Hold(gate.clone())]);
        gate
    }

    /// How many requests of this kind have come so far.
    pub fn count(&self, kind: Kind) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| **it == kind).count()
    }

    /// Whether every fault has happened.
    pub fn is_used_up(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }
}

#[derive(Clone)]
struct Route {
    broker: String,
    proxy_port: u16,
    faults: Faults,
    seen: Seen,
}

impl Route {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut broker = TcpStream::connect(&self.broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        loop {
            let request = read_frame(&mut client).await?;
            let kind = Kind::of(&request);
            self.seen.lock().unwrap().push(kind);
            let fault = self.take_fault(kind);
            match &fault {
                None | Some(Fault::LoseAnswer) => {}
                Some(Fault::LoseRequest) => return Ok(()),
                Some(Fault::Hold(gate)) => {
                    gate.reached.add_permits(1);
                    gate.open.acquire().await.unwrap().forget();
                }
            }
            broker.write_all(&request).await?;
            let mut answer = read_frame(&mut broker).await?;
            if matches!(fault, Some(Fault::LoseAnswer)) {
                return Ok(());
            }
            if matches!(kind, Kind::Metadata | Kind::FindCoordinator) {
                self.name_the_proxy(&mut answer);
            }
            client.write_all(&answer).await?;
        }
    }

    fn take_fault(&self, kind: Kind) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(of, _)| *of == kind)?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    /// Answers that tell where the broker is: a host as text, then the port in four bytes.
    fn name_the_proxy(&self, answer: &mut [u8]) {
        let (host, port) = self.broker.split_once(':').unwrap();
        let port: u32 = port.parse().unwrap();
        let wanted = [host.as_bytes(), &port.to_be_bytes()].concat();
        let at = (0..answer.len()).filter(|at| answer[*at..].starts_with(&wanted));
        for at in at.collect::<Vec<_>>() {
            let port = at + host.len();
            answer[port..port + 4].copy_from_slice(&u32::from(self.proxy_port).to_be_bytes());
        }
    }
}

impl Kind {
    fn of(request: &[u8]) -> Self {
        let key = i16::from_be_bytes([request[4], request[5]]);
        match ApiKey::try_from(key) {
            Ok(ApiKey::Metadata) => Self::Metadata,
            Ok(ApiKey::FindCoordinator) => Self::FindCoordinator,
            Ok(ApiKey::Produce) => Self::Produce,
            Ok(ApiKey::AddPartitionsToTxn) => Self::AddPartitionsToTxn,
            Ok(ApiKey::EndTxn) => Self::EndTxn,
            // It ends with the expected epoch, -1 for none, and an empty list of tags.
            Ok(ApiKey::InitProducerId) => match request {
                [.., 0xff, 0xff, 0] => Self::InitProducerId,
                _ => Self::InitExpecting,
            },
            _ => Self::Other,
        }
    }
}

/// Length and body, as they go over the wire.
async fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = from.read_i32().await?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.resize(4 + length as usize, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}
