//! Data collection: whole episodes of a task's scripted expert, the same ones whatever the number of arenas.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bevy::prelude::*;
use onestep_agent::{Agent, AgentMode, Episode, Purpose, RandomStreams, SeedSource};
use onestep_data::{EpisodeData, EpisodeFile, Origin};
use onestep_record::episodes::{EpisodeRecorderPlugin, RecordedEpisodes};
use onestep_sim::{ExpertNoise, Robot, Script, SimArena, SimError, SimPlugin, Task, memory::require_memory};

use crate::{
    RunError,
    fault::{self, FaultReport},
};

/// What is to be collected.
///
/// The file follows from all of this but `arenas`: the seeds of the episodes are drawn one after the other, and an
/// episode follows from its seed and the noise. With `successful_only` it holds the first `episodes` successes in the
/// order of the seeds. Episodes that the task calls spoiled are left out in any case, as in the benchmark whose data they
/// are like.
#[derive(Debug, Clone)]
pub struct CollectPlan {
    /// The task, with an expert. For undirected data: its [`Task::play`].
    pub task: Arc<dyn Task>,
    /// How many episodes.
    pub episodes: usize,
    /// Root seed of the episodes' seeds.
    pub seed: u64,
    /// Worlds side by side.
    pub arenas: usize,
    /// How the expert is disturbed.
    pub noise: ExpertNoise,
    /// Keep only episodes that end in success.
    pub successful_only: bool,
}

/// Where a collection stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CollectProgress {
    /// Episodes that were kept.
    pub kept: usize,
    /// Episodes that are over, those of an earlier collection left out.
    pub tried: usize,
    /// Those of them that ended in success.
    pub successes: usize,
    /// Those of them that the task calls spoiled (see [`Task::is_spoiled`]), which are not kept.
    pub spoiled: usize,
    /// Control steps of those that are over.
    pub steps: u64,
    /// Seconds since the beginning.
    pub secs: f64,
}

/// Why a collection ended.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectEnd {
    /// All episodes are there.
    Complete,
    /// The watcher asked to stop.
    Stopped,
    /// The expert fails too often for `successful_only` ever to come to an end, or hardly an episode is unspoiled.
    ExpertFails,
    /// The simulation broke.
    Fault(Box<FaultReport>),
}

/// What was collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// The episodes in the order of their seeds; fewer than asked for unless the end is [`CollectEnd::Complete`].
    pub file: EpisodeFile,
    /// Why it ended.
    pub end: CollectEnd,
    /// Where it stood then.
    pub progress: CollectProgress,
}

/// Collecting successes is given up after so many episodes, and so many more for each success: an expert that fails more
/// often shows nothing, and collecting would hardly end.
const TRIES: (usize, usize) = (60, 20);

/// Collects episodes. Those in `already` come from an earlier collection with the same plan that was stopped; they are
/// kept without being played again.
///
/// `watch` is asked after each control step whether to go on. What ends a collection early is told in
/// [`Collected::end`], and nothing that was finished is lost.
///
/// # Errors
/// [`RunError::Sim`] for a task without an expert, or for more arenas than memory.
pub fn collect(
    plan: &CollectPlan,
    already: Vec<EpisodeData>,
    mut watch: impl FnMut(&CollectProgress) -> bool,
) -> Result<Collected, RunError> {
    let plugin = SimPlugin {
        custom_task: Some(plan.task.clone()),
        arenas: u32::try_from(plan.arenas.clamp(1, plan.episodes.max(1))).unwrap_or(u32::MAX),
        seed: plan.seed,
        mode: AgentMode::Scripted,
        expert_noise: plan.noise,
        bodies: false,
        ..SimPlugin::default()
    };
    let (task, robot) = plugin.resolve()?;
    require_memory(&task, &robot, u64::from(plugin.arenas))?;
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, plugin, EpisodeRecorderPlugin::default()));
    app.finish();
    app.cleanup();
    let world = app.world_mut();

    let start = Instant::now();
    let mut deal = Deal::new(plan, already, world);
    let end = loop {
        if deal.hand_out(world) == 0 {
            break CollectEnd::Complete;
        }
        onestep_record::tick(world);
        if let Some(fault) = fault::of_simulation(world) {
            break CollectEnd::Fault(Box::new(fault));
        }
        deal.take_in(world);
        deal.progress.secs = start.elapsed().as_secs_f64();
        let picky = plan.successful_only || deal.progress.spoiled > 0;
        if picky && deal.progress.tried > TRIES.0 + TRIES.1 * deal.progress.kept {
            break CollectEnd::ExpertFails;
        }
        if !watch(&deal.progress) {
            break CollectEnd::Stopped;
        }
    };
    let spec = task.spec();
    let Deal { mut kept, progress, .. } = deal;
    kept.sort_by_key(|(place, _)| *place);
    let file = EpisodeFile {
        task: task.name().to_owned(),
        origin: Origin::Onestep,
        observation_dim: spec.observation.dim(),
        action_dim: spec.action.dim(),
        episodes: kept.into_iter().map(|(_, episode)| episode).collect(),
    };
    Ok(Collected { file, end, progress })
}

