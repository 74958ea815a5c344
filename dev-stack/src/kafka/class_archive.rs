//! Kafka's classes as Java keeps them in memory, in a file beside the artifacts. With it a broker is ready in half the
//! time, which counts with a stack per failure test.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::Broker;
use crate::artifacts::Artifacts;
use crate::error::{StackError, failed_to};
use crate::java::Java;
use crate::ports::Port;

/// The archive for this Java; the first time, a broker runs once to make it. `None` when that does not work: Kafka
/// runs without one too.
pub(super) async fn make(artifacts: &Artifacts, java: &Java) -> Option<PathBuf> {
    let mut fingerprint = DefaultHasher::new();
    java.version.hash(&mut fingerprint);
    let archive = artifacts
        .folder
        .join(format!("kafka-classes-{:016x}.jsa", fingerprint.finish()));
    if !archive.exists() {
        train(artifacts, java, &archive).await.ok()?;
    }
    Some(archive)
}

async fn train(artifacts: &Artifacts, java: &Java, archive: &Path) -> Result<(), StackError> {
    let _lock = lock(&artifacts.folder.join("training.lock")).await?;
    if archive.exists() {
        return Ok(());
    }
    let home = artifacts.folder.join("training");
    super::remove(&home)?;
    let unfinished = home.join("classes.jsa");
    let options = vec![format!("-XX:ArchiveClassesAtExit={}", unfinished.display())];
    let broker = Broker {
        artifacts,
        java,
        options,
        home: &home,
        log: artifacts.folder.join("training.log"),
        heap_mb: super::HEAP_MB,
    };
    broker.start(Port::any("Kafka")?, &[]).await?.stop().await;
    fs::rename(&unfinished, archive).map_err(failed_to("rename", &unfinished))?;
    super::remove(&home)
}

async fn lock(path: &Path) -> Result<File, StackError> {
    let locked = path.to_path_buf();
    let wait = move || File::create(&locked).and_then(|file| file.lock().map(|()| file));
    let lock: io::Result<File> = tokio::task::spawn_blocking(wait)
        .await
        .expect("locking does not panic");
    lock.map_err(failed_to("lock", path))
}
