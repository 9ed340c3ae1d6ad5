"""Reference numbers for the learning core, computed in float64 with NumPy alone.

Written from the mathematics of the papers (see `docs/` and the module texts of the crate), not from the Rust code:
gradients come from a reverse-mode tape, the derivative of the mean velocity from dual numbers, both below and both
checked against finite differences at every run. For each case the script draws small weights, batches and noise,
makes whole updates (losses, Adam, slow copies) and writes, beside itself:

    CASE.safetensors         initial weights, as `Learner::load_weights` takes them (F32)
    CASE.json                settings, batches, draws in order, expected metrics and selections
    CASE.after.safetensors   expected weights and moments of Adam after the last update (F64)
    replay.json              episodes and the chunks that are cut from them
    temperature.json         the temperature of Flow Policy Mirror Descent along a run

Run it as `python reference.py`; it needs NumPy only. Equal versions of NumPy write equal bytes.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
OBSERVATION, ACTION, ROWS = 3, 2, 4


# ---- Numbers that carry derivatives -----------------------------------------------------------------------------


class Var:
    """A node of the reverse-mode tape: a value, and for each parent the rule that maps a gradient onto it."""

    __array_ufunc__ = None  # NumPy leaves mixed operators to this class

    def __init__(self, value, *parents):
        self.value, self.parents, self.gradient = value, parents, None

    def __add__(self, other):
        return Var(self.value + value(other), *ways(self, lambda g: g), *ways(other, lambda g: g))

    def __mul__(self, other):
        a, b = self.value, value(other)
        return Var(a * b, *ways(self, lambda g: g * b), *ways(other, lambda g: g * a))

    def __matmul__(self, other):
        a, b = self.value, value(other)
        return Var(a @ b, *ways(self, lambda g: g @ b.T), *ways(other, lambda g: a.T @ g))

    def __rmatmul__(self, other):
        return Var(other @ self.value, *ways(self, lambda g: other.T @ g))

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def sum(self):
        return Var(self.value.sum(), *ways(self, lambda g: g * np.ones_like(self.value)))

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.gradient = np.ones_like(self.value)
        for node in reversed(order):
            for parent, rule in node.parents:
                part = rule(node.gradient)
                parent.gradient = part if parent.gradient is None else parent.gradient + part


def value(x):
    return x.value if isinstance(x, Var) else x


def ways(x, rule):
    """The rule of one parent, summed over what broadcasting repeated; nothing for a constant."""
    if not isinstance(x, Var):
        return []
    shape = np.shape(x.value)

    def summed(gradient):
        part = rule(gradient)
        part = part.sum(axis=tuple(range(np.ndim(part) - len(shape))))
        repeated = tuple(i for i, size in enumerate(shape) if size == 1 and part.shape[i] != 1)
        return part.sum(axis=repeated, keepdims=True) if repeated else part

    return [(x, summed)]


class Dual:
    """A value with its derivative along one direction: forward mode. Weights are constants."""

    __array_ufunc__ = None

    def __init__(self, value, tangent):
        self.value, self.tangent = value, tangent

    def __add__(self, other):
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.tangent + other.tangent)
        return Dual(self.value + other, self.tangent + np.zeros_like(other))

    def __mul__(self, other):
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.tangent * other.value + self.value * other.tangent)
        return Dual(self.value * other, self.tangent * other)

    def __matmul__(self, constant):
        return Dual(self.value @ constant, self.tangent @ constant)

    __radd__, __rmul__ = __add__, __mul__


def unary(function, slope):
    def apply(x):
        if isinstance(x, Var):
            return Var(function(x.value), *ways(x, lambda g: g * slope(x.value)))
        if isinstance(x, Dual):
            return Dual(function(x.value), slope(x.value) * x.tangent)
        return function(x)

    return apply


exp = unary(np.exp, np.exp)
log = unary(np.log, lambda x: 1 / x)
sin = unary(np.sin, np.cos)
cos = unary(np.cos, lambda x: -np.sin(x))
tanh = unary(np.tanh, lambda x: 1 / np.cosh(x) ** 2)
softplus = unary(lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-x)))
square = unary(np.square, lambda x: 2 * x)
inverse_sqrt = unary(lambda x: x**-0.5, lambda x: -0.5 * x**-1.5)


def clip(x, low, high):
    return unary(lambda x: np.clip(x, low, high), lambda x: 1.0 * ((low < x) & (x < high)))(x)


def columns(x, first, last):
    return x @ np.eye(np.shape(value(x))[1])[:, first:last]


def beside(*parts):
    """Parts side by side; each is carried to its columns by a product, so every kind of number may take part."""
    widths = [(part.value if isinstance(part, (Var, Dual)) else part).shape[1] for part in parts]
    total, offset = 0.0, 0
    for part, width in zip(parts, widths):
        total = part @ np.eye(sum(widths))[offset : offset + width] + total
        offset += width
    return total


def row_mean(x):
    width = (x.value if isinstance(x, (Var, Dual)) else x).shape[1]
    return x @ np.full((width, 1), 1 / width)


# ---- Networks ---------------------------------------------------------------------------------------------------


def gelu(x):
    return 0.5 * x * (1.0 + tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * (x * x * x))))


def mish(x):
    return x * tanh(softplus(x))


def layer_norm(x, scale, shift):
    centred = x + -1.0 * row_mean(x)
    return centred * inverse_sqrt(row_mean(square(centred)) + 1e-6) * scale + shift


def perceptron(weights, name, x, activation):
    count = sum(key.startswith(f"{name}.layers.") and key.endswith(".weight") for key in weights)
    for index in range(count):
        layer = f"{name}.layers.{index}"
        x = x @ weights[f"{layer}.weight"] + weights[f"{layer}.bias"]
        if index + 1 < count:
            x = activation(x)
            if f"{layer}.norm.scale" in weights:
                x = layer_norm(x, weights[f"{layer}.norm.scale"], weights[f"{layer}.norm.shift"])
    return x


FREQUENCIES = np.array([[1.0, 1.5, 2.2, 3.3, 4.9, 7.3, 10.8, 16.0]])


def timed(weights, name, s, x, times):
    """Velocity from (s, e(t), ..., x), e two layers over sines and cosines."""
    angles = [time * FREQUENCIES for time in times]
    embedded = [perceptron(weights, f"{name}_times", beside(sin(a), cos(a)), mish) for a in angles]
    return perceptron(weights, name, beside(s, *embedded, x), mish)


def single(x):
    """A float64 array that single precision holds exactly."""
    return np.float32(x).astype(np.float64)


def draw_network(random, weights, name, sizes, norm=False):
    for index, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layer = f"{name}.layers.{index}"
        limit = np.sqrt(6 / (inputs + outputs))
        weights[f"{layer}.weight"] = single(random.uniform(-limit, limit, (inputs, outputs)))
        weights[f"{layer}.bias"] = single(0.2 * random.standard_normal(outputs))
        if norm and index + 2 < len(sizes):
            weights[f"{layer}.norm.scale"] = single(1 + 0.1 * random.standard_normal(outputs))
            weights[f"{layer}.norm.shift"] = single(0.1 * random.standard_normal(outputs))


# ---- What all algorithms share ----------------------------------------------------------------------------------


class Unsuited(Exception):
    """A drawn case in which rounding would decide something: a near tie, or a gradient that is nearly zero."""


def distinct(differences, least=2e-3):
    if np.size(differences) and np.abs(differences).min() < least:
        raise Unsuited


class Noise:
    """Draws, and what was drawn."""

    def __init__(self, random):
        self.random, self.record = random, []

    def keep(self, kind, draws):
        self.record.append({"kind": kind, "values": draws.ravel()})
        return draws

    def normal(self, rows, width):
        return self.keep("normal", single(self.random.standard_normal((rows, width))))

    def uniform(self, rows):
        return self.keep("uniform", single(self.random.uniform(0.0, 0.999, (rows, 1))))


def fixed_normal(rows, width):
    """The noise of diagnostics, the same at each: SplitMix64 from 0, two uniforms to two normals by Box and Muller."""
    pairs = -(-rows * width // 2)
    with np.errstate(over="ignore"):
        z = np.arange(1, 2 * pairs + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(1 - u[0::2])), 2 * np.pi * u[1::2]
    draws = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    return single(draws[: rows * width].reshape(rows, width))


class Batch:
    """A batch; what lies behind the end of an episode is zero, and has no weight."""

    def __init__(self, raw, horizon):
        self.s, self.next_s = raw["observations"], raw["next_observations"]
        self.returns, self.bootstrap = raw["returns"], raw["bootstrap"]
        mask = np.repeat(raw["valid"], ACTION, axis=1)
        self.a = raw["actions"] * mask
        self.entry_weight = mask / mask.sum()
        self.chunk_weight = raw["critic_valid"] / raw["critic_valid"].sum()


class Learner:
    """Weights, Adam, critics. The settings that all algorithms share have the published defaults."""

    defaults = {"learning_rate": 3e-4, "tau": 0.005, "horizon": 5, "critic_layer_norm": True}
    activation = staticmethod(gelu)
    has_critics = True
    learned = ("actor.", "critic.")
    copies = {"target.": "critic."}  # slow copies and what they follow

    def __init__(self, settings, random):
        self.settings = {**self.defaults, **settings}
        self.random, self.weights, self.moments, self.updates = random, {}, {}, 0
        self.chunk = self.settings["horizon"] * ACTION
        self.make_actor()
        if self.has_critics:
            sizes = [OBSERVATION + self.chunk, *self.settings["critic_hidden"], 1]
            for k in range(2):
                draw_network(random, self.weights, f"critic.{k}", sizes, self.settings["critic_layer_norm"])
        for copy, source in self.copies.items():
            for name in [name for name in self.weights if name.startswith(source)]:
                noise = 0.05 * random.standard_normal(self.weights[name].shape)
                self.weights[copy + name.removeprefix(source)] = single(self.weights[name] + noise)

    def draw_actor(self, name, inputs, outputs):
        draw_network(self.random, self.weights, name, [inputs, *self.settings["actor_hidden"], outputs])

    def names(self, *prefixes):
        return [name for name in self.weights if name.startswith(prefixes)]

    def gradients(self, loss, *prefixes):
        """The loss and its gradients; `loss` gets weights of which those named are variables."""
        variables = {name: Var(self.weights[name]) for name in self.names(*prefixes)}
        total = loss({**self.weights, **variables})
        total.backward()
        gradients = {name: variable.gradient for name, variable in variables.items()}
        for gradient in gradients.values():
            distinct(gradient / np.abs(gradient).max(), least=self.settings_of_case["gradients"])
        return float(total.value), gradients

    def adam(self, gradients, rate, step):
        """Kingma and Ba, arXiv 1412.6980, Algorithm 1."""
        for name, g in gradients.items():
            m, v = self.moments.get(name, (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            self.moments[name] = (m, v)
            change = rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            self.weights[name] = self.weights[name] - change

    def follow(self, copy):
        tau = self.settings["tau"]
        for name in self.names(copy):
            source = self.weights[self.copies[copy] + name.removeprefix(copy)]
            self.weights[name] = tau * source + (1 - tau) * self.weights[name]

    # -- critics --

    smallest = False  # the ensemble's value is its mean, or its smallest member

    def members(self, weights, network, s, a):
        return [perceptron(weights, f"{network}.{k}", beside(s, a), self.activation) for k in range(2)]

    def q(self, network, s, a, weights=None):
        first, second = self.members(weights or self.weights, network, s, a)
        if not self.smallest:
            return 0.5 * (first + second)
        distinct(value(first) - value(second), 1e-4)
        below = 1.0 * (value(first) < value(second))
        return first * below + second * (1 - below)

    def best(self, s, candidates):
        """The best of each group of candidates, by the online critics."""
        rows, size = len(s), len(candidates) // len(s)
        q = self.q("critic", np.repeat(s, size, axis=0), candidates).reshape(rows, size)
        distinct(np.diff(np.sort(q, axis=1)[:, -2:], axis=1))
        index = q.argmax(axis=1)
        each = np.arange(rows)
        chosen = candidates.reshape(rows, size, -1)[each, index]
        return {"actions": chosen, "q": q[each, index], "index": index, "candidates": candidates, "values": q}

    def backup(self, batch, noise):
        """y = R + gamma^h m Q'(s_h, a'), with the best candidate a'."""
        draws = noise.normal(ROWS * self.settings["target_candidates"], self.chunk)
        chosen = self.best(batch.next_s, self.target_samples(batch.next_s, draws))
        value_ = self.q("target", batch.next_s, chosen["actions"])
        return self.settings.get("reward_scale", 1.0) * batch.returns + batch.bootstrap * value_

    def target_samples(self, s, noise):
        return self.generate(s, noise)

    def critic_loss(self, weights, batch, y):
        first, second = self.members(weights, "critic", batch.s, batch.a)
        return (0.5 * batch.chunk_weight * (square(first - y) + square(second - y))).sum()

    def critic_metrics(self, batch, y):
        w = batch.chunk_weight
        q = np.stack(self.members(self.weights, "critic", batch.s, batch.a))
        mean = q.mean(axis=0)
        return {
            "critic/loss": (w * np.square(q - y).mean(axis=0)).sum(),
            "critic/q_mean": (w * mean).sum(),
            "critic/q_spread": (w * np.abs(q - mean).mean(axis=0)).sum(),
            "critic/target_mean": (w * y).sum(),
        }

    # -- acting --

    def select(self, s, noise, exploration=None):
        return self.best(s, self.generate(s, noise))


