//! Critics: an ensemble with slow copies, its temporal-difference loss, and the choice among candidates.

use burn::tensor::{Int, Tensor};

use crate::backend::PolicyBackend;
use crate::host::{DeviceBatch, Host, Readings};
use crate::network::{Ad, Network, NetworkShape, Tracked};
use crate::optimizer::{AdamStep, Moments, blend};
use crate::{NoiseSource, metrics};

/// How the members of an ensemble become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    /// Their mean.
    Mean,
    /// The smallest one.
    Min,
}

impl Aggregate {
    /// `[K, M, 1]` becomes `[1, M, 1]`.
    pub(crate) fn apply<B: burn::tensor::backend::Backend>(self, values: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::Mean => values.mean_dim(0),
            Self::Min => values.min_dim(0),
        }
    }
}

/// An ensemble `Q_k` with its slow copies `Q̄_k`.
#[derive(Debug)]
pub(crate) struct Critics<B: PolicyBackend> {
    /// Q_k(s, a) from the input (s, a).
    pub(crate) online: Network<B>,
    /// Q̄_k.
    pub(crate) target: Network<B>,
    pub(crate) moments: Moments<B>,
    pub(crate) aggregate: Aggregate,
}

/// Candidates, their values and the best of each group, still on the device.
#[derive(Debug, Clone)]
pub(crate) struct Chosen<B: PolicyBackend> {
    /// `[n, h·A]`.
    pub(crate) actions: Tensor<B, 2>,
    /// `[n, 1]`.
    pub(crate) q: Tensor<B, 2>,
    /// `[n, 1]`.
    pub(crate) index: Tensor<B, 2, Int>,
    /// `[n · N, h·A]`.
    pub(crate) candidates: Tensor<B, 2>,
    /// `[n, N]`.
    pub(crate) values: Tensor<B, 2>,
}

impl<B: PolicyBackend> Chosen<B> {
    /// Takes the candidate with the greatest value of each group.
    ///
    /// # Shapes
    /// `candidates` is `[n · N, h·A]`, `values` is `[n, N]`.
    pub(crate) fn best(candidates: Tensor<B, 2>, values: Tensor<B, 2>) -> Self {
        let [groups, size] = values.dims();
        let chunk = candidates.dims()[1];
        let index = values.clone().argmax(1);
        let rows = index.clone().unsqueeze_dim::<3>(2).repeat_dim(2, chunk);
        Self {
            actions: candidates.clone().reshape([groups, size, chunk]).gather(1, rows).squeeze_dim(1),
            q: values.clone().gather(1, index.clone()),
            index,
            candidates,
            values,
        }
    }
}

impl<B: PolicyBackend> Critics<B> {
    pub(crate) fn new(shape: &NetworkShape, aggregate: Aggregate, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let online = shape.init::<B>(&host.device, noise);
        Self { target: online.clone(), moments: Moments::zeros(&online), online, aggregate }
    }

    fn evaluate(&self, network: &Network<B>, observations: Tensor<B, 2>, actions: Tensor<B, 2>) -> Tensor<B, 2> {
        let groups = observations.dims()[0];
        let size = actions.dims()[0] / groups.max(1);
        self.aggregate.apply(network.infer(observations, actions, &[])).reshape([groups, size])
    }

    /// The ensemble's value of each chunk.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `actions` is `[n · N, h·A]`, the result is `[n, N]`.
    pub(crate) fn value(&self, observations: Tensor<B, 2>, actions: Tensor<B, 2>) -> Tensor<B, 2> {
        self.evaluate(&self.online, observations, actions)
    }

    /// The best candidate of each group, ranked by the online critics.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `candidates` is `[n · N, h·A]`.
    pub(crate) fn select(&self, observations: Tensor<B, 2>, candidates: Tensor<B, 2>) -> Chosen<B> {
        // One candidate needs no ranking, but its value is asked for all the same.
        let values = self.value(observations, candidates.clone());
        Chosen::best(candidates, values)
    }

    /// The actions of [`Critics::select`] alone. A single candidate is the best of its group, whatever its value.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `candidates` is `[n · N, h·A]`, the result is `[n, h·A]`.
    pub(crate) fn best(&self, observations: Tensor<B, 2>, candidates: Tensor<B, 2>) -> Tensor<B, 2> {
        if candidates.dims()[0] == observations.dims()[0] {
            return candidates;
        }
        self.select(observations, candidates).actions
    }

    /// The slow copies' value, `[n, N]`.
    pub(crate) fn target_value(&self, observations: Tensor<B, 2>, actions: Tensor<B, 2>) -> Tensor<B, 2> {
        self.evaluate(&self.target, observations, actions)
    }

    /// The temporal-difference target `y = Σ γ^j r_j + γ^h · m · Q̄(s_h, a')`, without gradient.
    ///
    /// # Shapes
    /// `next_actions` is `[B, h·A]`, the result is `[B, 1]`.
    pub(crate) fn backup(&self, batch: &DeviceBatch<B>, next_actions: Tensor<B, 2>) -> Tensor<B, 2> {
        batch.backup(1.0, self.target_value(batch.next_observations.clone(), next_actions))
    }

