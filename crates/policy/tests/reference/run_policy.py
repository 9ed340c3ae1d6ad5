"""Acts with an exported Mean Velocity Policy: NumPy and safetensors, no Onestep."""
import json
import sys
import numpy as np
from safetensors import safe_open

with safe_open(sys.argv[1], "np") as file:  # weights.safetensors of a checkpoint
    config = json.loads(file.metadata()["onestep"])["config"]
    w = {name: file.get_tensor(name) for name in file.keys()}

def network(name, x):
    for i in range(len(config["critic_hidden" if "critic" in name else "actor_hidden"]) + 1):
        if i > 0:  # every layer but the last ends with the tanh form of GELU, then perhaps a normalisation
            x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
            if f"{name}.layers.{i - 1}.norm.scale" in w:
                x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
                x = x * w[f"{name}.layers.{i - 1}.norm.scale"] + w[f"{name}.layers.{i - 1}.norm.shift"]
        x = x @ w[f"{name}.layers.{i}.weight"] + w[f"{name}.layers.{i}.bias"]
    return x

def act(observation, noise):  # [S] and [N, h * A], standard normal; with N = 1 the actor alone decides
    if "observation.shift" in w:  # a run with standardised observations
        observation = np.clip((observation - w["observation.shift"]) * w["observation.factor"], -10, 10)
    s, x = np.tile(observation, (len(noise), 1)), config["base_noise"] * noise
    actions = np.clip(x + network("actor", np.hstack([s, x, np.tile([0, 1], (len(x), 1))])), -1, 1)
    q = sum(network(f"critic.{k}", np.hstack([s, actions])) for k in range(config["critics"]) if len(x) > 1)
    return actions[np.argmax(q)]

for case in json.load(open(sys.argv[2])) if len(sys.argv) > 2 else []:  # what the Rust side did
    assert np.allclose(act(np.float32(case["observation"]), np.float32(case["noise"])), case["actions"], atol=1e-5)
