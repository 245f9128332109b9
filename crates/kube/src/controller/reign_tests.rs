//! Epochs, the way back, and tasks that break.

use super::*;
use crate::{
    controller::Scope,
    testing::{FakeApi, Leads, status},
};

#[test]
fn runs_under_one_leader_do_not_reach_the_epochs_of_the_next() {
    let [one, two, last] = [1, 2, u64::MAX].map(|epoch| first_epoch(Leadership { epoch }));
    assert!(one + 1_000_000 < two);
    // Numbers of the status are int64, and what shows them may hold no more than 53 bits exactly.
    assert!(last < 1 << 52, "{last}");
}

#[tokio::test]
async fn a_release_whose_task_broke_is_looked_at_again_and_no_other_is_touched() {
    let api = FakeApi::start().await;
    api.fault(|_, _| Some(status(404)));
    let eyes = Eyes::open(&api.client, &Scope::Cluster);
    let setting = Setting {
        client: api.client.clone(),
        releases: Arc::clone(&eyes.releases),
        memory: eyes.memory.clone(),
        fence: Arc::new(Leads),
        epoch: 1,
        recorder: Recorder::start(api.client.clone(), Arc::default(), "test", || true),
    };
    let mut reign = Reign::new(&api.client, &eyes, setting);
    let key = |name: &str| ("shop".to_owned(), name.to_owned());
    for name in ["broken", "well"] {
        let task = reign.actors.spawn(async move {
            assert_ne!(name, "broken", "as a bug would end it");
            std::future::pending().await
        });
        reign.tasks.insert(task.id(), key(name));
        reign.running.insert(key(name), "uid".to_owned());
        reign.stamps.insert(key(name), Stamp::default());
    }
    let ended = reign.actors.join_next().await.unwrap();
    assert!(ended.is_err());
    reign.ended(ended);
    assert_eq!(reign.running.keys().collect::<Vec<_>>(), [&key("well")]);
    assert_eq!(reign.stamps.keys().collect::<Vec<_>>(), [&key("well")]);
    assert!(reign.later.contains_key(&key("broken")) && reign.tasks.len() == 1);
}

#[test]
fn the_way_back_is_a_valid_plan_for_the_same_router() {
    assert_eq!(way_back("checkout", "istio").unwrap().targets, ["istio"]);
}
