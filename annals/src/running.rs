//! Where the servers are that `annals up` runs on this data folder: for whoever works beside it and
//! has set nothing.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use service_kit::SecretUrl;

use crate::settings::Settings;

#[derive(Serialize, Deserialize)]
struct Running {
    kafka: String,
    postgres: String,
    registry: String,
}

/// The note is gone when this is.
pub(crate) struct Noted(PathBuf);

/// Notes where the servers of these settings are, when all of them are known.
pub(crate) fn note(settings: &Settings) -> io::Result<Option<Noted>> {
    let (Some(kafka), Some(postgres), Some(registry)) =
        (&settings.kafka, &settings.postgres, &settings.registry)
    else {
        return Ok(None);
    };
    let running = Running {
        kafka: kafka.clone(),
        postgres: postgres.expose().into(),
        registry: registry.clone(),
    };
    let noted = Noted(place(&settings.data));
    // There may be passwords in it.
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    let file = options.open(&noted.0)?;
    serde_json::to_writer_pretty(file, &running)?;
    Ok(Some(noted))
}

/// Has who has named no server at all work with those that run on the data folder, if any do. Who
/// has named one means an installation of their own.
pub(crate) fn join(settings: &mut Settings) {
    let is_set =
        settings.kafka.is_some() || settings.postgres.is_some() || settings.registry.is_some();
    // What a killed process has noted leads nowhere.
    if is_set || !dev_stack::is_in_use(&settings.data) {
        return;
    }
    let noted = fs::read(place(&settings.data)).ok();
    let Some(running) = noted.and_then(|it| serde_json::from_slice::<Running>(&it).ok()) else {
        return;
    };
    settings.kafka = Some(running.kafka);
    settings.postgres = Some(SecretUrl::new(&running.postgres));
    settings.registry = Some(running.registry);
}

fn place(data: &Path) -> PathBuf {
    data.join("running.json")
}

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