def repeated(s, noise):
    return np.repeat(s, len(noise) // len(s), axis=0)


def euler(field, x, steps):
    for step in range(steps):
        x = x + field(x, np.full((len(x), 1), step / steps)) / steps
    return x


def flow_matching(weights, name, s, a, noise, t, entry_weight):
    """Rectified flow: the velocity at x_t = (1 - t) noise + t a is a - noise."""
    x = (1 - t) * noise + t * a
    output = perceptron(weights, name, beside(s, x, t), gelu)
    return (entry_weight * square(output - (a - noise))).sum()


def flow_sample(weights, name, s, noise, steps):
    s = repeated(s, noise)
    return np.clip(euler(lambda x, t: perceptron(weights, name, beside(s, x, t), gelu), noise, steps), -1, 1)


# ---- Algorithms -------------------------------------------------------------------------------------------------


class Mvp(Learner):
    """Mean Velocity Policy, arXiv 2602.13810."""

    defaults = {
        **Learner.defaults,
        "ivc_weight": 1.0,
        "diagonal_share": 0.0,
        "times": "uniform",
        "weighting": "plain",
        "regression": "replay",
        "base_noise": 1.0,
    }

    def make_actor(self):
        self.draw_actor("actor", OBSERVATION + self.chunk + 2, self.chunk)

    def mean_velocity(self, weights, s, x, t, r):
        return perceptron(weights, "actor", beside(s, x, t, r), gelu)

    def generate(self, s, noise):
        noise = self.settings["base_noise"] * noise
        t, r = np.zeros((len(noise), 1)), np.ones((len(noise), 1))
        return np.clip(noise + self.mean_velocity(self.weights, repeated(s, noise), noise, t, r), -1, 1)

    def update(self, batch, noise, phase):
        settings = self.settings
        self.updates += 1
        y = self.backup(batch, noise)
        a, weight = batch.a, batch.entry_weight
        if settings["regression"] == "best_of_n" and phase == "online":
            a = self.select(batch.s, noise.normal(ROWS * settings["candidates"], self.chunk))["actions"]
            weight = np.full_like(a, 1 / a.size)
        if settings["times"] == "uniform":
            times = noise.uniform(2 * ROWS)
        else:
            form = settings["times"]["logit_normal"]
            times = 1 / (1 + np.exp(-(form["mean"] + form["std"] * noise.normal(2 * ROWS, 1))))
        times = np.sort(times.reshape(2, ROWS), axis=0)
        t, r = times[0][:, None], times[1][:, None]
        if settings["diagonal_share"] > 0:
            draws = noise.uniform(ROWS)
            distinct(draws - settings["diagonal_share"])
            r = np.where(draws < settings["diagonal_share"], t, r)
        e = noise.normal(ROWS, self.chunk)

        # The identity u = v + (r - t) du/dt along the path x_t = (1 - t) e + t a, whose velocity is v = a - e.
        v = a - e
        x = (1 - t) * e + t * a
        derivative = self.mean_velocity(self.weights, batch.s, Dual(x, v), Dual(t, np.ones_like(t)), r).tangent
        target = v + (r - t) * derivative

        def part(weights, end, wanted):
            error = square(self.mean_velocity(weights, batch.s, x, t, end) - wanted)
            if settings["weighting"] == "plain":
                return (weight * error).sum()
            form = settings["weighting"]["adaptive"]
            return (weight * (value(error) + form["c"]) ** -form["power"] * error).sum()

        mean_flow = float(part(self.weights, r, target))
        constraint = float(part(self.weights, t, v))
        lam = settings["ivc_weight"]

        def loss(weights):
            total = self.critic_loss(weights, batch, y) + part(weights, r, target)
            return total + lam * part(weights, t, v) if lam > 0 else total

        metrics = {
            **self.critic_metrics(batch, y),
            "actor/loss": mean_flow + lam * constraint,
            "actor/mf_loss": mean_flow,
            "actor/tangent_rms": np.sqrt((weight * derivative**2).sum()),
        }
        if lam > 0:
            metrics["actor/ivc_loss"] = constraint
        self.adam(self.gradients(loss, *self.learned)[1], settings["learning_rate"], self.updates)
        self.follow("target.")
        if self.updates == 1:
            self.intermediate = {
                "start": t, "end": r, "noise": e, "actions": a, "point": x, "velocity": v,
                "derivative": derivative, "target": target, "td_targets": y,
            }  # fmt: skip
        return metrics


class Qc(Learner):
    """Q-chunking and best-of-N flow behaviour cloning, arXiv 2507.07969."""

    defaults = {**Learner.defaults, "flow_steps": 10}

    def make_actor(self):
        self.draw_actor("actor", OBSERVATION + self.chunk + 1, self.chunk)

    def generate(self, s, noise):
        return flow_sample(self.weights, "actor", s, noise, self.settings["flow_steps"])

    def update(self, batch, noise, phase):
        self.updates += 1
        y = self.backup(batch, noise)
        e, t = noise.normal(ROWS, self.chunk), noise.uniform(ROWS)

        def cloning(weights):
            return flow_matching(weights, "actor", batch.s, batch.a, e, t, batch.entry_weight)

        flow_loss = float(cloning(self.weights))
        metrics = {**self.critic_metrics(batch, y), "actor/loss": flow_loss, "actor/flow_loss": flow_loss}
        gradients = self.gradients(lambda w: self.critic_loss(w, batch, y) + cloning(w), *self.learned)[1]
        self.adam(gradients, self.settings["learning_rate"], self.updates)
        self.follow("target.")
        return metrics


class Bfn(Qc):
    defaults = {**Qc.defaults, "horizon": 1}


class Fql(Learner):
    """Flow Q-learning, arXiv 2502.02538, Algorithm 1."""

    defaults = {**Learner.defaults, "flow_steps": 10, "distillation_weight": 100.0, "normalise_q": True, "horizon": 1}
    learned = ("actor.", "flow.", "critic.")

    def make_actor(self):
        self.draw_actor("actor", OBSERVATION + self.chunk, self.chunk)
        self.draw_actor("flow", OBSERVATION + self.chunk + 1, self.chunk)

    def one_step(self, weights, s, noise):
        return perceptron(weights, "actor", beside(repeated(s, noise), noise), gelu)

    def generate(self, s, noise):
        return np.clip(self.one_step(self.weights, s, noise), -1, 1)

    def update(self, batch, noise, phase):
        self.updates += 1
        y = self.backup(batch, noise)
        e, t, start = noise.normal(ROWS, self.chunk), noise.uniform(ROWS), noise.normal(ROWS, self.chunk)
        taught = flow_sample(self.weights, "flow", batch.s, start, self.settings["flow_steps"])
        distinct(np.abs(self.one_step(self.weights, batch.s, start)) - 1)
        own = self.q("critic", batch.s, self.generate(batch.s, start))
        pull = 1 / np.abs(own).mean() if self.settings["normalise_q"] else 1.0

        def cloning(weights):
            return flow_matching(weights, "flow", batch.s, batch.a, e, t, batch.entry_weight)

        def distillation(weights):
            return square(self.one_step(weights, batch.s, start) - taught).sum() * (1 / taught.size)

        def improvement(weights):  # the critics are constants here
            return self.q("critic", batch.s, clip(self.one_step(weights, batch.s, start), -1, 1)).sum() * (pull / ROWS)

        def policy(weights):
            return self.settings["distillation_weight"] * distillation(weights) + -1.0 * improvement(weights)

        flow_loss = float(cloning(self.weights))
        metrics = {
            **self.critic_metrics(batch, y),
            "actor/loss": float(policy(self.weights)) + flow_loss,
            "actor/flow_loss": flow_loss,
            "actor/distillation_loss": float(distillation(self.weights)),
            "actor/q_mean": own.mean(),
        }
        gradients = self.gradients(
            lambda w: self.critic_loss(w, batch, y) + cloning(w) + policy(w), *self.learned
        )[1]
        self.adam(gradients, self.settings["learning_rate"], self.updates)
        self.follow("target.")
        return metrics


class QcFql(Fql):
    defaults = {**Fql.defaults, "horizon": 5}


class Temperature:
    """The temperature of Flow Policy Mirror Descent: Adam on log alpha, pulled by the entropy of the noise alone."""

    def __init__(self, initial, rate, noise, wanted):
        self.log, self.rate, self.noise, self.wanted = np.log(initial), rate, noise, wanted
        self.m = self.v = self.steps = 0

    def step(self):
        self.steps += 1
        entropy = 0.5 * np.log(2 * np.pi * np.e * (self.noise * np.exp(self.log)) ** 2)
        g = entropy - self.wanted
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        m, v = self.m / (1 - 0.9**self.steps), self.v / (1 - 0.999**self.steps)
        self.log = self.log - self.rate * m / (np.sqrt(v) + 1e-8)


class Fpmd(Learner):
    """Flow Policy Mirror Descent, arXiv 2507.23675. All of one update is computed at the weights before it."""

    defaults = {
        **Learner.defaults,
        "horizon": 1,
        "critic_layer_norm": False,
        "reward_scale": 0.2,
        "policy_delay": 2,
        "weighting": "centred",
        "samples": 1,
        "training_steps": 20,
        "acting_steps": 1,
        "base_noise": 0.5,
        "training_noise": 1.0,
        "smoothing": 1.0,
        "exploration_noise": 0.1,
        "running_rate": 1e-3,
        "initial_temperature": 5.0,
        "temperature_learning_rate": 7e-3,
        "temperature_every": 250,
        "target_entropy": -1.5,
        "diagnostics_every": 1000,
    }
    activation = staticmethod(mish)
    smallest = True
    learned = ("actor.", "actor_times.")
    copies = {"target.": "critic.", "old_actor.": "actor.", "old_actor_times.": "actor_times."}
    times = 1

    def make_actor(self):
        draw_network(self.random, self.weights, "actor_times", [16, 32, 16])
        self.draw_actor("actor", OBSERVATION + 16 * self.times + self.chunk, self.chunk)
        settings = self.settings
        self.temperature = Temperature(
            float(np.float32(settings["initial_temperature"])), settings["temperature_learning_rate"],
            settings["exploration_noise"], settings["target_entropy"],
        )  # fmt: skip
        self.temperature.log = float(single(self.temperature.log))
        self.running = (0.0, 0.0)

    def scalars(self):
        t = self.temperature
        mean, variance = self.running
        return {
            "log_temperature": t.log, "log_temperature.first": t.m, "log_temperature.second": t.v,
            "q_mean": mean, "q_variance": variance,
        }  # fmt: skip

    def sample(self, s, noise, steps):
        """Samples of the old policy, from noise of any size."""
        s = repeated(s, noise)

        def field(x, t):
            times = [t] if self.times == 1 else [t, t + 1 / steps]
            return timed(self.weights, "old_actor", s, x, times)

        return np.clip(euler(field, noise, steps), -1, 1)

    def generate(self, s, noise):
        return self.sample(s, self.settings["base_noise"] * noise, self.settings["acting_steps"])

    def target_samples(self, s, noise):
        return self.sample(s, self.settings["base_noise"] * noise, self.settings["training_steps"])

    def exploration_size(self):
        return self.settings["exploration_noise"] * np.exp(self.temperature.log)

    def select(self, s, noise, exploration=None):
        chosen = super().select(s, noise)
        if exploration is not None:
            chosen["actions"] = np.clip(chosen["actions"] + self.exploration_size() * exploration, -1, 1)
        return chosen

    def sample_weights(self, q):
        mean, variance = self.running
        deviation = np.sqrt(variance) + 1e-6
        form = self.settings["weighting"]
        if form == "centred":
            return np.exp(np.clip((q - mean) / deviation, -3, 3) / np.exp(self.temperature.log))
        if "scaled" in form:
            return np.exp(q / deviation / form["scaled"]["temperature"])
        if "advantage" in form:
            shares = np.exp(q / deviation / form["advantage"]["temperature"])
        else:
            shares = np.exp(q / form["self_normalised"]["temperature"])
        return q.shape[1] * shares / shares.sum(axis=1, keepdims=True)

    def policy_loss(self, weights, s, a, noise, times, w):
        velocity = a - noise
        t = times[0]
        x = (1 - t) * noise + t * a
        output = timed(weights, "actor", s, x, times)
        target = velocity
        if self.times == 2:
            moving = [Dual(t, np.ones_like(t)), times[1]]
            derivative = timed(self.weights, "actor", s, Dual(x, velocity), moving).tangent
            target = velocity + (times[1] - t) * derivative
        return (w * square(output - target)).sum() * (1 / a.size)

    def diagnose(self, s):
        samples = 32
        draws = self.settings["training_noise"] * fixed_normal(len(s) * samples, self.chunk)
        many = self.sample(s, draws, 20).reshape(len(s), samples, -1)
        one = self.sample(s, draws, 1).reshape(len(s), samples, -1)
        centre = many.mean(axis=1, keepdims=True)
        return {
            "actor/trace_variance": np.square(many - centre).sum(axis=2).mean(),
            "actor/one_step_spread": np.square(one - centre).sum(axis=2).mean(),
            "actor/one_step_error": np.square(one - many).sum(axis=2).mean(),
        }

    def update(self, batch, noise, phase):
        settings = self.settings
        self.updates += 1
        y = self.backup(batch, noise)
        metrics = self.critic_metrics(batch, y)
        if self.updates % settings["diagnostics_every"] == 0:
            metrics.update(self.diagnose(batch.s))

        actor_gradients = None
        if self.updates % settings["policy_delay"] == 0:
            turn = self.updates // settings["policy_delay"]
            size = settings["samples"]
            rows = ROWS * size
            s = np.repeat(batch.s, size, axis=0)
            draws = settings["training_noise"] * noise.normal(rows, self.chunk)
            a = self.sample(batch.s, draws, settings["training_steps"])
            if settings["smoothing"] > 0:  # the policy that acted is the one with its noise
                spread = settings["smoothing"] * self.exploration_size()
                a = np.clip(a + spread * noise.normal(rows, self.chunk), -1, 1)
            q = self.q("critic", s, a).reshape(ROWS, size)
            # Running mean and variance; the first values are averaged plainly.
            rate = max(settings["running_rate"], 1 / turn)
            mean, variance = self.running
            # The deviation within a state, or that of all values.
            measured = q - q.mean(axis=1, keepdims=True) if "advantage" in settings["weighting"] else q
            mean = (1 - rate) * mean + rate * measured.mean()
            variance = (1 - rate) * variance + rate * np.square(measured - mean).mean()
            self.running = (mean, variance)
            w = self.sample_weights(q).reshape(rows, 1)
            times = [noise.uniform(rows) for _ in range(self.times)]
            times = list(np.sort(np.stack(times), axis=0))
            e = noise.normal(rows, self.chunk)
            loss, actor_gradients = self.gradients(
                lambda weights: self.policy_loss(weights, s, a, e, times, w), *self.learned
            )
            metrics["actor/loss"] = loss
            metrics["actor/flow_loss" if self.times == 1 else "actor/mf_loss"] = loss
            metrics["actor/q_mean"] = q.mean()
            metrics["actor/weight_max"] = w.max() / w.mean()
            metrics["actor/weight_share"] = w.sum() ** 2 / (rows * np.square(w).sum())

        gradients = self.gradients(lambda weights: self.critic_loss(weights, batch, y), "critic.")[1]
        self.adam(gradients, settings["learning_rate"], self.updates)
        self.follow("target.")
        if actor_gradients is not None:
            decay = settings.get("learning_rate_decay")
            share = 1.0
            if decay:  # along a straight line
                share = 1 + (decay["end"] - 1) * min(self.updates / decay["updates"], 1)
            self.adam(actor_gradients, settings["learning_rate"] * share, turn)
            self.follow("old_actor.")
            self.follow("old_actor_times.")
        if self.updates % settings["temperature_every"] == 0:
            self.temperature.step()
        metrics["actor/temperature"] = np.exp(self.temperature.log)
        return metrics


class FpmdM(Fpmd):
    defaults = {**Fpmd.defaults, "training_steps": 1}
    times = 2


class Sac(Learner):
    """Soft actor-critic, arXiv 1812.05905. All of one update is computed at the weights before it."""

    defaults = {
        **Learner.defaults,
        "horizon": 1,
        "critic_layer_norm": False,
        "reward_scale": 1.0,
        "initial_temperature": 1.0,
        "temperature_learning_rate": 3e-4,
        "target_entropy": -1.0,
    }
    activation = staticmethod(mish)
    smallest = True

    def make_actor(self):
        self.draw_actor("actor", OBSERVATION, 2 * self.chunk)
        self.weights["log_temperature"] = single(np.log([self.settings["initial_temperature"]]))
        self.moments["log_temperature"] = (np.zeros(1), np.zeros(1))

    def scalars(self):
        m, v = self.moments["log_temperature"]
        return {"log_temperature.first": float(m[0]), "log_temperature.second": float(v[0])}

    def gaussian(self, weights, s):
        output = perceptron(weights, "actor", s, mish)
        return columns(output, 0, self.chunk), clip(columns(output, self.chunk, 2 * self.chunk), -20, 2)

    def sample(self, weights, s, noise):
        """An action and its log-density: the normal's, less the logarithm of the slope of tanh."""
        mean, log_std = self.gaussian(weights, s)
        raw = mean + exp(log_std) * noise
        action = tanh(raw)
        normal = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi) - log_std
        density = normal + -1.0 * log(1.0 + -1.0 * square(action))
        return action, density @ np.ones((self.chunk, 1))

    def select(self, s, noise, exploration=None):
        """The first candidate is done: the mean, or a sample where exploration is asked for."""
        size = len(noise) // len(s)
        noise = noise.reshape(len(s), size, -1).copy()
        noise[:, 0] = 0.0 if exploration is None else exploration
        noise = noise.reshape(len(s) * size, -1)
        candidates = self.sample(self.weights, repeated(s, noise), noise)[0]
        q = self.q("critic", repeated(s, noise), candidates).reshape(len(s), size)
        actions = candidates.reshape(len(s), size, -1)[:, 0]
        return {
            "actions": actions, "q": q[:, 0], "index": np.zeros(len(s), int), "candidates": candidates, "values": q,
        }  # fmt: skip

    def update(self, batch, noise, phase):
        settings = self.settings
        self.updates += 1
        alpha = float(np.exp(self.weights["log_temperature"][0]))
        next_a, next_density = self.sample(self.weights, batch.next_s, noise.normal(ROWS, self.chunk))
        soft = self.q("target", batch.next_s, next_a) - alpha * next_density
        y = settings["reward_scale"] * batch.returns + batch.bootstrap * soft
        e = noise.normal(ROWS, self.chunk)

        def policy(weights):
            a, density = self.sample(weights, batch.s, e)
            return (alpha * density + -1.0 * self.q("critic", batch.s, a)).sum() * (1 / ROWS)

        a, density = self.sample(self.weights, batch.s, e)
        metrics = {
            **self.critic_metrics(batch, y),
            "actor/loss": float(policy(self.weights)),
            "actor/q_mean": self.q("critic", batch.s, a).mean(),
            "actor/entropy": -density.mean(),
            "actor/temperature": alpha,
        }
        gradients = self.gradients(lambda w: self.critic_loss(w, batch, y) + policy(w), *self.learned)[1]
        self.adam(gradients, settings["learning_rate"], self.updates)
        self.follow("target.")
        wanted = settings["target_entropy"] * self.chunk
        gradient = np.array([-alpha * (density.mean() + wanted)])
        self.adam({"log_temperature": gradient}, settings["temperature_learning_rate"], self.updates)
        return metrics


