//! What a tick of a windowed app is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bevy::prelude::*;
use onestep_learn::{Execution, LearnPhase, LearnerState};
use onestep_record::{
    demonstrations::DemonstrationRecorder,
    evaluation::{EvaluationReport, EvaluationRun},
};
use onestep_ui::{Notice, RunStatus, SaveRequest, StatusPoint, TickDriver};

use crate::{
    RunError,
    config::RunConfig,
    fault,
    folder::{Evaluation, EvaluationKind, Position},
    run::evaluation_seeds,
    train::{Prepared, Progress, TrainReport, TrainRun, TrainWatcher, WhenBehind},
};

/// A result that outlives the app.
pub(super) type Outcome<T> = Arc<Mutex<Option<Result<T, RunError>>>>;

fn end<T>(outcome: &Outcome<T>, world: &mut World, result: Result<T, RunError>) {
    *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    world.write_message(AppExit::Success);
}

/// A training run, and the trained policy after it.
pub(super) struct TrainDriver<W> {
    run: TrainRun,
    watcher: W,
    report: Option<TrainReport>,
    /// Somebody wants to save, and what is queued has to be made first.
    holds: bool,
    outcome: Outcome<TrainReport>,
}

impl<W: TrainWatcher + 'static> TrainDriver<W> {
    pub(super) fn new(app: &mut App, run: TrainRun, watcher: W, outcome: Outcome<TrainReport>) -> Self {
        let config = run.config();
        let mut status = RunStatus {
            task: config.task.clone(),
            algorithm: config.algorithm.name().to_owned(),
            offline_updates: config.learner.offline_updates,
            online_steps: config.learner.online_steps,
            ..RunStatus::default()
        };
        for evaluation in run.evaluations() {
            status.evaluations.push(point(evaluation));
        }
        app.insert_resource(status).init_resource::<SaveRequest>();
        Self { run, watcher, report: None, holds: false, outcome }
    }

    fn work(&mut self, world: &mut World) -> Result<(), RunError> {
        if self.report.is_some() {
            return self.run.tick(world);
        }
        let mut status = world.remove_resource::<RunStatus>().unwrap_or_default();
        let mut told = Told { watcher: &mut self.watcher, status: &mut status };
        let advanced = self.run.advance(world, &mut told, WhenBehind::Yield);
        world.insert_resource(status);
        if let Some(report) = advanced? {
            if let Some(mut notice) = world.get_resource_mut::<Notice>() {
                notice.tell("the run is over; the trained policy acts until the window is closed");
            }
            self.report = Some(report);
        }
        Ok(())
    }

    fn save(&mut self, world: &mut World) {
        let saved = self.run.save(world, &mut self.watcher);
        if let Some(mut notice) = world.get_resource_mut::<Notice>() {
            match saved {
                Ok(()) => notice.tell("saved"),
                Err(error) => notice.complain(format!("not saved: {error}")),
            }
        }
    }
}

impl<W: TrainWatcher + 'static> TickDriver for TrainDriver<W> {
    fn serve(&mut self, world: &mut World) {
        if !world.get_resource::<SaveRequest>().is_some_and(|save| save.wanted) {
            return;
        }
        // No frame waits for it; no tick adds to it meanwhile.
        self.holds = !onestep_learn::try_finish(world);
        if !self.holds {
            self.save(world);
            world.insert_resource(SaveRequest::default());
        }
    }

    fn advance(&mut self, world: &mut World) {
        if self.holds {
            return;
        }
        if let Err(error) = self.work(world) {
            end(&self.outcome, world, Err(error));
        }
    }

    fn is_free(&self, world: &World) -> bool {
        let is_offline = world.get_resource::<LearnerState>().is_some_and(|state| state.phase == LearnPhase::Offline);
        self.report.is_none() && (is_offline || self.run.is_evaluating())
    }

    fn is_waiting(&self) -> bool {
        self.holds || (self.report.is_none() && self.run.is_waiting())
    }

    fn budget(&self) -> Option<Duration> {
        /// Half a frame at 60 frames per second: who learns in the background wants frames that come evenly.
        const BUDGET: Duration = Duration::from_millis(8);
        (self.run.config().learner.execution == Execution::Background).then_some(BUDGET)
    }

    fn wants_to_close(&mut self) -> bool {
        self.watcher.wants_to_stop()
    }

    fn close(&mut self, world: &mut World) {
        let result = match self.report.take() {
            Some(report) => Ok(report),
            None => Err(self.run.save(world, &mut self.watcher).err().unwrap_or(RunError::Interrupted)),
        };
        end(&self.outcome, world, result);
    }
}

/// Tells the panel what it tells the watcher.
struct Told<'a, W> {
    watcher: &'a mut W,
    status: &'a mut RunStatus,
}

fn point(evaluation: &Evaluation) -> StatusPoint {
    StatusPoint {
        step: evaluation.env_steps,
        success_rate: evaluation.report.success_rate,
        mean_return: evaluation.report.mean_return,
    }
}

