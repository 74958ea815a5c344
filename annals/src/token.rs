//! `annals token`: a bearer token of the development key.

use std::time::Duration;

use kernel::{Actor, Malformed, Tenant};
use service_kit::{DevKey, TokenRequest};

/// What `annals token` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Whom the token names
    #[arg(long, value_parser = user)]
    user: Actor,
    /// A role of theirs: admin, manager, accountant, worker; may be given several times
    #[arg(long = "role")]
    roles: Vec<String>,
    /// Whose data they see
    #[arg(long, default_value = "main", value_parser = Tenant::parse)]
    tenant: Tenant,
    /// For how many hours the token is valid
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=8_760))]
    hours: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn user(name: &str) -> Result<Actor, Malformed> {
    format!("user:{name}").parse()
}

/// The line to print.
pub(crate) fn issue(key: &DevKey, args: TokenArgs) -> String {
    let request = TokenRequest::new(args.user).tenant(args.tenant);
    let request = args.roles.into_iter().fold(request, TokenRequest::role);
    let token = key.issue(&request, Duration::from_secs(args.hours * 3_600));
    match args.json {
        true => serde_json::json!({ "token": token, "hours": args.hours }).to_string(),
        false => token,
    }
}
