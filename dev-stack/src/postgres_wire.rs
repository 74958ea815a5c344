//! The few messages of Postgres' protocol (version 3) that the stack needs itself: is it there, and one statement.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A session without a password.
pub(crate) struct Session {
    stream: TcpStream,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
}

impl Session {
    /// Refused while the server starts, stops or recovers.
    pub async fn open(address: &str, user: &str, database: &str) -> Result<Session, WireError> {
        let mut stream = TcpStream::connect(address).await?;
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for text in ["user", user, "database", database] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        stream.write_all(&with_size(&body)).await?;

        let mut session = Session { stream };
        session.until_ready().await?;
        Ok(session)
    }

    /// Runs one statement; its rows, if any, are dropped.
    pub async fn execute(&mut self, statement: &str) -> Result<(), WireError> {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&with_size(&[statement.as_bytes(), &[0]].concat()));
        self.stream.write_all(&message).await?;
        self.until_ready().await
    }

    pub async fn close(mut self) {
        let _ = self.stream.write_all(&[b'X', 0, 0, 0, 4]).await;
    }

    /// Reads up to ReadyForQuery; an error on the way is the outcome.
    async fn until_ready(&mut self) -> Result<(), WireError> {
        let mut outcome = Ok(());
        loop {
            let kind = self.stream.read_u8().await?;
            let size = self.stream.read_u32().await? as usize;
            let mut body = vec![0; size.saturating_sub(4)];
            self.stream.read_exact(&mut body).await?;
            match kind {
                b'Z' => return outcome,
                b'R' if !body.starts_with(&[0, 0, 0, 0]) => {
                    return Err(WireError::Refused("the server asks for a password".into()));
                }
                b'E' => {
                    let error = ErrorFields::read(&body);
                    outcome = Err(WireError::Refused(error.message));
                    if error.fatal {
                        return outcome;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The parts of an ErrorResponse that matter here.
struct ErrorFields {
    fatal: bool,
    message: String,
}

impl ErrorFields {
    fn read(body: &[u8]) -> ErrorFields {
        let field = |code: u8| {
            let found = body
                .split(|byte| *byte == 0)
                .find(|field| field.first() == Some(&code));
            found
                .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
                .unwrap_or_default()
        };
        // 'V' is the severity in English, whatever the server's language.
        ErrorFields {
            fatal: matches!(&*field(b'V'), "FATAL" | "PANIC"),
            message: field(b'M'),
        }
    }
}

fn with_size(body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as i32 + 4).to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}
