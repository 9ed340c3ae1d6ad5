//! Whether a task keeps the contract that policies, learners and recordings rely on: for every task of the registry, and
//! for a task of your own before you train on it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::Outcome;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::arena::SimArena;
use crate::error::SimError;
use crate::expert::ExpertNoise;
use crate::robot::Robot;
use crate::script::Script;
use crate::task::Task;

/// How thoroughly a task is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckOptions {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Episodes that the zero and the random agent play, each.
    pub episodes: u32,
    /// Episodes that the expert plays.
    pub expert_episodes: u32,
    /// Control steps of each comparison of two runs.
    pub steps: u32,
    /// Share of the expert's episodes that must reach the goal.
    pub expert_success: f64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { seed: 0, episodes: 5, expert_episodes: 20, steps: 100, expert_success: 0.8 }
    }
}

impl CheckOptions {
    /// A short form for tests: under a second for a task of an arm.
    #[must_use]
    pub fn quick() -> Self {
        Self { episodes: 1, expert_episodes: 3, steps: 20, expert_success: 0.3, ..Self::default() }
    }
}

/// What a check of a task has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Name of the task.
    pub task: String,
    /// Every check, in the order in which they are made.
    pub checks: Vec<Check>,
    /// How agents that learned nothing fare.
    pub agents: Vec<AgentTrial>,
    /// Where the time of a control step goes, on one core.
    pub times: Vec<StageTime>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen; for a failure: where, and what should be instead.
    pub detail: String,
    /// Seconds it took.
    pub secs: f64,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// There is nothing to check: no expert, for instance.
    Skipped,
}

/// Whole episodes of one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentTrial {
    /// `zero`, `random` or `expert`.
    pub agent: &'static str,
    /// Episodes it played.
    pub episodes: u32,
    /// Episodes whose goal held at their end.
    pub successes: u32,
    /// Episodes whose goal held after at least one step.
    pub successes_once: u32,
    /// Mean undiscounted sum of rewards.
    pub mean_return: f64,
    /// Mean number of control steps.
    pub mean_steps: f64,
}

/// Time of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTime {
    /// `reset`, `step` (controller and physics), `observe`, `outcome` or `expert`.
    pub stage: &'static str,
    /// Mean seconds of one call.
    pub secs: f64,
}

impl CheckReport {
    /// Whether no check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed)
    }
}

/// A table for people.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.task)?;
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Passed => '✔',
                Verdict::Failed => '✘',
                Verdict::Skipped => '–',
            };
            writeln!(f, "  {mark} {:<14} {:>8}   {}", check.name, time(check.secs), check.detail)?;
        }
        writeln!(
            f,
            "  {:<10} {:>8} {:>8} {:>8} {:>10} {:>8}",
            "agent", "episodes", "success", "ever", "return", "steps"
        )?;
        for trial in &self.agents {
            writeln!(
                f,
                "  {:<10} {:>8} {:>8} {:>8} {:>10.2} {:>8.1}",
                trial.agent, trial.episodes, trial.successes, trial.successes_once, trial.mean_return, trial.mean_steps
            )?;
        }
        write!(f, "  time of")?;
        for StageTime { stage, secs } in &self.times {
            write!(f, "  {stage} {}", time(*secs))?;
        }
        Ok(())
    }
}

/// `12.3 µs`, `4.0 ms`, `1.2 s`.
fn time(secs: f64) -> String {
    match secs {
        _ if secs < 1e-3 => format!("{:.1} µs", 1e6 * secs),
        _ if secs < 1.0 => format!("{:.1} ms", 1e3 * secs),
        _ => format!("{secs:.1} s"),
    }
}