class BcFlow(Learner):
    """Behaviour cloning by a rectified flow."""

    defaults = {"learning_rate": 3e-4, "horizon": 5, "flow_steps": 10}
    has_critics = False
    learned = ("actor.",)
    copies = {}

    def make_actor(self):
        self.draw_actor("actor", OBSERVATION + self.chunk + 1, self.chunk)

    def select(self, s, noise, exploration=None):
        candidates = flow_sample(self.weights, "actor", s, noise, self.settings["flow_steps"])
        q = np.zeros((len(s), len(noise) // len(s)))
        actions = candidates.reshape(*q.shape, -1)[:, 0]
        return {
            "actions": actions, "q": q[:, 0], "index": np.zeros(len(s), int), "candidates": candidates, "values": q,
        }  # fmt: skip

    def update(self, batch, noise, phase):
        self.updates += 1
        e, t = noise.normal(ROWS, self.chunk), noise.uniform(ROWS)
        loss, gradients = self.gradients(
            lambda w: flow_matching(w, "actor", batch.s, batch.a, e, t, batch.entry_weight), *self.learned
        )
        self.adam(gradients, self.settings["learning_rate"], self.updates)
        return {"actor/loss": loss, "actor/flow_loss": loss}


# ---- Cases ------------------------------------------------------------------------------------------------------

NETWORKS = {"batch_size": ROWS, "actor_hidden": [8, 8], "learning_rate": 0.01}
CRITICS = {**NETWORKS, "critic_hidden": [8, 8], "tau": 0.05, "candidates": 4, "target_candidates": 3}
CHUNKED = {**CRITICS, "horizon": 3}
SINGLE = {**CRITICS, "horizon": 1}
MIRROR = {**SINGLE, "diagnostics_every": 2, "temperature_every": 2}
MEAN_FLOW = {**MIRROR, "initial_temperature": 0.8, "samples": 2}

# Name of the case: algorithm, its class, settings, updates.
CASES = {
    "mvp": ("mvp", Mvp, CHUNKED, 2),
    "mvp_unconstrained": ("mvp", Mvp, {**CHUNKED, "ivc_weight": 0.0}, 2),
    "mvp_adaptive": (
        "mvp",
        Mvp,
        {**CHUNKED, "weighting": {"adaptive": {"power": 0.5, "c": 1e-3}}, "ivc_weight": 0.5},
        2,
    ),
    "mvp_best_of_n": ("mvp", Mvp, {**CHUNKED, "regression": "best_of_n", "base_noise": 0.7}, 2),
    "mvp_diagonal": ("mvp", Mvp, {**CHUNKED, "diagonal_share": 0.5, "critic_layer_norm": False}, 2),
    "mvp_logit_normal": (
        "mvp-no-ivc",
        Mvp,
        {**CHUNKED, "ivc_weight": 0.0, "times": {"logit_normal": {"mean": 0.4, "std": 1.0}}},
        2,
    ),
    "qc": ("qc", Qc, CHUNKED, 2),
    "bfn": ("bfn", Bfn, SINGLE, 2),
    "fql": ("fql", Fql, {**SINGLE, "target_candidates": 1}, 2),
    "qc_fql": ("qc-fql", QcFql, {**CHUNKED, "target_candidates": 1}, 2),
    "fpmd_r": (
        "fpmd-r",
        Fpmd,
        {**MIRROR, "learning_rate_decay": {"updates": 10, "end": 0.1, "shape": "linear"}},
        4,
    ),
    "fpmd_m_centred": ("fpmd-m", FpmdM, MEAN_FLOW, 4),
    "fpmd_m_scaled": (
        "fpmd-m",
        FpmdM,
        {
            **MEAN_FLOW,
            "acting_steps": 3,
            "training_noise": 0.5,
            "smoothing": 0.0,
            "weighting": {"scaled": {"temperature": 3.0}},
        },
        4,
    ),
    "fpmd_m_self_normalised": (
        "fpmd-m",
        FpmdM,
        {**MEAN_FLOW, "samples": 3, "weighting": {"self_normalised": {"temperature": 0.5}}},
        4,
    ),
    "fpmd_m_advantage": (
        "fpmd-m",
        FpmdM,
        {**MEAN_FLOW, "samples": 3, "weighting": {"advantage": {"temperature": 0.7}}},
        4,
    ),
    "sac": ("sac", Sac, {**SINGLE, "candidates": 1, "target_candidates": 1, "temperature_learning_rate": 0.01}, 2),
    "bc_flow": ("bc-flow", BcFlow, {**NETWORKS, "horizon": 3}, 2),
}
# The least size of a gradient, as a share of its tensor's greatest. The networks of times have a thousand entries.
LEAST_GRADIENT = {Fpmd: 5e-5, FpmdM: 5e-5}


def draw_batch(random, horizon):
    """Four chunks: whole, ended by the task, cut by time and of no use to the critics, whole.

    What lies behind an end is filled with numbers that must not matter.
    """
    valid = np.ones((ROWS, horizon))
    critic_valid = np.array([[1.0], [1.0], [0.0], [1.0]])
    if horizon > 1:
        valid[1, horizon - 1 :] = 0.0
        valid[2, 1:] = 0.0
    else:
        valid[2] = 0.0
    bootstrap = np.array([[0.99**horizon], [0.0], [0.99], [0.99**horizon]])
    return {
        "observations": single(random.standard_normal((ROWS, OBSERVATION))),
        "actions": single(random.uniform(-1, 1, (ROWS, horizon * ACTION))),
        "valid": valid,
        "returns": single(random.standard_normal((ROWS, 1))),
        "bootstrap": single(bootstrap),
        "critic_valid": critic_valid,
        "next_observations": single(random.standard_normal((ROWS, OBSERVATION))),
    }


def make_case(name, attempt):
    algorithm, kind, settings, updates = CASES[name]
    random = np.random.default_rng([zlib.crc32(name.encode()), attempt])
    kind.settings_of_case = {"gradients": LEAST_GRADIENT.get(kind, 3e-4)}
    learner = kind(settings, random)
    horizon = settings["horizon"]
    before = {**learner.weights, **{k: np.array([v]) for k, v in getattr(learner, "scalars", dict)().items()}}
    s = single(random.standard_normal((2, OBSERVATION)))
    draws = single(random.standard_normal((2 * 4, learner.chunk)))
    explored = single(random.standard_normal((2, learner.chunk)))
    selection = learner.select(s, draws)
    case = {
        "algorithm": {"name": algorithm, **settings},
        "spec": {"observation_dim": OBSERVATION, "action_dim": ACTION, "horizon": horizon},
        "selection": {
            "agents": 2, "candidates": 4, "observations": short(s), "noise": short(draws),
            "exploration": short(explored),
            "expected": {
                **{key: numbers(found) for key, found in selection.items()},
                "explored_actions": numbers(learner.select(s, draws, explored)["actions"]),
            },
        },
        "updates": [],
    }  # fmt: skip
    for _ in range(updates):
        phase = "online" if name == "mvp_best_of_n" else "offline"
        noise, raw = Noise(random), draw_batch(random, horizon)
        metrics = learner.update(Batch(raw, horizon), noise, phase)
        case["updates"].append({
            "phase": phase,
            "batch": {key: short(column) for key, column in raw.items()},
            "draws": [{"kind": d["kind"], "values": short(d["values"])} for d in noise.record],
            "metrics": {key: float(number) for key, number in metrics.items()},
        })  # fmt: skip
    if hasattr(learner, "intermediate"):
        case["intermediate"] = {key: numbers(found) for key, found in learner.intermediate.items()}

    after = {**learner.weights, **{k: np.array([v]) for k, v in getattr(learner, "scalars", dict)().items()}}
    for key, (m, v) in learner.moments.items():
        if key != "log_temperature":
            after[f"{key}.first"], after[f"{key}.second"] = m, v
    header = {
        "version": 1, "content": "weights", "algorithm": algorithm, "spec": case["spec"], "updates": 0,
        "config": case["algorithm"],
    }  # fmt: skip
    write_tensors(HERE / f"{name}.safetensors", before, "F32", {"onestep": json.dumps(header)})
    write_tensors(HERE / f"{name}.after.safetensors", after, "F64", {})
    write_json(HERE / f"{name}.json", case)


def short(x):
    """Numbers of single precision in their shortest form."""
    return [float(str(number)) for number in np.float32(np.ravel(x))]


def numbers(x):
    return np.ravel(x).tolist()


def write_json(path, table):
    lines = []
    for key, entry in table.items():
        if isinstance(entry, list) and entry and isinstance(entry[0], dict):
            text = "[\n    " + ",\n    ".join(json.dumps(item) for item in entry) + "\n  ]"
        else:
            text = json.dumps(entry)
        lines.append(f"  {json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_tensors(path, tensors, kind, metadata):
    """The safetensors format: the length of the header in eight bytes, the header as JSON, the numbers."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name in sorted(tensors):
        raw = np.asarray(tensors[name]).astype({"F32": "<f4", "F64": "<f8"}[kind])
        header[name] = {"dtype": kind, "shape": list(raw.shape), "data_offsets": [len(data), len(data) + raw.nbytes]}
        data += raw.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# ---- Chunks cut from episodes, and the temperature along a run --------------------------------------------------


def cut(rewards, ending, start, horizon, discount):
    """The chunk that starts at a step, or nothing if too little of an episode under way is known."""
    length = len(rewards)
    steps = min(horizon, length - start)
    reaches_end = start + steps == length
    # Of an episode under way the observation behind its last step is not stored yet.
    if ending == "open" and reaches_end:
        return None
    terminated = reaches_end and ending in ("terminated", "both")
    return {
        "start": start,
        "valid": [1.0] * steps + [0.0] * (horizon - steps),
        "returns": sum(discount**j * rewards[start + j] for j in range(steps)),
        # The next observation lies as many steps ahead as were made.
        "bootstrap": 0.0 if terminated else discount**steps,
        "critic_valid": float(steps == horizon),
        "next": start + steps,
    }


def make_replay():
    random = np.random.default_rng(7)
    plan = [(7, "terminated"), (6, "truncated"), (2, "terminated"), (1, "truncated"), (3, "both")]
    plan += [(5, "open"), (2, "open")]
    episodes = [{"ending": ending, "rewards": short(random.standard_normal(length))} for length, ending in plan]
    cases = []
    for horizon, discount in [(1, 0.99), (3, 0.9), (5, 0.99)]:
        chunks = []
        for index, episode in enumerate(episodes):
            for start in range(len(episode["rewards"])):
                chunk = cut(episode["rewards"], episode["ending"], start, horizon, discount)
                if chunk:
                    chunks.append({"episode": index, **chunk})
        cases.append({"horizon": horizon, "discount": discount, "chunks": chunks})
    write_json(HERE / "replay.json", {"episodes": episodes, "cases": cases})


def make_temperature():
    temperature = Temperature(5.0, 7e-3, 0.1, -1.5)
    points = []
    for updates in range(0, 200_001, 250):
        if updates:
            temperature.step()
        if updates in (250, 2_500, 20_000, 50_000, 80_000, 120_000, 200_000):
            points.append({"updates": updates, "temperature": float(np.exp(temperature.log))})
    write_json(HERE / "temperature.json", {"every": 250, "points": points})


def check_derivatives():
    """Tape and dual numbers against central differences."""
    random = np.random.default_rng(1)
    weights = {}
    draw_network(random, weights, "net", [5, 8, 8, 2], norm=True)
    x, direction = random.standard_normal((2, 4, 5))
    for activation in (gelu, mish):

        def loss(w):
            output = perceptron(w, "net", x, activation)
            return (square(output) * 0.3 + log(2.0 + sin(output))).sum()

        variables = {name: Var(tensor) for name, tensor in weights.items()}
        loss(variables).backward()
        for name, tensor in weights.items():
            shift = 1e-6 * random.standard_normal(tensor.shape)
            difference = loss({**weights, name: tensor + shift}) - loss({**weights, name: tensor - shift})
            found = 2 * (variables[name].gradient * shift).sum()
            assert abs(found - difference) < 1e-13 + 1e-6 * abs(found), (name, found, difference)
        ahead, behind = (perceptron(weights, "net", x + sign * 1e-6 * direction, activation) for sign in (1, -1))
        tangent = perceptron(weights, "net", Dual(x, direction), activation).tangent
        assert np.abs(tangent - (ahead - behind) / 2e-6).max() < 1e-7

    draw_network(random, weights, "flow_times", [16, 32, 16])
    draw_network(random, weights, "flow", [3 + 2 * 16 + 2, 8, 2])
    s, point, v, (t, r) = x[:, :3], x[:, 3:], direction[:, 3:], random.uniform(size=(2, 4, 1))
    ahead, behind = (timed(weights, "flow", s, point + d * v, [t + d, r]) for d in (1e-6, -1e-6))
    tangent = timed(weights, "flow", s, Dual(point, v), [Dual(t, np.ones_like(t)), r]).tangent
    assert np.abs(tangent - (ahead - behind) / 2e-6).max() < 1e-7


def main():
    check_derivatives()
    make_replay()
    make_temperature()
    for name in CASES:
        for attempt in range(100_000):
            try:
                make_case(name, attempt)
            except Unsuited:
                continue
            print(f"{name}: attempt {attempt}")
            break
        else:
            raise SystemExit(f"{name}: no suitable numbers found")


if __name__ == "__main__":
    main()
