//! What came back, and what it must be.

use reqwest::{Response, header::HeaderMap};
use serde_json::Value;

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// JSON, or the text as it came.
    pub body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Self {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A member of the body that is text.
    #[track_caller]
    pub fn text(&self, member: &str) -> &str {
        let text = self.body[member].as_str();
        text.unwrap_or_else(|| panic!("no text {member} in {self:?}"))
    }

    /// A member of the body that is a number.
    #[track_caller]
    pub fn number(&self, member: &str) -> u64 {
        let number = self.body[member].as_u64();
        number.unwrap_or_else(|| panic!("no number {member} in {self:?}"))
    }

    pub fn id(&self) -> String {
        self.text("id").to_owned()
    }

    pub fn position(&self) -> String {
        self.text("position").to_owned()
    }

    /// Whether this is the recorded answer of an earlier attempt.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.is_success(), "{self:#?}");
        self
    }

    /// A Problem Details answer (RFC 9457) with this status and code.
    #[track_caller]
    pub fn is_problem(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, &self.body["code"]),
            (status, &code.into()),
            "{self:#?}"
        );
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.number("status"), u64::from(status), "{self:#?}");
        assert_eq!(self.text("type"), format!("urn:annals:problem:{code}"));
        assert!(!self.text("title").is_empty(), "{self:#?}");
        if status == 503 {
            let seconds = self
                .header("retry-after")
                .and_then(|it| it.parse::<u32>().ok());
            assert!(seconds.is_some_and(|seconds| seconds > 0), "{self:#?}");
        }
        self
    }
}
