//! Demonstrations by hand: episodes that are kept or discarded one by one, in a file that grows.

use std::path::{Path, PathBuf};

use bevy::{
    app::{App, FixedUpdate, Plugin},
    ecs::prelude::*,
};
use onestep_agent::{AgentSpec, prelude::*};
use onestep_data::{DataError, EpisodeData, EpisodeFile, Format, Origin, ReadOptions, WriteOptions, read_episodes};

use crate::episodes::{OpenEpisode, Step};

/// Records the episodes of one agent into a [`DemonstrationRecorder`], whoever acts. Steps in which a person acted are
/// flagged, see [`EpisodeData::interventions`].
#[derive(Debug, Clone, Copy, Default)]
pub struct DemonstrationPlugin;

impl Plugin for DemonstrationPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        app.add_systems(FixedUpdate, record_demonstration.in_set(AgentSystems::Record));
    }
}

/// A session of demonstrations. Without one in the world [`DemonstrationPlugin`] does nothing.
///
/// An episode waits until somebody calls [`keep`](Self::keep) or [`discard`](Self::discard); while it waits, what the
/// agent does is not recorded. The file is written whole at each episode that is kept, so that a crash costs one
/// episode at most.
#[derive(Resource, Debug)]
pub struct DemonstrationRecorder {
    path: PathBuf,
    file: EpisodeFile,
    agent: Agent,
    open: OpenEpisode,
    ended: bool,
    before: usize,
    discarded: usize,
    /// Episodes that are kept and in no file yet.
    unwritten: usize,
}

impl DemonstrationRecorder {
    /// A session for the episodes of `agent` in a task, in this file; its ending chooses the format. A file that is
    /// there already grows.
    ///
    /// # Errors
    /// [`DataError`] when the ending is unknown, when the file cannot be read or written, or when it holds episodes of
    /// another task or of other sizes: it is left as it is then.
    pub fn open(path: &Path, task: &str, spec: &AgentSpec, agent: Agent) -> Result<Self, DataError> {
        Format::of(path)?;
        let (observation_dim, action_dim) = (spec.observation.dim(), spec.action.dim());
        let file = if path.exists() {
            let file = read_episodes(path, &ReadOptions::default(), &mut |_, _| true)?;
            file.require(path, task, observation_dim, action_dim)?;
            if !file.origin.has_seeds() {
                let problem = format!("its episodes come from {}, and have no seeds; choose another file", file.origin);
                return Err(DataError::Request { path: path.to_owned(), problem });
            }
            file
        } else {
            onestep_data::atomic::check_writable(path)?;
            EpisodeFile {
                task: task.to_owned(),
                origin: Origin::Onestep,
                observation_dim,
                action_dim,
                episodes: Vec::new(),
            }
        };
        let before = file.episodes.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            agent,
            open: OpenEpisode::default(),
            ended: false,
            before,
            discarded: 0,
            unwritten: 0,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose episodes are recorded.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.agent
    }

    /// Steps of the episode under way, or of the one that waits.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.open.len()
    }

    /// Whether that episode's goal holds.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.open.is_success()
    }

    /// Whether an episode is over and waits for a decision.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ended
    }

    /// Episodes in the file, those from before included.
    #[must_use]
    pub fn episodes(&self) -> &[EpisodeData] {
        &self.file.episodes
    }

    /// Episodes kept in this session.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.file.episodes.len() - self.before
    }

    /// Episodes discarded in this session.
    #[must_use]
    pub fn discarded(&self) -> usize {
        self.discarded
    }

    /// Keeps the episode, cut here if it still goes on, and writes the file. Returns whether there was one. The caller
    /// gives up the agent's episode, so that the next begins.
    ///
    /// # Errors
    /// [`DataError`] when the file cannot be written: the one before is still there, and the episode stays in memory
    /// and is written with the next, or by [`flush`](Self::flush).
    pub fn keep(&mut self) -> Result<bool, DataError> {
        self.ended = false;
        let Some(episode) = self.open.take() else { return Ok(false) };
        self.file.episodes.push(episode);
        self.unwritten += 1;
        self.write(&self.path.clone())?;
        Ok(true)
    }

    /// Episodes that were kept and could not be written yet.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Writes what could not be written before: the last thing to do with a session. When the file is still in the way,
    /// everything goes to another name beside it, or else into the system's folder for temporary files.
    ///
    /// # Errors
    /// [`DataError`] when the file itself cannot be written; it names the other one.
    pub fn flush(&mut self) -> Result<(), DataError> {
        if self.unwritten == 0 {
            return Ok(());
        }
        let Err(error) = self.write(&self.path.clone()) else { return Ok(()) };
        let (all, unwritten) = (self.file.episodes.len(), self.unwritten);
        for other in self.other_names() {
            if self.write(&other).is_ok() {
                let problem = format!(
                    "it could not be written ({error}); all {all} episodes, {unwritten} of them in no other file, are in {}",
                    other.display()
                );
                return Err(DataError::Request { path: self.path.clone(), problem });
            }
        }
        let problem =
            format!("{unwritten} episodes could not be written, here or anywhere else, and are lost: {error}");
        Err(DataError::Request { path: self.path.clone(), problem })
    }

    fn write(&mut self, path: &Path) -> Result<(), DataError> {
        onestep_data::write_episodes(path, &self.file, &WriteOptions::default())?;
        self.unwritten = 0;
        Ok(())
    }

    /// Free names for the same kind of file: beside it, and in the folder for temporary files.
    fn other_names(&self) -> Vec<PathBuf> {
        /// Names that are tried in a folder.
        const TRIES: usize = 99;
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, ending) = (text(self.path.file_stem()), text(self.path.extension()));
        let folders = [self.path.parent().map(Path::to_owned).unwrap_or_default(), std::env::temp_dir()];
        let free = |folder: PathBuf| {
            let names = (1..=TRIES).map(|number| folder.join(format!("{stem}-rescued-{number}.{ending}")));
            names.into_iter().find(|path| !path.exists())
        };
        folders.into_iter().filter_map(free).collect()
    }

    /// Forgets the episode. The caller gives up the agent's episode, so that the next begins.
    pub fn discard(&mut self) {
        self.ended = false;
        if self.open.take().is_some() {
            self.discarded += 1;
        }
    }
}

fn record_demonstration(recorder: Option<ResMut<DemonstrationRecorder>>, agents: Query<Step<'_>>) {
    let Some(mut recorder) = recorder else { return };
    if recorder.ended {
        return;
    }
    if let Some(step) = agents.iter().find(|(agent, ..)| **agent == recorder.agent) {
        recorder.ended = recorder.open.push(step);
    }
}
