//! Everything after the last decision: record the end, put away what was started, or leave it running where that is asked.

use std::sync::PoisonError;

use serin_core::traffic::Arm;
use tokio::sync::mpsc;

use super::{RunConfig, RunEnd, RunReport, driver::Driver};

pub(super) async fn finish(mut driver: Driver, end: RunEnd, config: &RunConfig, interrupts: &mut mpsc::Receiver<()>) -> RunReport {
    driver.recorder.finish().await;
    let note = |text: &str| {
        driver.feed.note(text.to_owned());
    };
    let now = driver.clock.now();
    let state = driver.release.state();
    let report = RunReport {
        release: driver.row.name.clone(),
        document_hash: driver.row.document_hash.clone(),
        run: driver.row.run,
        began_at: state.began_at,
        ended_at: state.ended_at.unwrap_or(now),
        totals: [driver.totals(Arm::Stable), driver.totals(Arm::Canary)],
        rescued: driver.meter.rescued(),
        own_errors: driver.meter.own_errors(),
        timeline: driver.timeline.clone(),
        state_folder: driver.folder.path().display().to_string(),
        end,
    };
    if let Some(control) = &driver.control {
        control.abort();
    }
    let _ = std::fs::remove_file(driver.folder.control_socket());

    if let RunEnd::OperatorNeeded { .. } = report.end {
        // Nobody will judge the canary from here on, so it gets no traffic either. Not so where stable cannot take it, and
        // not after the bake, when judging is over.
        if state.phase.is_judged() && driver.world.send_everything_to_stable().await {
            note("nobody decided: stable serves alone until the release is taken over; run the same document again to go on with it");
        } else {
            note("everything is left as it is and running; run the same document again to take over");
        }
        driver.world.workload.detach();
        if let Some(load) = driver.load {
            load.detach();
        }
        driver.keeper.detach().await;
        return report;
    }
    let final_word = if state.is_final() { Some(RunEnd::of(state).word()) } else { None };
    if let Some(word) = final_word {
        let ended = driver.store.lock().unwrap_or_else(PoisonError::into_inner).end(driver.row.id, word, report.ended_at, None);
        if let Err(error) = ended {
            tracing::error!(%error, "the end of the release could not be recorded; the next run will find it ended");
        }
    }
    let stays = config.keep_serving && matches!(report.end, RunEnd::Succeeded | RunEnd::RolledBack { .. });
    if stays {
        note("the release is over; serving on until interrupted (Ctrl-C)");
        serve_on(&driver, interrupts).await;
    }
    let drain_ms = if report.end == RunEnd::Forced { 0 } else { driver.world.drain_ms };
    note("stopping what was started");
    if let Some(load) = driver.load {
        load.stop().await;
    }
    driver.keeper.stop(drain_ms).await;
    for arm in Arm::BOTH {
        if let Err(error) = driver.world.workload.stop(arm).await {
            tracing::error!(%arm, %error, "could not be stopped");
        }
    }
    if final_word.is_some() {
        driver.latch.remove();
    }
    let _ = std::fs::remove_file(driver.folder.route_table());
    report
}

/// A proxy that dies while nothing is decided any more still gets its table.
async fn serve_on(driver: &Driver, interrupts: &mut mpsc::Receiver<()>) {
    let mut link = driver.keeper.link();
    loop {
        tokio::select! {
            _ = interrupts.recv() => return,
            Ok(()) = link.changed() => {
                let linked = link.borrow_and_update().is_some();
                if linked {
                    driver.world.resend().await;
                }
            }
        }
    }
}
