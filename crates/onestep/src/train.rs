//! A training run from demonstrations to the last evaluation.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bevy::{ecs::message::MessageCursor, prelude::*};
use onestep_agent::{EpisodeEnd, EpisodeFinished};
use onestep_data::EpisodeFile;
use onestep_learn::{
    ComputeReport, Execution, LearnError, LearnPhase, LearnerMetrics, LearnerState, PolicyHandle, Replay, checkpoint,
    prepare,
};
use onestep_policy::ObservationScaling;
use onestep_record::evaluation::{EvaluationError, EvaluationReport, EvaluationRun};

use crate::{
    RunError,
    config::RunConfig,
    fault,
    folder::{Evaluation, EvaluationKind, MetricsLog, Position, RunFolder, column},
    run::{Role, build_app, demonstrations, evaluation_seeds, require_room},
};

/// Follows a training run: for a progress line, a log, or a test. Every method may be left out.
pub trait TrainWatcher {
    /// Demonstrations are being collected: so many of so many are there.
    fn demonstrating(&mut self, _kept: usize, _wanted: usize) {}
    /// Demonstrations are in the replay, and the learner is ready.
    fn prepared(&mut self, _start: &Prepared) {}
    /// One control step of the agents, or one portion of offline updates, is done.
    fn ticked(&mut self, _position: Position) {}
    /// Where the run stands and how fast it goes; called a few times a second.
    fn progress(&mut self, _progress: &Progress) {}
    /// An evaluation is under way: so many of so many episodes are over.
    fn evaluating(&mut self, _done: usize, _episodes: usize) {}
    /// An evaluation is done.
    fn evaluated(&mut self, _evaluation: &Evaluation) {}
    /// A checkpoint was written.
    fn saved(&mut self, _position: Position) {}
    /// Whether to save and stop here; asked between two ticks.
    fn wants_to_stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
impl TrainWatcher for () {}

/// What a run starts with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Which device learns, and why.
    pub compute: String,
    /// Numbers in all networks.
    pub parameters: usize,
    /// Transitions in the replay.
    pub transitions: usize,
    /// Share of the demonstrations that end in success; none in a resumed run.
    pub demonstration_success_rate: Option<f64>,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Offline, online or done.
    pub phase: LearnPhase,
    /// Updates and control steps so far.
    pub position: Position,
    /// Updates of the offline phase in all.
    pub offline_updates: u64,
    /// Control steps of the online phase in all.
    pub online_steps: u64,
    /// Updates for each second, lately.
    pub updates_per_sec: f64,
    /// Control steps for each second, lately.
    pub steps_per_sec: f64,
    /// Share of the last training episodes whose goal held at the end.
    pub success_rate: Option<f64>,
    /// Estimated seconds of work to the end, evaluations aside.
    pub left_secs: Option<f64>,
}

/// What a finished run has shown.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainReport {
    /// All evaluations in order.
    pub evaluations: Vec<Evaluation>,
    /// Seconds of work, over all sessions of the run.
    pub wall_secs: f64,
}

impl TrainReport {
    /// The evaluation of this kind, the last one if there are several.
    #[must_use]
    pub fn evaluation(&self, kind: EvaluationKind) -> Option<&EvaluationReport> {
        self.evaluations.iter().rev().find(|evaluation| evaluation.kind == kind).map(|evaluation| &evaluation.report)
    }
}

/// A training run: learning agents in one app, evaluations in others.
///
/// ```no_run
/// use onestep::{config::RunConfig, train::Trainer};
///
/// let config = RunConfig::preset("lift", "small")?;
/// let report = Trainer::new(config, None, &mut ())?.run(&mut ())?;
/// println!("{:?}", report.evaluations);
/// # Ok::<(), onestep::RunError>(())
/// ```
pub struct Trainer {
    app: App,
    run: TrainRun,
}

