//! The way to the API server, found as `kubectl` finds it, and who asks.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::api::{ApiError, Release, within};

/// Releases in one answer to a list.
const PAGE: u32 = 500;

/// What was said about the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Instead of KUBECONFIG and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Instead of the current context.
    pub context: Option<String>,
    /// Instead of the namespace of the context.
    pub namespace: Option<String>,
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no way to an API server: {0}; name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context")]
pub struct SessionError(String);

/// The way to an API server.
#[derive(Clone)]
pub struct Session {
    /// Asks as whom the kubeconfig says.
    pub client: Client,
    /// Where releases are looked for unless something else is said.
    pub namespace: String,
}

impl Session {
    /// Finds the way. Nothing is asked yet.
    ///
    /// # Errors
    /// If there is no kubeconfig, or it cannot be used.
    pub async fn open(access: &Access) -> Result<Self, SessionError> {
        let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
        let config = match &access.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(|error| SessionError(error.to_string()))?;
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| SessionError(error.to_string()))?
            }
            None if access.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|error| SessionError(error.to_string()))?,
            // Also the service account of a pod, for pipelines that run in the cluster.
            None => Config::infer().await.map_err(|error| SessionError(error.to_string()))?,
        };
        let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| SessionError(error.to_string()))?;
        Ok(Self { client, namespace })
    }

    /// Releases of the session's namespace.
    #[must_use]
    pub fn releases(&self) -> Api<Release> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Releases of all namespaces.
    #[must_use]
    pub fn releases_of_all(&self) -> Api<Release> {
        Api::all(self.client.clone())
    }

    /// One release.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    pub async fn release(&self, name: &str) -> Result<Release, ApiError> {
        within(&format!("get Release {}/{name}", self.namespace), self.releases().get(name)).await
    }

    /// All releases of the namespace, or of all namespaces, by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn all(&self, of_all_namespaces: bool) -> Result<Vec<Release>, ApiError> {
        let api = if of_all_namespaces { self.releases_of_all() } else { self.releases() };
        let (mut found, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
        loop {
            let page = within("list Releases", api.list(&params)).await?;
            found.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break;
            }
        }
        found.sort_by_key(|release: &Release| (release.namespace().to_owned(), release.name().to_owned()));
        Ok(found)
    }

    /// Who asks, as the API server knows them.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn user(&self) -> Result<String, ApiError> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let answer = within("create SelfSubjectReview", api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = answer.status.and_then(|status| status.user_info).and_then(|user| user.username);
        user.filter(|name| !name.is_empty())
            .ok_or_else(|| ApiError::Unreachable("create SelfSubjectReview".to_owned(), "the answer names nobody".to_owned()))
    }
}
