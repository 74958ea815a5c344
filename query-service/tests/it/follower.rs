//! Clients that follow, as simple as they can be.

use std::{collections::VecDeque, io, time::Instant};

use futures::{SinkExt, StreamExt};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::{Request, Response as HandshakeResponse},
    },
};

use crate::{PATIENCE, Running, answered};

/// An event as a client sees it, whichever way it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event: String,
    pub position: String,
    pub data: Value,
}

impl Told {
    pub fn keys(&self) -> Vec<&str> {
        let keys = self.data["keys"].as_array().unwrap();
        keys.iter().map(|key| key.as_str().unwrap()).collect()
    }

    pub fn version(&self) -> i64 {
        self.data["version"].as_i64().unwrap()
    }
}

/// Server-sent events, read as a browser does.
pub struct EventStream {
    response: Response,
    unread: String,
    told: VecDeque<Told>,
    pub last_event_id: String,
}

impl EventStream {
    /// # Panics
    /// When it is refused.
    pub async fn open(running: &Running, path: &str, since: Option<&str>) -> Self {
        let response = answered(asked(running, path, since)).await;
        let status = response.status();
        if status != 200 {
            panic!("{path}: {status} {}", response.text().await.unwrap());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            unread: String::new(),
            told: VecDeque::new(),
            last_event_id: since.unwrap_or_default().to_owned(),
        }
    }

    /// The next event; nothing when the stream has ended.
    pub async fn next(&mut self) -> Option<Told> {
        while self.told.is_empty() {
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes").ok().flatten()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = self.unread.find("\n\n") {
                let block: String = self.unread.drain(..end + 2).collect();
                self.take(&block);
            }
        }
        self.told.pop_front()
    }

    fn take(&mut self, block: &str) {
        let (mut event, mut data) = (String::from("message"), String::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap() {
                ("event", name) => event = name.into(),
                ("id", id) => self.last_event_id = id.into(),
                ("data", more) => data.push_str(more),
                ("retry", _) => {}
                other => panic!("{other:?}"),
            }
        }
        if !data.is_empty() {
            self.told.push_back(Told {
                event,
                position: self.last_event_id.clone(),
                data: serde_json::from_str(&data).unwrap(),
            });
        }
    }

    /// The next event, which must be this one.
    pub async fn expect(&mut self, event: &str) -> Told {
        let told = self.next().await.expect("the stream goes on");
        assert_eq!(told.event, event, "{told:?}");
        told
    }

    /// The version of each of the next changes.
    pub async fn versions(&mut self, count: usize) -> Vec<i64> {
        let mut versions = Vec::new();
        for _ in 0..count {
            versions.push(self.expect("change").await.version());
        }
        versions
    }

    /// Waits until a heartbeat has moved the position on.
    pub async fn until_moved(&mut self) {
        let before = self.last_event_id.clone();
        while self.last_event_id == before {
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes").unwrap().unwrap();
            assert!(self.unread.is_empty());
            self.take(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

pub fn asked(running: &Running, path: &str, since: Option<&str>) -> RequestBuilder {
    let request = running
        .request(path)
        .bearer_auth(running.token("ada", "main"))
        .header("accept", "text/event-stream");
    match since {
        Some(since) => request.header("last-event-id", since),
        None => request,
    }
}

fn handshake(running: &Running, path: &str) -> Request {
    let url = format!("ws://{}{path}", running.address);
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", running.token("ada", "main"));
    let headers = request.headers_mut();
    headers.insert("authorization", token.parse().unwrap());
    request
}

/// A WebSocket, and what was answered to who asked for it.
type Shaken = Result<(WebSocketStream<TcpStream>, HandshakeResponse), tungstenite::Error>;

async fn shake_hands(running: &Running, request: Request) -> Shaken {
    shake_hands_over(async || TcpStream::connect(running.address).await, request).await
}

/// Comes again as [`answered`] does.
async fn shake_hands_over(
    connect: impl AsyncFn() -> io::Result<TcpStream>,
    request: Request,
) -> Shaken {
    let began = Instant::now();
    loop {
        let stream = connect().await.unwrap();
        match client_async(request.clone(), stream).await {
            Err(tungstenite::Error::Http(refused))
                if refused.status() == 503 && began.elapsed() < PATIENCE => {}
            shaken => return shaken,
        }
    }
}

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub async fn open(running: &Running, path: &str) -> Self {
        Self::try_open(running, path).await.unwrap()
    }

    pub async fn try_open(running: &Running, path: &str) -> Result<Self, tungstenite::Error> {
        let (socket, _) = shake_hands(running, handshake(running, path)).await?;
        Ok(Self(socket))
    }

    /// As a browser opens it, which can name subprotocols and nothing else; with the one that was
    /// chosen.
    pub async fn of_browser(
        running: &Running,
        path: &str,
        protocols: &str,
    ) -> Result<(Self, Option<String>), tungstenite::Error> {
        let url = format!("ws://{}{path}", running.address);
        let mut request = url.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        let (socket, answer) = shake_hands(running, request).await?;
        let chosen = answer.headers().get("sec-websocket-protocol");
        let chosen = chosen.map(|it| it.to_str().unwrap().to_owned());
        Ok((Self(socket), chosen))
    }

    /// One in which little waits to be read.
    pub async fn open_small(running: &Running, path: &str) -> Self {
        let connect = async || {
            let stream = TcpSocket::new_v4()?;
            stream.set_recv_buffer_size(4096)?;
            stream.connect(running.address).await
        };
        let shaken = shake_hands_over(connect, handshake(running, path)).await;
        Self(shaken.unwrap().0)
    }

    /// The next message; the code of the close frame when there is none.
    pub async fn next(&mut self) -> Result<Told, Option<u16>> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await;
            match message.expect("something comes").unwrap().unwrap() {
                Message::Text(text) => {
                    let told: Value = serde_json::from_str(&text).unwrap();
                    return Ok(Told {
                        event: told["event"].as_str().unwrap().into(),
                        position: told["position"].as_str().unwrap().into(),
                        data: told["data"].clone(),
                    });
                }
                Message::Close(frame) => return Err(frame.map(|frame| frame.code.into())),
                _ => {}
            }
        }
    }

    pub async fn expect(&mut self, event: &str) -> Told {
        let told = self.next().await.expect("the socket is open");
        assert_eq!(told.event, event, "{told:?}");
        told
    }

    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }
}
