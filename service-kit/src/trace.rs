//! Which request a log line, an event or an answer belongs to: W3C Trace Context.
//!
//! The server reads or makes a [`TraceContext`] for each request and runs the
//! handler within its scope. There are no spans per request: at tens of
//! thousands of requests a second they cost more than the work itself.

use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
};

/// The header that carries a trace context, in requests and in answers.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a request belongs to, and what comes next names as its parent.
///
/// As an extractor it gives the context of the request. It is written and
/// parsed as a `traceparent`: `00-<trace id>-<parent id>-<flags>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub parent_id: ParentId,
    pub sampled: bool,
}

/// Sixteen bytes, never all zero; written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Eight bytes, never all zero; written as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParentId(u64);

tokio::task_local! {
    static CURRENT: TraceContext;
}

impl TraceContext {
    /// A new trace, not sampled: nothing here exports spans, so nothing downstream should have to.
    pub fn generate() -> Self {
        let trace_id = u128::from(random_nonzero()) << 64 | u128::from(random_nonzero());
        Self {
            trace_id: TraceId(trace_id),
            parent_id: ParentId(random_nonzero()),
            sampled: false,
        }
    }

    /// The same trace, one step further.
    pub fn child(&self) -> Self {
        Self {
            parent_id: ParentId(random_nonzero()),
            ..*self
        }
    }

    /// Reads a `traceparent`; `None` if it is malformed.
    ///
    /// A later version than `00` is read as far as `00` goes, as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 55 || [bytes[2], bytes[35], bytes[52]] != [b'-'; 3] {
            return None;
        }
        let version = hex(&bytes[..2])?;
        let longer_than_known = bytes.len() > 55 && (version == 0 || bytes[55] != b'-');
        let trace_id = hex(&bytes[3..35])?;
        let parent_id = hex(&bytes[36..52])? as u64;
        let flags = hex(&bytes[53..55])?;
        if version == 0xff || longer_than_known || trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            parent_id: ParentId(parent_id),
            sampled: flags & 1 == 1,
        })
    }

    /// The context for handling a request with these headers: the caller's trace, or a new one.
    pub fn of_request(headers: &HeaderMap) -> Self {
        headers
            .get(TRACEPARENT)
            .and_then(|value| Self::parse(value.to_str().ok()?))
            .map_or_else(Self::generate, |caller| caller.child())
    }

    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).expect("hex digits and dashes are a valid header")
    }

    fn text(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace_id.0, &mut text[3..35]);
        write_hex(self.parent_id.0.into(), &mut text[36..52]);
        text[54] = if self.sampled { b'1' } else { b'0' };
        text
    }

    /// The context that the running task is within, if it is within a request.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }

    /// Runs a future within this context: its log lines carry the trace id.
    ///
    /// A spawned task leaves the scope; wrap what it runs to stay in it.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(std::str::from_utf8(&text).expect("hex digits and dashes are text"))
    }
}

impl From<TraceId> for u128 {
    fn from(id: TraceId) -> Self {
        id.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for ParentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::current().unwrap_or_else(|| Self::of_request(&parts.headers)))
    }
}

/// Lower-case hex only: the standard calls anything else malformed.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn write_hex(mut number: u128, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Unique, not secret: SplitMix64 from a random start per thread.
/// (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.)
fn random_nonzero() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    STATE.with(|state| {
        loop {
            let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            state.set(next);
            let mut mixed = next;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            if mixed != 0 {
                return mixed;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_back_as_it_was_written() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.header_value(), EXAMPLE);

        let new = TraceContext::generate();
        assert_eq!(TraceContext::parse(&new.to_string()), Some(new));
    }

    #[test]
    fn a_malformed_context_is_not_read() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-0f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = EXAMPLE.replacen("00", "01", 1) + "-more";
        assert!(TraceContext::parse(&later).is_some());
    }

    #[test]
    fn a_request_continues_its_callers_trace_with_a_parent_of_its_own() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        let caller = TraceContext::parse(EXAMPLE).unwrap();
        let ours = TraceContext::of_request(&headers);
        assert_eq!(ours.trace_id, caller.trace_id);
        assert_ne!(ours.parent_id, caller.parent_id);
        assert!(ours.sampled);
    }

    #[test]
    fn new_traces_differ_within_and_between_threads() {
        let here = || (0..1000).map(|_| TraceContext::generate().trace_id);
        let there = std::thread::spawn(move || here().collect::<Vec<_>>());
        let mut all: std::collections::HashSet<_> = here().collect();
        all.extend(there.join().unwrap());
        assert_eq!(all.len(), 2000);
    }
}