/// Checks a task: one of [`tasks`](crate::tasks), or one of your own.
///
/// | check | what must hold |
/// |---|---|
/// | `spaces` | observation, action, time limit and period are sensible; an observation has the promised length |
/// | `bodies` | the list of bodies keeps its order and length, and their poses are finite |
/// | `reset` | an episode starts from its seed alone, finite, and not at its end; other seeds give other states |
/// | `determinism` | same seed, same actions: the same state and outcome to the bit after every step |
/// | `reset midway` | an arena that was reset in the middle of an episode is as good as new |
/// | `neighbours` | arenas that are stepped in turn and on two threads do what they do alone |
/// | `actions` | they are clipped to [-1, 1]; wrong lengths and NaN are refused; every number has an effect |
/// | `numbers` | observations, rewards and poses of whole episodes are finite, and in sensible bounds |
/// | `outcomes` | an episode ends once: by the task or by time, not by both, and not later than its limit; asked twice, a state means the same; an end at the goal is worth more than the steps before it |
/// | `expert` | it exists if the task says so, its actions fit, and it reaches the goal |
///
/// ```
/// use onestep_sim::{Robot, check::{CheckOptions, check_task}, task};
///
/// let report = check_task(&task("reacher")?, &Robot::panda()?, &CheckOptions::quick());
/// assert!(report.passed(), "{report}");
/// # Ok::<(), onestep_sim::SimError>(())
/// ```
#[must_use]
pub fn check_task(task: &Arc<dyn Task>, robot: &Arc<Robot>, options: &CheckOptions) -> CheckReport {
    let checker = Checker { task, robot, options };
    let mut checks = Checks(Vec::new());
    checks.run("spaces", || checker.spaces());
    // Nothing else can be said of a task whose observations are not what it says they are.
    if checks.0.iter().any(|check| check.verdict == Verdict::Failed) {
        return CheckReport { task: task.name().to_owned(), checks: checks.0, agents: Vec::new(), times: Vec::new() };
    }
    checks.run("bodies", || checker.bodies());
    checks.run("reset", || checker.reset());
    checks.run("determinism", || checker.determinism());
    checks.run("reset midway", || checker.reset_midway());
    checks.run("neighbours", || checker.neighbours());
    checks.run("actions", || checker.actions());
    let mut probe = Probe::default();
    let mut agents = Vec::new();
    checks.run("numbers", || {
        let expert = task.has_expert().then_some(Player::Expert);
        let players = [Player::Zero, Player::Random].into_iter().chain(expert);
        agents = players.map(|player| checker.trial(player, &mut probe)).collect();
        probe.numbers()
    });
    checks.run("outcomes", || probe.outcomes());
    checks.run("expert", || checker.expert(&agents));
    CheckReport { task: task.name().to_owned(), checks: checks.0, agents, times: checker.times() }
}

struct Checks(Vec<Check>);

impl Checks {
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> Finding) {
        let start = Instant::now();
        let finding = check();
        let secs = start.elapsed().as_secs_f64();
        let (verdict, detail) = match finding {
            Ok(Seen::This(detail)) => (Verdict::Passed, detail),
            Ok(Seen::Nothing(detail)) => (Verdict::Skipped, detail),
            Err(Fail(detail)) => (Verdict::Failed, detail),
        };
        self.0.push(Check { name, verdict, detail, secs });
    }
}

/// What was seen, or what is wrong.
type Finding = Result<Seen, Fail>;

enum Seen {
    This(String),
    /// There was nothing to look at.
    Nothing(String),
}

struct Fail(String);

impl From<SimError> for Fail {
    fn from(error: SimError) -> Self {
        Self(error.to_string())
    }
}

macro_rules! ensure {
    ($holds:expr, $($format:tt)*) => {
        let holds: bool = $holds;
        if !holds {
            return Err(Fail(format!($($format)*)));
        }
    };
}

macro_rules! seen {
    ($($format:tt)*) => {
        Seen::This(format!($($format)*))
    };
}

/// No number of an observation, and no coordinate of a body in metres, may be larger.
const LARGEST: f32 = 1e4;
/// An arm stands still, so that nothing it acts on should get further away, metres.
const FARTHEST_OF_ARMS: f32 = 10.0;
/// Seeds whose initial states are compared.
const SEEDS: u64 = 10;
/// Arenas of the comparison with neighbours.
const NEIGHBOURS: u64 = 4;
/// Steps after which an action must have had an effect.
const EFFECT_STEPS: u32 = 5;
/// Every stage is timed for so long.
const TIMING: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
enum Player {
    Zero,
    Random,
    Expert,
}