impl Trainer {
    /// A run from its beginning, or from its last checkpoint.
    ///
    /// # Errors
    /// [`RunError`]; nothing was learned then.
    pub fn start(
        config: RunConfig,
        folder: Option<RunFolder>,
        start: Start,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Self, RunError> {
        require_room(&config, &Role::Train)?;
        let mut app = build_app(&config, &Role::Train);
        let run = TrainRun::begin(&mut app, config, folder, start, watcher)?;
        Ok(Self { app, run })
    }

    /// Starts a new run: collects or reads demonstrations and builds the learner. With a folder, everything is written
    /// there.
    ///
    /// # Errors
    /// [`RunError`]; nothing was learned then.
    pub fn new(config: RunConfig, folder: Option<RunFolder>, watcher: &mut dyn TrainWatcher) -> Result<Self, RunError> {
        // Before demonstrations are collected, which may take long.
        require_room(&config, &Role::Train)?;
        let demonstrations = wanted_demonstrations(&config, watcher)?;
        Self::with_demonstrations(config, folder, demonstrations.as_ref(), watcher)
    }

    /// Starts a new run with these demonstrations.
    ///
    /// # Errors
    /// [`RunError`]; nothing was learned then.
    pub fn with_demonstrations(
        config: RunConfig,
        folder: Option<RunFolder>,
        demonstrations: Option<&EpisodeFile>,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Self, RunError> {
        require_room(&config, &Role::Train)?;
        let mut app = build_app(&config, &Role::Train);
        let run = TrainRun::start(&mut app, config, folder, demonstrations, watcher)?;
        Ok(Self { app, run })
    }

    /// Goes on with the run in `folder` from its last checkpoint. Numbers that were written after it are dropped.
    ///
    /// More `learner.online_steps` in `config` than in the folder prolong the run, a finished one too: it then goes on as
    /// if it had been meant to be that long from the start.
    ///
    /// # Errors
    /// [`RunError`], naming the file that is missing or broken; files are left as they are. [`FolderError::TooShort`] when
    /// the run has made more steps already.
    ///
    /// [`FolderError::TooShort`]: crate::folder::FolderError::TooShort
    pub fn resume(folder: RunFolder, config: RunConfig, watcher: &mut dyn TrainWatcher) -> Result<Self, RunError> {
        require_room(&config, &Role::Train)?;
        let mut app = build_app(&config, &Role::Train);
        let run = TrainRun::resume(&mut app, folder, config, watcher)?;
        Ok(Self { app, run })
    }

    /// The description of the run.
    #[must_use]
    pub fn config(&self) -> &RunConfig {
        &self.run.config
    }

    /// The app with the learning agents.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.app
    }

    /// The networks.
    #[must_use]
    pub fn policy(&self) -> &PolicyHandle {
        &self.run.policy
    }

    /// Updates and control steps so far.
    #[must_use]
    pub fn position(&self) -> Position {
        position(self.app.world())
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// [`RunError::Interrupted`] when the watcher asked to stop: the run was saved and can be resumed.
    /// [`RunError::Fault`] when a number in a loss or a state is not finite: the report is in `fault.json`, and the
    /// last checkpoint is as it was.
    pub fn run(&mut self, watcher: &mut dyn TrainWatcher) -> Result<TrainReport, RunError> {
        loop {
            if let Some(report) = self.run.advance(self.app.world_mut(), watcher, WhenBehind::Wait)? {
                return Ok(report);
            }
        }
    }

    /// One control step, or one portion of offline updates.
    ///
    /// # Errors
    /// [`RunError::Fault`] when a number is not finite.
    pub fn tick(&mut self) -> Result<(), RunError> {
        self.run.tick_and(self.app.world_mut(), WhenBehind::Wait)
    }

    /// Writes a checkpoint, if the run has a folder.
    ///
    /// # Errors
    /// [`RunError::Learn`]; the checkpoint before stays valid.
    pub fn save(&mut self, watcher: &mut dyn TrainWatcher) -> Result<(), RunError> {
        self.run.save(self.app.world_mut(), watcher)
    }
}

/// What a training run starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Demonstrations, or none.
    New(Option<EpisodeFile>),
    /// The last checkpoint of its folder.
    Resume,
}

/// The demonstrations that a new run starts from, if it wants any.
///
/// # Errors
/// As [`demonstrations`].
pub fn wanted_demonstrations(
    config: &RunConfig,
    watcher: &mut dyn TrainWatcher,
) -> Result<Option<EpisodeFile>, RunError> {
    let wanted = config.demonstrations.episodes;
    if wanted == 0 {
        return Ok(None);
    }
    demonstrations(config, |kept| {
        watcher.demonstrating(kept, wanted);
        !watcher.wants_to_stop()
    })
    .map(Some)
}

/// What a run does when learning in the background is behind: its queue is full, or updates have to be made before an
/// evaluation or a checkpoint. With [`Execution::Inline`] it never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBehind {
    /// Waits for it: right for a loop that shows nothing.
    Wait,
    /// Does nothing and says so by [`TrainRun::is_waiting`]: right for frames, which try again with the next.
    Yield,
}

