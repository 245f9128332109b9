//! Commands to a release in a cluster.

use http::StatusCode;
use serin_kube::{
    outside::{OrderError, order},
    release::Wish,
};
use serin_web::model::Accepted;

use super::{
    ActArgs,
    backend::{Cluster, api_error, refusal},
};
use crate::{output::Output, server::ClientError, verbs::order::say_accepted};

/// Gives the command and says what became of it.
pub(super) async fn order_and_say(cluster: &Cluster, args: &ActArgs, wish: Wish, verb: &str, output: Output) -> anyhow::Result<u8> {
    let ordered = order(&cluster.session, &args.release, wish, args.reason.as_deref(), args.timeout).await;
    let by = ordered.map_err(|error| order_error(error, cluster, &args.release))?.by;
    let accepted = Accepted { service: args.release.clone(), action: verb.to_owned(), by };
    say_accepted(&serde_json::to_string(&accepted)?, output)
}

fn order_error(error: OrderError, cluster: &Cluster, release: &str) -> ClientError {
    match error {
        OrderError::Refused(why) => refusal(StatusCode::CONFLICT, "conflict", why, None),
        OrderError::Api(error) => api_error(error, &cluster.session.namespace, release),
        OrderError::Unanswered { .. } | OrderError::Replaced => ClientError::Cluster(error.to_string()),
    }
}