impl Player {
    fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Random => "random",
            Self::Expert => "expert",
        }
    }
}

struct Checker<'a> {
    task: &'a Arc<dyn Task>,
    robot: &'a Arc<Robot>,
    options: &'a CheckOptions,
}

/// Everything that can be compared after a step.
type Trace = Vec<(u64, Vec<u32>, Option<(u32, bool, bool, bool)>)>;

fn facts(arena: &SimArena, outcome: Option<Outcome>) -> (u64, Vec<u32>, Option<(u32, bool, bool, bool)>) {
    let observation = arena.observation().iter().map(|number| number.to_bits()).collect();
    let outcome = outcome.map(|o| (o.reward.to_bits(), o.terminated, o.truncated, o.success));
    (arena.hash(), observation, outcome)
}

/// The first step at which two runs differ.
fn first_difference(left: &Trace, right: &Trace) -> Option<usize> {
    if left.len() != right.len() {
        return Some(left.len().min(right.len()));
    }
    left.iter().zip(right).position(|(left, right)| left != right)
}

impl Checker<'_> {
    fn arena(&self, seed: u64) -> SimArena {
        SimArena::new(self.task.clone(), self.robot.clone(), seed)
    }

    fn seed(&self, index: u64) -> u64 {
        self.options.seed.wrapping_add(index)
    }

    fn random_actions(&self, seed: u64) -> impl FnMut() -> Vec<f32> + use<> {
        let width = self.task.spec().action.dim();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        move || (0..width).map(|_| random.random_range(-1.0..=1.0)).collect()
    }

    /// Random steps from an arena's state, until the episode ends.
    fn walk(&self, arena: &mut SimArena, actions_seed: u64, steps: u32) -> Result<Trace, SimError> {
        let mut actions = self.random_actions(actions_seed);
        let mut trace = vec![facts(arena, None)];
        for _ in 0..steps {
            let outcome = arena.step(&actions())?;
            trace.push(facts(arena, Some(outcome)));
            if outcome.is_end() {
                break;
            }
        }
        Ok(trace)
    }

    fn spaces(&self) -> Finding {
        let spec = self.task.spec();
        let fields = spec.observation.fields();
        ensure!(spec.observation.dim() > 0, "an observation has no numbers");
        ensure!(spec.action.dim() > 0, "an action has no numbers");
        for (what, names) in [
            ("field of the observation", fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>()),
            ("number of the action", spec.action.names().iter().map(String::as_str).collect()),
        ] {
            ensure!(!names.contains(&""), "a {what} has no name");
            let mut sorted = names.clone();
            sorted.sort_unstable();
            let twin = sorted.array_windows().find(|[left, right]| left == right);
            ensure!(twin.is_none(), "two times a {what} is named `{}`", twin.map_or("", |[name, _]| name));
        }
        if let Some(field) = fields.iter().find(|field| field.len == 0) {
            return Err(Fail(format!("`{}` of the observation has no numbers", field.name)));
        }
        ensure!(spec.max_episode_steps > 0, "an episode has no steps");
        let period = self.task.control_period_secs();
        ensure!(period.is_finite() && period > 0.0, "the control period is {period} s");
        let arena = self.arena(self.seed(0));
        let (promised, found) = (spec.observation.dim(), arena.observation().len());
        ensure!(promised == found, "the spec promises {promised} numbers of observation, {found} are written");
        let (positions, velocities) = (arena.joint_positions().len(), arena.joint_velocities().len());
        // A free body turns by four numbers and has three velocities for them.
        ensure!(positions >= velocities, "there are {positions} joint positions and {velocities} velocities");
        Ok(seen!(
            "{promised} numbers observed in {} fields, {} of action, at most {} steps of {} s",
            fields.len(),
            spec.action.dim(),
            spec.max_episode_steps,
            period
        ))
    }

    fn bodies(&self) -> Finding {
        let mut arena = self.arena(self.seed(0));
        let names = |arena: &SimArena| arena.bodies().into_iter().map(|body| body.name).collect::<Vec<_>>();
        let first = names(&arena);
        ensure!(!first.is_empty(), "there is no body, so nothing can be drawn");
        self.walk(&mut arena, self.seed(0), self.options.steps.min(10))?;
        for (when, later) in
            [("after some steps", names(&arena)), ("with another seed", names(&self.arena(self.seed(1))))]
        {
            ensure!(first == later, "the bodies are {first:?} at first, and {later:?} {when}");
        }
        let mut poses: Vec<Pose> = Vec::new();
        arena.moving_poses(&mut poses);
        let bodies = arena.bodies();
        ensure!(poses.len() <= bodies.len(), "{} poses of {} bodies move", poses.len(), bodies.len());
        for (pose, body) in poses.iter().zip(&bodies) {
            ensure!(*pose == body.pose, "`{}` is not at the same place among the moving bodies", body.name);
        }
        Ok(seen!("{} bodies, {} of them move", bodies.len(), poses.len()))
    }

    fn reset(&self) -> Finding {
        let mut hashes = Vec::new();
        for index in 0..SEEDS {
            let seed = self.seed(index);
            let arena = self.arena(seed);
            if let Some(at) = arena.observation().iter().position(|number| !number.is_finite()) {
                return Err(Fail(format!("seed {seed}: number {at} of the first observation is not finite")));
            }
            ensure!(facts(&arena, None) == facts(&self.arena(seed), None), "seed {seed} gives two initial states");
            let outcome = self.task.clone().model(self.robot, seed).outcome();
            ensure!(!outcome.terminated && !outcome.success, "seed {seed}: the episode begins at its end");
            hashes.push(arena.hash());
        }
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        ensure!(hashes.len() == count, "{count} seeds give only {} initial states", hashes.len());
        Ok(seen!("{count} seeds, {count} initial states, each the same when asked again"))
    }

    fn determinism(&self) -> Finding {
        let seed = self.seed(0);
        let traces = [self.walk(&mut self.arena(seed), seed, self.options.steps)?, {
            // Something else happens in between.
            self.walk(&mut self.arena(seed ^ 1), seed ^ 1, 3)?;
            self.walk(&mut self.arena(seed), seed, self.options.steps)?
        }];
        let [left, right] = &traces;
        if let Some(step) = first_difference(left, right) {
            return Err(Fail(format!("seed {seed}: the same actions lead to another state after {step} steps")));
        }
        Ok(seen!("{} steps, the same to the bit", left.len() - 1))
    }

    fn reset_midway(&self) -> Finding {
        let (seed, steps) = (self.seed(2), self.options.steps);
        let mut used = self.arena(self.seed(1));
        self.walk(&mut used, seed, steps / 2 + 1)?;
        used.reset(seed);
        ensure!(used.steps() == 0, "{} steps are counted after a reset", used.steps());
        let fresh = self.walk(&mut self.arena(seed), seed, steps)?;
        if let Some(step) = first_difference(&fresh, &self.walk(&mut used, seed, steps)?) {
            return Err(Fail(format!("seed {seed}: an arena that was used before differs after {step} steps")));
        }
        Ok(seen!("reset after {} steps, then {} steps as in a new arena", steps / 2 + 1, fresh.len() - 1))
    }

    fn neighbours(&self) -> Finding {
        let seeds: Vec<u64> = (0..NEIGHBOURS).map(|index| self.seed(index)).collect();
        let steps = self.options.steps;
        let alone: Vec<Trace> =
            seeds.iter().map(|seed| self.walk(&mut self.arena(*seed), *seed, steps)).collect::<Result<_, _>>()?;
        // In turn.
        let mut together: Vec<_> =
            seeds.iter().map(|seed| (self.arena(*seed), self.random_actions(*seed), Trace::new())).collect();
        for (arena, _, trace) in &mut together {
            trace.push(facts(arena, None));
        }
        for step in 0..steps as usize {
            for ((arena, actions, trace), alone) in together.iter_mut().zip(&alone) {
                if step + 1 < alone.len() {
                    let outcome = arena.step(&actions())?;
                    trace.push(facts(arena, Some(outcome)));
                }
            }
        }
        // On two threads.
        let halves: Vec<&[u64]> = seeds.chunks(seeds.len().div_ceil(2)).collect();
        let walk = |seeds: &[u64]| -> Result<Vec<Trace>, SimError> {
            seeds.iter().map(|seed| self.walk(&mut self.arena(*seed), *seed, steps)).collect()
        };
        let threaded = std::thread::scope(|scope| -> Result<Vec<Trace>, Fail> {
            let threads: Vec<_> = halves.iter().map(|half| scope.spawn(|| walk(half))).collect();
            let mut traces = Vec::new();
            for thread in threads {
                traces.append(&mut thread.join().map_err(|_| Fail("an arena panicked on its thread".to_owned()))??);
            }
            Ok(traces)
        })?;
        let in_turn = together.into_iter().map(|(_, _, trace)| trace);
        for ((seed, alone), (turn, thread)) in seeds.iter().zip(&alone).zip(in_turn.zip(threaded)) {
            for (how, other) in [("in turn with others", &turn), ("beside another thread", &thread)] {
                if let Some(step) = first_difference(alone, other) {
                    return Err(Fail(format!("seed {seed}: stepped {how}, it differs after {step} steps")));
                }
            }
        }
        Ok(seen!("{NEIGHBOURS} arenas in turn and on 2 threads as alone"))
    }

    fn actions(&self) -> Finding {
        let (seed, width) = (self.seed(0), self.task.spec().action.dim());
        let after = |action: &[f32], steps: u32| -> Result<u64, SimError> {
            let mut arena = self.arena(seed);
            for _ in 0..steps {
                arena.step(action)?;
            }
            Ok(arena.hash())
        };
        for sign in [1.0, -1.0] {
            let (limit, beyond) = (after(&vec![sign; width], 2)?, after(&vec![5.0 * sign; width], 2)?);
            ensure!(limit == beyond, "an action of {} does not do what {sign} does", 5.0 * sign);
        }
        let mut arena = self.arena(seed);
        let refused = matches!(arena.step(&vec![0.0; width + 1]), Err(SimError::ActionLength { .. }));
        ensure!(refused, "an action with a number too many is taken");
        let refused = matches!(arena.step(&vec![f32::NAN; width]), Err(SimError::NotFinite { .. }));
        ensure!(refused, "an action of NaN is taken");
        let still = after(&vec![0.0; width], EFFECT_STEPS)?;
        for (index, name) in self.task.spec().action.names().iter().enumerate() {
            let mut moved = false;
            for sign in [1.0, -1.0] {
                let mut action = vec![0.0; width];
                if let Some(number) = action.get_mut(index) {
                    *number = sign;
                }
                moved |= after(&action, EFFECT_STEPS)? != still;
            }
            ensure!(moved, "`{name}` of the action changes nothing in {EFFECT_STEPS} steps");
        }
        Ok(seen!("clipped to [-1, 1]; NaN and wrong lengths refused; each of {width} has an effect"))
    }

    fn trial(&self, player: Player, probe: &mut Probe) -> AgentTrial {
        let episodes = match player {
            Player::Expert => self.options.expert_episodes,
            Player::Zero | Player::Random => self.options.episodes,
        };
        let mut trial = AgentTrial {
            agent: player.name(),
            episodes,
            successes: 0,
            successes_once: 0,
            mean_return: 0.0,
            mean_steps: 0.0,
        };
        for index in 0..u64::from(episodes) {
            let seed = self.seed(index);
            let played = self.play(player, seed, probe);
            trial.successes += u32::from(played.success);
            trial.successes_once += u32::from(played.success_once);
            trial.mean_return += played.return_sum / f64::from(episodes);
            trial.mean_steps += f64::from(played.steps) / f64::from(episodes);
        }
        trial
    }

    /// One whole episode.
    fn play(&self, player: Player, seed: u64, probe: &mut Probe) -> Played {
        let mut arena = self.arena(seed);
        let limit = arena.spec().max_episode_steps;
        let width = arena.spec().action.dim();
        let (mut script, mut random) = (Script::new(seed), self.random_actions(seed));
        let mut played = Played::default();
        loop {
            let action = match player {
                Player::Zero => vec![0.0; width],
                Player::Random => random(),
                Player::Expert => match script.act(&arena, &ExpertNoise::default()) {
                    Some(action) => action,
                    None => return played,
                },
            };
            let place = || format!("seed {seed}, step {} of the {} agent", played.steps + 1, player.name());
            let outcome = match arena.step(&action) {
                Ok(outcome) => outcome,
                Err(error) => {
                    probe.bad_number.get_or_insert_with(|| format!("{}: {error}", place()));
                    return played;
                }
            };
            probe.look(&arena, &outcome, place);
            let (first, second) = (arena.outcome(), arena.outcome());
            if first != second {
                let problem = format!("{}: asked twice, the same state means {first:?} and {second:?}", place());
                probe.bad_outcome.get_or_insert(problem);
            }
            played.steps += 1;
            played.return_sum += f64::from(outcome.reward);
            played.success = outcome.success;
            played.success_once |= outcome.success;
            if outcome.terminated && outcome.truncated {
                let problem = format!("seed {seed}: ended by the task and by time in step {}", played.steps);
                probe.bad_outcome.get_or_insert(problem);
            }
            if outcome.is_end() {
                probe.ends += 1;
                probe.terminations += u32::from(outcome.terminated);
                if outcome.terminated && outcome.success {
                    probe.goals += 1;
                    probe.rewards_of_goals += f64::from(outcome.reward);
                } else {
                    probe.other_steps += 1;
                    probe.rewards_of_others += f64::from(outcome.reward);
                }
                return played;
            }
            probe.other_steps += 1;
            probe.rewards_of_others += f64::from(outcome.reward);
            if played.steps >= limit {
                let problem = format!("seed {seed}: not over after {} steps, the limit is {limit}", played.steps);
                probe.bad_outcome.get_or_insert(problem);
                return played;
            }
        }
    }

    fn expert(&self, agents: &[AgentTrial]) -> Finding {
        let arena = self.arena(self.seed(0));
        let action = Script::new(0).act(&arena, &ExpertNoise::default());
        if !self.task.has_expert() {
            ensure!(action.is_none(), "the task says it has no expert, and there is one");
            return Ok(Seen::Nothing("the task has none".to_owned()));
        }
        let Some(action) = action else {
            return Err(Fail("the task says it has an expert, and there is none".to_owned()));
        };
        let width = arena.spec().action.dim();
        ensure!(action.len() == width, "its action has {} numbers where {width} are expected", action.len());
        let Some(trial) = agents.iter().find(|trial| trial.agent == Player::Expert.name()) else {
            return Err(Fail("it did not play".to_owned()));
        };
        let AgentTrial { episodes, successes, .. } = *trial;
        let needed = (self.options.expert_success * f64::from(episodes)).ceil();
        ensure!(f64::from(successes) >= needed, "only {successes} of {episodes} episodes succeed, {needed} must");
        Ok(seen!("{successes} of {episodes} episodes succeed, in {:.1} steps on average", trial.mean_steps))
    }

    /// Mean times of the stages of a control step.
    fn times(&self) -> Vec<StageTime> {
        let mut actions = self.random_actions(self.seed(0));
        let build = || self.task.clone().model(self.robot, self.seed(0));
        let limit = self.task.spec().max_episode_steps;
        let mut model = build();
        let mut steps = 0;
        let mut times = vec![
            StageTime { stage: "reset", secs: mean_secs(|| drop(build())) },
            StageTime {
                stage: "step",
                secs: mean_secs(|| {
                    // A long walk at random would leave where tasks happen.
                    if steps >= limit {
                        (model, steps) = (build(), 0);
                    }
                    steps += 1;
                    model.step(&actions());
                }),
            },
        ];
        let mut observation = Vec::new();
        times.push(StageTime {
            stage: "observe",
            secs: mean_secs(|| {
                observation.clear();
                model.observe(&mut observation);
            }),
        });
        let outcome = || {
            std::hint::black_box(model.outcome());
        };
        times.push(StageTime { stage: "outcome", secs: mean_secs(outcome) });
        if self.task.has_expert() {
            let (arena, mut script) = (self.arena(self.seed(0)), Script::new(0));
            let secs = mean_secs(|| drop(script.act(&arena, &ExpertNoise::default())));
            times.push(StageTime { stage: "expert", secs });
        }
        times
    }
}

