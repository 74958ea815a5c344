//! How an operator names a stream: in full, or within the tenant `main`.

use kernel::{Malformed, StreamId, Tenant};

/// `tenant/kind/id`, or `kind/id` of the tenant `main`.
pub(crate) fn stream(text: &str) -> Result<StreamId, Malformed> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [kind, id] => StreamId::new(&Tenant::default(), kind, id),
        [_, _, _] => text.parse(),
        _ => Err(Malformed(
            "is not of the form tenant/kind/id, or kind/id of the tenant main",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_of_the_tenant_main_unless_another_is_named() {
        assert_eq!(stream("task/7").unwrap().as_str(), "main/task/7");
        assert_eq!(stream("acme/task/7").unwrap().as_str(), "acme/task/7");
        for text in ["", "task", "task/", "a/b/c/d", "Task/7", "main/task/7 "] {
            assert!(stream(text).is_err(), "{text:?}");
        }
    }
}
