//! What a person does to an episode: one way for keys, gamepads and the panel.

use bevy::{ecs::system::SystemParam, prelude::*};
use onestep_agent::{Agent, AgentMode, Episode, EpisodeSums, SeedSource};
use onestep_learn::{ActionChunk, PolicyHandle};
use onestep_record::demonstrations::DemonstrationRecorder;
use onestep_sim::Arena;

use crate::{HumanControl, Notice, Pace};

/// What a change of mode or episode concerns.
pub(crate) type AgentState<'a> = (
    &'a Agent,
    &'a mut AgentMode,
    &'a mut Episode,
    &'a mut EpisodeSums,
    Option<&'a SeedSource>,
    Option<&'a mut ActionChunk>,
    Option<&'a Arena>,
);

/// Modes, episodes and demonstrations, with what goes along: words on the screen, and the pause in which an episode waits
/// for its judgement.
#[derive(SystemParam)]
pub(crate) struct EpisodeControl<'w, 's> {
    pub(crate) agents: Query<'w, 's, AgentState<'static>>,
    pub(crate) recorder: Option<ResMut<'w, DemonstrationRecorder>>,
    pub(crate) pace: Option<ResMut<'w, Pace>>,
    pub(crate) notice: Option<ResMut<'w, Notice>>,
    policy: Option<Res<'w, PolicyHandle>>,
}

/// Who works through a list of seeds is being measured.
pub(crate) fn is_measured(seeds: Option<&SeedSource>) -> bool {
    matches!(seeds, Some(SeedSource::List(_)))
}

impl EpisodeControl<'_, '_> {
    /// Takes over from policy or script, or gives back.
    pub(crate) fn take_over(&mut self, control: &mut HumanControl) {
        let selected = control.agent;
        let Some((_, mode, ..)) = self.agents.iter().find(|(agent, ..)| agent.0 == selected) else { return };
        let mode = *mode;
        let wanted = match mode {
            AgentMode::Human => control.mode_before(),
            // Idle: held back, or without an episode; there is nothing to take over.
            AgentMode::Policy | AgentMode::Scripted | AgentMode::Idle => AgentMode::Human,
        };
        if self.set_mode(selected, wanted) && wanted == AgentMode::Human {
            control.remember(mode);
        }
    }

    /// Lets somebody else act from the next tick on. A mode that nobody could act in is refused, and so is any in an
    /// evaluation. Returns whether it was set.
    pub(crate) fn set_mode(&mut self, selected: u32, wanted: AgentMode) -> bool {
        if self.refuses(selected) {
            return false;
        }
        for (agent, mut mode, .., chunk, arena) in &mut self.agents {
            if agent.0 != selected || *mode == AgentMode::Idle {
                continue;
            }
            let is_possible = match wanted {
                AgentMode::Policy => self.policy.is_some(),
                AgentMode::Scripted => arena.is_some_and(|arena| arena.sim().task().has_expert()),
                AgentMode::Human | AgentMode::Idle => true,
            };
            if is_possible {
                *mode = wanted;
                // The rest of a chunk was meant for a state that is gone.
                if let Some(mut chunk) = chunk {
                    *chunk = ActionChunk::default();
                }
            }
            return is_possible;
        }
        false
    }

    /// Starts an agent's episode over, from this seed if there is one. A demonstration under way is discarded.
    pub(crate) fn new_episode(&mut self, selected: u32, seed: Option<u64>) {
        if self.refuses(selected) {
            return;
        }
        if self.recorder.as_ref().is_some_and(|recorder| recorder.agent().0 == selected) {
            self.discard_recorded();
        }
        self.start_over(selected, seed);
    }

    /// Keeps the demonstration, and lets the next begin.
    pub(crate) fn keep(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        let (steps, was_waiting, agent) = (recorder.steps(), recorder.is_waiting(), recorder.agent().0);
        match recorder.keep() {
            Ok(true) => {
                let text = format!("kept {steps} steps: episode {}", recorder.episodes().len());
                self.tell(text);
            }
            Ok(false) => return,
            Err(error) => self.complain(format!("not written, and kept in memory: {error}")),
        }
        self.start_over(agent, None);
        self.go_on(was_waiting);
    }

    /// Discards the demonstration, and lets the next begin.
    pub(crate) fn discard(&mut self) {
        let Some(agent) = self.recorder.as_ref().map(|recorder| recorder.agent().0) else { return };
        self.discard_recorded();
        self.start_over(agent, None);
    }

    fn discard_recorded(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        let was_waiting = recorder.is_waiting();
        if recorder.steps() > 0 {
            recorder.discard();
            self.tell("discarded");
        }
        self.go_on(was_waiting);
    }

    fn start_over(&mut self, selected: u32, seed: Option<u64>) {
        for (agent, _, mut episode, mut sums, ..) in &mut self.agents {
            if agent.0 != selected {
                continue;
            }
            match seed {
                Some(seed) => {
                    *episode = Episode::resumed(episode.index + 1, seed);
                    *sums = EpisodeSums::default();
                }
                None => episode.abandon(),
            }
        }
    }

    /// The pause was for the judgement.
    fn go_on(&mut self, was_waiting: bool) {
        if was_waiting
            && let Some(pace) = &mut self.pace
            && pace.paused
        {
            pace.toggle();
        }
    }

    /// An evaluation counts the episodes of its seeds, each once, as the policy plays them.
    fn refuses(&mut self, selected: u32) -> bool {
        let mut agents = self.agents.iter();
        let refused = agents.any(|(agent, _, _, _, seeds, ..)| agent.0 == selected && is_measured(seeds));
        if refused {
            self.complain("an evaluation keeps its episodes: nobody takes over, and nothing starts over");
        }
        refused
    }

    fn tell(&mut self, text: impl Into<String>) {
        if let Some(notice) = &mut self.notice {
            notice.tell(text);
        }
    }

    fn complain(&mut self, text: impl Into<String>) {
        if let Some(notice) = &mut self.notice {
            notice.complain(text);
        }
    }
}
