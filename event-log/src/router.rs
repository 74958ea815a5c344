//! From a stream to its partition.

use kernel::StreamId;

/// The partition of a stream: murmur2 of its routing key, as Kafka's own
/// default partitioner computes it, so that foreign producers and stream
/// processors agree with us about where a key lives.
pub fn partition_of(stream: &StreamId, partitions: i32) -> i32 {
    stream.with_routing_key(|parts| {
        let hash = match parts {
            [whole] => murmur2(whole.as_bytes()),
            parts => murmur2(parts.concat().as_bytes()),
        };
        (hash & 0x7fff_ffff) as i32 % partitions
    })
}

/// MurmurHash2, 32 bits, with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut h = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_own_test() {
        // Apache Kafka, UtilsTest.testMurmur2.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn streams_of_one_boundary_share_a_partition_and_others_spread() {
        let at = |text: &str| partition_of(&text.parse().unwrap(), 8);
        assert_eq!(at("main/task/board1:a"), at("main/note/board1:zz"));
        let used: std::collections::HashSet<_> =
            (0..100).map(|i| at(&format!("main/task/{i}"))).collect();
        assert_eq!(used.len(), 8);
    }
}