impl<W: TrainWatcher> TrainWatcher for Told<'_, W> {
    fn prepared(&mut self, start: &Prepared) {
        self.watcher.prepared(start);
    }

    fn ticked(&mut self, position: Position) {
        self.watcher.ticked(position);
    }

    fn progress(&mut self, progress: &Progress) {
        self.status.left_secs = progress.left_secs;
        self.watcher.progress(progress);
    }

    fn evaluating(&mut self, done: usize, episodes: usize) {
        self.status.evaluating = Some((done, episodes));
        self.watcher.evaluating(done, episodes);
    }

    fn evaluated(&mut self, evaluation: &Evaluation) {
        self.status.evaluating = None;
        self.status.evaluations.push(point(evaluation));
        if evaluation.kind == EvaluationKind::Final {
            self.status.left_secs = None;
        }
        self.watcher.evaluated(evaluation);
    }

    fn saved(&mut self, position: Position) {
        self.watcher.saved(position);
    }

    fn wants_to_stop(&mut self) -> bool {
        self.watcher.wants_to_stop()
    }
}

/// An evaluation whose worlds are those of the window.
pub(super) struct EvaluationDriver<S> {
    run: EvaluationRun,
    episodes: usize,
    wants_to_stop: S,
    report: Option<EvaluationReport>,
    outcome: Outcome<EvaluationReport>,
}

impl<S: Fn() -> bool + 'static> EvaluationDriver<S> {
    pub(super) fn new(
        app: &mut App,
        config: &RunConfig,
        wants_to_stop: S,
        outcome: Outcome<EvaluationReport>,
    ) -> Result<Self, RunError> {
        let episodes = config.evaluation.episodes;
        let run = EvaluationRun::start(app, &evaluation_seeds(config, episodes))?;
        let algorithm = config.algorithm.name().to_owned();
        app.insert_resource(RunStatus { task: config.task.clone(), algorithm, ..RunStatus::default() });
        Ok(Self { run, episodes, wants_to_stop, report: None, outcome })
    }
}

impl<S: Fn() -> bool + 'static> TickDriver for EvaluationDriver<S> {
    fn advance(&mut self, world: &mut World) {
        if self.report.is_some() {
            return;
        }
        let ended = self.run.tick(world);
        if let Some(mut status) = world.get_resource_mut::<RunStatus>() {
            status.evaluating = Some((self.run.finished(), self.episodes));
        }
        if let Some(fault) = fault::of_app(world) {
            return end(&self.outcome, world, Err(RunError::Fault(Box::new(fault))));
        }
        match ended {
            None => {}
            Some(Ok(report)) => {
                if let Some(mut status) = world.get_resource_mut::<RunStatus>() {
                    status.is_over = true;
                }
                if let Some(mut notice) = world.get_resource_mut::<Notice>() {
                    let (successes, episodes) = (report.successes, report.episodes);
                    notice.tell(format!("all episodes are over: {successes} of {episodes} succeed"));
                }
                self.report = Some(report);
            }
            Some(Err(error)) => end(&self.outcome, world, Err(error.into())),
        }
    }

    fn wants_to_close(&mut self) -> bool {
        (self.wants_to_stop)()
    }

    fn close(&mut self, world: &mut World) {
        let result = self.report.take().ok_or(RunError::Interrupted);
        end(&self.outcome, world, result);
    }
}

/// Agents that act until the window is closed.
pub(super) struct PlayDriver<S> {
    wants_to_stop: S,
    outcome: Outcome<()>,
}

impl<S: Fn() -> bool + 'static> PlayDriver<S> {
    pub(super) fn new(wants_to_stop: S, outcome: Outcome<()>) -> Self {
        Self { wants_to_stop, outcome }
    }
}

impl<S: Fn() -> bool + 'static> TickDriver for PlayDriver<S> {
    fn advance(&mut self, world: &mut World) {
        onestep_record::tick(world);
        if let Some(fault) = fault::of_app(world) {
            if let Err(error) = flush(world) {
                tracing::error!("{error}");
            }
            end(&self.outcome, world, Err(RunError::Fault(Box::new(fault))));
        }
    }

    fn wants_to_close(&mut self) -> bool {
        (self.wants_to_stop)()
    }

    fn close(&mut self, world: &mut World) {
        let result = flush(world);
        end(&self.outcome, world, result);
    }
}

/// Demonstrations that could not be written get their last chance.
fn flush(world: &mut World) -> Result<(), RunError> {
    match world.get_resource_mut::<DemonstrationRecorder>() {
        Some(mut recorder) => Ok(recorder.flush()?),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use onestep_agent::{Agent, AgentMode};
    use onestep_data::EpisodeFile;
    use onestep_record::demonstrations::DemonstrationPlugin;
    use onestep_sim::SimPlugin;

    #[test]
    fn closing_saves_demonstrations_whose_file_was_blocked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.safetensors");
        let mut app = App::new();
        app.add_plugins((
            MinimalPlugins,
            SimPlugin { mode: AgentMode::Scripted, ..SimPlugin::default() },
            DemonstrationPlugin,
        ));
        app.finish();
        app.cleanup();
        let spec = onestep_sim::task("lift").unwrap().spec();
        app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
        let outcome = Outcome::default();
        let mut driver = PlayDriver::new(|| false, outcome.clone());
        (0..3).for_each(|_| driver.advance(app.world_mut()));
        std::fs::create_dir(&path).unwrap();
        app.world_mut().resource_mut::<DemonstrationRecorder>().keep().unwrap_err();
        driver.close(app.world_mut());
        let error = outcome.lock().unwrap().take().unwrap().unwrap_err().to_string();
        let rescued = folder.path().join("demos-rescued-1.safetensors");
        assert!(error.contains("demos.safetensors") && error.contains(&rescued.display().to_string()), "{error}");
        let file = EpisodeFile::read(&rescued).unwrap();
        assert_eq!((file.episodes.len(), file.episodes[0].rewards.len()), (1, 3));
    }
}
