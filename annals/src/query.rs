//! For a context's queries.

pub use query_service::{
    Changes, Followable, Listed, Page, PageParams, Query, Reader, Reads, Snapshot, Versioned,
    not_found,
};
pub use service_kit::extract::Path;
