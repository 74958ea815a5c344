//! The load generator: HTTP/1.1 by hand over connections that are kept.
//!
//! It runs on the same cores as what it measures, so it does next to nothing:
//! it copies a request together and looks into an answer only as far as it must.

use std::{
    io::Write,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Result,
    load::Caller,
    pipeline::{assignee, key},
};

const ANSWER_WITHIN: Duration = Duration::from_secs(15);

pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    head: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: Vec::with_capacity(4 << 10),
            head: 0,
        })
    }

    /// Sends a request and reads the whole answer; gives its status.
    pub async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        timeout(ANSWER_WITHIN, self.exchange(request)).await?
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            let Some(head) = self.answer.windows(4).position(|at| at == b"\r\n\r\n") else {
                continue;
            };
            self.head = head;
            let length: usize = self.header("content-length").map_or(Ok(0), str::parse)?;
            if self.answer.len() >= head + 4 + length {
                let status = self.answer.get(9..12).unwrap_or_default();
                return Ok(std::str::from_utf8(status)?.parse()?);
            }
        }
    }

    /// A header of the last answer; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.answer[..self.head]).ok()?;
        head.split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body of the last answer.
    pub fn body(&self) -> &str {
        let body = self.answer.get(self.head + 4..).unwrap_or_default();
        std::str::from_utf8(body).unwrap_or("(not text)")
    }

    /// An error with what the server answered, unless its status is this one.
    pub fn expect(&self, expected: u16, status: u16) -> Result<()> {
        if status == expected {
            return Ok(());
        }
        Err(format!("answered {status} instead of {expected}: {}", self.body()).into())
    }
}

/// A client that assigns the tasks that it has for itself, one after the other.
pub struct Assigner {
    pub connection: Connection,
    token: String,
    tasks: Vec<String>,
    turn: usize,
    request: Vec<u8>,
}

/// Numbers that no other command over HTTP has; the service sees each key once.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Assigner {
    pub async fn connect(address: SocketAddr, token: &str, tasks: Vec<String>) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(address).await?,
            token: token.into(),
            tasks,
            turn: 0,
            request: Vec::with_capacity(1 << 10),
        })
    }

    /// Assigns the next task; gives its id.
    pub async fn assign(&mut self) -> Result<&str> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.turn = (self.turn + 1) % self.tasks.len();
        let task = &self.tasks[self.turn];
        let path = format!("/v1/tasks/{task}/assign");
        let body = format!(r#"{{"assignee":"{}"}}"#, assignee(number));
        let key = key(number);
        post(&mut self.request, &path, &self.token, &key, &body)?;
        let status = self.connection.ask(&self.request).await?;
        self.connection.expect(200, status)?;
        Ok(task)
    }
}

impl Caller for Assigner {
    async fn call(&mut self) -> Result<u32> {
        self.assign().await?;
        Ok(1)
    }
}

/// Makes a task; gives its id.
pub async fn create_task(connection: &mut Connection, token: &str) -> Result<String> {
    let key = format!("create-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let body = r#"{"title":"AVRO-12: Sort the records"}"#;
    let mut request = Vec::new();
    post(&mut request, "/v1/tasks", token, &key, body)?;
    let status = connection.ask(&request).await?;
    connection.expect(201, status)?;
    let location = connection.header("location").ok_or("no Location")?;
    let (_, id) = location.rsplit_once('/').ok_or("no id in Location")?;
    Ok(id.to_owned())
}

fn post(into: &mut Vec<u8>, path: &str, token: &str, key: &str, body: &str) -> Result<()> {
    into.clear();
    let length = body.len();
    write!(
        into,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         idempotency-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}

/// A request without a body.
pub fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}
