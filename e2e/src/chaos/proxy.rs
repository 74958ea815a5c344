//! What stands between clients and one broker, and breaks their connections on demand.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

/// How the way is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Everything takes so much longer, in both directions.
    Slow(Duration),
    /// Connections stand, and nothing comes through.
    HalfOpen,
    /// What clients send arrives, and nothing comes back.
    Mute,
    /// Whoever connects is hung up on.
    Shut,
}

/// Ends with its runtime.
pub struct Proxy {
    state: Arc<State>,
}

struct State {
    way: watch::Sender<Way>,
    broker: watch::Sender<Option<SocketAddr>>,
    /// Increased when every connection is to end.
    cut: watch::Sender<u64>,
    connections: AtomicU64,
    hung_up: AtomicU64,
}

impl Proxy {
    /// Listens at this port; nothing comes through until it knows the broker.
    pub async fn listen(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let state = Arc::new(State {
            way: watch::channel(Way::Open).0,
            broker: watch::channel(None).0,
            cut: watch::channel(0).0,
            connections: AtomicU64::new(0),
            hung_up: AtomicU64::new(0),
        });
        let accepting = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().connect(client));
            }
        });
        Ok(Self { state })
    }

    pub fn lead_to(&self, broker: SocketAddr) {
        self.state.broker.send_replace(Some(broker));
    }

    pub fn set(&self, way: Way) {
        self.state.way.send_replace(way);
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.state.cut.send_modify(|times| *times += 1);
    }

    /// How many connections there were so far, and how many of them the proxy has ended.
    pub fn connections(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.state.connections), count(&self.state.hung_up))
    }
}

impl State {
    /// Errors are what the proxy is for.
    async fn connect(self: Arc<Self>, client: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut cut = self.cut.subscribe();
        if *self.way.borrow() == Way::Shut {
            self.hung_up.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tokio::select! {
            _ = self.carry(client) => {}
            _ = cut.changed() => {
                self.hung_up.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn carry(&self, client: TcpStream) -> io::Result<()> {
        let mut broker = self.broker.subscribe();
        let known = broker.wait_for(Option::is_some).await;
        let Some(address) = known.ok().and_then(|broker| *broker) else {
            return Ok(());
        };
        let broker = TcpStream::connect(address).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let ((from_client, to_client), (from_broker, to_broker)) =
            (client.into_split(), broker.into_split());
        let requests = self.pump(from_client, to_broker, |way| way != Way::HalfOpen);
        let answers = self.pump(from_broker, to_client, |way| {
            !matches!(way, Way::HalfOpen | Way::Mute)
        });
        // As soon as one side hangs up, both do.
        tokio::select! {
            ended = requests => ended,
            ended = answers => ended,
        }
    }

    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        passes: impl Fn(Way) -> bool,
    ) -> io::Result<()> {
        let mut way = self.way.subscribe();
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            let present = way.wait_for(|way| passes(*way)).await;
            let present = present.map_or(Way::Open, |way| *way);
            if let Way::Slow(by) = present {
                sleep(by).await;
            }
            to.write_all(&bytes[..count]).await?;
        }
    }
}
