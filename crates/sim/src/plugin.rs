//! Arenas as agents of a Bevy app.

use std::sync::Arc;

use bevy::app::{App, AppExit, FixedUpdate, Plugin};
use bevy::ecs::prelude::*;
use bevy::math::Vec3;
use bevy::tasks::ComputeTaskPool;
use bevy::time::{Fixed, Time};
use bevy::transform::components::Transform;
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::prelude::*;

use crate::arena::{SimArena, StateRecord};
use crate::error::SimError;
use crate::expert::ExpertNoise;
use crate::frames;
use crate::model::BodyShape;
use crate::robot::Robot;
use crate::script::Script;
use crate::task::{Task, task};

/// Simulates arenas: one agent entity each, with a task and what moves in it.
///
/// Each arena has a physics world of its own, so an episode depends on its seed and its actions alone, whatever the
/// number of arenas and the order of steps. Adds [`AgentPlugin`] if it is missing.
///
/// | component of the arena's entity | what it is |
/// |---|---|
/// | everything of [`AgentBundle`] | the contract with a policy |
/// | [`Arena`] | the simulation |
/// | [`ExpertNoise`] | how the scripted expert is disturbed |
/// | `Transform` | where the arena stands in the scene |
///
/// Its children are [`SimBody`]s with a `Transform`, one for each link, object and fixture.
///
/// The app's fixed period is set to the task's control period. Whoever changes it changes how fast episodes pass on a
/// clock, not the physics: one tick is always one control step of the task.
#[derive(Debug, Clone)]
pub struct SimPlugin {
    /// Name of the task, one of [`tasks`](crate::tasks).
    pub task: String,
    /// A task of one's own; then `task` is not read.
    pub custom_task: Option<Arc<dyn Task>>,
    /// A robot of one's own instead of the embedded Panda.
    pub robot: Option<Arc<Robot>>,
    /// How many arenas.
    pub arenas: u32,
    /// Number of the first arena's agent; the others follow.
    pub first_agent: u32,
    /// Root seed of all random streams, if [`AgentPlugin`] is not in the app yet.
    pub seed: u64,
    /// Who acts at the beginning.
    pub mode: AgentMode,
    /// Noise of the scripted expert.
    pub expert_noise: ExpertNoise,
    /// Distance between arenas in the scene, metres. Physics does not feel it.
    pub spacing: f32,
    /// Spawn bodies as child entities and move them: needed for drawing, not for learning.
    pub bodies: bool,
}

impl Default for SimPlugin {
    fn default() -> Self {
        Self {
            task: "lift".to_owned(),
            custom_task: None,
            robot: None,
            arenas: 1,
            first_agent: 0,
            seed: 0,
            mode: AgentMode::Policy,
            expert_noise: ExpertNoise::default(),
            spacing: 2.5, // an arm reaches 0.86 m
            bodies: true,
        }
    }
}

impl SimPlugin {
    /// The task and the robot that the plugin would use.
    ///
    /// # Errors
    /// An unknown task, or a script that should act in a task without an expert. Ask before building the app; the
    /// plugin itself logs the error and ends the app.
    pub fn resolve(&self) -> Result<(Arc<dyn Task>, Arc<Robot>), SimError> {
        let task = match &self.custom_task {
            Some(custom) => custom.clone(),
            None => task(&self.task)?,
        };
        if self.mode == AgentMode::Scripted && !task.has_expert() {
            return Err(SimError::NoExpert { task: task.name().to_owned() });
        }
        let robot = match &self.robot {
            Some(robot) => robot.clone(),
            None => Robot::panda()?,
        };
        Ok((task, robot))
    }
}

/// The simulation of one arena, on the agent's entity.
#[derive(Component, Debug)]
pub struct Arena {
    sim: SimArena,
    result: Option<Result<Outcome, SimError>>,
}

impl Arena {
    /// The simulation.
    #[must_use]
    pub fn sim(&self) -> &SimArena {
        &self.sim
    }

    /// The simulation, to change: for tests and experiments.
    pub fn sim_mut(&mut self) -> &mut SimArena {
        &mut self.sim
    }
}

