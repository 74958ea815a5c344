//! What a session looks at while its partitions work: things that no partition would notice by
//! itself, least of all one in which nothing happens.

use std::{convert::Infallible, time::Duration};

use event_log::consume::{LogView, Topic, describe_topics};
use tokio::{sync::watch, time::sleep};

use crate::{
    health::Source,
    read_side,
    worker::{Session, SessionError},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when a checkpoint is not where we have brought it: a crash of Postgres took the latest
/// commits back, it was restored from a backup, or it was lost.
pub(crate) async fn watch_checkpoints(session: &Session) -> SessionError {
    let (postgres, edition) = (&session.platform.postgres, &session.edition);
    loop {
        sleep(LOOK_EVERY).await;
        // In this order: what we commit meanwhile is above it.
        let reached = session.progress.reached();
        // Who writes tells of what is wrong with Postgres.
        let Ok(found) = read_side::checkpoints(postgres, edition).await else {
            continue;
        };
        if found.is_empty() {
            return session.dropped();
        }
        for ((topic, partition), next_offset) in reached {
            let found = found
                .iter()
                .find(|it| (&it.topic, it.partition) == (&topic, partition));
            if found.is_none_or(|it| it.next_offset < next_offset) {
                return SessionError::SetBack { topic, partition };
            }
        }
    }
}

/// Returns when a topic was deleted and made again under its name. Where the new one has records
/// at our place already, nothing else would tell.
pub(crate) async fn watch_topics(session: &Session) -> SessionError {
    let names: Vec<_> = session.topics.iter().map(|it| it.name.clone()).collect();
    loop {
        sleep(LOOK_EVERY).await;
        let Ok(found) = describe_topics(&session.platform.cluster, &names).await else {
            continue;
        };
        let anew = |(known, found): &(&Topic, &Topic)| known.id != found.id;
        if let Some((topic, _)) = session.topics.iter().zip(&found).find(anew) {
            return SessionError::MadeAnew {
                topic: topic.name.clone(),
            };
        }
    }
}

/// Tells whether Kafka is there, and how far we are behind.
pub(crate) async fn watch_log(session: &Session, mut view: watch::Receiver<LogView>) -> Infallible {
    // The first view is empty, not a sight of the log.
    while view.changed().await.is_ok() {
        let view = view.borrow_and_update();
        match view.connected {
            true => session.health.clear(&Source::Kafka),
            false => {
                let bootstrap = session.platform.cluster.bootstrap();
                let reason = format!("no broker of {bootstrap} can be reached");
                session.health.trouble(Source::Kafka, reason);
            }
        }
        session.progress.tell(&view);
    }
    std::future::pending().await
}
