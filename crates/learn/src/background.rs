//! Updates on a thread of their own, so that no frame waits for them.
//!
//! There are three sets of networks. The worker thread learns with one; the agents act with another; the third is on its
//! way: the worker copies its weights there and leaves it in a letter box, and at a tick boundary the agents take it and
//! leave theirs for the next copy. So the frame loop never waits for an update or for a copy.
//!
//! Batches are drawn from the replay between two ticks and queued. Nothing is dropped: what the queue has no room for
//! stays owed, and the worker makes it later. How far updates are behind depends on the machine, so a run is not
//! repeatable to the bit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use bevy::ecs::prelude::*;
use onestep_agent::{Purpose, RandomStreams};
use onestep_policy::{ComputeDevice, Learner, Metrics, Phase, PolicyError, create_learner};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{BatchBuffer, LearnError, PolicyHandle, Replay, noise::StreamNoise};

/// Batches that may wait for the worker.
const QUEUE: u64 = 32;
/// How often weights are handed over at most: a control step of the arm.
const HAND_OVER: Duration = Duration::from_millis(50);

/// The worker and the ways to it.
#[derive(Resource)]
pub(crate) struct BackgroundLearner {
    jobs: Option<SyncSender<Job>>,
    /// A mutex only because a resource must be shareable; nobody else locks it.
    news: Mutex<Receiver<News>>,
    letter_box: Arc<Mutex<LetterBox>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    in_flight: u64,
    /// Batches to be filled again.
    spare_batches: Vec<BatchBuffer>,
}

enum Job {
    Update(BatchBuffer, Phase),
    Save(Sender<Result<Saved, PolicyError>>),
    /// Hand over what is new, and say so.
    HandOver(Sender<()>),
}

/// Weights and optimiser as files hold them.
pub(crate) type Saved = (Vec<u8>, Vec<u8>);

/// What became of an update; the batch's memory comes back with it.
struct News {
    result: Result<Metrics, PolicyError>,
    batch: BatchBuffer,
}

/// Networks on their way between the worker and the agents.
#[derive(Default)]
struct LetterBox {
    /// With the newest weights; for the agents.
    fresh: Option<Box<dyn Learner>>,
    /// With old ones; for the worker.
    stale: Option<Box<dyn Learner>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BackgroundLearner {
    /// Starts a worker that goes on from the networks in `policy`, its optimiser included.
    pub(crate) fn start(
        policy: &PolicyHandle,
        device: &ComputeDevice,
        streams: &mut RandomStreams,
    ) -> Result<Self, LearnError> {
        let twin = || -> Result<Box<dyn Learner>, LearnError> {
            // The weights are overwritten below; where they come from does not matter.
            let mut noise = ChaCha8Rng::seed_from_u64(0);
            let spec = policy.with(|learner| *learner.spec());
            Ok(create_learner(policy.algorithm(), &spec, device, &mut StreamNoise(&mut noise))?)
        };
        let (mut student, stale) = (twin()?, twin()?);
        let (weights, optimizer) = policy.with(|learner| (learner.weights(), learner.optimizer()));
        student.load_weights(&weights?)?;
        student.load_optimizer(&optimizer?)?;
        let letter_box = Arc::new(Mutex::new(LetterBox { fresh: None, stale: Some(stale) }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (jobs, job_receiver) = sync_channel(QUEUE as usize + 1);
        let (news_sender, news) = channel();
        let worker = Worker {
            student,
            noise: ChaCha8Rng::seed_from_u64(streams.next_seed(Purpose::Update, 0)),
            letter_box: letter_box.clone(),
            is_over: is_over.clone(),
            news: news_sender,
            last_hand_over: None,
            has_news: false,
        };
        let failed = |error: &dyn std::fmt::Display| LearnError::Background { detail: error.to_string() };
        let pool = own_pool().map_err(|error| failed(&error))?;
        let thread = Builder::new()
            .name("learner".to_owned())
            .spawn(move || pool.install(move || worker.work(&job_receiver)))
            .map_err(|error| failed(&error))?;
        Ok(Self {
            jobs: Some(jobs),
            news: Mutex::new(news),
            letter_box,
            is_over,
            thread: Some(thread),
            in_flight: 0,
            spare_batches: Vec::new(),
        })
    }

    /// Updates that the worker has been given and has not finished.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Batches that it takes now.
    pub(crate) fn room(&self) -> u64 {
        QUEUE.saturating_sub(self.in_flight)
    }

    /// Draws a batch and queues an update with it.
    pub(crate) fn send(
        &mut self,
        policy: &PolicyHandle,
        replay: &Replay,
        streams: &mut RandomStreams,
        phase: Phase,
    ) -> Result<(), LearnError> {
        let algorithm = policy.algorithm();
        let mut batch = self.spare_batches.pop().unwrap_or_default();
        replay.sample(
            &mut batch,
            algorithm.batch_size(),
            algorithm.horizon(),
            algorithm.discount(),
            streams.get(Purpose::Replay, 0),
        )?;
        self.order(Job::Update(batch, phase))?;
        self.in_flight += 1;
        Ok(())
    }

    fn order(&self, job: Job) -> Result<(), LearnError> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(gone()) }
    }

    /// What the next finished update reports; nothing when none is finished.
    pub(crate) fn try_next(&mut self) -> Option<Result<Metrics, LearnError>> {
        if self.in_flight == 0 {
            return None;
        }
        let news = match self.news.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(news) => Ok(news),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(gone()),
        };
        Some(self.receive(news))
    }