/// A body of an arena: a link, a finger, an object or a fixture. A child of the arena's entity.
///
/// Its `Transform` takes the body's own axes (as in its data file) to the arena in Bevy's axes.
#[derive(Component, Debug, Clone, PartialEq)]
pub struct SimBody {
    /// Name: `mount`, `link0` to `link7`, `hand`, `finger_left`, `finger_right`, the task's objects and fixtures.
    pub name: String,
    /// Its plain shape. Objects may change theirs at a reset.
    pub shape: BodyShape,
}

/// The row of a [`SimBody`] among its arena's bodies.
#[derive(Component, Debug, Clone, Copy)]
struct BodyIndex(usize);

/// Message: an arena has met a number that is not finite. Its agent is set to [`AgentMode::Idle`] and its episode is
/// given up; other arenas go on.
#[derive(Message, Debug, Clone, PartialEq)]
pub struct SimFault {
    /// Agent of the arena.
    pub arena: u32,
    /// Control step within the episode.
    pub step: u32,
    /// What happened.
    pub error: SimError,
    /// The last states, oldest first.
    pub last_states: Vec<StateRecord>,
}

/// All faults since the app started.
#[derive(Resource, Debug, Clone, Default)]
pub struct SimFaults(pub Vec<SimFault>);

/// The systems of the simulator, each inside the set of [`AgentSystems`] of the same meaning.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimSystems {
    /// Arenas of fresh episodes are built; in `Reset`.
    Reset,
    /// The scripted expert acts; in `Act`, as [`ActOrder::Scripted`].
    Expert,
    /// Physics; in `Step`.
    Step,
    /// Outcomes and next observations; in `Outcome`.
    Outcome,
    /// Bodies' transforms; in `Outcome`, after `SimSystems::Outcome`.
    Transforms,
}

impl Plugin for SimPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin { seed: self.seed });
        }
        app.add_message::<SimFault>().init_resource::<SimFaults>();
        app.configure_sets(
            FixedUpdate,
            (
                SimSystems::Reset.in_set(AgentSystems::Reset),
                SimSystems::Expert.in_set(ActOrder::Scripted),
                SimSystems::Step.in_set(AgentSystems::Step),
                SimSystems::Outcome.in_set(AgentSystems::Outcome),
                SimSystems::Transforms.in_set(AgentSystems::Outcome).after(SimSystems::Outcome),
            ),
        );
        app.add_systems(
            FixedUpdate,
            (
                reset_arenas.in_set(SimSystems::Reset),
                act_as_expert.in_set(SimSystems::Expert),
                step_arenas.in_set(SimSystems::Step),
                write_outcomes.in_set(SimSystems::Outcome),
                write_transforms.in_set(SimSystems::Transforms),
            ),
        );

        let (task, robot) = match self.resolve() {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("the simulator cannot start: {error}");
                app.world_mut().write_message(AppExit::error());
                return;
            }
        };
        app.insert_resource(Time::<Fixed>::from_seconds(task.control_period_secs()));
        let side = (1..).find(|side| side * side >= self.arenas).unwrap_or(1).max(1);
        for index in 0..self.arenas {
            let sim = SimArena::new(task.clone(), robot.clone(), 0);
            let place = |row: u32| (row as f32 - 0.5 * (side - 1) as f32) * self.spacing;
            let origin = Vec3::new(place(index % side), 0.0, place(index / side));
            let bodies = if self.bodies { sim.bodies() } else { Vec::new() };
            app.world_mut()
                .spawn((
                    AgentBundle::new(self.first_agent + index, sim.spec().clone()).with_mode(self.mode),
                    Expert(Script::new(0)),
                    self.expert_noise,
                    Arena { sim, result: None },
                    Transform::from_translation(origin),
                ))
                .with_children(|children| {
                    for (row, body) in bodies.into_iter().enumerate() {
                        let transform = frames::transform(&body.pose);
                        children.spawn((SimBody { name: body.name, shape: body.shape }, BodyIndex(row), transform));
                    }
                });
        }
    }
}

/// The expert of an agent in its episode.
#[derive(Component, Debug, Clone)]
struct Expert(Script);

