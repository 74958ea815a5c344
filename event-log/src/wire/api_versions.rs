//! Which version of each request a broker and we both know, asked first on
//! every new connection: behind an address there may be another release today.

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

/// What Annals sends, with the oldest version that has what it relies on and
/// the newest that it was tested with.
///
/// Take-overs keep to one version: the protocol was proved with these
/// answers, and `EndTxn` from version 5 on moves the epoch itself.
const NEEDED: [(ApiKey, i16, i16); 10] = [
    (ApiKey::Produce, 9, 12),
    (ApiKey::Fetch, 11, 12),
    (ApiKey::ListOffsets, 6, 7),
    (ApiKey::Metadata, 10, 12),
    (ApiKey::FindCoordinator, 4, 4),
    (ApiKey::InitProducerId, 4, 4),
    (ApiKey::AddPartitionsToTxn, 3, 3),
    (ApiKey::EndTxn, 3, 3),
    (ApiKey::CreateTopics, 5, 7),
    (ApiKey::DescribeConfigs, 4, 4),
];

/// The version to use of each request that Annals sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiVersions([i16; NEEDED.len()]);

/// A request that the broker does not know as Annals needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) api: ApiKey,
    pub(super) needed: (i16, i16),
    /// `None`: it does not know the request at all.
    pub(super) found: Option<(i16, i16)>,
}

impl ApiVersions {
    pub(super) fn agree(answer: &ApiVersionsResponse) -> Result<Self, Lacking> {
        let mut agreed = [0; NEEDED.len()];
        for ((api, least, newest), agreed) in NEEDED.into_iter().zip(&mut agreed) {
            let known = answer.api_keys.iter().find(|it| it.api_key == api as i16);
            let found = known.map(|it| (it.min_version, it.max_version));
            *agreed = found
                .filter(|(oldest, latest)| *oldest <= newest && least <= *latest)
                .map(|(_, latest)| latest.min(newest))
                .ok_or(Lacking {
                    api,
                    needed: (least, newest),
                    found,
                })?;
        }
        Ok(Self(agreed))
    }

    /// # Panics
    /// For a request that is not in the table: that is a bug here.
    pub(super) fn of(&self, key: i16) -> i16 {
        let at = NEEDED.iter().position(|(api, ..)| *api as i16 == key);
        self.0[at.unwrap_or_else(|| panic!("request {key} is not among those that are negotiated"))]
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;

    use super::*;

    /// A broker that knows everything in these versions, but for one request.
    fn broker(but: ApiKey, known: Option<(i16, i16)>) -> ApiVersionsResponse {
        let of = |api: ApiKey, (oldest, latest)| {
            ApiVersion::default()
                .with_api_key(api as i16)
                .with_min_version(oldest)
                .with_max_version(latest)
        };
        let others = NEEDED.into_iter().filter(|(api, ..)| *api != but);
        let known = known.map(|known| of(but, known));
        ApiVersionsResponse::default().with_api_keys(
            others
                .map(|(api, ..)| of(api, (0, 99)))
                .chain(known)
                .collect(),
        )
    }

    #[test]
    fn the_newest_version_that_both_know_is_used() {
        for (known, agreed) in [((0, 99), 12), ((3, 10), 10), ((9, 9), 9), ((12, 20), 12)] {
            let versions = ApiVersions::agree(&broker(ApiKey::Produce, Some(known))).unwrap();
            assert_eq!(versions.of(ApiKey::Produce as i16), agreed);
        }
    }

    #[test]
    fn a_broker_that_lacks_a_request_or_its_version_is_refused() {
        for found in [None, Some((0, 8)), Some((13, 14))] {
            let refused = ApiVersions::agree(&broker(ApiKey::Produce, found)).unwrap_err();
            assert_eq!(refused.api, ApiKey::Produce);
            assert_eq!(refused.found, found);
        }
    }
}
