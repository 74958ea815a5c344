//! `annals shards`: who serves which shard, and how it is.

use std::{collections::BTreeMap, time::Duration};

use command_service::http::{OPERATOR, ShardView, ShardsView};
use kernel::Actor;
use service_kit::TokenRequest;

use crate::settings::{Settings, SettingsError};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What `annals shards` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShardsArgs {
    /// Address of a command service, which asks the others; the configured one unless named
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,
    /// A bearer token with the role `operator`; one of the development key unless given
    #[arg(long)]
    token: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardsError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("failed to ask the command service at {node}; name another with --node")]
    Ask {
        node: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the command service at {node} refused: {answer}")]
    Refused { node: String, answer: String },
    #[error("the command service at {node} sent what cannot be read")]
    Garbled {
        node: String,
        #[source]
        source: serde_json::Error,
    },
}

/// The lines to print.
pub(crate) async fn show(settings: &Settings, args: ShardsArgs) -> Result<String, ShardsError> {
    let node = args.node.unwrap_or_else(|| {
        let commands = &settings.commands;
        let advertised = commands.advertise.as_ref();
        advertised.unwrap_or(&commands.address).clone()
    });
    let token = match args.token {
        Some(token) => token,
        None => {
            let request = TokenRequest::new(Actor::User("operator".into())).role(OPERATOR);
            settings.dev_key()?.issue(&request, Duration::from_secs(60))
        }
    };
    let asked = async {
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).build()?;
        let request = http.get(format!("http://{node}/v1/shards"));
        let answer = request.bearer_auth(token).send().await?;
        Ok((answer.status(), answer.text().await?))
    };
    let (status, text) = match asked.await {
        Ok(answer) => answer,
        Err(source) => return Err(ShardsError::Ask { node, source }),
    };
    if !status.is_success() {
        let answer = format!("{status} {text}");
        return Err(ShardsError::Refused { node, answer });
    }
    match serde_json::from_str(&text) {
        Ok(_) if args.json => Ok(text),
        Ok(view) => Ok(table(&view)),
        Err(source) => Err(ShardsError::Garbled { node, source }),
    }
}

fn table(view: &ShardsView) -> String {
    const HEAD: [&str; 7] = [
        "shard",
        "owner",
        "term",
        "status",
        "queue",
        "lag",
        "last commit",
    ];
    let rows: Vec<_> = view.shards.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: &[&str]| {
        let padded = (0..).zip(cells).map(|(column, cell)| {
            let width = width(column);
            format!("{cell:<width$}")
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&HEAD)];
    for row in &rows {
        let row: Vec<_> = row.iter().map(String::as_str).collect();
        lines.push(line(&row));
    }
    for shard in &view.shards {
        if let Some(reason) = &shard.reason {
            lines.push(format!("shard {}: {reason}", shard.shard));
        }
        for stopped in &shard.stopped_streams {
            lines.push(format!("stopped {}: {}", stopped.stream, stopped.reason));
        }
        let untold = shard.stopped.saturating_sub(shard.stopped_streams.len());
        if untold > 0 {
            lines.push(format!("and {untold} more of shard {}", shard.shard));
        }
        for foreign in &shard.foreign_records {
            let (first, last) = (foreign.first_offset, foreign.last_offset);
            lines.push(format!(
                "passed over {} records in {} partition {} that are not ours, at offsets {first} to {last}",
                foreign.records, foreign.topic, shard.shard
            ));
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for owner in view.shards.iter().filter_map(|it| it.owner.as_deref()) {
        *counts.entry(owner).or_default() += 1;
    }
    for node in &view.nodes {
        let count = counts.get(node.as_str()).copied().unwrap_or(0);
        let silent = match view.silent.contains(node) {
            true => ", gives no answer",
            false => "",
        };
        lines.push(format!("node {node}: {count} shards{silent}"));
    }
    lines.join("\n")
}

fn cells(shard: &ShardView) -> [String; 7] {
    let dash = || "-".to_owned();
    [
        shard.shard.to_string(),
        shard.owner.clone().unwrap_or_else(dash),
        shard.term.map_or_else(dash, |term| term.to_string()),
        shard.status.clone(),
        shard.queue.to_string(),
        format!("{} ms", shard.lag_ms),
        shard.last_commit.clone().unwrap_or_else(dash),
    ]
}