fn reset_arenas(
    mut agents: Query<(&Episode, &mut Arena, &mut Expert, &mut Observation, Option<&Children>)>,
    mut bodies: Query<(&BodyIndex, &mut SimBody)>,
) {
    for (episode, mut arena, mut expert, mut observation, children) in &mut agents {
        if !episode.is_fresh() {
            continue;
        }
        arena.sim.reset(episode.seed);
        arena.result = None;
        expert.0 = Script::new(episode.seed);
        observation.set(arena.sim.observation());
        let Some(children) = children else { continue };
        let fresh = arena.sim.bodies();
        for child in children {
            if let Ok((row, mut body)) = bodies.get_mut(*child)
                && let Some(shape) = fresh.get(row.0).map(|body| &body.shape)
                && body.shape != *shape
            {
                body.shape = shape.clone();
            }
        }
    }
}

fn act_as_expert(mut agents: Query<(&AgentMode, &Episode, &Arena, &ExpertNoise, &mut Expert, &mut Action)>) {
    // An expert thinks for less time than it takes to wake another thread.
    for (mode, episode, arena, noise, mut expert, mut action) in &mut agents {
        if *mode == AgentMode::Scripted
            && episode.is_active()
            && let Some(values) = expert.0.act(&arena.sim, noise)
        {
            action.set(&values);
        }
    }
}

fn step_arenas(mut agents: Query<(&AgentMode, &Episode, &Action, &mut Arena)>) {
    let mut moving = Vec::new();
    for (mode, episode, action, mut arena) in &mut agents {
        if *mode != AgentMode::Idle && episode.is_active() {
            moving.push((action, arena));
        } else {
            arena.result = None;
        }
    }
    share_out(moving, |(action, mut arena)| arena.result = Some(arena.sim.step(action.values())));
}

/// Pieces of work for each thread: enough that a thread whose arenas have few contacts can take over from one that woke
/// late or has many.
const PIECES_PER_THREAD: usize = 16;

/// Does `work` on every item, on this thread and those of the compute pool. Items must not depend on one another.
///
/// Bevy's own parallel queries leave out the calling thread, and so use one thread of two on a machine with two cores.
fn share_out<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    let pool = ComputeTaskPool::try_get().filter(|_| items.len() > 1);
    let Some(pool) = pool else { return items.into_iter().for_each(work) };
    let pieces = PIECES_PER_THREAD * (pool.thread_num() + 1);
    let length = items.len().div_ceil(pieces);
    let (mut items, work) = (items.into_iter(), &work);
    pool.scope(|scope| {
        loop {
            let piece: Vec<T> = items.by_ref().take(length).collect();
            if piece.is_empty() {
                break;
            }
            scope.spawn(async move { piece.into_iter().for_each(work) });
        }
    });
}

fn write_outcomes(
    mut faults: ResMut<SimFaults>,
    mut messages: MessageWriter<SimFault>,
    mut agents: Query<(&Agent, &mut Arena, &mut AgentMode, &mut Episode, &mut Outcome, &mut NextObservation)>,
) {
    for (agent, mut arena, mut mode, mut episode, mut outcome, mut next) in &mut agents {
        match arena.result.take() {
            None => {}
            Some(Ok(result)) => {
                // The time limit is the contract's business.
                *outcome = Outcome { truncated: false, ..result };
                next.set(arena.sim.observation());
            }
            Some(Err(error)) => {
                let fault = SimFault {
                    arena: agent.0,
                    step: arena.sim.steps(),
                    error,
                    last_states: arena.sim.history().cloned().collect(),
                };
                tracing::error!("arena {} stopped: {}; last states: {:?}", fault.arena, fault.error, fault.last_states);
                messages.write(fault.clone());
                faults.0.push(fault);
                *mode = AgentMode::Idle;
                episode.abandon();
            }
        }
    }
}

fn write_transforms(
    mut poses: Local<Vec<Pose>>,
    arenas: Query<(&Arena, &Children)>,
    mut bodies: Query<(&BodyIndex, &mut Transform), With<SimBody>>,
) {
    for (arena, children) in &arenas {
        arena.sim.moving_poses(&mut poses);
        for child in children {
            if let Ok((row, mut transform)) = bodies.get_mut(*child)
                && let Some(pose) = poses.get(row.0)
            {
                let moved = frames::transform(pose);
                if *transform != moved {
                    *transform = moved;
                }
            }
        }
    }
}
