//! Somebody who follows a query, and loses and doubles nothing as long as the service does not.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::eventually::WITHIN;

/// What a follower was told of each stream, in the order in which it was told.
pub type Heard = BTreeMap<String, Vec<u64>>;

/// Somebody who follows a path and comes back whenever the connection is gone.
pub struct Follower {
    heard: watch::Receiver<Heard>,
    listening: JoinHandle<()>,
    way: Way,
}

/// How it follows.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    EventStream,
    LongPoll,
}

struct Listener {
    http: Client,
    url: String,
    token: String,
    position: Option<String>,
    heard: watch::Sender<Heard>,
}

impl Follower {
    /// Returns when it follows.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn start(queries: SocketAddr, path: &str, token: String, way: Way) -> Self {
        let (sender, heard) = watch::channel(Heard::new());
        let mut listener = Listener {
            http: Client::new(),
            url: format!("http://{queries}{path}"),
            token,
            position: None,
            heard: sender,
        };
        listener.poll("?wait=0").await.expect("it may follow");
        let listening = tokio::spawn(async move {
            loop {
                // Whatever went wrong: it goes on from where it was.
                let _ = match way {
                    Way::EventStream => listener.listen().await,
                    Way::LongPoll => listener.poll("?wait=10").await,
                };
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self {
            heard,
            listening,
            way,
        }
    }

    pub fn heard_so_far(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// What it has heard, once that is so many changes.
    ///
    /// # Panics
    /// When it never is.
    pub async fn heard(mut self, changes: usize) -> Heard {
        let all = self
            .heard
            .wait_for(|heard| heard.values().map(Vec::len).sum::<usize>() >= changes);
        let heard = timeout(WITHIN, all)
            .await
            .map(|heard| heard.expect("it listens on").clone());
        self.listening.abort();
        let way = self.way;
        heard.unwrap_or_else(|_| {
            let heard = self.heard.borrow();
            let count: usize = heard.values().map(Vec::len).sum();
            let uneven = heard
                .iter()
                .filter(|(_, versions)| !versions.iter().copied().eq(1..=versions.len() as u64));
            let uneven: Vec<_> = uneven.take(10).collect();
            panic!("{way:?} has heard of {count} changes of {changes}, with gaps in {uneven:?}")
        })
    }
}

impl Listener {
    fn request(&self, query: &str) -> RequestBuilder {
        let request = self.http.get(format!("{}{query}", self.url));
        let request = request.bearer_auth(&self.token);
        match &self.position {
            Some(position) => request.header("last-event-id", position),
            None => request,
        }
    }

    async fn poll(&mut self, query: &str) -> reqwest::Result<()> {
        let answer = self.request(query).send().await?.error_for_status()?;
        let page = answer.json().await?;
        self.take_page(&page);
        Ok(())
    }

    async fn listen(&mut self) -> reqwest::Result<()> {
        let request = self.request("").header("accept", "text/event-stream");
        let mut answer = request.send().await?.error_for_status()?;
        let mut unread = String::new();
        while let Some(chunk) = answer.chunk().await? {
            unread.push_str(&String::from_utf8_lossy(&chunk));
            while let Some(end) = unread.find("\n\n") {
                let block: String = unread.drain(..end + 2).collect();
                self.take_block(&block);
            }
        }
        Ok(())
    }

    fn take_block(&mut self, block: &str) {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        if field("event: ").as_deref() == Some("change") {
            let data = field("data: ").expect("a change has data");
            self.take(&serde_json::from_str(&data).expect("data is JSON"));
        }
        self.position = field("id: ").or_else(|| self.position.take());
    }

    fn take_page(&mut self, page: &Value) {
        for change in page["changes"].as_array().expect("changes is a list") {
            self.take(change);
        }
        self.position = Some(text(page, "position"));
    }

    fn take(&mut self, change: &Value) {
        let stream = text(change, "stream");
        let version = change["version"].as_u64();
        let version = version.expect("a version is a number");
        self.heard.send_modify(|heard| {
            heard.entry(stream).or_default().push(version);
        });
    }
}

fn text(of: &Value, member: &str) -> String {
    let text = of[member].as_str();
    text.unwrap_or_else(|| panic!("no text {member} in {of}"))
        .to_owned()
}