    /// `mean_k (Q_k(s, a) - y)²` over usable chunks.
    ///
    /// # Shapes
    /// `target` is `[B, 1]`.
    pub(crate) fn loss(&self, tracked: &Tracked<B>, batch: &DeviceBatch<B>, target: Tensor<B, 2>) -> CriticLoss<B> {
        let input = Tensor::cat(vec![batch.observations.clone(), batch.actions.clone()], 1);
        let (q, _) = tracked.forward(Tensor::from_inner(input.unsqueeze()));
        let members = q.dims()[0] as f64;
        let values = q.clone().inner();
        let target: Tensor<B, 3> = target.unsqueeze();
        let weight: Tensor<B, 3> = batch.chunk_weight.clone().unsqueeze();
        let share = weight.clone().div_scalar(members);
        let mean = values.clone().mean_dim(0);
        let error = q - Tensor::from_inner(target.clone());
        CriticLoss {
            total: (error.square() * Tensor::from_inner(share.clone())).sum(),
            q_mean: (mean.clone() * weight.clone()).sum(),
            q_spread: ((values - mean).abs() * share).sum(),
            target_mean: (target * weight).sum(),
        }
    }

    /// The value of chunks that carry a gradient, by critics that do not learn from it; `[1, B, 1]`.
    ///
    /// # Shapes
    /// `observations` is `[B, S]`, `actions` is `[1, B, h·A]`.
    pub(crate) fn value_with_gradient(
        &self,
        observations: Tensor<B, 2>,
        actions: Tensor<Ad<B>, 3>,
    ) -> Tensor<Ad<B>, 3> {
        let context = Tensor::from_inner(observations.unsqueeze());
        let (q, _) = self.online.frozen().forward(Tensor::cat(vec![context, actions], 2));
        self.aggregate.apply(q)
    }

    /// One step of Adam, then the slow copies follow: `Q̄ ← τ Q + (1 - τ) Q̄`.
    pub(crate) fn step(&mut self, step: &AdamStep, gradients: Vec<Tensor<B, 3>>, tau: f64) {
        self.moments.step(step, &mut self.online, gradients);
        blend(&mut self.target, &self.online, tau);
    }
}

/// The critics' loss and what is reported of it.
pub(crate) struct CriticLoss<B: PolicyBackend> {
    /// `[1]`.
    pub(crate) total: Tensor<Ad<B>, 1>,
    q_mean: Tensor<B, 1>,
    q_spread: Tensor<B, 1>,
    target_mean: Tensor<B, 1>,
}

impl<B: PolicyBackend> CriticLoss<B> {
    pub(crate) fn report(&self, readings: &mut Readings<B>) {
        readings.add(metrics::CRITIC_LOSS, self.total.clone().inner());
        readings.add(metrics::CRITIC_Q_MEAN, self.q_mean.clone());
        readings.add(metrics::CRITIC_Q_SPREAD, self.q_spread.clone());
        readings.add(metrics::CRITIC_TARGET_MEAN, self.target_mean.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::PolicySpec;
    use crate::backend::generic;
    use crate::checkpoint::to_vec;
    use crate::flow;
    use crate::network::Activation;
    use crate::testing::Stream;

    /// Networks of the published depth, noise and observations of so many agents with so many candidates.
    struct Scene {
        host: Host<Flex>,
        actor: Network<Flex>,
        critics: Critics<Flex>,
        observations: Tensor<Flex, 2>,
        noise: Tensor<Flex, 2>,
    }

    impl Scene {
        fn new(agents: usize, candidates: usize) -> Self {
            let spec = PolicySpec { observation_dim: 7, action_dim: 3, horizon: 2 };
            let host = Host::<Flex> { spec, device: FlexDevice, scaling: None };
            let mut stream = Stream::new(90);
            let actor = NetworkShape {
                members: 1,
                input: 7 + 6 + 2,
                hidden: vec![48; 4],
                output: 6,
                activation: Activation::Gelu,
                norm: false,
            };
            let critic = NetworkShape { members: 2, input: 7 + 6, output: 1, norm: true, ..actor.clone() };
            let actor = actor.init::<Flex>(&FlexDevice, &mut stream);
            let critics = Critics::new(&critic, Aggregate::Mean, &host, &mut stream);
            let observations = host.upload(stream.normal(agents * 7), 7);
            let noise = host.normal(agents * candidates, &mut stream);
            Self { host, actor, critics, observations, noise }
        }
    }

    #[test]
    fn fused_loops_and_tensor_operations_select_the_same() {
        for (agents, candidates) in [(1, 1), (1, 32), (37, 8)] {
            let Scene { actor, critics, observations, noise, .. } = Scene::new(agents, candidates);
            let times = [0.0, 1.0];
            let fused =
                flow::one_step(noise.clone(), actor.infer(observations.clone(), noise.clone(), &times).squeeze_dim(0));
            let fused = critics.select(observations.clone(), fused);

            let velocity = generic::infer(&actor, observations.clone(), noise.clone(), &times);
            let plain = flow::one_step(noise, velocity.squeeze_dim(0));
            let values = generic::infer(&critics.online, observations, plain.clone(), &[]);
            let plain = Chosen::best(plain, values.mean_dim(0).reshape([agents, candidates]));

            let index = |chosen: &Chosen<Flex>| chosen.index.to_data().iter::<i64>().collect::<Vec<_>>();
            assert_eq!(index(&fused), index(&plain), "{agents} agents, {candidates} candidates");
            assert!(candidates == 1 || index(&plain).iter().any(|index| *index > 0));
            for (found, expected) in [(fused.actions, plain.actions), (fused.q, plain.q)] {
                let (found, expected) = (to_vec(found.into_data()).unwrap(), to_vec(expected.into_data()).unwrap());
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn the_best_alone_is_what_selection_takes() {
        for (agents, candidates) in [(1, 1), (5, 1), (5, 6)] {
            let Scene { host, critics, observations, noise, .. } = Scene::new(agents, candidates);
            let best = critics.best(observations.clone(), noise.clone());
            assert_eq!(best.dims(), [agents, host.spec.chunk_dim()]);
            let selected = critics.select(observations, noise).actions;
            assert_eq!(to_vec(best.into_data()).unwrap(), to_vec(selected.into_data()).unwrap());
        }
    }
}