/// A training run without the app that it happens in: when to evaluate, to save, and to write a row of metrics.
///
/// [`Trainer`] calls it in a loop, a window between its frames: both make the same run of it.
pub struct TrainRun {
    config: RunConfig,
    folder: Option<RunFolder>,
    policy: PolicyHandle,
    evaluations: Vec<Evaluation>,
    evaluation: Option<OpenEvaluation>,
    log: Option<MetricsLog>,
    rows: RowSchedule,
    episodes: EpisodeWindow,
    clock: RunClock,
    last_save: Instant,
    meter: RateMeter,
    is_waiting: bool,
}

/// An evaluation under way, in worlds of its own.
struct OpenEvaluation {
    kind: EvaluationKind,
    app: App,
    run: EvaluationRun,
}

impl TrainRun {
    /// Starts or goes on, in an app with the plugins of [`Role::Train`].
    ///
    /// # Errors
    /// As [`TrainRun::start`] and [`TrainRun::resume`].
    pub fn begin(
        app: &mut App,
        config: RunConfig,
        folder: Option<RunFolder>,
        start: Start,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Self, RunError> {
        match (start, folder) {
            (Start::Resume, Some(folder)) => Self::resume(app, folder, config, watcher),
            (Start::Resume, None) => Self::start(app, config, None, None, watcher),
            (Start::New(demonstrations), folder) => Self::start(app, config, folder, demonstrations.as_ref(), watcher),
        }
    }

    /// Starts a new run in an app with the plugins of [`Role::Train`]: builds the learner, fills the replay.
    ///
    /// # Errors
    /// [`RunError`]; nothing was learned then.
    pub fn start(
        app: &mut App,
        config: RunConfig,
        folder: Option<RunFolder>,
        demonstrations: Option<&EpisodeFile>,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Self, RunError> {
        let policy = prepare(app)?;
        if let Some(other) = &config.init_from {
            let (other, _) = RunFolder::open(other)?;
            checkpoint::load_weights(&policy, &other.existing_checkpoint()?)?;
        }
        if let (Some(demonstrations), Some(mut replay)) = (demonstrations, app.world_mut().get_resource_mut::<Replay>())
        {
            for episode in &demonstrations.episodes {
                replay.push_episode(episode)?;
            }
            // Networks that were taken over bring their own scaling.
            if config.demonstrations.standardise_observations && config.init_from.is_none() {
                let dim = policy.with(|learner| learner.spec().observation_dim);
                let scaling = ObservationScaling::standardising(dim, replay.observations());
                policy.with(|learner| learner.set_observation_scaling(Some(scaling))).map_err(LearnError::from)?;
            }
        }
        let log = folder.as_ref().map(|folder| MetricsLog::create(folder, wall_time_secs())).transpose()?;
        let run = Self::at(app.world(), config, folder, policy, Vec::new(), log, 0.0);
        watcher.prepared(&run.prepared(app.world(), demonstrations.map(success_rate)));
        Ok(run)
    }

    /// Goes on with the run in `folder` from its last checkpoint, in an app with the plugins of [`Role::Train`].
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub fn resume(
        app: &mut App,
        folder: RunFolder,
        config: RunConfig,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Self, RunError> {
        let saved = folder.existing_checkpoint()?;
        let mut evaluations = folder.evaluations()?;
        let policy = prepare(app)?;
        checkpoint::load(app, &saved)?;
        let position = position(app.world());
        let relengthened = folder.with_online_steps(config.learner.online_steps, position)?;
        if position.env_steps < config.learner.online_steps {
            // A finished run that was prolonged stands where a longer one would stand.
            if let Some(mut state) = app.world_mut().get_resource_mut::<LearnerState>()
                && state.phase == LearnPhase::Done
            {
                state.phase = LearnPhase::Online;
            }
            for evaluation in evaluations.iter_mut().filter(|evaluation| evaluation.kind == EvaluationKind::Final) {
                evaluation.kind = EvaluationKind::Online;
            }
        }
        evaluations.retain(|evaluation| {
            Position { updates: evaluation.updates, env_steps: evaluation.env_steps }.is_within(position)
        });
        let (log, worked_secs) = MetricsLog::resume(&folder, wall_time_secs(), position)?;
        if let Some(description) = relengthened {
            // In this order, so that no run that stops in between looks as if it had come to its new end.
            folder.write_evaluations(&evaluations)?;
            folder.write_config(&description)?;
        }
        let run = Self::at(app.world(), config, Some(folder), policy, evaluations, Some(log), worked_secs);
        watcher.prepared(&run.prepared(app.world(), None));
        Ok(run)
    }

    fn at(
        world: &World,
        config: RunConfig,
        folder: Option<RunFolder>,
        policy: PolicyHandle,
        evaluations: Vec<Evaluation>,
        log: Option<MetricsLog>,
        worked_secs: f64,
    ) -> Self {
        let position = position(world);
        Self {
            rows: RowSchedule::at(&config, position),
            meter: RateMeter::start(position),
            last_save: Instant::now(),
            clock: RunClock::start(worked_secs),
            episodes: EpisodeWindow::default(),
            evaluation: None,
            is_waiting: false,
            config,
            folder,
            policy,
            evaluations,
            log,
        }
    }

    /// The description of the run.
    #[must_use]
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The evaluations so far, in order.
    #[must_use]
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// Whether the next piece of work is one of an evaluation.
    #[must_use]
    pub fn is_evaluating(&self) -> bool {
        self.evaluation.is_some()
    }

    /// Whether the last call of [`advance`](Self::advance) did nothing, because learning in the background has to catch up
    /// first.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The smallest piece of the run: one control step of the learning agents, one portion of offline updates, or one
    /// control step of an evaluation. Returns the report once the run is over.
    ///
    /// What is done, and in which order, does not depend on `when_behind` where updates are made inside the tick.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn advance(
        &mut self,
        world: &mut World,
        watcher: &mut dyn TrainWatcher,
        when_behind: WhenBehind,
    ) -> Result<Option<TrainReport>, RunError> {
        self.is_waiting = false;
        if let Some(open) = self.evaluation.take() {
            return self.evaluate(open, world, watcher);
        }
        // What is finished is counted before anything is decided by it.
        let may_tick = when_behind == WhenBehind::Wait || onestep_learn::try_keep_pace(world);
        self.check_faults(world)?;
        if let Some(kind) = self.due_evaluation(world) {
            let is_settled = match when_behind {
                WhenBehind::Wait => {
                    onestep_learn::settle(world);
                    true
                }
                WhenBehind::Yield => onestep_learn::try_settle(world),
            };
            self.check_faults(world)?;
            if !is_settled {
                self.is_waiting = true;
                return Ok(None);
            }
            let mut app = build_app(&self.config, &Role::Evaluate(self.policy.clone()));
            let seeds = evaluation_seeds(&self.config, self.config.evaluation.episodes);
            let run = EvaluationRun::start(&mut app, &seeds)?;
            self.evaluation = Some(OpenEvaluation { kind, app, run });
            return Ok(None);
        }
        if is_done(world) {
            return Ok(Some(self.report()));
        }
        if watcher.wants_to_stop() {
            self.save(world, watcher)?;
            return Err(RunError::Interrupted);
        }
        if !may_tick || (when_behind == WhenBehind::Yield && self.is_save_due()) {
            // A checkpoint comes as soon as what is queued is made; no tick adds to it meanwhile.
            if self.is_save_due() && onestep_learn::try_finish(world) {
                self.save(world, watcher)?;
            }
            self.is_waiting = true;
            return Ok(None);
        }
        self.tick_and(world, when_behind)?;
        let position = position(world);
        watcher.ticked(position);
        if let Some(rates) = self.meter.measure(position) {
            watcher.progress(&self.progress(world, rates));
        }
        if self.rows.is_due(position) {
            self.write_row(world, &[])?;
        }
        if self.is_save_due() && (when_behind == WhenBehind::Wait || onestep_learn::try_finish(world)) {
            self.save(world, watcher)?;
        }
        Ok(None)
    }

    fn is_save_due(&self) -> bool {
        self.last_save.elapsed().as_secs_f64() >= self.config.checkpoint.every_secs
    }

    fn report(&self) -> TrainReport {
        TrainReport { evaluations: self.evaluations.clone(), wall_secs: self.clock.worked_secs() }
    }

    /// One control step, or one portion of offline updates. It does not wait for learning in the background.
    ///
    /// # Errors
    /// [`RunError::Fault`] when a number is not finite.
    pub fn tick(&mut self, world: &mut World) -> Result<(), RunError> {
        self.tick_and(world, WhenBehind::Yield)
    }

    fn tick_and(&mut self, world: &mut World, when_behind: WhenBehind) -> Result<(), RunError> {
        onestep_record::tick(world);
        if when_behind == WhenBehind::Wait {
            onestep_learn::keep_pace(world);
        }
        self.episodes.read(world);
        self.check_faults(world)
    }

    fn check_faults(&self, world: &World) -> Result<(), RunError> {
        match fault::of_app(world) {
            None => Ok(()),
            Some(report) => {
                if let Some(folder) = &self.folder {
                    folder.write_fault(&report)?;
                }
                Err(RunError::Fault(Box::new(report)))
            }
        }
    }

    /// Writes a checkpoint, if the run has a folder.
    ///
    /// # Errors
    /// [`RunError::Learn`]; the checkpoint before stays valid.
    pub fn save(&mut self, world: &mut World, watcher: &mut dyn TrainWatcher) -> Result<(), RunError> {
        self.last_save = Instant::now();
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.checkpoint_path();
        checkpoint::save(world, &path)?;
        watcher.saved(position(world));
        Ok(())
    }

    /// The evaluation that should be made now. It depends on where the run stands alone, so that a resumed run makes
    /// the same ones.
    fn due_evaluation(&self, world: &World) -> Option<EvaluationKind> {
        let here = position(world);
        let schedule = &self.config.learner;
        let none_of = |kind| !self.evaluations.iter().any(|evaluation| evaluation.kind == kind);
        if is_done(world) {
            return none_of(EvaluationKind::Final).then_some(EvaluationKind::Final);
        }
        if here.env_steps == 0 {
            let is_due = schedule.offline_updates > 0 && here.updates >= schedule.offline_updates;
            return (is_due && none_of(EvaluationKind::AfterOffline)).then_some(EvaluationKind::AfterOffline);
        }
        let number = here.env_steps / self.config.evaluation.every_steps;
        let last = self
            .evaluations
            .iter()
            .filter(|evaluation| evaluation.kind == EvaluationKind::Online)
            .map(|evaluation| evaluation.env_steps / self.config.evaluation.every_steps)
            .max()
            .unwrap_or(0);
        // The last one is the final one.
        (number > last && here.env_steps < schedule.online_steps).then_some(EvaluationKind::Online)
    }

    /// One control step of an evaluation, and what follows from its last one.
    fn evaluate(
        &mut self,
        mut open: OpenEvaluation,
        world: &mut World,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<Option<TrainReport>, RunError> {
        let apart = open.app.world_mut();
        let Some(result) = open.run.tick(apart) else {
            watcher.evaluating(open.run.finished(), self.config.evaluation.episodes);
            if let Some(fault) = fault::of_app(apart) {
                let reason = format!("{}: {}", fault.place, fault.error);
                return Err(EvaluationError::Stopped { reason }.into());
            }
            if watcher.wants_to_stop() {
                self.save(world, watcher)?;
                return Err(RunError::Interrupted);
            }
            self.evaluation = Some(open);
            return Ok(None);
        };
        self.evaluated(open.kind, result?, world, watcher)?;
        // What an evaluation has cost is not lost when the program dies.
        self.save(world, watcher)?;
        self.meter.restart(position(world));
        Ok((open.kind == EvaluationKind::Final).then(|| self.report()))
    }

    fn evaluated(
        &mut self,
        kind: EvaluationKind,
        report: EvaluationReport,
        world: &mut World,
        watcher: &mut dyn TrainWatcher,
    ) -> Result<(), RunError> {
        let position = position(world);
        let evaluation = Evaluation { kind, updates: position.updates, env_steps: position.env_steps, report };
        let row = [
            (column::EVAL_SUCCESS_RATE, evaluation.report.success_rate),
            (column::EVAL_SUCCESS_LOW, evaluation.report.success_interval.low),
            (column::EVAL_SUCCESS_HIGH, evaluation.report.success_interval.high),
            (column::EVAL_RETURN, evaluation.report.mean_return),
            (column::EVAL_STEPS, evaluation.report.mean_steps),
        ];
        self.write_row(world, &row)?;
        watcher.evaluated(&evaluation);
        self.evaluations.push(evaluation);
        if let Some(folder) = &self.folder {
            folder.write_evaluations(&self.evaluations)?;
        }
        Ok(())
    }

    fn write_row(&mut self, world: &mut World, extra: &[(&'static str, f64)]) -> Result<(), RunError> {
        let position = position(world);
        let phase = world.get_resource::<LearnerState>().map_or(LearnPhase::Offline, |state| state.phase);
        let transitions = world.get_resource::<Replay>().map_or(0, Replay::len);
        let means =
            world.get_resource_mut::<LearnerMetrics>().map(|mut metrics| metrics.take_means()).unwrap_or_default();
        let (updates_per_sec, steps_per_sec) = self.clock.rates_since_row(position);
        let mut row = vec![
            (column::WALL_SECS, self.clock.worked_secs()),
            (column::PHASE, if phase == LearnPhase::Offline { 0.0 } else { 1.0 }),
            (column::UPDATES, position.updates as f64),
            (column::ENV_STEPS, position.env_steps as f64),
            (column::UPDATES_PER_SEC, updates_per_sec),
            (column::STEPS_PER_SEC, steps_per_sec),
            (column::REPLAY_TRANSITIONS, transitions as f64),
        ];
        // TensorBoard shows them, the table has no columns for what hardly any run has.
        let by_hand = world.get_resource::<Replay>().map_or(0, Replay::interventions);
        if by_hand > 0 {
            row.push((column::REPLAY_INTERVENTIONS, by_hand as f64));
        }
        row.extend(self.episodes.take_means());
        row.extend_from_slice(extra);
        row.extend(means.into_iter().map(|(name, value)| (name, f64::from(value))));
        if let Some(log) = &mut self.log {
            log.add(wall_time_secs(), position, &row)?;
        }
        Ok(())
    }

    fn progress(&self, world: &World, (updates_per_sec, steps_per_sec): (f64, f64)) -> Progress {
        let position = position(world);
        let schedule = &self.config.learner;
        let phase = world.get_resource::<LearnerState>().map_or(LearnPhase::Done, |state| state.phase);
        let steps_left = schedule.online_steps.saturating_sub(position.env_steps) as f64;
        let seconds = |work: f64, rate: f64| (rate > 0.0).then(|| work / rate);
        let left_secs = match phase {
            LearnPhase::Offline => {
                let offline = schedule.offline_updates.saturating_sub(position.updates) as f64;
                // Online, updates are nearly all of the work as well.
                seconds(offline + steps_left * schedule.updates_per_step, updates_per_sec)
            }
            LearnPhase::Online => seconds(steps_left, steps_per_sec),
            LearnPhase::Done => Some(0.0),
        };
        Progress {
            phase,
            position,
            offline_updates: schedule.offline_updates,
            online_steps: schedule.online_steps,
            updates_per_sec,
            steps_per_sec,
            success_rate: self.episodes.recent_success_rate(),
            left_secs,
        }
    }

    fn prepared(&self, world: &World, demonstration_success_rate: Option<f64>) -> Prepared {
        let mut compute = world.get_resource::<ComputeReport>().map_or_else(String::new, |report| report.text.clone());
        if self.config.learner.execution == Execution::Background {
            compute.push_str(", in the background: this run is not repeatable to the bit");
        }
        Prepared {
            compute,
            parameters: self.policy.with(|learner| learner.parameter_count()),
            transitions: world.get_resource::<Replay>().map_or(0, Replay::len),
            demonstration_success_rate,
        }
    }
}

fn is_done(world: &World) -> bool {
    world.get_resource::<LearnerState>().is_none_or(|state| state.phase == LearnPhase::Done)
}

fn position(world: &World) -> Position {
    world
        .get_resource::<LearnerState>()
        .map_or_else(Position::default, |state| Position { updates: state.updates, env_steps: state.env_steps })
}

fn success_rate(file: &EpisodeFile) -> f64 {
    let successes = file.episodes.iter().filter(|episode| episode.is_success()).count();
    successes as f64 / file.episodes.len().max(1) as f64
}

/// Seconds since 1970.
fn wall_time_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Training episodes that ended lately. Those in which a person acted say nothing of the policy, and are left out.
#[derive(Default)]
struct EpisodeWindow {
    cursor: MessageCursor<EpisodeFinished>,
    since_row: Vec<EpisodeEnd>,
    recent: std::collections::VecDeque<bool>,
}

/// Episodes that a progress line's success rate is taken over.
const RECENT_EPISODES: usize = 20;

impl EpisodeWindow {
    fn read(&mut self, world: &World) {
        let Some(messages) = world.get_resource::<Messages<EpisodeFinished>>() else { return };
        for EpisodeFinished(end) in self.cursor.read(messages).filter(|EpisodeFinished(end)| end.human_steps == 0) {
            self.since_row.push(end.clone());
            self.recent.push_back(end.success);
        }
        while self.recent.len() > RECENT_EPISODES {
            self.recent.pop_front();
        }
    }

    fn recent_success_rate(&self) -> Option<f64> {
        let successes = self.recent.iter().filter(|success| **success).count();
        (!self.recent.is_empty()).then(|| successes as f64 / self.recent.len() as f64)
    }

    fn take_means(&mut self) -> Vec<(&'static str, f64)> {
        let ends = std::mem::take(&mut self.since_row);
        let count = ends.len() as f64;
        if ends.is_empty() {
            return vec![(column::TRAIN_EPISODES, 0.0)];
        }
        let mean = |value: &dyn Fn(&EpisodeEnd) -> f64| ends.iter().map(value).sum::<f64>() / count;
        vec![
            (column::TRAIN_EPISODES, count),
            (column::TRAIN_SUCCESS_RATE, mean(&|end| f64::from(u8::from(end.success)))),
            (column::TRAIN_RETURN, mean(&|end| end.return_sum)),
            (column::TRAIN_STEPS, mean(&|end| f64::from(end.steps))),
        ]
    }
}

/// Says when a row of metrics is due, by the numbers of updates and steps alone.
struct RowSchedule {
    every: Position,
    last: Position,
}

impl RowSchedule {
    fn at(config: &RunConfig, position: Position) -> Self {
        let every = Position { updates: config.log.every_updates.max(1), env_steps: config.log.every_steps.max(1) };
        Self { every, last: Self::number(every, position) }
    }

    fn number(every: Position, position: Position) -> Position {
        Position { updates: position.updates / every.updates, env_steps: position.env_steps / every.env_steps }
    }

    fn is_due(&mut self, position: Position) -> bool {
        let number = Self::number(self.every, position);
        std::mem::replace(&mut self.last, number) != number
    }
}

/// Time of the run, over all its sessions.
struct RunClock {
    started: Instant,
    worked_before_secs: f64,
    row: (Instant, Position),
}

impl RunClock {
    fn start(worked_before_secs: f64) -> Self {
        let now = Instant::now();
        Self { started: now, worked_before_secs, row: (now, Position::default()) }
    }

    fn worked_secs(&self) -> f64 {
        self.worked_before_secs + self.started.elapsed().as_secs_f64()
    }

    /// Updates and steps for each second since the last row.
    fn rates_since_row(&mut self, position: Position) -> (f64, f64) {
        let (then, before) = std::mem::replace(&mut self.row, (Instant::now(), position));
        rates(then, before, position)
    }
}

fn rates(then: Instant, before: Position, now: Position) -> (f64, f64) {
    let secs = then.elapsed().as_secs_f64().max(1e-9);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / secs;
    (rate(now.updates, before.updates), rate(now.env_steps, before.env_steps))
}

/// Rates for a progress line, over the last seconds.
struct RateMeter {
    marks: std::collections::VecDeque<(Instant, Position)>,
}

/// How often a progress line gets new numbers.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Over how many of those a rate is taken: five seconds.
const RATE_MARKS: usize = 25;

impl RateMeter {
    fn start(position: Position) -> Self {
        Self { marks: [(Instant::now(), position)].into() }
    }

    fn restart(&mut self, position: Position) {
        *self = Self::start(position);
    }

    /// The rates, a few times a second.
    fn measure(&mut self, position: Position) -> Option<(f64, f64)> {
        let (newest, _) = self.marks.back()?;
        if newest.elapsed() < PROGRESS_EVERY {
            return None;
        }
        let (then, before) = *self.marks.front()?;
        let rates = rates(then, before, position);
        self.marks.push_back((Instant::now(), position));
        while self.marks.len() > RATE_MARKS {
            self.marks.pop_front();
        }
        Some(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onestep_agent::Agent;

    #[test]
    fn episodes_by_hand_say_nothing_of_the_policy() {
        let mut world = World::new();
        world.init_resource::<Messages<EpisodeFinished>>();
        for (success, human_steps) in [(false, 0), (true, 3), (true, 10)] {
            world.write_message(EpisodeFinished(EpisodeEnd {
                agent: Agent(0),
                index: 0,
                seed: 0,
                steps: 10,
                return_sum: -1.0,
                success,
                success_once: success,
                terminated: success,
                truncated: !success,
                human_steps,
            }));
        }
        let mut window = EpisodeWindow::default();
        window.read(&world);
        assert_eq!(window.recent_success_rate(), Some(0.0));
        let means = window.take_means();
        assert!(means.contains(&(column::TRAIN_EPISODES, 1.0)) && means.contains(&(column::TRAIN_SUCCESS_RATE, 0.0)));
    }
}