    /// As [`Self::try_next`], and waits until one is finished; nothing when there is none to wait for.
    pub(crate) fn next(&mut self) -> Option<Result<Metrics, LearnError>> {
        if self.in_flight == 0 {
            return None;
        }
        let news = self.news.get_mut().unwrap_or_else(PoisonError::into_inner).recv().map_err(|_| gone());
        Some(self.receive(news))
    }

    fn receive(&mut self, news: Result<News, LearnError>) -> Result<Metrics, LearnError> {
        let news = news.inspect_err(|_| self.in_flight = 0)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.spare_batches.push(news.batch);
        Ok(news.result?)
    }

    /// Gives `policy` the newest weights, if there are newer ones. Takes as long as moving a pointer.
    pub(crate) fn take_over(&self, policy: &PolicyHandle) {
        let Some(fresh) = lock(&self.letter_box).fresh.take() else { return };
        let old = policy.replace(fresh);
        lock(&self.letter_box).stale = Some(old);
    }

    /// Waits until the newest weights lie ready.
    pub(crate) fn hand_over(&self) -> Result<(), LearnError> {
        let (reply, answer) = channel();
        self.order(Job::HandOver(reply))?;
        answer.recv().map_err(|_| gone())
    }

    /// Weights and optimiser after all updates that were queued.
    pub(crate) fn save(&self) -> Result<Saved, LearnError> {
        let (reply, answer) = channel();
        self.order(Job::Save(reply))?;
        Ok(answer.recv().map_err(|_| gone())??)
    }
}

fn gone() -> LearnError {
    LearnError::Background { detail: "it has ended by itself; the message above it tells why".to_owned() }
}

/// Threads for the matrix products of the updates: one core is left to the frames, and acting has the common pool to
/// itself.
fn own_pool() -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ThreadPoolBuilder::new()
        .num_threads((cores - 1).max(1))
        .thread_name(|k| format!("learner {k}"))
        .start_handler(|_| give_way())
        .build()
}

/// Lets threads of frames go first where they share a core with the calling thread: without it a selection that the
/// common pool deals out to this core waits for the end of a slice of time, a few milliseconds. Niceness gives a thread less
/// of the time, but by the scheduler's rules it keeps the slice that has begun.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let lowest = thread_priority::ThreadPriority::Min;
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), lowest, idle) {
            tracing::debug!("the learner keeps the priority of frames: {error}");
        }
    }
}

impl Drop for BackgroundLearner {
    fn drop(&mut self) {
        // Queued updates are not worth waiting for; the one under way is finished.
        self.is_over.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the learner's thread panicked; this is a bug");
        }
    }
}

struct Worker {
    student: Box<dyn Learner>,
    noise: ChaCha8Rng,
    letter_box: Arc<Mutex<LetterBox>>,
    is_over: Arc<AtomicBool>,
    news: Sender<News>,
    last_hand_over: Option<Instant>,
    has_news: bool,
}

impl Worker {
    fn work(mut self, jobs: &Receiver<Job>) {
        while !self.is_over.load(Ordering::Relaxed) {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    // Time enough to let the agents have what is new.
                    self.hand_over();
                    let Ok(job) = jobs.recv() else { return };
                    job
                }
            };
            match job {
                Job::Update(batch, phase) => {
                    let Self { student, noise, .. } = &mut self;
                    // A panic must not leave the frame loop waiting for ever.
                    let result = catch_unwind(AssertUnwindSafe(|| {
                        student.update(&batch.as_batch(phase), &mut StreamNoise(noise))
                    }));
                    let Ok(result) = result else { return };
                    self.has_news |= result.is_ok();
                    if self.last_hand_over.is_none_or(|last| last.elapsed() >= HAND_OVER) {
                        self.hand_over();
                    }
                    if self.news.send(News { result, batch }).is_err() {
                        return;
                    }
                }
                Job::HandOver(reply) => {
                    self.hand_over();
                    // Who asked may have given up.
                    let _ = reply.send(());
                }
                Job::Save(reply) => {
                    let saved = self.student.weights().and_then(|weights| Ok((weights, self.student.optimizer()?)));
                    let _ = reply.send(saved);
                }
            }
        }
    }

    /// Copies the weights for the agents, if there are new ones.
    fn hand_over(&mut self) {
        if !self.has_news {
            return;
        }
        // One that nobody has taken yet is filled again.
        let free = {
            let mut letter_box = lock(&self.letter_box);
            letter_box.stale.take().or_else(|| letter_box.fresh.take())
        };
        let Some(mut copy) = free else { return };
        match self.student.weights().and_then(|weights| copy.load_weights(&weights)) {
            Ok(()) => {
                self.has_news = false;
                self.last_hand_over = Some(Instant::now());
                lock(&self.letter_box).fresh = Some(copy);
            }
            Err(error) => {
                tracing::error!(%error, "new weights could not be handed over; the agents keep theirs");
                lock(&self.letter_box).stale = Some(copy);
            }
        }
    }
}