fn mean_secs(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed() < TIMING {
        work();
        calls += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(calls.max(1))
}

#[derive(Default)]
struct Played {
    steps: u32,
    return_sum: f64,
    success: bool,
    success_once: bool,
}

/// What whole episodes showed.
#[derive(Default)]
struct Probe {
    bad_number: Option<String>,
    bad_outcome: Option<String>,
    /// The largest number of an observation, and where it was.
    largest: f32,
    largest_at: String,
    /// The largest coordinate of a body, m.
    farthest: f32,
    farthest_body: String,
    ends: u32,
    terminations: u32,
    /// Episodes that the task ended at the goal, and the sum of the rewards of their last steps.
    goals: u32,
    rewards_of_goals: f64,
    /// All other steps, and the sum of their rewards.
    other_steps: u32,
    rewards_of_others: f64,
    /// Whether the task has an arm, which stands where it is.
    has_arm: bool,
}

impl Probe {
    fn look(&mut self, arena: &SimArena, outcome: &Outcome, place: impl Fn() -> String) {
        self.has_arm = arena.view().is_some() || arena.manip().is_some();
        if !outcome.reward.is_finite() {
            self.bad_number.get_or_insert_with(|| format!("{}: the reward is {}", place(), outcome.reward));
        }
        for (index, number) in arena.observation().iter().enumerate() {
            if number.abs() > self.largest {
                self.largest = number.abs();
                self.largest_at = arena.spec().observation.name_at(index);
            }
        }
        // Drawing needs poses, physics does not show all of them.
        for body in arena.bodies() {
            let farthest = body.pose.translation.abs().max_element();
            if !farthest.is_finite() {
                self.bad_number
                    .get_or_insert_with(|| format!("{}: the pose of `{}` is not finite", place(), body.name));
            } else if farthest > self.farthest {
                self.farthest = farthest;
                self.farthest_body = body.name;
            }
        }
    }

    fn numbers(&self) -> Finding {
        if let Some(problem) = &self.bad_number {
            return Err(Fail(problem.clone()));
        }
        let Self { largest, largest_at, farthest, farthest_body, .. } = self;
        ensure!(
            *largest <= LARGEST,
            "`{largest_at}` of the observation grows to {largest:e}; networks want small numbers"
        );
        let most = if self.has_arm { FARTHEST_OF_ARMS } else { LARGEST };
        ensure!(*farthest <= most, "the body `{farthest_body}` gets {farthest:.0} m away, and {most} m is much");
        Ok(seen!("at most {largest:.3} observed ({largest_at}); bodies stay within {farthest:.2} m"))
    }

    fn outcomes(&self) -> Finding {
        if let Some(problem) = &self.bad_outcome {
            return Err(Fail(problem.clone()));
        }
        ensure!(self.ends > 0, "no episode came to an end");
        let Self { ends, terminations, goals, .. } = *self;
        let mut text = format!("{ends} episodes, {terminations} ended by the task, {goals} of them at the goal");
        if goals > 0 && self.other_steps > 0 {
            let goal = self.rewards_of_goals / f64::from(goals);
            let other = self.rewards_of_others / f64::from(self.other_steps);
            ensure!(
                goal > other,
                "a step that ends at the goal is worth {goal:.3}, any other one {other:.3} on average"
            );
            text.push_str(&format!("; a step is worth {goal:.3} there, and {other:.3} elsewhere"));
        }
        Ok(Seen::This(text))
    }
}