/// Whether the plan's expert under the plan's noise plays this episode again to the bit: whether the episode is of the
/// same plan, and of the same version of the simulator.
///
/// # Errors
/// [`RunError::Sim`] when a state is not finite.
pub fn repeats(plan: &CollectPlan, episode: &EpisodeData) -> Result<bool, RunError> {
    let mut arena = SimArena::new(plan.task.clone(), Robot::panda()?, episode.seed);
    let mut script = Script::new(episode.seed);
    let (width, depth) = (arena.spec().observation.dim().max(1), arena.spec().action.dim().max(1));
    let mut observations = episode.observations.chunks_exact(width);
    let mut same = observations.next() == Some(arena.observation());
    for (action, observation) in episode.actions.chunks_exact(depth).zip(observations) {
        if !same {
            break;
        }
        let Some(ours) = script.act(&arena, &plan.noise) else {
            return Err(SimError::NoExpert { task: plan.task.name().to_owned() }.into());
        };
        arena.step(&ours)?;
        same = ours == action && arena.observation() == observation;
    }
    Ok(same)
}

/// Seeds that go out to arenas as these become free, and the episodes that come back.
struct Deal {
    wanted: usize,
    successful_only: bool,
    task: Arc<dyn Task>,
    seeds: RandomStreams,
    drawn: usize,
    already: HashMap<u64, EpisodeData>,
    arenas: Vec<Place>,
    kept: Vec<(usize, EpisodeData)>,
    progress: CollectProgress,
}

struct Place {
    entity: Entity,
    /// Seed of the episode that it plays, and its place in the order of seeds.
    playing: Option<(u64, usize)>,
}

impl Deal {
    fn new(plan: &CollectPlan, already: Vec<EpisodeData>, world: &mut World) -> Self {
        let mut agents: Vec<(Agent, Entity)> =
            world.query::<(&Agent, Entity)>().iter(world).map(|(agent, entity)| (*agent, entity)).collect();
        agents.sort_unstable();
        for (_, entity) in &agents {
            world.entity_mut(*entity).insert((AgentMode::Idle, SeedSource::List(VecDeque::new())));
        }
        Self {
            wanted: plan.episodes,
            successful_only: plan.successful_only,
            task: plan.task.clone(),
            seeds: RandomStreams::new(plan.seed),
            drawn: 0,
            already: already.into_iter().map(|episode| (episode.seed, episode)).collect(),
            arenas: agents.into_iter().map(|(_, entity)| Place { entity, playing: None }).collect(),
            kept: Vec::new(),
            progress: CollectProgress::default(),
        }
    }

    /// Gives free arenas a seed, as long as the episodes under way may not be enough; so no seed is played that is not
    /// needed, whatever the number of arenas. Returns how many are under way.
    fn hand_out(&mut self, world: &mut World) -> usize {
        let mut playing = self.arenas.iter().filter(|place| place.playing.is_some()).count();
        for index in 0..self.arenas.len() {
            if self.arenas.get(index).is_none_or(|place| place.playing.is_some()) {
                continue;
            }
            let mut next = None;
            while next.is_none() && self.kept.len() + playing < self.wanted {
                let (seed, place) = (self.seeds.next_seed(Purpose::Demonstration, 0), self.drawn);
                self.drawn += 1;
                match self.already.remove(&seed) {
                    Some(episode) => {
                        self.kept.push((place, episode));
                        self.progress.kept += 1;
                    }
                    None => next = Some((seed, place)),
                }
            }
            let Some(arena) = self.arenas.get_mut(index) else { continue };
            let mode = match next {
                Some((seed, _)) => {
                    playing += 1;
                    world.entity_mut(arena.entity).insert(SeedSource::List([seed].into()));
                    AgentMode::Scripted
                }
                None => AgentMode::Idle,
            };
            arena.playing = next;
            world.entity_mut(arena.entity).insert(mode);
        }
        playing
    }

    /// Takes the episodes that ended in the last tick.
    fn take_in(&mut self, world: &mut World) {
        for episode in std::mem::take(&mut world.resource_mut::<RecordedEpisodes>().0) {
            let mut playing = self.arenas.iter().filter_map(|place| place.playing);
            let Some((_, place)) = playing.find(|(seed, _)| *seed == episode.seed) else { continue };
            self.progress.tried += 1;
            self.progress.steps += episode.len() as u64;
            self.progress.successes += usize::from(episode.is_success());
            if self.task.is_spoiled(&episode.observations) {
                self.progress.spoiled += 1;
            } else if episode.is_success() || !self.successful_only {
                self.kept.push((place, episode));
                self.progress.kept += 1;
            }
        }
        for place in &mut self.arenas {
            if world.get::<Episode>(place.entity).is_none_or(|episode| !episode.is_active()) {
                place.playing = None;
            }
        }
    }
}
