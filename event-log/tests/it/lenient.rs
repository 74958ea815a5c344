//! A broker that does not keep what fencing rests on: a real one, behind a
//! proxy that changes its answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        AddPartitionsToTxnResponse, ApiKey, ApiVersionsResponse, FindCoordinatorResponse,
        InitProducerIdRequest, InitProducerIdResponse, MetadataResponse, ProduceRequest,
        ProduceResponse, RequestHeader, ResponseHeader,
    },
    protocol::{Decodable, Encodable},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const PRODUCER_FENCED: i16 = 90;

/// Which answers are other than Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lenient {
    Duplicate,
    /// To an append of a deposed owner, or one with a gap, with this sequence number.
    Append {
        refused_with: i16,
        sequence: i32,
    },
    Init,
    AddPartitions,
    ClientsTime,
    /// It is older than it must be.
    Produce {
        newest: i16,
    },
}

/// Where the lenient broker is; it ends with the test's runtime. The flag tells whether an answer
/// was changed.
pub async fn before(broker: &str, lenient: Lenient) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let changed = Arc::new(AtomicBool::new(false));
    let proxy = Proxy {
        broker: broker.into(),
        port,
        lenient,
        changed: changed.clone(),
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.serve(client).await });
        }
    });
    (format!("127.0.0.1:{port}"), changed)
}

#[derive(Clone)]
struct Proxy {
    broker: String,
    port: u16,
    lenient: Lenient,
    changed: Arc<AtomicBool>,
}

impl Proxy {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut broker = TcpStream::connect(&self.broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        loop {
            let request = read_frame(&mut client).await?;
            write_frame(&mut broker, &request).await?;
            let answer = read_frame(&mut broker).await?;
            write_frame(&mut client, &self.change(request, answer)).await?;
        }
    }

    fn change(&self, mut request: Bytes, answer: Bytes) -> Bytes {
        let key = ApiKey::try_from(i16::from_be_bytes([request[0], request[1]])).unwrap();
        let version = i16::from_be_bytes([request[2], request[3]]);
        RequestHeader::decode(&mut request, key.request_header_version(version)).unwrap();
        let port = i32::from(self.port);
        match key {
            ApiKey::Metadata => self.rewrite(key, version, answer, |it: &mut MetadataResponse| {
                it.brokers.iter_mut().for_each(|broker| broker.port = port);
            }),
            ApiKey::FindCoordinator => {
                self.rewrite(key, version, answer, |it: &mut FindCoordinatorResponse| {
                    it.coordinators.iter_mut().for_each(|it| it.port = port);
                })
            }
            ApiKey::ApiVersions => {
                self.rewrite(key, version, answer, |it: &mut ApiVersionsResponse| {
                    if let Lenient::Produce { newest } = self.lenient {
                        let produce = ApiKey::Produce as i16;
                        let mut known = it.api_keys.iter_mut();
                        known.find(|it| it.api_key == produce).unwrap().max_version = newest;
                        self.changed.store(true, Relaxed);
                    }
                })
            }
            ApiKey::Produce => {
                let sequence = sequence_of(&mut request, version);
                self.rewrite(key, version, answer, |it: &mut ProduceResponse| {
                    self.change_append(it, sequence);
                })
            }
            ApiKey::InitProducerId if self.lenient == Lenient::Init => {
                let expected = InitProducerIdRequest::decode(&mut request, version).unwrap();
                self.rewrite(key, version, answer, |it: &mut InitProducerIdResponse| {
                    if it.error_code == PRODUCER_FENCED {
                        self.changed.store(true, Relaxed);
                        it.error_code = 0;
                        it.producer_id = expected.producer_id;
                        it.producer_epoch = expected.producer_epoch + 1;
                    }
                })
            }
            ApiKey::AddPartitionsToTxn if self.lenient == Lenient::AddPartitions => self.rewrite(
                key,
                version,
                answer,
                |it: &mut AddPartitionsToTxnResponse| {
                    let topics = it.results_by_topic_v3_and_below.iter_mut();
                    for partition in topics.flat_map(|it| &mut it.results_by_partition) {
                        if partition.partition_error_code != 0 {
                            self.changed.store(true, Relaxed);
                            partition.partition_error_code = 0;
                        }
                    }
                },
            ),
            _ => answer,
        }
    }

    fn change_append(&self, answer: &mut ProduceResponse, sequence: i32) {
        let partition = &mut answer.responses[0].partition_responses[0];
        match self.lenient {
            Lenient::Append {
                refused_with,
                sequence: of,
            } if partition.error_code == refused_with && sequence == of => {
                self.changed.store(true, Relaxed);
                partition.error_code = 0;
            }
            Lenient::ClientsTime => {
                self.changed.store(true, Relaxed);
                partition.log_append_time_ms = -1;
            }
            // As if it had been appended once more.
            Lenient::Duplicate
                if partition.error_code == 0
                    && sequence == 0
                    && self.changed.swap(true, Relaxed) =>
            {
                partition.base_offset += 1;
            }
            _ => {}
        }
    }

    fn rewrite<R: Decodable + Encodable>(
        &self,
        key: ApiKey,
        version: i16,
        mut answer: Bytes,
        change: impl FnOnce(&mut R),
    ) -> Bytes {
        let header_version = key.response_header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version).unwrap();
        let mut body = R::decode(&mut answer, version).unwrap();
        change(&mut body);
        let mut changed = BytesMut::new();
        header.encode(&mut changed, header_version).unwrap();
        body.encode(&mut changed, version).unwrap();
        changed.freeze()
    }
}

/// The sequence number with which the request's batch begins.
fn sequence_of(request: &mut Bytes, version: i16) -> i32 {
    const AT: usize = 53;
    let request = ProduceRequest::decode(request, version).unwrap();
    let batch = request.topic_data[0].partition_data[0]
        .records
        .as_ref()
        .unwrap();
    i32::from_be_bytes(batch[AT..AT + 4].try_into().unwrap())
}

async fn read_frame(from: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut frame = vec![0; from.read_i32().await? as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame.into())
}

async fn write_frame(to: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let length = frame.len() as i32;
    to.write_all(&[&length.to_be_bytes(), frame].concat()).await
}
