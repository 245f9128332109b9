//! Deployments that are released in place: taken on before their first release, and given back after the last.

use std::sync::Arc;

use serin_spec::validated::WorkloadKind;

use super::{Unknown, reign::Reign};
use crate::{
    api::{ApiError, Release},
    release::Place,
    workload::{Made, Names, Note, Pair, PairError, Reverted, Standing},
};

/// What became of a Deployment that is released in place.
pub(super) enum Adopted {
    /// It is adopted; the versions that serves and that is to be tried, and the canary's replicas.
    Has(Result<(String, String, i32), Unknown>),
    /// It was just adopted: its change leads to another look.
    Now,
}

impl Reign<'_> {
    /// The versions of a Deployment that is released in place, which is adopted first.
    pub(super) async fn adopted(&self, release: &Release, pair: &Pair) -> Result<Adopted, ApiError> {
        let unknown = |error: PairError| match error {
            PairError::Api(error) if error.is_transient() => Err(error),
            PairError::NotYet(why) => Ok(Adopted::Has(Err(Unknown::NotYet(why)))),
            error => Ok(Adopted::Has(Err(Unknown::Wrong(error.to_string())))),
        };
        if let Err(error) = pair.check() {
            return unknown(error);
        }
        let releases = self.setting.releases.all();
        let about = match pair.standing(|uid| releases.iter().any(|release| release.uid() == uid)).await {
            Ok(Standing::Adopted { proven, candidate }) => return Ok(Adopted::Has(Ok((proven, candidate, 0)))),
            Ok(Standing::Adoptable(about)) => about,
            Err(error) => return unknown(error),
        };
        // Whoever deletes the release gets the Deployment back: from here on there is something to give back.
        self.still_leads().await?;
        let fresh = self.fresh(release).await?;
        if fresh.uid() != release.uid() || fresh.metadata.deletion_timestamp.is_some() {
            return Ok(Adopted::Now);
        }
        let kept = self.with_finalizer(&fresh).await?;
        match pair.adopt().await {
            Ok(is_new) => {
                if is_new {
                    self.setting.recorder.tell(&kept, "adopted", &format!("the Deployment is paused: {about}"));
                }
                Ok(Adopted::Now)
            }
            Err(error) => unknown(error),
        }
    }

    /// Gives back every Deployment that the release has, but the one that it is about now. Says whether there was any.
    pub(super) async fn give_back(&self, release: &Release, keep: Option<&str>) -> Result<bool, ApiError> {
        let all = self.setting.memory.deployments.all();
        let ours = all.iter().filter(|found| found.metadata().namespace.as_deref() == Some(release.namespace()));
        let ours = ours.filter(|found| Note::on(found.metadata()).is_some_and(|note| note.release == release.uid()));
        let names = ours.filter_map(|found| found.metadata().name.clone()).filter(|name| Some(name.as_str()) != keep);
        let mut names: Vec<String> = names.collect();
        // What was adopted a moment ago may not be remembered as such yet.
        let of_document = release.load().ok().map(|loaded| loaded.release).filter(|loaded| loaded.workload.is_managed);
        let of_document = of_document.filter(|loaded| Some(loaded.workload.stable.as_str()) != keep);
        names.extend(
            of_document.iter().map(|loaded| loaded.workload.stable.clone()).filter(|name| !names.contains(name)).collect::<Vec<_>>(),
        );
        let mut is_any = false;
        for name in names {
            self.still_leads().await?;
            let pair = match of_document.as_ref().filter(|loaded| loaded.workload.stable == name) {
                Some(loaded) => self.pair(release, &Place::of(loaded)),
                None => self.pair_of_one(release, &name),
            };
            // By its note the Deployment is found again, and with it what was made of it: the note goes last.
            pair.leave_to_collector().await.map_err(in_pair)?;
            let reverted = pair.give_back().await.map_err(in_pair)?;
            let (head, about) = match reverted {
                None => continue,
                Some(Reverted::Resumed) => ("given back", "it is resumed, and rolls out its edits by itself again"),
                Some(Reverted::EditLeftOut) => (
                    "warning",
                    "it is resumed with the version that was proven; its last edit was not, and was left out: apply it again to roll it out",
                ),
                Some(Reverted::LeftPaused) => {
                    ("warning", "nobody knows which of its versions was proven: it is left paused; resume it by hand")
                }
            };
            is_any = true;
            self.setting.recorder.tell(release, head, &format!("Deployment {name}: {about}"));
        }
        Ok(is_any)
    }

    /// A Deployment that the release has, and what was made of it, where no document says any more which that is.
    fn pair_of_one(&self, release: &Release, stable: &str) -> Pair {
        let own = release.namespace();
        let of = |metadata: &kube::core::ObjectMeta| {
            metadata.namespace.as_deref() == Some(own) && Made::on(metadata).is_some_and(|made| made.of == stable)
        };
        let (deployments, services) = (self.setting.memory.deployments.all(), self.setting.memory.services.all());
        let canary = deployments.iter().find(|found| of(found.metadata())).and_then(|found| found.metadata().name.clone());
        let service = services.iter().find(|found| of(&found.metadata));
        let arm_labels = service.and_then(|found| found.spec.as_ref()?.selector.clone()).unwrap_or_default().into_keys().collect();
        // One that is not there is none of ours, whatever it would be called.
        let none = || format!("{stable}-canary");
        let canary_service = service.and_then(|found| found.metadata.name.clone()).unwrap_or_else(none);
        let names = Names {
            release: release.uid().to_owned(),
            release_name: format!("{own}/{}", release.name()),
            namespace: own.to_owned(),
            canary_namespace: own.to_owned(),
            kinds: [WorkloadKind::Deployment; 2],
            stable: stable.to_owned(),
            canary: canary.unwrap_or_else(none),
            is_managed: true,
            services: Some([(own.to_owned(), String::new()), (own.to_owned(), canary_service)]),
        };
        Pair::new(self.client, &self.setting.memory, names, arm_labels, Arc::clone(&self.setting.fence))
    }
}

pub(super) fn in_pair(error: PairError) -> ApiError {
    match error {
        PairError::Api(error) => error,
        other => ApiError::Unreachable("the Deployment".to_owned(), other.to_string()),
    }
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
